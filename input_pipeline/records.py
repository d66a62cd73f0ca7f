"""The one record that every dataset becomes, and how it is stored and opened.

A dataset on disk is what TFDS writes (ArrayRecord shards) and, beside them, one small JSON line a
record (`index-<split>.jsonl`): enough to list and filter samples without decoding a pixel.
"""
