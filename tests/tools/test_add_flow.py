import json

import numpy as np
import pytest

from vseg_jax.input_pipeline.records import (
    Expression,
    Object,
    Record,
    decode_flow,
    encode_image,
    encode_mask,
    open_dataset,
)
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import WordTokenizer
from vseg_jax.input_pipeline.video_builder import VideoBuilder
from vseg_jax.tools.add_flow import add_flow, main
from vseg_jax.tools.flow_estimators import Estimator, dis_estimator

LENGTHS = {"train": (4, 1, 5), "valid": (2,)}  # frames of each video


class Builder(VideoBuilder):
    """Coarse noise that moves 2 pixels to the right per frame."""

    name = "shifts"

    def splits(self):
        return {split: self._records(split) for split in LENGTHS}

    def _records(self, split):
        rng = np.random.default_rng(len(split))
        for number, length in enumerate(LENGTHS[split]):
            scene = rng.integers(0, 256, (12, 14, 3), np.uint8).repeat(4, 0).repeat(4, 1)
            frames = [scene[4 : 36, 16 - 2 * t : 48 - 2 * t] for t in range(length)]
            mask = np.ones((32, 32), np.uint8)
            yield Record(
                video_id=f"{split}-{number}", frames=[encode_image(f) for f in frames],
                masks=[encode_mask(mask)] * length, height=32, width=32, fps=5.0,
                objects=[Object(1)],
            )


class Sparse(Builder):
    """A video of twelve frames, of which 2 and 8 are annotated, and one without annotation."""

    name = "sparse"

    def splits(self):
        return {"train": self._records("train")}

    def _records(self, split):
        rng = np.random.default_rng(0)
        for name, annotated in (("some", (2, 8)), ("none", ())):
            frames = rng.integers(0, 256, (12, 32, 32, 3), np.uint8)
            mask = encode_mask(np.ones((32, 32), np.uint8))
            yield Record(
                video_id=name, frames=[encode_image(f) for f in frames],
                masks=[mask if t in annotated else b"" for t in range(12)], height=32, width=32,
                objects=[Object(1)], expressions=[Expression("a thing", 1)],
            )


@pytest.fixture
def folder(tmp_path):
    return Builder(source="", prepared=tmp_path / "data").build()


class Counted:
    """An estimator whose flow is the number of the call, and which can be interrupted."""

    def __init__(self, stop_after: int = 100):
        self.shapes, self.stop_after = [], stop_after

    def __call__(self, first, second):
        if len(self.shapes) == self.stop_after:
            raise KeyboardInterrupt
        self.shapes.append(first.shape)
        return np.full((*first.shape[:3], 2), len(self.shapes), np.float32)


def test_dis_fills_a_copy_and_keeps_the_original(folder, capsys):
    assert main(["--prepared", str(folder)]) == 0
    copy = folder.parents[2].with_name("data-dis") / "shifts" / "default" / "1.0.0"
    assert capsys.readouterr().out.splitlines()[-1] == str(copy)
    assert json.loads((copy / "flow.json").read_text())["method"] == "dis"
    for split, lengths in LENGTHS.items():
        before, after = open_dataset(folder, split), open_dataset(copy, split)
        assert before.index == after.index and before.name == after.name
        for old, new, length in zip(before, after, lengths, strict=True):
            assert new.flow[-1] == b"" and len(new.flow) == length and old.flow == []
            assert (old.frames, old.masks, old.objects) == (new.frames, new.masks, new.objects)
    assert after.flow == json.loads((copy / "flow.json").read_text()) and before.flow == {}
    flow = decode_flow(open_dataset(copy, "train")[0].flow[2], "it")
    np.testing.assert_allclose(np.median(flow[8:-8, 8:-8], axis=(0, 1)), [2, 0], atol=0.3)
    assert list(copy.parent.iterdir()) == [copy]


