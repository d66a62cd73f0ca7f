"""Precision, mAP and IoU of A2D-Sentences and J-HMDB-Sentences, in both protocols of the field.

A sample is one annotated frame, one object of it and one sentence that names the object; the
answer is one probability map. The two families of papers differ in more than their name says:

| | `legacy` (ACGA, CMDy, CSTM, LBDT, ...) | `coco` (MTTR, ReferFormer, SOC, ...) |
|---|---|---|
| foreground | probability > 0.5 * its maximum over the frame | probability > 0.5 |
| IoU | (I + 1e-6) / (U + 1e-6) in float64 | the same in float32 |
| precision@K | IoU >= K | IoU > K |
| mAP | mean over ten thresholds of the fraction with IoU >= t | COCO AP of masks, classes aside |
| needs a score | no | yes, it orders the samples of the AP |

The float32 is part of the protocol: the public code of the `coco` family divides in single
precision, where 1e-6 vanishes beside an area of 64 pixels, so that an IoU of exactly K does not
count; in double precision it would.

Checked against haowang1992/ACGA 85b436e `util/tool.py`, mttr2021/MTTR 2cc35ab `metrics.py` and
pycocotools. As a command it scores masks that `evaluate` saved, or anybody's in that layout:

    python -m vseg_jax.metrics.a2d --predictions DIR [--protocol legacy|coco]

DIR holds `predictions.json` ({"protocol": ..., "samples": [{"file": "000000.png", "score": 0.9,
"differs_in": "", "category": ""}, ...]}) and the index PNGs (0 background, anything else
foreground) `DIR/predictions/<file>` and `DIR/truth/<file>` at the video's own size.
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

from vseg_jax.binarize import foreground

PROTOCOLS = ("legacy", "coco")
PRECISION_AT = (0.5, 0.6, 0.7, 0.8, 0.9)
# The ten thresholds of every mAP here; np.linspace, as pycocotools has them to the last bit.
MAP_AT = np.linspace(0.5, 0.95, 10)
SMOOTH = 1e-6


class A2DMetric:
    """Collects samples and scores them; one row (intersection, union, score) a sample.

    The rows are kept, because an average precision is no mean: `merge` (or `rows` and `from_rows`,
    where they travel between hosts) gives the number of all samples together, exactly.
    """

    def __init__(self, protocol: str = "legacy"):
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol is {protocol!r}; it must be 'legacy' or 'coco'")
        self.protocol = protocol
        self._rows: list[tuple[float, float, float]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def binarize(self, probability: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
        """The foreground under this protocol."""
        return foreground(probability, self.protocol)

    def add(
        self,
        probability: Float[np.ndarray, "H W"],
        truth: Bool[np.ndarray, "truth_H truth_W"],
        score: float | None = None,
    ) -> float:
        """Takes one sample and returns its IoU.

        Args:
          probability: the answer in [0, 1], at the size of `truth`.
          truth: where the named object is.
          score: confidence of the answer, in the `coco` mAP alone; the mean probability of the
            foreground where none is given (the choice is ours: single-mask models have no score,
            and with a constant one the AP hangs on the order of the samples).

        Raises:
          ValueError: shapes differ, or a probability is outside [0, 1] or not finite.
        """
        if probability.shape != truth.shape:
            raise ValueError(
                f"the prediction has shape {probability.shape} and its truth {truth.shape}; "
                "bring the prediction to the size of the truth first"
            )
        if probability.size == 0:
            raise ValueError(f"an empty frame cannot be scored: shape {probability.shape}")
        low, high = float(probability.min()), float(probability.max())
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(
                f"probabilities are in [{low}, {high}]; they must be finite and in [0, 1] "
                "(logits go through a sigmoid first)"
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
        """Adds the samples of `other` behind one's own."""
        if other.protocol != self.protocol:
            raise ValueError(f"cannot merge protocol {other.protocol!r} into {self.protocol!r}")
        self._rows.extend(other._rows)

    @property
    def rows(self) -> Float[np.ndarray, "samples 3"]:
        """(intersection, union, score) of every sample, float64, in the order of adding."""
        return np.array(self._rows, np.float64).reshape(-1, 3)

    @classmethod
    def from_rows(cls, protocol: str, rows: Float[np.ndarray, "samples 3"]) -> A2DMetric:
        """The metric that `rows` came from."""
        metric = cls(protocol)
        metric._rows = [tuple(row) for row in rows.tolist()]
        return metric

    def result(self) -> dict[str, float]:
        """All numbers, as fractions.

        Returns:
          `precision@0.5` ... `precision@0.9`, `mAP`, `overall_iou` (all intersections over all
          unions) and `mean_iou`.

        Raises:
          ValueError: there is no sample.
        """
        if not self._rows:
            raise ValueError("no sample was added, so there is nothing to score")
        rows = self.rows
        iou = self._iou(rows)
        reached = np.greater_equal if self.protocol == "legacy" else np.greater
        result = {f"precision@{k}": float(reached(iou, k).mean()) for k in PRECISION_AT}
        intersection, union, score = rows.T
        if self.protocol == "legacy":
            result["mAP"] = float(np.mean([(iou >= t).mean() for t in MAP_AT]))
        else:
            # COCO's own IoU has no smoothing, and is 0 where both sides are empty.
            result["mAP"] = average_precision(intersection / np.maximum(union, 1.0), score)
        result["overall_iou"] = float(intersection.sum() / union.sum()) if union.sum() else 1.0
        result["mean_iou"] = float(iou.mean())
        return result

    def _iou(self, rows: np.ndarray) -> np.ndarray:
        dtype = np.float64 if self.protocol == "legacy" else np.float32
        areas = rows[:, :2].astype(dtype) + dtype(SMOOTH)
        return (areas[:, 0] / areas[:, 1]).astype(np.float64)


