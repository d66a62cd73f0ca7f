"""Checksums of all files of a checkpoint, stored with it."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from vseg_jax.atomic import write_text

_FILE = "checksums.json"  # {file: CRC-32}


def write(folder: Path) -> None:
    """Writes the checksums of all files in `folder` into it."""
    write_text(folder / _FILE, json.dumps(_compute(folder), indent=1))


def verify(folder: Path) -> bool:
    """Checks all files against their checksums, in the first process.

    Returns:
      False where there are no checksums, because the run was killed before they were written;
      orbax's own checks remain.

    Raises:
      ValueError: a file is damaged.
    """
    problem = ""
    has_checksums = (folder / _FILE).exists()
    if jax.process_index() == 0 and has_checksums:
        try:
            before = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            now = _compute(folder)
            problem = ", ".join(n for n, crc in before.items() if now.get(n) != crc)
        except (OSError, ValueError, AttributeError) as error:
            problem = f"{_FILE} ({error})"
    bad = bool(problem)
    if jax.process_count() > 1:
        bad = bool(multihost_utils.broadcast_one_to_all(np.asarray(bad)))
    if bad:
        raise ValueError(f"damaged files: {problem or 'see the first process'}")
    return has_checksums


def _compute(folder: Path) -> dict[str, int]:
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != _FILE):
        value = 0
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                value = zlib.crc32(block, value)
        found[str(path.relative_to(folder))] = value
    return found
