"""Writes files and folders atomically: to a temporary name that is renamed at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_folder(path: str | Path, replaces: str = "") -> Iterator[Path]:
    """Yields a temporary folder that becomes `path` when the block ends without an error.

    Args:
      path: must not exist, or be an empty folder.
      replaces: name of a file; a folder that holds it is an earlier result and is replaced.

    Raises:
      ValueError: `path` holds something else.
    """
    path = Path(path)
    earlier = bool(replaces) and (path / replaces).is_file()
    if path.exists() and not earlier and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} already exists; name a new folder or remove it first")
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
    """Yields a temporary file path that becomes `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)
