"""PyTorch's files are read without PyTorch, and nothing in them is ever executed."""

import collections
import os
import struct
import zipfile

import numpy as np
import pytest
from pytorch_files import KINDS, View, write_legacy, write_zip

from vseg_jax.weights import convert

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
@pytest.mark.parametrize("name", ["state_dict", "model", "network"])
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
