r"""Runs a command on a config or a run: train, evaluate, predict, export, import, dry_run, ...

    python -m vseg_jax.main --config configs/quickstart.py --workdir runs/quickstart
    python -m vseg_jax.main --config configs/qvim.py:davis --workdir runs/davis --mode evaluate
    python -m vseg_jax.main --workdir runs/davis --mode predict \
        --video clip.mp4 --query "a dog running" --output masks
    python -m vseg_jax.main --workdir runs/swiftnet --mode predict \
        --video clip.mp4 --mask first.png --output masks --config.model.adaptation_steps=50
    python -m vseg_jax.main --workdir runs/rcf --mode predict --video video.mp4 --output objects
    python -m vseg_jax.main --mode study --config configs/studies.py:text --workdir runs/text
    python -m vseg_jax.main --mode cost --config configs/studies.py:text --workdir runs/text

The same commands are available as `vseg train`, `vseg evaluate` and so on.

Any key of the config can be set: --config.train.steps=100. A user error (an unknown config key, a
missing file, an empty query) prints a line that begins with "error:" and exits with status 2; a
non-finite loss exits with status 1. --verbosity=1 shows where an error came from.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from absl import app, flags, logging

from vseg_jax import commands

_DEFINE: dict[type, Callable[..., flags.FlagHolder]] = {
    bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float,
    str: flags.DEFINE_string, list: flags.DEFINE_multi_string}
_MODE = flags.DEFINE_enum("mode", "train", list(commands.COMMANDS), "command to run")
_OPTIONS = {name: _DEFINE[list if option.several else option.kind](
                name, option.default, option.help)
            for name, option in commands.OPTIONS.items()}
_OVERRIDES: dict[str, str] = {}


def _parse_flags(argv: list[str]) -> list[str]:
    """Takes out the overrides of the config and lets absl parse the other flags."""
    others, overrides = commands.split_overrides(argv)
    _OVERRIDES.clear()
    _OVERRIDES.update(overrides)
    try:
        return flags.FLAGS(others)
    except flags.Error as error:
        print(f"error: {error}; see --help", file=sys.stderr)
        sys.exit(2)


def main(argv: list[str]) -> int:
    """Runs the command of the parsed flags and returns the exit status.

    Args:
      argv: holds the program and what was not parsed.
    """
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # otherwise orbax reports every step of a save
    with commands.user_errors(traceback=logging.vlog_is_on(1)):
        if len(argv) > 1:
            raise ValueError(f"unknown arguments: {' '.join(argv[1:])}; see --help")
        options = {name: flag.value for name, flag in _OPTIONS.items()}
        return commands.run(_MODE.value, options, _OVERRIDES)
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
