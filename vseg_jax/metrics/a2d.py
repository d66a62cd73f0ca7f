"""Precision, mAP and IoU of A2D-Sentences and J-HMDB-Sentences, in both protocols in use.

A sample is an annotated frame, an object in it and an expression that refers to the object; its
prediction is a probability map. Two families of papers compute different numbers from these:

| | `legacy` (ACGA, CMDy, CSTM, LBDT, ...) | `coco` (MTTR, ReferFormer, SOC, ...) |
|---|---|---|
| foreground | probability > 0.5 * the maximum over the frame | probability > 0.5 |
| IoU | (I + 1e-6) / (U + 1e-6) in float64 | the same in float32 |
| precision@K | IoU >= K | IoU > K |
| mAP | mean over ten thresholds of the share with IoU >= t | COCO AP of masks, without classes |
| needs a score | no | yes, the AP orders the samples by it |

The float32 is part of the protocol: the public code of the `coco` family divides in single
precision, where adding 1e-6 to an area of 64 pixels or more changes nothing, so that an IoU of
exactly K does not count; in double precision it would.

Checked against haowang1992/ACGA 85b436e `util/tool.py`, mttr2021/MTTR 2cc35ab `metrics.py` and
pycocotools. The command scores masks that `evaluate` saved, or any others in that layout:

    vseg metrics a2d --predictions DIR [--protocol legacy|coco]

DIR holds `predictions.json` ({"protocol": ..., "samples": [{"file": "000000.png", "score": 0.9,
"differs_in": "", "category": ""}, ...]}) and the index PNGs `DIR/predictions/<file>` and
`DIR/truth/<file>` (0 is background, any other value foreground) at the video's own size.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from vseg_jax.arguments import Parser
from vseg_jax.binarize import foreground
from vseg_jax.metrics.command import print_scores

PROTOCOLS = ("legacy", "coco")
PRECISION_AT = (0.5, 0.6, 0.7, 0.8, 0.9)
# The ten thresholds of both mAPs; np.linspace gives those of pycocotools to the last bit.
MAP_AT = np.linspace(0.5, 0.95, 10)
SMOOTH = 1e-6


class A2DMetric:
    """Collects samples and scores them, with one row (intersection, union, score) per sample.

    The rows are kept because an average precision is not a mean over samples: `merge` (or `rows`
    and `from_rows`, between hosts) gives exactly the scores of all samples together.

    Args:
      protocol: "legacy" or "coco", see the module's docstring.
    """

    def __init__(self, protocol: str = "legacy") -> None:
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol is {protocol!r}; it must be 'legacy' or 'coco'")
        self.protocol = protocol
        self._rows: list[tuple[float, float, float]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def binarize(self, probability: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
        """Returns the foreground of a probability map under this protocol."""
        return foreground(probability, self.protocol)

    def add(
        self,
        probability: Float[np.ndarray, "H W"],
        truth: Bool[np.ndarray, "truth_H truth_W"],
        score: float | None = None,
    ) -> float:
        """Adds one sample and returns its IoU.

        Args:
          probability: the prediction in [0, 1], at the size of `truth`.
          truth: ground-truth mask of the object that the expression refers to.
          score: confidence of the prediction, which only the `coco` mAP uses. None is the mean
            probability of the foreground. (This choice is ours: models that predict one mask have
            no score, and with a constant score the AP depends on the order of the samples.)

        Raises:
          ValueError: the shapes differ, the frame is empty, or a value is not finite or outside
            [0, 1].
        """
        if probability.shape != truth.shape:
            raise ValueError(
                f"the prediction has shape {probability.shape} and its ground truth "
                f"{truth.shape}; resize the prediction to the ground truth's size first"
            )
        if probability.size == 0:
            raise ValueError(f"an empty frame cannot be scored: shape {probability.shape}")
        low, high = float(probability.min()), float(probability.max())
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(
                f"probabilities are in [{low}, {high}]; they must be finite and in [0, 1] "
                "(apply a sigmoid to logits first)"
            )
        mask = self.binarize(probability)
        if score is None:
            score = float(probability[mask].mean(dtype=np.float64)) if mask.any() else 0.0
        if not math.isfinite(score):
            raise ValueError(f"the score of a prediction is {score}; it must be finite")
        truth = truth.astype(bool)
        row = (float((mask & truth).sum()), float((mask | truth).sum()), float(score))
        self._rows.append(row)
        return float(self._iou(np.array([row]))[0])

    def merge(self, other: A2DMetric) -> None:
        """Appends the samples of `other`."""
        if other.protocol != self.protocol:
            raise ValueError(f"cannot merge protocol {other.protocol!r} into {self.protocol!r}")
        self._rows.extend(other._rows)

    @property
    def rows(self) -> Float[np.ndarray, "samples 3"]:
        """(intersection, union, score) of every sample as float64, in the order they were added."""
        return np.array(self._rows, np.float64).reshape(-1, 3)

    @property
    def iou(self) -> Float[np.ndarray, " samples"]:
        """IoU of every sample, in the order they were added."""
        return self._iou(self.rows)

    @classmethod
    def from_rows(cls, protocol: str, rows: Float[np.ndarray, "samples 3"]) -> A2DMetric:
        """Returns the metric that `rows` came from."""
        metric = cls(protocol)
        metric._rows = [tuple(row) for row in rows.tolist()]
        return metric

    def result(self) -> dict[str, float]:
        """Returns all scores, as fractions.

        Returns:
          `precision@0.5` ... `precision@0.9`, `mAP`, `overall_iou` (the sum of intersections over
          the sum of unions) and `mean_iou`.

        Raises:
          ValueError: there is no sample.
        """
        if not self._rows:
            raise ValueError("no sample was added, so there is nothing to score")
        rows, iou = self.rows, self.iou
        reached = np.greater_equal if self.protocol == "legacy" else np.greater
        result = {f"precision@{k}": float(reached(iou, k).mean()) for k in PRECISION_AT}
        intersection, union, score = rows.T
        if self.protocol == "legacy":
            result["mAP"] = float(np.mean([(iou >= t).mean() for t in MAP_AT]))
        else:
            # COCO's IoU has no smoothing, and is 0 where both masks are empty.
            result["mAP"] = average_precision(intersection / np.maximum(union, 1.0), score)
        result["overall_iou"] = float(intersection.sum() / union.sum()) if union.sum() else 1.0
        result["mean_iou"] = float(iou.mean())
        return result

    def _iou(self, rows: np.ndarray) -> np.ndarray:
        dtype = np.dtype(np.float64 if self.protocol == "legacy" else np.float32)
        areas = rows[:, :2].astype(dtype) + np.asarray(SMOOTH, dtype)
        return (areas[:, 0] / areas[:, 1]).astype(np.float64)


def average_precision(
    iou: Float[np.ndarray, "samples"], score: Float[np.ndarray, "samples"]
) -> float:
    """Returns COCO's AP@[.5:.95] of images with one object and one prediction each, class-agnostic.

    Samples are ordered by falling score; equal scores keep their order. The precision at each of
    101 recalls is the highest at that recall or above it, and 0 where no prediction reaches it.

    Args:
      iou: of each sample.
      score: confidence of each sample.
    """
    iou = iou[np.argsort(-score, kind="stable")]
    recalls = np.linspace(0.0, 1.0, 101)
    ranks = np.arange(1, len(iou) + 1)
    per_threshold = []
    for threshold in MAP_AT:
        hits = np.cumsum(iou >= threshold)
        recall = hits / len(iou)
        best = np.maximum.accumulate((hits / ranks)[::-1])[::-1]
        at = np.searchsorted(recall, recalls, side="left")
        per_threshold.append(np.append(best, 0.0)[at].mean())
    return float(np.mean(per_threshold))


class GroupedMetric:
    """`A2DMetric` over all samples and over each group of them.

    Attributes:
      metric: over all samples.
      attributes: of each sample, {name: value}.
    """

    def __init__(self, protocol: str = "legacy") -> None:
        self.metric = A2DMetric(protocol)
        self.attributes: list[dict[str, str]] = []

    def add(
        self,
        probability: Float[np.ndarray, "H W"],
        truth: Bool[np.ndarray, "truth_H truth_W"],
        score: float | None = None,
        **attributes: str,
    ) -> float:
        """Adds a sample as `A2DMetric.add` does; non-empty `attributes` are its groups."""
        iou = self.metric.add(probability, truth, score)
        self.attributes.append(attributes)
        return iou

    def groups(self) -> dict[str, dict[str, list[int]]]:
        """Returns {attribute: {value: numbers of the samples}}, sorted by attribute and value."""
        groups: dict[str, dict[str, list[int]]] = {}
        for number, attributes in enumerate(self.attributes):
            for name, value in attributes.items():
                if value:
                    groups.setdefault(name, {}).setdefault(value, []).append(number)
        return {name: dict(sorted(values.items())) for name, values in sorted(groups.items())}

    def result(self) -> dict[str, Any]:
        """Returns `A2DMetric.result()` with `samples`, their number, and `by`: {attribute: {value:
        the same scores of that group}} for the attributes that any sample has."""
        result: dict[str, Any] = {**self.metric.result(), "samples": len(self.metric)}
        for name, values in self.groups().items():
            for value, numbers in values.items():
                part = A2DMetric.from_rows(self.metric.protocol, self.metric.rows[numbers])
                result.setdefault("by", {}).setdefault(name, {})[value] = {
                    **part.result(), "samples": len(numbers)
                }
        return result


def score_folder(predictions: str | Path, protocol: str | None = None) -> dict[str, Any]:
    """Returns the scores of saved masks.

    Args:
      predictions: a folder with the layout of the module's docstring.
      protocol: None is the protocol that the masks were binarized with.

    Raises:
      ValueError: the folder, its table or a mask is missing or unreadable.
    """
    table = Path(predictions) / "predictions.json"
    try:
        saved = json.loads(table.read_text())
        samples = saved["samples"]
        protocol = str(protocol or saved["protocol"])
    except FileNotFoundError:
        raise ValueError(f"there is no {table}; pass the folder that evaluate saved") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{table} is not a table of predictions (it must have protocol and samples): {error!r}"
        ) from None
    metric = GroupedMetric(protocol)
    for number, sample in enumerate(samples):
        if not isinstance(sample, dict) or "file" not in sample:
            raise ValueError(f"{table}: sample {number} has no 'file'")
        mask = _read_mask(table.parent / "predictions" / sample["file"])
        truth = _read_mask(table.parent / "truth" / sample["file"])
        if mask.shape != truth.shape:
            raise ValueError(
                f"{table.parent / 'predictions' / sample['file']} is {mask.shape[0]} x "
                f"{mask.shape[1]}, its ground truth {truth.shape[0]} x {truth.shape[1]}; save "
                "predictions at the ground truth's size"
            )
        attributes = {k: str(sample.get(k, "")) for k in ("differs_in", "category")}
        metric.add(mask.astype(np.float32), truth, sample.get("score"), **attributes)
    return metric.result()


def _read_mask(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            mask = np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read as a mask: {error}") from None
    if mask.ndim != 2:
        raise ValueError(f"{path} is a color image; it must be an index PNG with one channel")
    return mask != 0


def main(arguments: Iterable[str] | None = None) -> int:
    """Runs the command of the module's docstring and returns its exit status."""
    parser = Parser(prog="vseg metrics a2d", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", required=True, help="folder that evaluate saved")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="default: that of the saved table")
    options = parser.parse_args(None if arguments is None else list(arguments))
    return print_scores(lambda: score_folder(options.predictions, options.protocol))


if __name__ == "__main__":
    sys.exit(main())
