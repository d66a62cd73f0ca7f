"""PyTorch's files are read without PyTorch, and nothing in them is ever executed."""

import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.weights import convert
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


@pytest.fixture(autouse=True)
def torch_names(monkeypatch):
    """Modules with the names that a file of torch.save refers to."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in KINDS.values():
        setattr(torch, kind, type(kind, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*_):
        raise AssertionError("only its name is written")

    def _rebuild_parameter(*_):
        raise AssertionError("only its name is written")

    for function in (_rebuild_tensor_v2, _rebuild_parameter):
        function.__module__ = "torch._utils"
        function.__qualname__ = function.__name__
        setattr(utils, function.__name__, function)
    torch._utils = utils
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def pickled(content, view=()):
    file = io.BytesIO()
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


WRITERS = pytest.mark.parametrize("write", [write_zip, write_legacy])


@WRITERS
def test_every_type_of_tensor_is_read(write, tmp_path):
    arrays = {str(dtype): np.arange(6).astype(dtype) for dtype in KINDS}
    content = collections.OrderedDict(
        (name, View(array, (2, 3))) for name, array in arrays.items())
    read = convert.read(write(tmp_path / "weights.pth", content))
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        wanted = np.float32 if name == "bfloat16" else array.dtype
        assert read[name].dtype == wanted and read[name].flags.writeable
        np.testing.assert_array_equal(read[name], array.astype(wanted).reshape(2, 3))


@WRITERS
def test_views_share_a_storage(write, tmp_path):
    storage = np.arange(12, dtype=np.float32)
    content = {"transposed": View(storage, (4, 3), 0, (1, 4)), "rest": View(storage, (2, 2), 5),
               "scalar": View(storage, (), 7), "empty": View(storage, (0, 3))}
    read = convert.read(write(tmp_path / "weights.pth", content))
    np.testing.assert_array_equal(read["transposed"], storage.reshape(3, 4).T)
    np.testing.assert_array_equal(read["rest"], [[5, 6], [7, 8]])
    assert read["scalar"] == 7 and read["scalar"].shape == () and read["empty"].shape == (0, 3)


@WRITERS
@pytest.mark.parametrize("name", ["state_dict", "model"])
def test_the_state_dict_of_a_checkpoint_is_unpacked(write, name, tmp_path):
    weights = {"w": View(np.ones(2, np.float32), (2,))}
    read = convert.read(write(tmp_path / "run.tar", {"epoch": 3, name: weights}))
    np.testing.assert_array_equal(read["w"], [1, 1])
    with pytest.raises(ValueError, match="these entries are not tensors: epoch, net"):
        convert.read(write(tmp_path / "other.tar", {"epoch": 3, "net": weights}))


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@WRITERS
@pytest.mark.parametrize("function", [os.system, os.mkdir, eval, exec, open, getattr, type])
def test_nothing_in_a_file_is_executed(write, function, tmp_path):
    target = tmp_path / "executed"
    text = f"__import__('os').mkdir({str(target)!r})"
    arguments = {os.system: f"mkdir {target}", os.mkdir: str(target), open: str(target)}
    attack = Attack(function, arguments.get(function, text), *(["w"] if function is open else []))
    with pytest.raises(ValueError, match=r"which is not part of a state dict. Nothing was exec"):
        convert.read(write(tmp_path / "weights.pth", {"w": attack}))
    assert not target.exists()


@pytest.mark.parametrize("name", ["collections OrderedDict", "torch._utils _rebuild_tensor_v2",
                                  "torch._utils _rebuild_parameter", "torch FloatStorage"])
@pytest.mark.parametrize("state", [b"}U\x04evilK\x01s", b"N}U\x08__call__K\x01s\x86"])
def test_a_pickle_cannot_change_what_it_may_name(name, state, tmp_path):
    data = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n" + state + b"b."
    with pytest.raises(ValueError, match="cannot read weights"):
        convert.read(write_zip(tmp_path / "weights.pth", {}, data=data))
    assert not hasattr(collections.OrderedDict, "evil")
    weights = {"w": View(np.ones(1, np.float32), (1,))}
    np.testing.assert_array_equal(convert.read(write_zip(tmp_path / "w.pth", weights))["w"], [1])


@pytest.mark.parametrize(("view", "message"), [
    (dict(shape=(5,)), "does not fit into its storage of 4"),
    (dict(shape=(2,), offset=3), "does not fit into its storage of 4"),
    (dict(shape=(2, 2), strides=(3, 1)), "does not fit into its storage of 4"),
    (dict(shape=(10**6, 10**6), strides=(0, 0)), "does not fit into its storage of 4"),
    (dict(shape=(2,), strides=(-1,)), "strides"),
    (dict(shape=(2,), offset=-1), "offset -1"),
    (dict(shape=(2,), strides=()), "strides"),
])
def test_tensors_stay_inside_their_storage(view, message, tmp_path):
    content = {"w": View(np.ones(4, np.float32), **view)}
    for write in (write_zip, write_legacy):
        with pytest.raises(ValueError, match=message):
            convert.read(write(tmp_path / "weights.pth", content))


def test_damaged_files_are_named(tmp_path):
    content = {"w": View(np.arange(50, dtype=np.float32), (50,))}
    whole = write_legacy(tmp_path / "whole.pth", content).read_bytes()
    cut = tmp_path / "cut.pth"
    for length in (0, 1, 20, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cannot read weights from .*cut\.pth"):
            convert.read(cut)
    whole = write_zip(tmp_path / "whole.zip.pth", content).read_bytes()
    cut.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ValueError, match=r"cannot read weights from .*cut\.pth"):
        convert.read(cut)
    with pytest.raises(ValueError, match="is compressed"):
        convert.read(write_zip(cut, content, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(cut, "w") as archive:
        archive.writestr("readme", "none")
    with pytest.raises(ValueError, match=r"0 files data\.pkl"):
        convert.read(cut)


def test_a_pickle_cannot_reserve_memory(tmp_path):
    data = b"\x80\x02Nr" + struct.pack("<I", 2**31) + b"."   # remember None at place 2^31
    with pytest.raises(ValueError, match="remembered objects"):
        convert.read(write_zip(tmp_path / "weights.pth", {}, data=data))
