"""Scores frame by frame: what is scored, at which size, without effect of padding and devices."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import standin

from vseg_jax.evaluation import frames as frame_scores
from vseg_jax.evaluation.frames import evaluate
from vseg_jax.inference.geometry import inside, to_original
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.metrics.a2d import A2DMetric, score_folder
from vseg_jax.metrics.grounding import SCORES, grounding


def run(samples, batch_size=5, **options):
    return evaluate(standin.Standin(), standin.variables(), samples, batch_size=batch_size,
                    progress=False, **options)


def without(result, *names):
    """The scores and those of the groups without some of them."""
    return {key: without(value, *names) if isinstance(value, dict) else value
            for key, value in result.items() if key not in names}


@pytest.fixture(scope="module")
def samples():
    return standin.samples()


def test_scores_are_those_of_each_sample_at_its_own_size(samples):
    result = run(samples)
    assert set(frame_scores.SCORES) <= set(result)
    metric = A2DMetric("legacy")
    for i in range(len(samples)):
        sample, truth = samples[i], samples.truth(i)
        batch = {k: v[None] for k, v in sample.items()}
        logits = np.asarray(standin.Standin().predict(standin.variables(), batch).logits)[0, 0]
        metric.add(1 / (1 + np.exp(-to_original(logits, sample["geometry"], truth.mask.shape))),
                   truth.mask == truth.object_id)
    expected = metric.result()
    assert expected["mean_iou"] > 0.6, "the stand-in finds its squares"
    assert {k: result[k] for k in expected} == pytest.approx(expected, abs=1e-6)
    assert result["samples"] == len(samples) == 12
    by = result["by"]
    assert by["differs_in"]["color"]["samples"] == 6
    assert by["differs_in"]["motion"]["samples"] == 4  # two samples do not have it
    assert by["category"]["square"]["samples"] == 6


def test_found_and_grounded_of_all_samples_and_of_each_group(samples):
    result, rows, ious = run(samples, batch_size=5), [], []
    for i in range(len(samples)):
        sample, truth = samples[i], samples.truth(i)
        batch = {k: v[None] for k, v in sample.items()}
        logits = np.asarray(standin.Standin().predict(standin.variables(), batch).logits)[0, 0]
        probability = 1 / (1 + np.exp(-to_original(logits, sample["geometry"], truth.mask.shape)))
        metric = A2DMetric("legacy")
        ious.append(metric.add(probability, truth.mask == truth.object_id))
        rows.append(grounding(metric.binarize(probability), truth.mask, truth.object_id))
    assert [result[name] for name in SCORES] == pytest.approx(np.mean(rows, 0).tolist())
    assert result["grounded"] == 1 and result["guess_iou"] == 0.5
    assert result["sample_iou"] == pytest.approx(ious, abs=1e-5)
    assert result["sample_video"] == [0] * 4 + [1] * 4 + [2] * 4
    of_color = np.mean([row for i, row in enumerate(rows)
                        if samples.truth(i).differs_in == "color"], 0)
    assert [result["by"]["differs_in"]["color"][name] for name in SCORES] == pytest.approx(
        of_color.tolist())


def test_the_expressions_of_other_objects_are_found_but_not_grounded(samples):
    shuffled = ReferringSamples(samples.dataset, samples.clip, samples.tokenizer, train=False,
                                shuffle_expressions=True)
    plain, result = run(samples), run(shuffled)
    assert result["grounded"] == 0 and result["mean_iou"] < 0.05
    assert result["best_iou"] == pytest.approx(plain["best_iou"])
    assert result["found_iou"] == pytest.approx(plain["found_iou"])


def test_padding_and_batch_size_change_nothing_and_one_trace_serves_all_batches(samples):
    before = standin.TRACES["predict"]
    first = run(samples, batch_size=5)   # three batches, the last one padded with three
    again = run(samples, batch_size=5)   # as training does after every epoch
    assert standin.TRACES["predict"] - before <= 1
    other = run(samples, batch_size=4)
    assert first == again
    assert other == first


def test_padded_frames_come_back_without_their_padding():
    clip = ClipConfig(length=3, stride=1, target=1, height=16, width=16, resize="pad")
    samples = standin.samples(videos=1, clip=clip)
    assert samples[0]["geometry"].tolist() == [0.5, 0.5, 0, 0]
    assert run(samples)["mean_iou"] > 0.6
    # A map that is high in the padding alone shows nothing of the frame.
    logits = np.full((16, 16), -9.0, np.float32)
    logits[12:] = 9
    assert to_original(logits, samples[0]["geometry"], (24, 32)).max() == -9


def test_to_original_inverts_a_stretch():
    ramp = np.linspace(0, 1, 16, dtype=np.float32)[None].repeat(8, 0)
    geometry = np.array([8 / 24, 16 / 48, 0, 0], np.float32)
    back = to_original(ramp, geometry, (24, 48))
    assert back.shape == (24, 48)
    centers = (np.arange(48) + 0.5) / 3 - 0.5   # of original pixels, in input pixels
    np.testing.assert_allclose(back[5], np.clip(centers, 0, 15) / 15, atol=1e-5)
    assert inside(ramp, geometry, (24, 48)).shape == (8, 16)
    with pytest.raises(ValueError, match="mirrored"):
        to_original(ramp, np.array([1, -1, 0, 48], np.float32), (8, 16))


def test_the_ground_truth_may_go_through_the_input_size(samples):
    plain, lossy = run(samples), run(samples, gt_roundtrip=True)
    assert lossy["mean_iou"] != plain["mean_iou"]
    # A truth of one pixel is gone or grown at half the size, but never scored as it was.
    truth = np.zeros((8, 8), bool)
    truth[3, 3] = True
    from vseg_jax.evaluation.frames import _roundtrip

    prediction, back = _roundtrip(A2DMetric(), np.ones((8, 8), np.float32), truth,
                                  np.array([1, 1, 0, 0], np.float32))
    assert (back == truth).all() and prediction.min() == 1
    _, back = _roundtrip(A2DMetric(), np.ones((4, 4), np.float32), truth,
                         np.array([0.5, 0.5, 0, 0], np.float32))
    assert back.sum() != 1


def test_saved_masks_score_the_same(samples, tmp_path):
    folder = tmp_path / "deep" / "masks"
    for protocol in ("legacy", "coco"):
        result = run(samples, protocol=protocol, save=folder / protocol)
        scored = score_folder(folder / protocol)
        assert scored == without(result, "protocol", "sample_iou", "sample_video", *SCORES)
    rows = json.loads((folder / "coco" / "predictions.json").read_text())["samples"]
    assert rows[0]["text"] == "the red square" and rows[0]["video"] == "video0"
    run(samples, save=folder / "coco")   # in place of the earlier one
    assert json.loads((folder / "coco" / "predictions.json").read_text())["protocol"] == "legacy"
    with pytest.raises(ValueError, match="already exists"):
        run(samples, save=folder)        # another folder, which stays
    assert sorted(p.name for p in folder.iterdir()) == ["coco", "legacy"]


def test_samples_of_several_processes_are_put_in_order(samples, monkeypatch):
    def two_processes(value):
        return json.loads(json.dumps([value[1::2], value[::2]]))

    alone = run(samples)
    monkeypatch.setattr("vseg_jax.evaluation.runner.gather", two_processes)
    assert run(samples) == alone


def test_a_failure_leaves_no_folder(samples, tmp_path):
    class Broken(type(samples)):
        def truth(self, i):
            if i == 7:
                raise ValueError("the mask of video 7 cannot be decoded")
            return super().truth(i)

    broken = Broken(samples.dataset, samples.clip, samples.tokenizer, train=False)
    with pytest.raises(ValueError, match="video 7"):
        run(broken, save=tmp_path / "masks")
    assert list(tmp_path.iterdir()) == []


def test_two_devices_give_the_scores_of_one(samples):
    script = (
        "import json, standin; from vseg_jax.evaluation.frames import evaluate; import jax;"
        "assert jax.device_count() == 2;"
        "print(json.dumps(evaluate(standin.Standin(), standin.variables(), standin.samples(),"
        " batch_size=4, progress=False)))"
    )
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2",
                                "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == run(samples, batch_size=4)
