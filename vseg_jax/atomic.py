"""Folders and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_folder(path: str | Path, replaces: str = "") -> Iterator[Path]:
    """A temporary folder beside `path` that becomes `path` when the block ends without an error.

    Args:
      path: must not be there, or be an empty folder.
      replaces: name of a file; a folder that holds it is an earlier result and is replaced.

    Raises:
      ValueError: something else is there already.
    """
    path = Path(path)
    earlier = bool(replaces) and (path / replaces).is_file()
    if path.exists() and not earlier and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} is there already; name a new folder or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        result = temporary / "result"
        result.mkdir()   # unlike what mkdtemp makes, as readable as any other folder
        yield result
        if earlier:
            os.replace(path, temporary / "earlier")
        os.replace(result, path)   # an empty folder is replaced
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file atomically (UTF-8)."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that becomes `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)
