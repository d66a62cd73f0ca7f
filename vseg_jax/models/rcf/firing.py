"""Which slots of a frame have an object (Section IV-A), with two switches that are not the paper's.

The paper keeps every slot with a class probability of at least `fire`. A slot that is in doubt then
comes and goes, and nothing stops two slots from showing the same object. `keep` lowers the
threshold for slots that had an object in the preceding frame, and `duplicate_iou` removes all but
the most probable one of several slots whose masks overlap.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vseg_jax.models.rcf.config import RcfConfig
from vseg_jax.models.rcf.identity import mask_iou
from vseg_jax.tasks.vis import fired


def firing(
    config: RcfConfig, probabilities: Float[Array, "N K"], masks: Bool[Array, "N h w"],
    before: Bool[Array, " N"] | None = None,
) -> Bool[Array, " N"]:
    """Returns which slots have an object.

    Args:
      config: of the model.
      probabilities: of the categories and, last, of "no object".
      masks: of the slots.
      before: which slots had an object in the preceding frame; None: there is no such frame.
    """
    threshold: float | Array = config.fire
    if config.keep and before is not None:
        threshold = jnp.where(before, config.keep, config.fire)
    there = fired(probabilities, threshold)
    if config.duplicate_iou < 1:
        there = without_duplicates(
            there, probabilities[:, :-1].max(-1), masks, config.duplicate_iou
        )
    return there


def without_duplicates(
    there: Bool[Array, " N"], scores: Float[Array, " N"], masks: Bool[Array, "N h w"],
    iou: float,
) -> Bool[Array, " N"]:
    """Returns the slots that remain after non-maximum suppression of their masks.

    In descending order of the scores, a slot is dropped if the IoU of its mask with that of a slot
    that was not dropped exceeds `iou`. The category does not matter.
    """
    same = mask_iou(masks, masks) > iou

    def visit(kept: Array, slot: Array) -> tuple[Array, None]:
        return kept.at[slot].set(there[slot] & ~(kept & same[slot]).any()), None

    order = jnp.argsort(-scores, stable=True)
    return jax.lax.scan(visit, jnp.zeros_like(there), order)[0]
