"""Reads PyTorch's checkpoint files without PyTorch, and without running code from them.

Two formats are known: the zip archives that `torch.save` has written since PyTorch 1.6, and the
stream of pickles that it wrote before. Both hold a pickle that names its tensors' storages by keys.
A pickle can name any function to call, so the unpickler here knows the few names that a state dict
consists of and refuses all others, before anything is called.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import math
import mmap
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

DTYPES = {
    "DoubleStorage": np.dtype(np.float64), "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16), "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype(np.int64), "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16), "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8), "BoolStorage": np.dtype(np.bool_),
}


@dataclasses.dataclass
class Storage:
    """A flat array that tensors are views of.

    Attributes:
      dtype: its elements' type.
      size: number of elements that the pickle announces.
      values: the elements; None until they are read (the older format stores them last).
    """

    dtype: np.dtype
    size: int
    values: np.ndarray | None = None


LoadStorage = Callable[[np.dtype, str, int], Storage]  # type, key, number of elements


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def numpy(self) -> np.ndarray:
        """Returns the elements as an array of their own; bfloat16 becomes float32.

        Raises:
          ValueError: the view reaches outside its storage, or repeats its elements.
        """
        values = self.storage.values
        if values is None:
            raise ValueError("a tensor's elements are missing; the file is cut off")
        count = math.prod(self.shape)
        if min((self.offset, *self.shape, *self.strides), default=0) < 0 or len(self.shape) != len(
                self.strides):
            raise ValueError(f"a tensor of shape {self.shape} has offset {self.offset} and strides "
                             f"{self.strides}")
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if count and (last >= len(values) or count > len(values)):
            raise ValueError(f"a tensor of shape {self.shape} does not fit into its storage of "
                             f"{len(values)} elements")
        if not count:
            array = np.zeros(self.shape, values.dtype)
        else:
            steps = [s * values.itemsize for s in self.strides]
            array = np.lib.stride_tricks.as_strided(
                values[self.offset:], self.shape, steps, writeable=False).copy()
        return array.astype(np.float32) if array.dtype == jnp.bfloat16 else array


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a state dict by name.

    A checkpoint that holds its state dict under "state_dict", "model" or "network" is unpacked.

    Raises:
      ValueError: the file is damaged, holds anything but a state dict, or names objects other than
        tensors.
    """
    content = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    for name in ("state_dict", "model", "network"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping):
        raise ValueError(f"not a state dict but a {type(content).__name__}")
    others = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError("not a state dict: these entries are not tensors: "
                         + ", ".join(map(str, others[:5])))
    return {key: value.numpy() for key, value in content.items()}


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in entries if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError(f"a zip with {len(pickles)} files data.pkl; torch.save writes one")
        prefix = pickles[0].removesuffix("data.pkl")
        for name, info in entries.items():
            if info.compress_type != zipfile.ZIP_STORED:   # nor can it unpack to more than it is
                raise ValueError(f"{name} is compressed; torch.save compresses nothing")
        order = f"{prefix}byteorder"
        if order in entries and archive.read(order) != b"little":
            raise ValueError("the tensors are big-endian; save the file on a little-endian machine")
        storages: dict[str, Storage] = {}

        def load(dtype: np.dtype, key: str, size: int) -> Storage:
            if key not in storages:
                data = archive.read(f"{prefix}data/{key}")
                storages[key] = Storage(dtype, size, _elements(data, dtype, size))
            return storages[key]

        return _unpickle(archive.read(pickles[0]), load)


def _read_legacy(path: Path) -> Any:
    with open(path, "rb") as whole, mmap.mmap(whole.fileno(), 0, access=mmap.ACCESS_READ) as file:
        header = [_next_pickle(file, _no_storage) for _ in range(3)]
        if header[:2] != [LEGACY_MAGIC, LEGACY_PROTOCOL]:
            raise ValueError("not a file of torch.save")
        if not isinstance(header[2], dict) or not header[2].get("little_endian", True):
            raise ValueError("the tensors are big-endian; save the file on a little-endian machine")
        storages: dict[str, Storage] = {}

        def load(dtype: np.dtype, key: str, size: int) -> Storage:
            return storages.setdefault(key, Storage(dtype, size))

        content = _next_pickle(file, load)
        for key in _next_pickle(file, _no_storage):
            if key not in storages:
                raise ValueError(f"storage {key!r} belongs to no tensor")
            storage = storages[key]
            size = int.from_bytes(file.read(8), "little", signed=True)
            if size != storage.size:
                raise ValueError(f"storage {key!r} has {size} elements, its tensors expect "
                                 f"{storage.size}")
            data = file.read(size * storage.dtype.itemsize)
            storage.values = _elements(data, storage.dtype, size)
        return content


def _elements(data: bytes, dtype: np.dtype, size: int) -> np.ndarray:
    if len(data) != size * dtype.itemsize:
        raise ValueError(f"a storage of {size} elements ({dtype}) has {len(data)} bytes; the file "
                         "is damaged")
    return np.frombuffer(data, dtype)


def _no_storage(dtype: np.dtype, key: str, size: int) -> Storage:
    raise ValueError("a tensor where none can be; the file is damaged")


def _next_pickle(file: mmap.mmap, load: LoadStorage) -> Any:
    """Reads the pickle at the file's position and moves the position behind it."""
    start = file.tell()
    for _ in pickletools.genops(file):
        pass
    end = file.tell()
    file.seek(start)
    return _unpickle(file.read(end - start), load)


def _unpickle(data: bytes, load: LoadStorage) -> Any:
    for operation, argument, _ in pickletools.genops(data):
        # Python's unpickler reserves memory for all places up to this one.
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(data):
            raise ValueError(f"a pickle of {len(data)} bytes with {argument} remembered objects")
    return _Unpickler(data, load).load()


class _Unpickler(pickle.Unpickler):
    """Knows the names that a state dict consists of, and no others."""

    def __init__(self, data: bytes, load: LoadStorage):
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self._load = load

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name in _REBUILD:
            return _REBUILD[name]
        if module in ("torch", "torch.storage") and name in DTYPES:
            return name
        raise pickle.UnpicklingError(
            f"it holds {module}.{name}, which is not part of a state dict. Nothing was executed. "
            "Load the file with the program that wrote it, and save its state dict alone")

    def persistent_load(self, pid: Any) -> Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("it refers to something other than a storage")
        _, kind, key, _, size, *view = pid
        if kind not in DTYPES or not isinstance(size, int) or size < 0:
            raise pickle.UnpicklingError(f"storage {key!r} has type {kind!r} and size {size!r}")
        if view and view[0] is not None:
            raise pickle.UnpicklingError("it holds views of storages, which are not supported; "
                                         "save the file again with a newer PyTorch")
        return self._load(DTYPES[kind], str(key), size)


class _RebuildTensor:
    """Callable from a pickle; it has no attributes that the pickle could set."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
        if not isinstance(storage, Storage):
            raise pickle.UnpicklingError("a tensor without a storage")
        return Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


class _RebuildParameter:
    __slots__ = ()

    def __call__(self, data: Any, *_: Any) -> Any:
        return data


_REBUILD = {
    "_rebuild_tensor": _RebuildTensor(), "_rebuild_tensor_v2": _RebuildTensor(),
    "_rebuild_parameter": _RebuildParameter(),
}
