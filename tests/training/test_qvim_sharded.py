"""Tests that qvim with queue, momentum encoder and perturbations is the same on eight devices."""

import grain
import numpy as np
import pytest
import toy_model as toy
import worker

from vseg_jax.models.qvim import Config, Model
from vseg_jax.training import TrainConfig, train
from vseg_jax.training.reports import read_metrics

CONFIG = dict(steps=3, batch_size=8, optimizer="sgd", learning_rate=0.003, momentum=0.0,
              log_every=1)
# The word embedding and the queue are split; each device holds the rest of the model.
SPLIT = dict(
    model_parallel=2, sharding=[["moco/queue$", ["model"]], ["embedding", [None, "model"]]])


def make():
    """Returns a small qvim with all perturbations and losses, and endless random batches."""
    config = Config(
        backbone="resnet18", resnet_width=8, text="words", vocabulary=32, word_width=8, channels=16,
        decoder_channels=(8,) * 5, queue=32, contrast_dim=8, clip_length=2, clip_target=1,
        qfa_schedule="from_start", qfa_start=0.0, am_adain_scales=(3,), total_steps=3,
        sa_kv_max=None)

    def batch(index):
        rng = np.random.default_rng(index)
        b, t, size, words = CONFIG["batch_size"], 2, 32, 5
        return {
            "frames": rng.integers(0, 256, (b, t, size, size, 3), dtype=np.uint8),
            "masks": rng.integers(0, 2, (b, t, size, size), dtype=np.uint8),
            "masks_valid": np.ones((b, t), bool),
            "target": np.ones(b, np.int32),
            "object_id": np.ones(b, np.int32),
            "tokens": rng.integers(1, 32, (b, words)).astype(np.int32),
            "tokens_valid": np.arange(words) < rng.integers(2, words, (b, 1)),
            "video": np.arange(b, dtype=np.int32) + 100 * index,
            "sample": np.arange(b, dtype=np.int32) + 100 * index,
            "valid": rng.random(b) < 0.8,
            "geometry": np.ones((b, 4), np.float32),
        }

    return Model(config), iter(grain.MapDataset.range(0, 100).map(batch).to_iter_dataset())


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [dict(), SPLIT], ids=["8x1", "4x2"])
def test_qvim_on_eight_devices_equals_one(one_device, tmp_path, mesh):
    process = worker.start(tmp_path / "out", 8, workdir=str(tmp_path / "run"),
                           config={**CONFIG, **mesh}, model=make)
    assert worker.finish(process, 600)["devices"] == 8
    expected, lines = one_device
    with np.load(tmp_path / "out.npz") as found:
        assert set(found) == set(expected)
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=2e-3, atol=2e-4, err_msg=name)
        # The queue has wrapped around with the keys of valid samples and their videos.
        np.testing.assert_array_equal(found["moco/videos"], expected["moco/videos"])
        assert found["moco/pointer"] == expected["moco/pointer"]
    for line, wanted in zip(training_lines(tmp_path / "run"), lines, strict=True):
        for name in ("loss", "segmentation", "contrast", "gradient_norm"):
            assert line[name] == pytest.approx(wanted[name], rel=1e-3), (line["step"], name)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one")
    trained = train(*make(), TrainConfig(**CONFIG), workdir)
    return toy.named(trained.variables), training_lines(workdir)


def training_lines(workdir):
    return [line for line in read_metrics(workdir) if line["kind"] == "train"]
