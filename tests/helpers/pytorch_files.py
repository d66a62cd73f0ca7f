"""Writes the files of torch.save without PyTorch, in its zip and its older format."""

import collections
import contextlib
import io
import pickle
import struct
import sys
import types
import zipfile
from unittest import mock

import jax.numpy as jnp
import numpy as np

from vseg_jax.weights.pytorch import LEGACY_MAGIC, LEGACY_PROTOCOL

KINDS = {
    np.dtype(np.float32): "FloatStorage", np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float16): "HalfStorage", np.dtype(np.int64): "LongStorage",
    np.dtype(np.int32): "IntStorage", np.dtype(np.int16): "ShortStorage",
    np.dtype(np.int8): "CharStorage", np.dtype(np.uint8): "ByteStorage",
    np.dtype(np.bool_): "BoolStorage", np.dtype(jnp.bfloat16): "BFloat16Storage",
}


class View:
    """A tensor to be written: part of a storage, which is a flat array."""

    def __init__(self, storage, shape, offset=0, strides=None):
        steps = [int(np.prod(shape[i + 1:], dtype=int)) for i in range(len(shape))]
        self.storage, self.shape, self.offset = storage, tuple(shape), offset
        self.strides = tuple(steps if strides is None else strides)

    def __reduce__(self):
        kind = getattr(sys.modules["torch"], KINDS[self.storage.dtype])
        mark = Mark(kind, str(id(self.storage)), len(self.storage))
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (
            mark, self.offset, self.shape, self.strides, False, collections.OrderedDict())


class Mark(collections.namedtuple("Mark", "kind key size")):
    pass


class Pickler(pickle.Pickler):
    def __init__(self, file, view):
        super().__init__(file, protocol=2)
        self.view = view

    def persistent_id(self, obj):
        if isinstance(obj, Mark):
            return ("storage", obj.kind, obj.key, "cpu", obj.size, *self.view)
        return None


@contextlib.contextmanager
def torch_names():
    """Modules with the names that a file of torch.save refers to."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in KINDS.values():
        setattr(torch, kind, type(kind, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*_):
        raise AssertionError("only its name is written")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = _rebuild_tensor_v2.__name__
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils
    with mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        yield


def pickled(content, view=()):
    file = io.BytesIO()
    with torch_names():
        Pickler(file, view).dump(content)
    return file.getvalue()


def storages(content):
    found = {}
    for value in content.values():
        if isinstance(value, View):
            found[str(id(value.storage))] = value.storage
        elif isinstance(value, dict):
            found |= storages(value)
    return found


def views(arrays):
    """A state dict of whole arrays."""
    return {key: View(np.ravel(array), array.shape) for key, array in arrays.items()}


def write_zip(path, content, compression=zipfile.ZIP_STORED, data=None):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data or pickled(content))
        archive.writestr("archive/byteorder", "little")
        for key, storage in storages(content).items():
            archive.writestr(f"archive/data/{key}", storage.tobytes())
    return path


def write_legacy(path, content):
    kept = storages(content)
    with open(path, "wb") as file:
        for part in (LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True}):
            pickle.dump(part, file, protocol=2)
        file.write(pickled(content, view=(None,)))
        pickle.dump(sorted(kept), file, protocol=2)
        for key in sorted(kept):
            file.write(struct.pack("<q", len(kept[key])) + kept[key].tobytes())
    return path
