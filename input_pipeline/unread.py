"""Records that a builder has not made yet, and those that an unfinished build has made already.

A build that stops keeps every finished record in a file of its own. The name of the file is a hash
of all that the record is made of, so a later build finds the records that it need not make again,
and no others: after a change of a file, an annotation or an option the name is another one.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tensorflow_datasets.core import example_serializer

from vseg_jax import __version__
from vseg_jax.atomic import atomic_file
from vseg_jax.input_pipeline.index import IndexEntry, entry_line, parse_entry
from vseg_jax.input_pipeline.records import FEATURES, Record, index_entry, to_example

_DIGEST = 16  # bytes of the checksum that a file begins with


class Unread:
    """A record that has not been made yet.

    Args:
      read: returns the record; or the record and a note for `VideoBuilder.conclude`, a JSON value.
      inputs: arguments of `read`.
      depends_on: all that the record depends on: plain values, dataclasses and paths. Of a file its
        name, size and time of change count, of a folder those of the files in it. Left out, it is
        the inputs.
    """

    def __init__(self, read: Callable[..., Any], *inputs: Any, depends_on: Any = None):
        self._read = read
        self._inputs = inputs
        self._depends_on = inputs if depends_on is None else depends_on
        self._name = ""

    def read(self) -> tuple[Record, Any]:
        """Returns the record and its note, None where there is none."""
        found = self._read(*self._inputs)
        return found if isinstance(found, tuple) else (found, None)

    def name(self, source: Path) -> str:
        """Returns the hash of all that the record is made of.

        Args:
          source: folder of the download; the paths in it count relative to it.
        """
        if not self._name:
            reader = f"{self._read.__module__}.{self._read.__qualname__}"
            self._name = fingerprint([__version__, reader, self._depends_on], source)
        return self._name


def fingerprint(value: Any, source: Path) -> str:
    """Returns a hash of plain values, dataclasses and paths; see `Unread`."""
    text = json.dumps(value, default=functools.partial(_plain, source))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(source: Path, value: Any) -> Any:
    if isinstance(value, Path):
        place = Path(os.path.abspath(value))
        root = Path(os.path.abspath(source))
        name = place.relative_to(root) if place.is_relative_to(root) else place
        inside = sorted(value.iterdir()) if value.is_dir() else []
        return [str(name), _state(value), [[path.name, _state(path)] for path in inside]]
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return [type(value).__qualname__, fields]
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a plain value, dataclass or path")


def _state(path: Path) -> list[int] | None:
    """Returns size and time of change of a file; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [0 if path.is_dir() else status.st_size, status.st_mtime_ns]


class Encoded(NamedTuple):
    """A record in the form that it is written in.

    Attributes:
      entry: its line of the index.
      data: the serialized record.
      note: see `Unread`.
    """

    entry: IndexEntry
    data: bytes
    note: Any = None


def encoded(record: Record, where: str, note: Any = None) -> Encoded:
    """Returns a record in the form that it is written in.

    Args:
      record: to write.
      where: dataset and split, for errors.
      note: see `Unread`.

    Raises:
      ValueError: the record is faulty; see `index_entry`.
    """
    entry = index_entry(record, where)
    example = _serializer().get_tf_example(FEATURES.encode_example(to_example(record)))
    # Otherwise the features would be in another order in every process.
    data = example.SerializeToString(deterministic=True)
    return Encoded(entry, data, note)


@functools.cache
def _serializer() -> Any:
    return example_serializer.ExampleSerializer(FEATURES.get_serialized_info())


class KeptRecords:
    """The records that an unfinished build has made, one file each.

    Args:
      folder: of the files; it is created with the first one.
      source: of the download, see `Unread.name`.
    """

    def __init__(self, folder: Path, source: Path):
        self.folder = folder
        self._source = source

    def has(self, video: Unread) -> bool:
        """Returns whether a record is kept (its file may be damaged)."""
        return self._path(video).is_file()

    def make(self, video: Unread, where: str) -> Encoded:
        """Returns a record that is kept, or makes and keeps it.

        Args:
          video: the record.
          where: dataset and split, for errors.

        Raises:
          ValueError: it cannot be made; nothing is kept then.
        """
        path = self._path(video)
        if (found := _load(path)) is not None:
            return found
        record, note = video.read()
        new = encoded(record, where, note)
        lines = entry_line(new.entry), json.dumps(new.note), ""
        content = "\n".join(lines).encode() + new.data
        with atomic_file(path) as temporary:
            temporary.write_bytes(_checksum(content) + content)
        return new

    def _path(self, video: Unread) -> Path:
        return self.folder / video.name(self._source)


def _load(path: Path) -> Encoded | None:
    """Returns what a file keeps; None if it does not exist, or is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    checksum, content = content[:_DIGEST], content[_DIGEST:]
    if checksum != _checksum(content):   # the machine stopped before it was on the disk
        return None
    entry, note, data = content.split(b"\n", 2)
    return Encoded(parse_entry(entry.decode()), data, json.loads(note))


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()
