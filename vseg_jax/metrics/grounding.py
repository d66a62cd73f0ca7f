"""Was an object segmented, and was it the named one? The two parts of a referring score.

A low IoU has two causes: the prediction covers no object well, or it covers another object than the
expression names. These scores tell them apart. All objects of a frame's index mask count, also
those that no expression names; void pixels are ignored.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

from vseg_jax.index_masks import VOID

SCORES = ("found_iou", "best_iou", "grounded", "guess_iou")


def grounding(
    prediction: Bool[np.ndarray, "H W"], index: UInt8[np.ndarray, "index_H index_W"],
    named: int,
) -> tuple[float, float, float, float]:
    """Returns the values of `SCORES` of one sample.

    Args:
      prediction: the predicted foreground.
      index: the frame's index mask.
      named: id of the object that the expression names.

    Raises:
      ValueError: the shapes differ.
    """
    if prediction.shape != index.shape:
        raise ValueError(f"the prediction has shape {prediction.shape} and its index mask "
                         f"{index.shape}; resize the prediction to the mask's size first")
    known = index != VOID
    areas = np.bincount(index[known], minlength=VOID).astype(float)
    covered = np.bincount(index[known & prediction], minlength=VOID).astype(float)
    size, objects = covered.sum(), np.flatnonzero(areas[1:]) + 1
    if not len(objects):   # nothing is visible: nothing can be found or named
        return 0.0, 0.0, 0.0, 0.0
    each = covered[objects] / (areas[objects] + size - covered[objects])
    union = areas[1:].sum() + covered[0]
    most = objects[covered[objects].argmax()]
    return (float(covered[1:].sum() / union), float(each.max()),
            float(most == named and covered[most] > 0), 1 / len(objects))


def mean_scores(rows: Float[np.ndarray, "samples 4"]) -> dict[str, float]:
    """Returns the means over samples of what `grounding` returns, as fractions.

    Returns:
      `found_iou`: IoU of the prediction with the union of all visible objects. It is 1 for a
        prediction of all objects, and less for the perfect mask of one of several.
      `best_iou`: IoU with the visible object that the prediction matches best. It is never below
        the IoU with the named object, up to smoothing, and equals it where that object is found.
      `grounded`: share of samples whose prediction has its largest intersection, in pixels, with
        the named object; a prediction without any intersection is not grounded.
      `guess_iou`: 1 / number of visible objects, the expected IoU of the perfect mask of one of
        them chosen at random.
    """
    return dict(zip(SCORES, rows.mean(axis=0).tolist(), strict=True))
