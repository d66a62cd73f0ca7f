"""Writes a2d_metric.npz: scores of random masks by two public evaluators.

    python tests/goldens/a2d_metric.py --mttr CHECKOUT --acga CHECKOUT

CHECKOUT are working copies of mttr2021/MTTR at 2cc35ab96f331957b48dfe1d40048ca4cf1e32eb and
haowang1992/ACGA at 85b436e36b2cf99826bb67b44dd1db7cf54455d8; needs torch, opencv and pycocotools.
The cases (seed 0) are stored with the scores, so that the test does not depend on a generator.
"""

import argparse
import contextlib
import importlib.util
import io
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SAMPLES, HEIGHT, WIDTH, SEED = 64, 24, 32, 0


def cases() -> tuple[np.ndarray, np.ndarray]:
    """Returns logits [N,H,W] float32 (quarters) and masks [N,H,W] uint8, of all IoUs in [0, 1]."""
    generator = np.random.default_rng(SEED)
    y, x = np.mgrid[:HEIGHT, :WIDTH]

    def discs(center, radius):
        distance = np.hypot(y - center[:, :1, None], x - center[:, 1:, None])
        return radius[:, None, None] - distance

    center = generator.uniform([6, 8], [18, 24], (SAMPLES, 2))
    radius = generator.uniform(4, 9, SAMPLES)
    truth = discs(center, radius) > 0
    shift = generator.normal(0, 2, (SAMPLES, 2)) * generator.uniform(0, 1.2, (SAMPLES, 1))
    logits = discs(center + shift, radius * generator.uniform(0.8, 1.2, SAMPLES))
    logits += generator.normal(0, 0.5, logits.shape) + generator.normal(0, 1, (SAMPLES, 1, 1))
    logits[0] -= 50  # no pixel is above 1/2, though some are above half the peak
    # An IoU of exactly 1/2, from areas that single precision rounds: the protocols differ here.
    truth[1] = False
    truth[1, :10, :10] = True
    logits[1] = -8
    logits[1, :10, :5] = 8
    return np.round(logits * 4).astype(np.float32) / 4, truth.astype(np.uint8)


def load(path: Path, name: str):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def legacy(tool, logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    torch.Tensor.cuda = lambda self: self
    size = torch.tensor([[HEIGHT, WIDTH]] * SAMPLES)
    blank = torch.zeros(SAMPLES, 1)
    loader = [(size, blank, blank, None, None, torch.from_numpy(truth), None, None, None)]
    predictions = torch.from_numpy(logits)
    spatial = np.zeros((8, 1, 1), np.float32)
    out = tool.report_result(None, loader, lambda *_: (None, None, predictions), *[spatial] * 3)
    mean, overall, *rest = out
    return np.array([*rest, overall, mean])


def coco(metrics, logits: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probability = torch.sigmoid(torch.from_numpy(logits)).numpy()
    masks = (probability > 0.5).astype(np.uint8)
    scores = np.array([p[m > 0].mean(dtype=np.float64) if m.any() else 0.0
                       for p, m in zip(probability, masks, strict=True)])
    encode = [[rle.encode(np.asfortranarray(m)) for m in group] for group in (truth, masks)]
    annotations = [
        {"id": i + 1, "image_id": i, "category_id": 1, "iscrowd": 0, "segmentation": encode[0][i],
         "area": float(truth[i].sum()), "bbox": rle.toBbox(encode[0][i]).tolist()}
        for i in range(SAMPLES)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = {"images": [{"id": i, "height": HEIGHT, "width": WIDTH}
                                 for i in range(SAMPLES)],
                      "categories": [{"id": 1}], "annotations": annotations, "info": {}}
        gt.createIndex()
        found = gt.loadRes([{"image_id": i, "category_id": 1, "segmentation": encode[1][i],
                             "score": float(scores[i])} for i in range(SAMPLES)])
        evaluation = COCOeval(gt, found, iouType="segm")
        evaluation.params.useCats = 0
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        precision, overall, mean = metrics.calculate_precision_at_k_and_iou_metrics(gt, found)
    return np.array([*precision, evaluation.stats[0], overall, mean]), scores


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mttr", type=Path, required=True)
    parser.add_argument("--acga", type=Path, required=True)
    options = parser.parse_args()
    logits, truth = cases()
    results, scores = coco(load(options.mttr / "metrics.py", "mttr_metrics"), logits, truth)
    np.savez_compressed(
        Path(__file__).with_suffix(".npz"),
        logits=(logits * 4).astype(np.int16), truth=np.packbits(truth, axis=-1), scores=scores,
        coco=results, legacy=legacy(load(options.acga / "util" / "tool.py", "tool"), logits, truth),
    )


if __name__ == "__main__":
    main()
