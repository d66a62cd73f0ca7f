"""Models that read optical flow get the same pictures from a session as from the loader."""

import warnings
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import standin
from PIL import Image
from standin import Standin

from vseg_jax.experiment import modes, rvos
from vseg_jax.inference import segmenter as segmenters
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.flow import dis_flow, dis_flows, flow_to_image
from vseg_jax.input_pipeline.settings import DatasetConfig
from vseg_jax.input_pipeline.transforms import plain_geometry
from vseg_jax.models.base import Prediction
from vseg_jax.settings import Settings
from vseg_jax.tools import flow_estimators
from vseg_jax.training.settings import TrainConfig


class Mover(Standin):
    """Returns its input: the logits of object k are channel k of the frame's six."""

    flow = True

    def start(self, variables, frame, prompt):
        return {"count": jnp.array(0)}

    def step(self, variables, state, frame):
        count = state["count"] + 1
        logits = jnp.moveaxis(frame.astype(jnp.float32), -1, 0) / 255
        return {"count": count}, Prediction(logits, jnp.ones(6), count - self.delay)


def segmenter(flow=None):
    return Segmenter(Mover(), standin.variables(), standin.tokenizer(), standin.CLIP, flow=flow)


def pictures(seen):
    """The flow pictures in the model's inputs, uint8 [h, w, 3]."""
    return [np.round(255 * np.moveaxis(p[3:], 0, -1)).astype(np.uint8) for p in seen]


def run(segmenter, frames, **arguments):
    """The model's input for each pushed frame, [6, h, w] in [0, 1], and the session."""
    session = segmenter.start(frames[0], "red")
    return [np.asarray(session.push([f], **{k: [v[t]] for k, v in arguments.items()}).logits)[0]
            for t, f in enumerate(frames[1:], 1)], session


def test_flow_is_from_the_previous_frame_and_is_drawn_at_the_frames_size():
    frames, _ = standin.square_frames(4)
    seen, _ = run(segmenter(), frames)
    geometry = plain_geometry(*frames.shape[1:3], standin.CLIP)
    for t, (picture, logits) in enumerate(zip(pictures(seen), seen, strict=True), 1):
        wanted = geometry.frame(flow_to_image(dis_flow(frames[t - 1], frames[t])))
        np.testing.assert_array_equal(picture, wanted)
        np.testing.assert_allclose(
            np.moveaxis(logits[:3], 0, -1) * 255, geometry.frame(frames[t]), atol=1e-3)


def test_flow_by_a_custom_function_or_from_the_caller():
    frames, _ = standin.square_frames(3)
    calls = []

    def left(first, second):
        calls.append((first, second))
        return np.tile(np.float32([-2, 0]), (*first.shape[:3], 1))

    seen, _ = run(segmenter(left), frames)
    assert len(calls) == 2 and (calls[1][0][0] == frames[1]).all()
    up = np.tile(np.float32([0, -1]), (3, *frames.shape[1:3], 1))
    given, _ = run(segmenter(left), frames, flow=up)
    assert len(calls) == 2    # flow from the caller is not computed again
    color = flow_to_image(np.float32([[[-2, 0]]]))[0, 0]
    assert np.abs(pictures(seen)[0].astype(int) - color).max() <= 1
    assert (pictures(given)[0] != pictures(seen)[0]).any()


def test_the_last_frame_again_has_no_motion():
    frames, _ = standin.square_frames(2)
    session = segmenter().start(frames[0], "red")
    session.step(frames[1])
    last = session.finish()[-1]
    assert last.frame == 1
    probability = 1 / (1 + np.exp(-1.0))   # white: 255 in the three channels of the picture
    np.testing.assert_allclose(last.probability[3:], probability, atol=1e-6)


def test_flow_that_does_not_fit_is_named():
    frames, _ = standin.square_frames(2)
    field = np.zeros((*frames.shape[1:3], 2), np.float32)
    plain = Segmenter(Standin(), standin.variables(), standin.tokenizer(), standin.CLIP)
    with pytest.raises(ValueError, match="reads no optical flow; leave out `flow`"):
        Segmenter(Standin(), standin.variables(), standin.tokenizer(), standin.CLIP, flow=dis_flows)
    with pytest.raises(ValueError, match="reads no optical flow"):
        plain.start(frames[0], "red").step(frames[1], flow=field)
    with pytest.raises(ValueError, match=r"flow to frame 1 has shape \(24, 31, 2\)"):
        segmenter().start(frames[0], "red").step(frames[1], flow=field[:, 1:])
    with pytest.raises(ValueError, match="2 flow fields for 1 stream; give one per stream"):
        segmenter().start_many([frames[0]], ["red"]).push([frames[1]], None, [field, field])


def test_predict_notes_once_that_dis_computes_the_flow(monkeypatch, capsys, tmp_path):
    pytest.importorskip("av")
    (tmp_path / "clip").mkdir()
    for t, frame in enumerate(standin.square_frames(3)[0]):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{t}.png")
    monkeypatch.setattr(modes.runtime, "enable_compilation_cache", lambda: None)
    monkeypatch.setattr(segmenters, "load", lambda model, side, changes: segmenter())
    monkeypatch.setattr(flow_estimators, "raft_estimator",
                        lambda weights, iterations: flow_estimators.dis_estimator())
    for raft, notes in (("", 1), ("raft-small.pth", 0)):
        modes.predict("run", [str(tmp_path / "clip")], tmp_path / f"out{notes}", query="red",
                      raft=raft)
        out = capsys.readouterr().out
        assert out.count("note: OpenCV's DIS computes the optical flow") == notes
        assert out.count("--raft") == notes and f"wrote {tmp_path}" in out
    monkeypatch.setattr(segmenters, "load", lambda model, side, changes: standin.segmenter())
    with pytest.raises(ValueError, match="reads no optical flow; leave out --raft"):
        modes.predict("run", [str(tmp_path / "clip")], tmp_path / "no", query="red",
                      raft="raft.pth")
    assert not (tmp_path / "no").exists()


RAFT = {"method": "raft-small", "weights": "raft-small.pth", "weights_blake2b": "aa",
        "iterations": 20}


def test_a_run_notes_how_its_flow_was_computed(monkeypatch, tmp_path):
    data = SimpleNamespace(flow={**RAFT, "dataset": "/data/davis", "around": 3})
    monkeypatch.setattr(rvos, "open_data", lambda settings: data)
    settings = Settings("standin", {}, DatasetConfig("davis", "train"), TrainConfig(steps=1))
    for model, notes in ((Mover(), {"flow": RAFT}), (Standin(), {})):
        assert rvos.Task(settings, model, tmp_path).notes() == notes


def test_predict_computes_flow_as_in_training_or_says_so(monkeypatch):
    loaded, asked = segmenter(), []

    def raft(weights, iterations):
        asked.append((weights, iterations))
        return flow_estimators.Estimator({**RAFT, "weights_blake2b": weights}, pairs=dis_flow)

    monkeypatch.setattr(flow_estimators, "raft_estimator", raft)
    loaded.trained_flow = RAFT
    with pytest.warns(UserWarning, match="by raft-small with raft-small.pth, but here dis"):
        modes._use_flow(loaded, "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        modes._use_flow(loaded, "aa")
        assert loaded.engine.flow is dis_flow and asked == [("aa", 20)]
        for trained in ({}, {"method": "dis", "version": "opencv"}):   # unknown, and the same
            loaded.trained_flow = trained
            modes._use_flow(loaded, "")
    loaded.trained_flow = RAFT
    with pytest.warns(UserWarning, match="but here raft-small"):   # other weights
        modes._use_flow(loaded, "bb")
