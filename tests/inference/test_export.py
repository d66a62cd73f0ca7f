"""An exported folder loads again, and its stream runs without the model's code."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import standin

from vseg_jax.config import parse
from vseg_jax.inference import checkpoint, export, exported, segmenter


@pytest.fixture(scope="module")
def restored():
    class Queueing(standin.Standin):
        """With a collection that answering does not read, as training has."""

        def init(self, key, batch):
            return {**super().init(key, batch), "queue": {"keys": jax.numpy.ones((50, 8))}}

    model = Queueing()
    variables = jax.tree.map(np.asarray, model.init(jax.random.key(0), None))
    frames = [[4, 3, 16, 16, 3], "uint8"]
    config = {"system": "standin", "model": {"gain": 16.0}, "clip": vars(standin.CLIP),
              "text": {"tokenizer": "words", "length": 4}}
    about = {"config": config, "batch": {"frames": frames, "tokens": [[4, 4], "int32"]}}
    return checkpoint.Restored(model, variables, standin.tokenizer(), standin.CLIP, about)


@pytest.fixture(scope="module")
def folder(restored, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    checkpoint.save(restored, folder)
    (folder / "stream").mkdir()
    export.export_stream(restored, folder / "stream")
    return folder


@pytest.fixture
def known(restored, monkeypatch):
    """The stand-in among the models."""
    monkeypatch.setattr("vseg_jax.models.build", lambda name, settings: type(restored.model)(
        parse(standin.StandinConfig, settings, "config.model")))


def direct(restored, frames, query):
    """The stream as the model itself answers."""
    tokens, valid = restored.tokenizer.encode(query)
    state = restored.model.start(restored.variables, frames[0],
                                 {"tokens": tokens, "tokens_valid": valid})
    for frame in frames[1:]:
        state, answer = restored.model.step(restored.variables, state, frame)
        yield answer


def test_the_stream_says_the_same_without_the_models_code(restored, folder, tmp_path):
    frames, _ = standin.square_frames(6, size=(16, 16), side=6)
    tokens, valid = restored.tokenizer.encode("red")
    np.savez(tmp_path / "in.npz", frames=frames, tokens=tokens, tokens_valid=valid)
    script = f"""
import sys
import numpy as np
from vseg_jax.inference.exported import Stream
stream, given = Stream({str(folder / "stream")!r}), np.load({str(tmp_path / "in.npz")!r})
state = stream.start(given["frames"][0], tokens=given["tokens"], tokens_valid=given["tokens_valid"])
answers = []
for frame in given["frames"][1:]:
    state, answer = stream.step(state, frame)
    answers.append(answer)
np.savez({str(tmp_path / "out.npz")!r}, **{{k: np.stack([a[k] for a in answers]) for k in answer}})
code = [m for m in sys.modules if m.startswith(("vseg_jax.", "flax", "orbax", "input_pipeline"))]
assert code == ["vseg_jax.inference", "vseg_jax.inference.exported"], code
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    out = np.load(tmp_path / "out.npz")
    wanted = list(direct(restored, frames, "red"))
    assert out["frame"].tolist() == [int(a.frame) for a in wanted] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(out["logits"], np.stack([a.logits for a in wanted]), atol=1e-5)
    np.testing.assert_allclose(out["scores"], np.stack([a.scores for a in wanted]), atol=1e-6)


def test_the_stream_is_described_and_takes_nothing_else(folder):
    stream = exported.Stream(folder / "stream")
    description = stream.description
    assert description["delay"] == 1 and description["frame"]["shape"] == [16, 16, 3]
    assert {entry["name"] for entry in description["state"]} == {
        "count", "window", "prompt/tokens", "prompt/tokens_valid"}
    with np.load(folder / "stream" / "variables.npz") as stored:
        assert stored.files == ["params/bias", "params/colour"], "the queue stays behind"
    frame = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="the prompt has"):
        stream.start(frame, tokens=np.zeros(4, np.int32))
    prompt = {"tokens": np.zeros(4, np.int32), "tokens_valid": np.ones(4, bool)}
    with pytest.raises(ValueError, match=r"frame is uint8 \[8, 16, 3\]; it must be uint8 \[16"):
        stream.start(frame[:8], **prompt)
    with pytest.raises(ValueError, match=r"tokens is int64"):
        stream.start(frame, **{**prompt, "tokens": np.zeros(4, np.int64)})
    with pytest.raises(ValueError, match="the state has 1 arrays"):
        stream.step(stream.start(frame, **prompt)[:1], frame)


def test_a_damaged_stream_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"is no exported stream .*stream\.json"):
        exported.Stream(tmp_path)
    for name in ("start.bin", "step.bin", "variables.npz"):
        (tmp_path / name).write_bytes((folder / "stream" / name).read_bytes())
    (tmp_path / "stream.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(ValueError, match="version 99"):
        exported.Stream(tmp_path)


def test_an_export_loads_again(restored, folder, known):
    loaded = segmenter.load(folder)
    assert jax.tree.all(jax.tree.map(
        lambda a, b: (np.asarray(a) == b).all(), loaded.variables, restored.variables))
    frames, _ = standin.square_frames(4)
    before = segmenter.Segmenter(restored.model, restored.variables, restored.tokenizer,
                                 restored.clip)
    for a, b in zip(loaded.segment(frames, "red"), before.segment(frames, "red"), strict=True):
        np.testing.assert_array_equal(a.probability, b.probability)


def test_exporting_is_whole_or_not_at_all(folder, known, tmp_path, monkeypatch):
    out = export.export(folder, tmp_path / "again", platforms=("cpu",))
    assert sorted(p.name for p in out.iterdir()) == [
        "about.json", "stream", "tokenizer", "variables"]
    with pytest.raises(ValueError, match="is there already"):
        export.export(folder, out)

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "export_stream", fails)
    with pytest.raises(OSError, match="No space"):
        export.export(folder, tmp_path / "third")
    assert [p.name for p in tmp_path.iterdir()] == ["again"]


def test_folders_that_are_no_checkpoint_are_named(folder, known, tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder .*gone"):
        segmenter.load(tmp_path / "gone")
    with pytest.raises(ValueError, match="neither checkpoints/"):
        segmenter.load(tmp_path)
    about = json.loads((folder / "about.json").read_text())
    del about["config"]["model"]
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "about.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"has no model; it was not written by"):
        segmenter.load(copy)
    (copy / "about.json").write_text((folder / "about.json").read_text()[:-20])
    with pytest.raises(ValueError, match=r"about\.json cannot be read"):
        segmenter.load(copy)
    shutil.copy(folder / "about.json", copy)
    shutil.rmtree(copy / "tokenizer")
    with pytest.raises(ValueError, match=r"copy has no folder tokenizer/"):
        segmenter.load(copy)
    (copy / "variables" / "_METADATA").unlink()
    shutil.copytree(folder / "tokenizer", copy / "tokenizer")
    with pytest.raises(ValueError, match="cannot be read"):
        segmenter.load(copy)


def test_arrays_of_another_model_are_listed(restored, known, tmp_path):
    params = {"color": restored.variables["params"]["colour"], "bias": np.zeros(3, np.float32)}
    other = dataclasses.replace(restored, variables={**restored.variables, "params": params})
    checkpoint.save(other, tmp_path)
    with pytest.raises(ValueError, match=r"(?s)of another model.*missing params/colour.*"
                                         r"extra params/color .*params/bias is"):
        segmenter.load(tmp_path)
