"""The A2D metric against hand-computed numbers, two public evaluators and pycocotools."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vseg_jax.metrics.a2d import (
    A2DMetric,
    GroupedMetric,
    average_precision,
    main,
    score_folder,
)

GOLDEN = Path(__file__).parents[1] / "goldens" / "a2d_metric.npz"
ORDER = [f"precision@{k}" for k in (0.5, 0.6, 0.7, 0.8, 0.9)] + ["mAP", "overall_iou", "mean_iou"]


def areas(truth: int, prediction: int, overlap: int, shape=(20, 20)):
    """A probability map and a truth with the given areas in pixels."""
    flat = np.zeros((2, shape[0] * shape[1]), bool)
    flat[0, :truth] = True
    flat[1, truth - overlap : truth - overlap + prediction] = True
    return flat[1].reshape(shape).astype(np.float32), flat[0].reshape(shape)


@pytest.mark.parametrize("protocol", ["legacy", "coco"])
def test_public_evaluators_say_the_same(protocol):
    golden = np.load(GOLDEN)
    metric = A2DMetric(protocol)
    truths = np.unpackbits(golden["truth"], axis=-1).astype(bool)
    for logits, truth in zip(golden["logits"].astype(np.float32) / 4, truths, strict=True):
        metric.add(1 / (1 + np.exp(-logits)), truth)
    result = metric.result()
    np.testing.assert_allclose([result[k] for k in ORDER], golden[protocol], atol=1e-7)
    if protocol == "coco":  # the generator took the mean probability of the foreground as well
        np.testing.assert_allclose(metric.rows[:, 2], golden["scores"], atol=1e-6)


def test_an_iou_of_exactly_k_counts_in_legacy_alone():
    for k, overlap in ((0.5, 100), (0.7, 140), (0.9, 180)):
        probability, truth = areas(200, overlap, overlap)
        found = {}
        for protocol in ("legacy", "coco"):
            metric = A2DMetric(protocol)
            metric.add(probability, truth)
            found[protocol] = metric.result()[f"precision@{k}"]
        assert found == {"legacy": 1.0, "coco": 0.0}


def test_a_faint_prediction_is_foreground_in_legacy_alone():
    truth = np.zeros((8, 8), bool)
    truth[:4] = True
    probability = np.where(truth, 0.2, 0.1).astype(np.float32)  # 0.1 is half the peak: not above
    legacy, coco = A2DMetric("legacy"), A2DMetric("coco")
    assert legacy.add(probability, truth) == pytest.approx(1.0)
    assert coco.add(probability, truth) == pytest.approx(0.0, abs=1e-6)
    assert legacy.rows[0].tolist() == pytest.approx([32, 32, 0.2])
    assert coco.rows[0].tolist() == [0, 32, 0]


def test_means_by_hand():
    metric = A2DMetric()
    metric.add(*areas(100, 100, 100))           # IoU 1
    metric.add(*areas(100, 100, 50))            # 50 / 150
    metric.add(*areas(40, 30, 30))              # 0.75
    result = metric.result()
    assert result["precision@0.5"] == pytest.approx(2 / 3)
    assert result["precision@0.8"] == pytest.approx(1 / 3)
    assert result["mAP"] == pytest.approx((6 * 2 / 3 + 4 / 3) / 10)
    assert result["overall_iou"] == pytest.approx(180 / 290)
    assert result["mean_iou"] == pytest.approx((1 + 1 / 3 + 0.75) / 3, abs=1e-6)


def test_nothing_found_of_nothing_is_right():
    metric = A2DMetric()
    metric.add(np.zeros((4, 4), np.float32), np.zeros((4, 4), bool))
    assert metric.result()["mean_iou"] == 1.0
    assert metric.result()["overall_iou"] == 1.0


def test_average_precision_by_hand():
    # By falling score: right, wrong, right at every threshold: precisions 1, 2/3, 2/3 at recalls
    # 1/3, 1/3, 2/3; 34 recalls (0 ... 0.33) see 1, 33 (0.34 ... 0.66) see 2/3, the rest nothing.
    expected = (34 * 1 + 33 * 2 / 3) / 101
    assert average_precision(np.array([1.0, 1.0, 0.0]), np.array([0.2, 0.9, 0.5])) == (
        pytest.approx(expected)
    )


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools(seed):
    pytest.importorskip("pycocotools")
    from pycocotools import mask as rle
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    generator = np.random.default_rng(seed)
    count, shape = 30, (20, 20)
    metric, truths, found = A2DMetric("coco"), [], []
    for i in range(count):
        truth = int(generator.integers(20, 200))
        overlap = int(truth * generator.uniform(0.3, 1.0))
        probability, truth = areas(truth, overlap + int(generator.integers(0, 20)), overlap)
        score = float(np.round(generator.uniform(), 1))  # ties on purpose
        metric.add(probability, truth, score)
        encoded = [rle.encode(np.asfortranarray(m.astype(np.uint8))) for m in (truth, probability)]
        truths.append({"id": i + 1, "image_id": i, "category_id": i % 3, "iscrowd": 0,
                       "segmentation": encoded[0], "area": float(truth.sum())})
        found.append({"image_id": i, "category_id": 1, "segmentation": encoded[1], "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": [{"id": i, "height": shape[0], "width": shape[1]}
                                   for i in range(count)],
                        "categories": [{"id": i} for i in range(3)], "annotations": truths,
                        "info": {}}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), iouType="segm")
        evaluation.params.useCats = 0
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert metric.result()["mAP"] == pytest.approx(evaluation.stats[0], abs=1e-12)


@pytest.mark.parametrize("protocol", ["legacy", "coco"])
def test_hosts_together_are_one(protocol):
    generator = np.random.default_rng(0)
    whole, parts = A2DMetric(protocol), [A2DMetric(protocol) for _ in range(2)]
    samples = [areas(60, 60, int(o)) for o in generator.integers(20, 60, 9)]
    for i, (probability, truth) in enumerate(samples):
        for metric in (whole, parts[i // 5]):
            metric.add(probability, truth, score=i / 10)
    received = A2DMetric.from_rows(protocol, parts[1].rows)
    parts[0].merge(received)
    assert parts[0].result() == whole.result()
    other = A2DMetric("coco" if protocol == "legacy" else "legacy")
    with pytest.raises(ValueError, match="cannot merge"):
        whole.merge(other)


def test_scores_of_each_group():
    metric = GroupedMetric()
    metric.add(*areas(50, 50, 50), differs_in="color", category="ball")
    metric.add(*areas(50, 50, 10), differs_in="motion", category="ball")
    metric.add(*areas(50, 50, 50), differs_in="", category="ball")
    result = metric.result()
    assert result["samples"] == 3
    assert set(result["by"]) == {"differs_in", "category"}
    assert set(result["by"]["differs_in"]) == {"color", "motion"}  # an empty one is not a group
    assert result["by"]["differs_in"]["motion"]["mean_iou"] == pytest.approx(1 / 9, abs=1e-6)
    assert result["by"]["category"]["ball"]["mean_iou"] == pytest.approx(result["mean_iou"])
    assert result["by"]["category"]["ball"]["samples"] == 3


def test_bad_input_is_named():
    probability, truth = areas(50, 50, 50)
    with pytest.raises(ValueError, match="'legacy' or 'coco'"):
        A2DMetric("voc")
    metric = A2DMetric()
    with pytest.raises(ValueError, match="nothing to score"):
        metric.result()
    with pytest.raises(ValueError, match="ground truth's size"):
        metric.add(probability, truth[1:])
    with pytest.raises(ValueError, match="sigmoid"):
        metric.add(probability * 7, truth)
    with pytest.raises(ValueError, match="finite"):
        metric.add(np.full_like(probability, np.nan), truth)
    with pytest.raises(ValueError, match="score"):
        metric.add(probability, truth, score=float("nan"))
    assert len(metric) == 0


def save_masks(folder: Path, samples: list) -> None:
    rows = []
    for number, (mask, truth, extra) in enumerate(samples):
        rows.append({"file": f"{number:06d}.png", **extra})
        for name, array in (("predictions", mask), ("truth", truth)):
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray((array > 0).astype(np.uint8) * 255).save(
                folder / name / rows[-1]["file"]
            )
    (folder / "predictions.json").write_text(json.dumps({"protocol": "coco", "samples": rows}))


def test_command_scores_saved_masks(tmp_path, capsys):
    generator = np.random.default_rng(3)
    metric, samples = GroupedMetric("coco"), []
    for i in range(6):
        probability, truth = areas(80, 80, int(generator.integers(30, 80)))
        metric.add(probability, truth, 0.1 * i, differs_in="shape" if i % 2 else "")
        samples.append((probability, truth, {"score": 0.1 * i,
                                             "differs_in": "shape" if i % 2 else ""}))
    save_masks(tmp_path, samples)
    assert main(["--predictions", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == metric.result()
    assert score_folder(tmp_path, "legacy")["mAP"] != metric.result()["mAP"]


def test_command_names_the_faulty_file(tmp_path, capsys):
    assert main(["--predictions", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: there is no {tmp_path}/predictions.json; ")
    probability, truth = areas(50, 50, 50)
    save_masks(tmp_path, [(probability, truth[1:], {})])
    with pytest.raises(ValueError, match=r"000000\.png is 20 x 20, its ground truth 19 x 20"):
        score_folder(tmp_path)
    (tmp_path / "truth" / "000000.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"truth/000000\.png cannot be read"):
        score_folder(tmp_path)
    (tmp_path / "predictions.json").write_text("[]")
    with pytest.raises(ValueError, match="is not a table of predictions"):
        score_folder(tmp_path)