def average_precision(
    iou: Float[np.ndarray, "samples"], score: Float[np.ndarray, "samples"]
) -> float:
    """COCO AP@[.5:.95] where every image has one truth and one prediction, classes aside.

    Samples are taken by falling score, equal scores in their given order; the precision at each of
    101 recalls is the best at that recall or beyond it, and 0 where no prediction reaches it.
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

    `result()` is the metric's with `samples`, their number, and `by` beside it: {attribute:
    {value: the same of that group}}, for the attributes that some sample has.
    """

    def __init__(self, protocol: str = "legacy"):
        self.metric = A2DMetric(protocol)
        self.attributes: list[dict[str, str]] = []

    def add(
        self,
        probability: Float[np.ndarray, "H W"],
        truth: Bool[np.ndarray, "truth_H truth_W"],
        score: float | None = None,
        **attributes: str,
    ) -> float:
        """As `A2DMetric.add`; `attributes` (empty ones aside) name the sample's groups."""
        iou = self.metric.add(probability, truth, score)
        self.attributes.append(attributes)
        return iou

    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = {**self.metric.result(), "samples": len(self.metric)}
        groups: dict[str, dict[str, list[int]]] = {}
        for number, attributes in enumerate(self.attributes):
            for name, value in attributes.items():
                if value:
                    groups.setdefault(name, {}).setdefault(value, []).append(number)
        for name, values in sorted(groups.items()):
            for value, numbers in sorted(values.items()):
                part = A2DMetric.from_rows(self.metric.protocol, self.metric.rows[numbers])
                result.setdefault("by", {}).setdefault(name, {})[value] = {
                    **part.result(), "samples": len(numbers)
                }
        return result


def score_folder(predictions: str | Path, protocol: str | None = None) -> dict[str, Any]:
    """Scores saved masks.

    Args:
      predictions: a folder as the module's docstring describes it.
      protocol: how to score; the protocol that the masks were made under where None.

    Raises:
      ValueError: the folder, its table or a mask is missing or unreadable.
    """
    table = Path(predictions) / "predictions.json"
    try:
        saved = json.loads(table.read_text())
        samples = saved["samples"]
        protocol = protocol or saved["protocol"]
    except FileNotFoundError:
        raise ValueError(f"{table} is not there; name the folder that evaluate saved") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{table} is no table of predictions (wanted: protocol, samples): {error!r}"
        ) from None
    metric = GroupedMetric(protocol)
    for number, sample in enumerate(samples):
        if not isinstance(sample, dict) or "file" not in sample:
            raise ValueError(f"{table}: sample {number} names no 'file'")
        mask = _read_mask(table.parent / "predictions" / sample["file"])
        truth = _read_mask(table.parent / "truth" / sample["file"])
        if mask.shape != truth.shape:
            raise ValueError(
                f"{table.parent / 'predictions' / sample['file']} is {mask.shape[0]} x "
                f"{mask.shape[1]}, its truth {truth.shape[0]} x {truth.shape[1]}; save predictions "
                "at the size of the truth"
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
        raise ValueError(f"{path} is a color image; an index PNG with one channel is wanted")
    return mask != 0


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vseg_jax.metrics.a2d", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", required=True, help="folder saved by evaluate")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="default: as the table says")
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        print(json.dumps(score_folder(options.predictions, options.protocol), indent=2))
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
