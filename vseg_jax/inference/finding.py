"""The frame in which a model is surest of what a query names, for another model to follow it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

import numpy as np
from tqdm import tqdm

from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.inference.segmenter import Segmenter

_SMALLEST = 0.001  # share of the frame that a mask covers at least, unless all are smaller


def find(
    segmenter: Segmenter, video: str | os.PathLike | np.ndarray | Iterable[np.ndarray],
    query: str | None, progress: bool | str = False,
) -> tuple[Segmentation, float]:
    """Returns the frame of a video in which a model is surest of its mask (ours).

    A mask that is carried on by a model with mask prompts is steadier than one found anew in each
    frame, and found where the object can be seen best:

        found, certainty = find(vseg_jax.load(...), "clip.mp4", "a dog running")
        for segmentation in vseg_jax.load("swiftnet-lite0").segment(
            "clip.mp4", masks={found.frame: found.index}, both_directions=True):
            ...

    Args:
      segmenter: a model that takes a query.
      video: see `Segmenter.segment`.
      query: the referring expression.
      progress: whether to show a progress bar, or what stands before it.

    Returns:
      The segmentation, and how sure it is: the mean probability of the pixels of its mask, in
      [0, 1]. A mask of less than 0.1 % of the frame is taken only if there is no larger one.

    Raises:
      ValueError: the model does not take a query, or no frame has a mask.
    """
    best: tuple[tuple[bool, float], Segmentation] | None = None
    with contextlib.closing(segmenter.segment(video, query)) as predictions:
        for segmentation in tqdm(predictions, unit=" frames", disable=not progress,
                                 desc=progress if isinstance(progress, str) else "find"):
            mask, probability = segmentation.masks[0], segmentation.probability[0]
            if mask.any():
                rank = bool(mask.mean() >= _SMALLEST), float(probability[mask].mean())
                if best is None or rank > best[0]:
                    best = rank, segmentation
    if best is None:
        raise ValueError(f"no frame shows what the query {query!r} names, as the model sees it; "
                         "try another expression")
    return best[1], best[0][1]
