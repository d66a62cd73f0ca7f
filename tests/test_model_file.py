"""A model in one file: what is written comes back, and what is damaged is refused."""

import json

import numpy as np
import pytest
import safetensors.numpy

from vseg_jax import model_file
from vseg_jax.model_file import ModelFile


@pytest.fixture
def content():
    random = np.random.default_rng(0)
    return ModelFile(
        {"params/a/kernel": random.standard_normal((3, 4)).astype(np.float32).T,   # not contiguous
         "params/a/bias": np.float32([1 / 3, 2.0, 3e5]), "params/gain": np.array(0.1, np.float32),
         "moco/count": np.arange(3, dtype=np.uint32), "params/large": np.full((2, 2), 1e6, "f4"),
         "params/empty": np.zeros((0, 3), np.float32)},
        {"config": {"system": "standin", "model": {"gain": 16.0}}}, {"tokenizer/words": "größer\n"})


def same(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype and array.shape == other[name].shape, name
        np.testing.assert_array_equal(array, other[name], name)


def test_everything_comes_back(content, tmp_path):
    model_file.write(tmp_path / "m.safetensors", content)
    got = model_file.read(tmp_path / "m.safetensors")
    same(got.arrays, content.arrays)
    assert got.about == content.about and got.texts == content.texts
    about, shapes = model_file.read_about(tmp_path / "m.safetensors")
    assert about == content.about and shapes["params/a/kernel"] == (4, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_half_precision_rounds_kernels_and_nothing_else(content, tmp_path):
    model_file.write(tmp_path / "m.safetensors", content, half=True)
    stored = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    assert {name for name, x in stored.items() if x.dtype == np.float16} == {
        "params/a/kernel", "params/empty"}
    got = model_file.read(tmp_path / "m.safetensors").arrays
    kernel = content.arrays["params/a/kernel"]
    assert got["params/a/kernel"].dtype == np.float32
    assert 0 < np.abs(got["params/a/kernel"] / kernel - 1).max() <= 2**-11
    same({**got, "params/a/kernel": kernel}, content.arrays)


def test_a_file_is_never_replaced_nor_half_written(content, tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(ValueError, match="already exists; name a new file"):
        model_file.write(path, content)
    assert path.read_bytes() == b"mine"

    def cut_off(arrays, where, metadata):
        where.write_bytes(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", cut_off)
    with pytest.raises(OSError, match="No space"):
        model_file.write(tmp_path / "n.safetensors", content)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_damage_is_noticed_wherever_it_is(content, tmp_path):
    path = tmp_path / "m.safetensors"
    model_file.write(path, content)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    config = whole.index(b"16.0")
    for place in (config, 8 + length, len(whole) - 1):   # the config, the first and the last array
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:])
        with pytest.raises(ValueError, match=r"m\.safetensors (is damaged|is not a whole)"):
            model_file.read(path)
    for size in (0, 5, length // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="is not a whole safetensors file"):
            model_file.read(path)


def test_files_of_others_and_of_later_versions_are_refused(content, tmp_path):
    other = tmp_path / "resnet.safetensors"
    safetensors.numpy.save_file({"conv1.weight": np.ones((2, 2))}, other, {"format": "pt"})
    with pytest.raises(ValueError, match="arrays without the model that they belong to"):
        model_file.read(other)

    def written(header, name):
        safetensors.numpy.save_file(content.arrays | {"params/a/kernel": np.ones((2, 2))},
                                    tmp_path / name, {"vseg_jax": header})
        return tmp_path / name

    with pytest.raises(ValueError, match=r"has version 2 of the format, but .* reads version 1"):
        model_file.read(written(json.dumps({"version": 2}), "later.safetensors"))
    for number, header in enumerate(("[]", "{", "{}", json.dumps({"version": 1}))):
        with pytest.raises(ValueError, match="is damaged: its description"):
            model_file.read_about(written(header, f"{number}.safetensors"))
