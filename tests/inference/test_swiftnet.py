"""A tiny SwiftNet: videos together as alone, in two programs, and exported."""

import dataclasses

import jax
import numpy as np
import pytest
import standin

from vseg_jax.export import export
from vseg_jax.export import stream as exported
from vseg_jax.inference import restore as checkpoint
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.models.swiftnet import Swiftnet, SwiftnetConfig

SIZE = (32, 48)


class Counted(Swiftnet):
    """Counts how often it is traced."""

    traces = 0

    def step(self, variables, state, frame, prompt=None):
        self.traces += 1
        return super().step(variables, state, frame, prompt)


@pytest.fixture(scope="module")
def segmenter():
    model = Counted(SwiftnetConfig(depth=18, width=4, objects=2, every=2, capacity=2, share=0.3))
    return Segmenter(model, jax.jit(model.init)(jax.random.key(0), {}))


def test_eight_videos_together_are_eight_alone(segmenter):
    videos = [standin.square_frames(6, SIZE, side=12, seed=k) for k in range(8)]
    session = segmenter.start_many([f[0] for f, _ in videos], masks=[m[0] == 1 for _, m in videos])
    later = [{2: np.where(m[2] == 2, 2, 0)} if k % 2 else {} for k, (_, m) in enumerate(videos)]
    predictions = [session.first]
    for t in range(1, 6):
        masks = [entering.get(t) for entering in later] if t == 2 else None
        predictions.append(session.step([f[t] for f, _ in videos], masks))
    assert segmenter.model.traces == 3, "one slot; two, with masks and without"
    for k, (frames, truth) in enumerate(videos):
        alone = segmenter.segment(frames, mask=truth[0] == 1, masks=later[k])
        for together, single in zip(predictions, alone, strict=True):
            assert together[k].ids == single.ids
            np.testing.assert_allclose(together[k].probability, single.probability, atol=1e-4)
    assert segmenter.model.traces == 6, "one stream has programs of its own"


def test_half_precision_follows_in_both_directions(segmenter):
    frames, truth = standin.square_frames(5, SIZE, side=12)
    masks = {2: np.where(truth[2] == 1, 1, 0), 3: np.where(truth[3] == 2, 2, 0)}
    half = Segmenter(Swiftnet(dataclasses.replace(segmenter.model.config, dtype="bfloat16")),
                     segmenter.variables)
    runs = [list(one.segment(frames, masks=masks, both_directions=True))
            for one in (half, segmenter)]
    for low, full in zip(*runs, strict=True):
        assert low.ids == full.ids == (1, 2) and low.probability.dtype == np.float32
        np.testing.assert_allclose(low.probability, full.probability, atol=0.1)


def test_the_exported_stream_predicts_the_same(segmenter, tmp_path):
    about = {"batch": {"frames": [[4, 3, *SIZE, 3], "uint8"]}}
    export.export_stream(checkpoint.Restored(
        segmenter.model, segmenter.variables, None, None, about), tmp_path, ("cpu",))
    stream = exported.Stream(tmp_path)
    videos = [standin.square_frames(5, SIZE, side=12, seed=k) for k in range(8)]
    frames, masks = (np.stack(x, 1) for x in zip(*videos, strict=True))   # [T, S, ...]
    first, second = masks[0] * (masks[0] == 1), masks[2] * (masks[2] == 2)
    session, state = segmenter.start_many(frames[0], masks=first), stream.start(
        frames[0], mask=first)
    for t in range(1, 5):
        predictions = session.step(frames[t], second if t == 2 else None)
        state, out = stream.step(state, frames[t], **({"mask": second} if t == 2 else {}))
        probability = np.asarray(out["probability"])
        assert out["frame"].tolist() == [t] * 8
        for prediction, maps in zip(predictions, probability, strict=True):
            np.testing.assert_allclose(
                prediction.probability, maps[:len(prediction.ids)], atol=1e-4)
    assert "S" in [e["shape"][0] for e in stream.description["state"]]
