"""The library's configs and studies: `vseg train --config qvim:davis`, `vseg study --config ...`.

Modules that start with an underscore are shared by the config files and are not configs themselves.
"""
