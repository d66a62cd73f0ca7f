"""The pictures of qvim: clips of several frames, and frames of another shape than the input."""

import json

import jax
import numpy as np
import pytest
from tiny_models import clip_batch
from toy_dataset import build_toy

from vseg_jax.inference.restore import Restored
from vseg_jax.input_pipeline.records import open_dataset
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import WordTokenizer
from vseg_jax.models.qvim import Qvim, QvimConfig
from vseg_jax.tools import figures, qvim_figures

CLIP = {"length": 3, "stride": 1, "target": 1, "height": 32, "width": 32}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return build_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def restored():
    model = Qvim(QvimConfig(
        backbone="resnet18", resnet_width=4, text="words", vocabulary=20, word_width=6, channels=8,
        decoder_channels=(4,) * 5, sa_kv_max=4, max_words=8, queue=8, clip_length=3, clip_stride=1,
        clip_target=1))
    tokenizer = WordTokenizer(["the", "red", "green", "blue", "box"], 8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), clip_batch(words=8))
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda s: random.normal(0.1, 0.1, s.shape).astype(s.dtype), shapes)
    return Restored(model, variables, tokenizer, ClipConfig(**CLIP), {})


@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_what_the_model_sees_is_brought_back_to_the_frame(toy, restored, resize):
    samples = ReferringSamples(open_dataset(toy, "valid"), ClipConfig(**CLIP, resize=resize),
                               restored.tokenizer, train=False, frames=1)
    shape = qvim_figures.Shape(samples, 0)
    frame, mask = shape.frame(), shape.mask()
    assert frame.shape == (144, 192, 3) and mask.shape == (144, 192)
    color = frame[mask == 1].mean(0)
    assert color[1] > 150 > color[0]   # the mask lies on the green box
    sample = samples[0]
    seen = (sample["masks"][1] == sample["object_id"]).astype(np.float32)
    both = (shape.map(seen) > 0.5) & (mask == 1)
    assert both.sum() > 0.8 * max(mask.sum(), 1)
    coarse = np.arange(16, dtype=np.float32).reshape(4, 4)
    assert set(np.unique(shape.map(coarse))) == set(range(12 if resize == "pad" else 16))


def test_chosen_samples_are_drawn(toy, restored, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(qvim_figures, "restore", lambda run: restored)
    drawn = []
    monkeypatch.setattr(qvim_figures, "_show", lambda axis, picture, title: drawn.append(title))
    opened = ["--dataset", str(toy), "--split", "train", "--output", str(tmp_path)]
    qvim_figures.main(["pointing", "full", *opened, "--samples", "4", "1", "--limit", "1"])
    titles = [title for title in drawn if ": the" in title]
    assert [title.split(":")[0] for title in titles] == ["4", "1"]
    assert (tmp_path / "pointing.png").is_file()
    qvim_figures.main(["augmented", "full", *opened, "--samples", "0", "2", "5"])
    shares = json.loads((tmp_path / "augmented.json").read_text())["samples"]
    assert [one["sample"] for one in shares] == [0, 2, 5]
    for wrong, message in ((["0", "99"], "there is no sample 99; the split has 6"),
                           (["3"], "name at least two --samples")):
        with pytest.raises(SystemExit, match=r"^2$"):
            qvim_figures.main(["augmented", "full", *opened, "--samples", *wrong])
        assert message in capsys.readouterr().err


def test_samples_are_chosen_or_spread():
    assert figures.chosen(range(10), None, 4) == [0, 3, 6, 9]
    assert figures.chosen(range(10), [7, 2], 4) == [7, 2]
    with pytest.raises(ValueError, match="no sample -1, 10; the split has 10, numbered from 0"):
        figures.chosen(range(10), [-1, 3, 10], 4)
