"""An exported folder can be loaded, and its stream runs without the model's code."""

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
import standin_vos

from vseg_jax.config import parse
from vseg_jax.export import export
from vseg_jax.export import stream as exported
from vseg_jax.inference import restore, segmenter


@pytest.fixture(scope="module")
def restored():
    class Queueing(standin.Standin):
        """Has a collection that prediction does not read, as in training."""

        def init(self, key, batch):
            return {**super().init(key, batch), "queue": {"keys": jax.numpy.ones((50, 8))}}

    model = Queueing()
    variables = jax.tree.map(np.asarray, model.init(jax.random.key(0), None))
    frames = [[4, 3, 16, 16, 3], "uint8"]
    config = {"system": "standin", "model": {"gain": 16.0}, "clip": vars(standin.CLIP),
              "text": {"tokenizer": "words", "length": 4}}
    about = {"config": config, "batch": {"frames": frames, "tokens": [[4, 4], "int32"]}}
    return restore.Restored(model, variables, standin.tokenizer(), standin.CLIP, about)


@pytest.fixture(scope="module")
def folder(restored, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    restore.save(restored, folder)
    (folder / "stream").mkdir()
    export.export_stream(restored, folder / "stream")
    return folder


@pytest.fixture
def known(restored, monkeypatch):
    """The stand-in among the models."""
    monkeypatch.setattr("vseg_jax.models.build", lambda name, settings: type(restored.model)(
        parse(standin.StandinConfig, settings, "config.model")))


def direct(restored, frames, query):
    """Yields the predictions of the model itself."""
    tokens, valid = restored.tokenizer.encode(query)
    state = restored.model.start(restored.variables, frames[0],
                                 {"tokens": tokens, "tokens_valid": valid})
    for frame in frames[1:]:
        state, prediction = restored.model.step(restored.variables, state, frame)
        yield prediction


def elsewhere(script):
    """Runs a script in a process that must not import the code of any model."""
    script += """
code = [m for m in sys.modules if m.startswith(("vseg_jax.", "flax", "orbax", "input_pipeline"))]
assert code == ["vseg_jax.export", "vseg_jax.export.stream"], code
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_stream_predicts_the_same_without_the_models_code(restored, folder, tmp_path):
    frames, _ = standin.square_frames(6, size=(16, 16), side=6)
    tokens, valid = restored.tokenizer.encode("red")
    np.savez(tmp_path / "in.npz", frames=frames, tokens=tokens, tokens_valid=valid)
    script = f"""
import sys
import numpy as np
from vseg_jax.export.stream import Stream
stream, given = Stream({str(folder / "stream")!r}), np.load({str(tmp_path / "in.npz")!r})
state = stream.start(given["frames"][:1], tokens=given["tokens"][None],
                     tokens_valid=given["tokens_valid"][None])
predictions = []
for frame in given["frames"][1:]:
    state, prediction = stream.step(state, frame[None])
    predictions.append({{k: v[0] for k, v in prediction.items()}})
np.savez({str(tmp_path / "out.npz")!r},
         **{{k: np.stack([p[k] for p in predictions]) for k in prediction}})
"""
    elsewhere(script)
    out = np.load(tmp_path / "out.npz")
    wanted = list(direct(restored, frames, "red"))
    assert out["frame"].tolist() == [int(a.frame) for a in wanted] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(out["logits"], np.stack([a.logits for a in wanted]), atol=1e-5)
    np.testing.assert_allclose(out["scores"], np.stack([a.scores for a in wanted]), atol=1e-6)


def test_the_description_of_a_stream_and_refused_inputs(folder):
    stream = exported.Stream(folder / "stream")
    description = stream.description
    assert description["delay"] == 1 and description["frame"]["shape"] == ["S", 16, 16, 3]
    assert {entry["name"]: entry["shape"] for entry in description["state"]} == {
        "count": ["S"], "window": ["S", 3, 16, 16, 3], "prompt/tokens": ["S", 4],
        "prompt/tokens_valid": ["S", 4]}
    with np.load(folder / "stream" / "variables.npz") as stored:
        assert stored.files == ["params/bias", "params/color"], "the queue is not exported"
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="the prompt has"):
        stream.start(frames, tokens=np.zeros((2, 4), np.int32))
    prompt = {"tokens": np.zeros((2, 4), np.int32), "tokens_valid": np.ones((2, 4), bool)}
    with pytest.raises(ValueError, match=r"frame is uint8 \[2, 8, 16, 3\]; it .* \[S, 16, 16, 3\]"):
        stream.start(frames[:, :8], **prompt)
    with pytest.raises(ValueError, match=r"tokens is int64"):
        stream.start(frames, **{**prompt, "tokens": np.zeros((2, 4), np.int64)})
    with pytest.raises(ValueError, match=r"tokens is int32 \[2, 4\]; it must be int32 \[1, 4\]"):
        stream.start(frames[:1], **prompt)
    state = stream.start(frames, **prompt)
    with pytest.raises(ValueError, match="the state has 1 arrays"):
        stream.step(state[:1], frames)
    with pytest.raises(ValueError, match="takes a prompt only when a stream starts"):
        stream.step(state, frames, **prompt)


def test_a_damaged_stream_is_reported(folder, tmp_path):
    with pytest.raises(ValueError, match=r"is not an exported stream .*stream\.json"):
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


def test_exporting_is_atomic(folder, known, tmp_path, monkeypatch):
    out = export.export(folder, tmp_path / "again", platforms=("cpu",))
    assert sorted(p.name for p in out.iterdir()) == [
        "about.json", "stream", "tokenizer", "variables"]
    with pytest.raises(ValueError, match="already exists"):
        export.export(folder, out)

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "export_stream", fails)
    with pytest.raises(OSError, match="No space"):
        export.export(folder, tmp_path / "third")
    assert [p.name for p in tmp_path.iterdir()] == ["again"]


def test_folders_without_a_checkpoint_are_reported(folder, known, tmp_path):
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
    params = {"colors": restored.variables["params"]["color"], "bias": np.zeros(3, np.float32)}
    other = dataclasses.replace(restored, variables={**restored.variables, "params": params})
    restore.save(other, tmp_path)
    with pytest.raises(ValueError, match=r"(?s)of another model.*missing params/color.*"
                                         r"extra params/colors .*params/bias is"):
        segmenter.load(tmp_path)


def test_a_stream_of_masks_predicts_the_same_without_the_models_code(tmp_path):
    model, variables = standin_vos.Follower(), standin_vos.variables()
    about = {"batch": {"frames": [[4, 3, 24, 32, 3], "uint8"]}}
    restored = restore.Restored(model, variables, None, None, about)
    export.export_stream(restored, tmp_path)
    videos = [standin.square_frames(4, seed=k) for k in range(2)]
    frames, masks = (np.stack(x, 1) for x in zip(*videos, strict=True))   # [T, S, ...]
    np.savez(tmp_path / "in.npz", frames=frames, masks=masks)
    elsewhere(f"""
import sys
import numpy as np
from vseg_jax.export.stream import Stream
stream, given = Stream({str(tmp_path)!r}), np.load({str(tmp_path / "in.npz")!r})
frames, masks = given["frames"], given["masks"]
state = stream.start(frames[0], mask=masks[0] * (masks[0] == 1))
out = []
for t in (1, 2, 3):
    prompt = {{"mask": masks[t] * (masks[t] == 2)}} if t == 2 else {{}}
    state, prediction = stream.step(state, frames[t], **prompt)
    out.append(prediction["probability"])
alone = stream.start(frames[0, :1], mask=masks[0, :1])
np.savez({str(tmp_path / "out.npz")!r}, probability=np.stack(out),
         alone=stream.step(alone, frames[1, :1])[1]["probability"])
""")
    out = np.load(tmp_path / "out.npz")
    many = segmenter.Segmenter(model, variables)
    session = many.start_many(frames[0], masks=masks[0] * (masks[0] == 1))
    for t, of_streams in zip((1, 2, 3), out["probability"], strict=True):
        predictions = session.step(frames[t], masks[t] * (masks[t] == 2) if t == 2 else None)
        for prediction, maps in zip(predictions, of_streams, strict=True):
            probability = maps[:len(prediction.ids)]
            np.testing.assert_allclose(prediction.probability, probability, atol=1e-5)
    assert predictions[1].ids == (1, 2) and (predictions[1].index == masks[3, 1]).all()
    assert out["alone"].shape == (1, 3, 24, 32), "another number of streams, the same programs"


def saved_follower(folder, monkeypatch, **evaluation):
    """The folder with a model of masks that was evaluated in this way."""
    model, variables = standin_vos.Follower(), jax.tree.map(np.asarray, standin_vos.variables())
    config = {"system": "follower", "model": {"objects": 3}, "evaluation": evaluation}
    about = {"config": config, "batch": {"frames": [[4, 3, 24, 32, 3], "uint8"]}}
    monkeypatch.setattr("vseg_jax.models.build", lambda name, settings: standin_vos.Follower(
        parse(standin_vos.FollowerConfig, settings, "config.model")))
    folder.mkdir()
    restore.save(restore.Restored(model, variables, None, None, about), folder)
    return folder


def test_the_size_of_the_evaluation_is_that_of_predictions(tmp_path, monkeypatch):
    saved = saved_follower(tmp_path / "saved", monkeypatch, short_side=12)
    assert segmenter.load(saved).geometry(48, 64).size == (12, 16)
    assert segmenter.load(saved, short_side=0).geometry(48, 64).size == (48, 64)
    assert segmenter.load(saved, short_side=30).geometry(48, 64).size == (30, 40)
    out = export.export(saved, tmp_path / "out", platforms=("cpu",))
    assert exported.Stream(out / "stream").description["frame"]["shape"] == ["S", 12, 16, 3]
    assert segmenter.load(out).geometry(24, 32).size == (12, 16), "an export keeps it"


def test_a_model_of_masks_needs_no_tokenizer(tmp_path, monkeypatch):
    saved = saved_follower(tmp_path / "saved", monkeypatch)
    out = export.export(saved, tmp_path / "out", platforms=("cpu",), size=(16, 20))
    assert sorted(p.name for p in out.iterdir()) == ["about.json", "stream", "variables"]
    assert exported.Stream(out / "stream").description["frame"]["shape"] == ["S", 16, 20, 3]
    loaded = segmenter.load(out, short_side=12)
    frames, truth = standin.square_frames(3)
    predictions = list(loaded.segment(frames, mask=truth[0]))
    assert len(predictions) == 3 and loaded.geometry(24, 32).size == (12, 16)


def test_streams_with_kernels_of_their_own_take_turns(tmp_path):
    class Kernels(standin_vos.Follower):
        """Blurs each stream's frames with a kernel from its first mask, as adaptation does."""

        def start(self, variables, frame, prompt):
            kernel = (prompt["mask"][:3, :3, None, None] + 1) * jax.numpy.eye(3) / 18
            return {**super().start(variables, frame, prompt), "kernel": kernel}

        def step(self, variables, state, frame, prompt=None):
            blurred = jax.lax.conv_general_dilated(
                frame[None].astype(jax.numpy.float32), state["kernel"], (1, 1), "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]
            rest = {k: v for k, v in state.items() if k != "kernel"}
            rest, prediction = super().step(variables, rest, blurred, prompt)
            return {**rest, "kernel": state["kernel"]}, prediction

    model, variables = Kernels(), standin_vos.variables()
    about = {"batch": {"frames": [[4, 3, 24, 32, 3], "uint8"]}}
    export.export_stream(restore.Restored(model, variables, None, None, about), tmp_path)
    stream = exported.Stream(tmp_path)
    frames, masks = (np.stack(x) for x in zip(
        *(standin.square_frames(1, seed=k) for k in range(3)), strict=True))
    masks[1, 0, :3, :3] = 1
    _, prediction = stream.step(stream.start(frames[:, 0], mask=masks[:, 0]), frames[:, 0])
    for k in range(3):
        mask = jax.numpy.asarray(masks[k, 0])
        state = model.start(variables, frames[k, 0], {"mask": mask})
        _, wanted = model.step(variables, state, frames[k, 0])
        np.testing.assert_allclose(prediction["probability"][k], wanted.probability, atol=1e-3)