def test_an_interrupted_run_resumes(folder, tmp_path):
    target = tmp_path / "flow" / "shifts" / "default" / "1.0.0"
    first = Counted(stop_after=3)  # two batches of the first video, one of two of the third
    with pytest.raises(KeyboardInterrupt):
        add_flow(folder, Estimator({"method": "count"}, first), tmp_path / "flow", batch=2)
    assert not target.exists()
    with pytest.raises(ValueError, match="half-built"):
        open_dataset(target, "train")
    with pytest.raises(ValueError, match=r"'other'.*or remove this folder"):
        add_flow(folder, Estimator({"method": "other"}, first), tmp_path / "flow", batch=2)
    second = Counted()
    arguments = folder, Estimator({"method": "count"}, second), tmp_path / "flow"
    assert add_flow(*arguments, batch=2, progress=False) == target
    assert second.shapes == [(2, 32, 32, 3)] * 3  # the whole third video, and that of valid
    videos = [*open_dataset(target, "train"), *open_dataset(target, "valid")]
    values = [[decode_flow(f, "it")[0, 0, 0] for f in v.flow if f] for v in videos]
    assert values == [[1, 1, 2], [], [1, 1, 2, 2], [3]]
    assert add_flow(*arguments, batch=2) == target and len(second.shapes) == 3  # all there
    with pytest.raises(ValueError, match="name another --output"):
        add_flow(folder, dis_estimator(), tmp_path / "flow")


def test_around_annotated_frames_alone(tmp_path):
    """MMMMTBVS 1: which frames need flow? The author's answer: only the annotated ones and what is
    read with them. A2D annotates about 12,000 of 510,000 frames."""
    folder = Sparse(source="", prepared=tmp_path / "data").build()
    count = Counted()
    copy = add_flow(folder, Estimator({"method": "count"}, count), around=1, batch=4)
    assert count.shapes == [(4, 32, 32, 3)] * 2  # six pairs
    assert json.loads((copy / "flow.json").read_text())["around"] == 1
    some, none = open_dataset(copy, "train")
    assert [t for t, flow in enumerate(some.flow) if flow] == [1, 2, 3, 7, 8, 9]
    assert none.flow == [b""] * 12
    whole = add_flow(folder, dis_estimator(), tmp_path / "whole")
    part = add_flow(folder, dis_estimator(), tmp_path / "part", around=0)
    expected, found = open_dataset(whole, "train")[0].flow, open_dataset(part, "train")[0].flow
    assert [t for t, flow in enumerate(found) if flow] == [2, 8]
    assert (found[2], found[8]) == (expected[2], expected[8])
    with pytest.raises(ValueError, match=r"'around': 1.*name another --output"):
        add_flow(folder, Estimator({"method": "count"}, count))  # of all frames


def test_clips_that_reach_beyond_the_flow_are_refused_at_the_start(tmp_path):
    folder = Sparse(source="", prepared=tmp_path / "data").build()
    dataset = open_dataset(add_flow(folder, dis_estimator(), around=2), "train")
    tokenizer = WordTokenizer.from_texts(["a thing"], 4)

    def samples(train, **clip):
        clip = ClipConfig(height=16, width=16, **clip)
        return ReferringSamples(dataset, clip, tokenizer, train=train, flow=True)

    assert samples(False, length=3, target=1, stride=1)[1]["flow"].shape == (3, 16, 16, 3)
    for seed in range(5):
        sample = samples(True, length=3, target=1, stride=1, stride_max=2)
        assert sample.sample(0, np.random.default_rng(seed), 0)["flow"].shape == (3, 16, 16, 3)
    with pytest.raises(ValueError, match=r"no flow from frame 5 to 6.*without --around, or with"):
        samples(False, length=3, target=1, stride=3)
    with pytest.raises(ValueError, match="no flow from frame 5 to 6"):
        samples(True, length=3, target=1, stride=1, stride_max=3)
    samples(False, length=3, target=1, stride=1, stride_max=3)  # drawn in training only
    samples(False, length=3, target=1, stride=1, annotated=True)


def test_errors(folder, tmp_path, capsys):
    with pytest.raises(ValueError, match="would overwrite"):
        add_flow(folder, dis_estimator(), folder.parents[2])
    assert main(["--prepared", str(tmp_path / "nothing")]) == 2
    assert "not built" in capsys.readouterr().err
    assert main(["--prepared", str(folder), "--weights", str(tmp_path / "raft.pth")]) == 2
    assert "no weights at" in capsys.readouterr().err
    assert main(["--prepared", str(folder), "--around", "-1"]) == 2
    assert "--around is -1; it must be at least 0" in capsys.readouterr().err
