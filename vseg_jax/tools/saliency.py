"""A baseline without expressions and without training: the largest object that moves.

    vseg saliency --prepared data/davis/0123456789ab/1.0.0 --split val --styles plain --frames 20

scores it on the samples on which a referring model is scored with the same settings of
`evaluation.datasets`, by the same metrics. Where a video shows one moving object, as most of DAVIS,
a model that uses its expressions should be better than this.

Optical flow (OpenCV's DIS) leads to the next annotated frame, or from the last one back. What the
camera does to the background is an affine motion, fitted by RANSAC; the object is the largest
connected region whose flow differs from it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float
from tqdm import tqdm

from vseg_jax.arguments import Parser
from vseg_jax.input_pipeline.flow import dis_flow
from vseg_jax.input_pipeline.frames import read_frame
from vseg_jax.input_pipeline.records import Dataset, Record, open_dataset
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import WordTokenizer
from vseg_jax.metrics.a2d import PROTOCOLS, A2DMetric
from vseg_jax.metrics.command import print_scores
from vseg_jax.metrics.grounding import grounding, mean_scores

GRID = 16         # pixels between the points to which the camera's motion is fitted
FIT = 1.0         # largest distance of a point of the background from the fitted motion, pixels
LEAST = 0.5       # smallest difference to the camera's motion that counts, pixels
CLOSED = 1 / 60   # diameter of the gaps that are closed, share of the smaller side


def evaluate(
    dataset: Dataset, *, styles: tuple[str, ...] = (), frames: int = 0, protocol: str = "legacy",
    progress: bool = True,
) -> dict[str, Any]:
    """Returns the scores of the largest moving object.

    Args:
      dataset: with masks and expressions.
      styles, frames: which samples; see `ReferringSamples`.
      protocol: see `vseg_jax.metrics.a2d`.
      progress: whether to show a progress bar.

    Returns:
      `protocol`; `A2DMetric.result()`; the scores of `vseg_jax.metrics.grounding`; `videos`, the
      mean IoU over the samples of each video.

    Raises:
      ValueError: there is no such sample, or a frame cannot be read.
    """
    size = ClipConfig(length=1, stride=1, target=0)
    samples = ReferringSamples(dataset, size, WordTokenizer([], 1), train=False, styles=styles,
                               frames=frames)
    records = {entry.video_id: number for number, entry in enumerate(dataset.index)}
    metric, extras = A2DMetric(protocol), []
    videos: dict[str, list[float]] = {}
    found: dict[tuple[str, int], np.ndarray] = {}
    for i in tqdm(range(len(samples)), desc=f"saliency {dataset.name}", disable=not progress):
        truth = samples.truth(i)
        key = truth.video_id, truth.frame
        if key not in found:
            found[key] = moving_object(dataset, dataset[records[truth.video_id]], truth.frame)
        mask = found[key]
        iou = metric.add(mask.astype(np.float32), truth.mask == truth.object_id)
        extras.append(grounding(mask, truth.mask, truth.object_id))
        videos.setdefault(truth.video_id, []).append(iou)
    return {"protocol": protocol, **metric.result(), **mean_scores(np.array(extras)),
            "videos": {name: float(np.mean(values)) for name, values in videos.items()}}


def moving_object(dataset: Dataset, record: Record, t: int) -> Bool[np.ndarray, "H W"]:
    """Returns the largest moving object of frame `t`; empty if the video has a single frame."""
    if len(record.frames) == 1:
        return np.zeros((record.height, record.width), bool)
    other = t + 1 if t + 1 < len(record.frames) else t - 1
    first, second = (read_frame(dataset, record, n) for n in (t, other))
    return largest_region(own_motion(dis_flow(first, second)))


def own_motion(flow: Float[np.ndarray, "H W 2"]) -> Float[np.ndarray, "H W"]:
    """Returns by how many pixels the flow differs from the motion of the background.

    This is the affine motion that most points of a grid follow, fitted by RANSAC.
    """
    height, width = flow.shape[:2]
    y, x = np.indices((height, width), np.float32)
    points = np.stack([x, y], axis=-1)
    step = max(1, min(GRID, min(height, width) // 4))
    start = points[step // 2::step, step // 2::step].reshape(-1, 2)
    end = start + flow[step // 2::step, step // 2::step].reshape(-1, 2)
    affine = cv2.estimateAffine2D(start, end, method=cv2.RANSAC, ransacReprojThreshold=FIT)[0]
    if affine is None:
        affine = np.eye(2, 3)
    camera = points @ affine[:, :2].T + affine[:, 2] - points
    return np.hypot(*np.moveaxis(flow - camera, -1, 0))


def largest_region(motion: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Returns the largest connected region with a motion above Otsu's threshold; may be empty."""
    most = float(np.percentile(motion, 99.5))
    if most < LEAST:
        return np.zeros(motion.shape, bool)
    scaled = np.rint(np.minimum(motion / most, 1) * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    moving = (motion > max(threshold / 255 * most, LEAST)).astype(np.uint8)
    side = 2 * round(CLOSED * min(motion.shape) / 2) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    moving = cv2.morphologyEx(moving, cv2.MORPH_CLOSE, kernel)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(moving)
    if len(stats) == 1:
        return np.zeros(motion.shape, bool)
    return labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = Parser(prog="vseg saliency", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepared", required=True, help="folder of the prepared dataset, or one "
                        "above it that holds no other")
    parser.add_argument("--split", required=True)
    parser.add_argument("--styles", default="", help="of the expressions, separated by commas")
    parser.add_argument("--frames", type=int, default=0,
                        help="annotated frames per expression, evenly spread; 0: all")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="legacy")
    given = parser.parse_args(arguments)

    def score() -> Mapping[str, Any]:
        styles = tuple(style for style in given.styles.split(",") if style)
        return evaluate(open_dataset(given.prepared, given.split), styles=styles,
                        frames=given.frames, protocol=given.protocol)

    return print_scores(score)
