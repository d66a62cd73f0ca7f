"""Similarity, assignment and loss (Section III-B3, Eq. 3 and 4).

F is the number of supervised frames: 1, the target, or all frames of a clip if the order of the
slots is supervised. Objects are M slots of the batch; `present` marks the frames that show them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from vseg_jax.index_masks import VOID
from vseg_jax.layers.resize import area
from vseg_jax.losses.masks import dice_coefficients
from vseg_jax.models.rcf.config import STRIDE
from vseg_jax.tasks.slots import slot_masks
from vseg_jax.tasks.vis import Batch

SHRINK = 4  # stride of the maps


class Truth(NamedTuple):
    """Ground truth of F frames of each sample, at stride 4 of the padded frame.

    Attributes:
      masks: share of each object among a cell's known pixels.
      weight: share of a cell's pixels that are known.
      present: which objects have a known pixel; none in frames that are not counted.
      classes: of the objects.
      counted: 1 for annotated frames of valid samples, else 0.
    """

    masks: Float[Array, "B F M h w"]
    weight: Float[Array, "B F h w"]
    present: Bool[Array, "B F M"]
    classes: Int[Array, "B M"]
    counted: Float[Array, "B F"]


def truth(batch: Batch, frames: int) -> Truth:
    """Returns the ground truth of the last `frames` frames of each clip."""
    index = batch["masks"][:, -frames:]
    counted = batch["masks_valid"][:, -frames:] & batch["valid"][:, None]
    present = batch["visible"][:, -frames:] & batch["objects"][:, None] & counted[..., None]
    below, right = (-n % STRIDE for n in index.shape[-2:])
    index = jnp.pad(index, ((0, 0), (0, 0), (0, below), (0, right)), constant_values=VOID)
    size = index.shape[-2] // SHRINK, index.shape[-1] // SHRINK
    weight = area((index != VOID).astype(jnp.float32)[..., None], size)[..., 0]
    masks = area(slot_masks(index, present.shape[-1])[..., None], size)[..., 0]
    masks = masks / jnp.where(weight > 0, weight, 1)[:, :, None]
    return Truth(
        masks, weight, present, batch["classes"].astype(jnp.int32), counted.astype(jnp.float32)
    )


def similarity(
    dice: Float[Array, "B F N M"], probabilities: Float[Array, "B F N K"], truth: Truth
) -> Float[Array, "B N M"]:
    """Computes Eq. 3 for each slot and object, summed over the frames that show the object.

    The text calls Dice a loss, but a term added to a probability in a similarity must grow with the
    overlap, so it is the Dice coefficient here.
    """
    classes = jnp.broadcast_to(
        truth.classes[:, None, None], (*probabilities.shape[:-1], truth.classes.shape[-1])
    )
    each = dice + jnp.take_along_axis(probabilities, classes, axis=-1)
    return (each * truth.present[:, :, None]).sum(1)


def assign(similarity: Float[Array, "N M"], there: Bool[Array, " M"]) -> Int[Array, " N"]:
    """Returns the object of each slot, -1 for none, that maximizes the total similarity.

    An object that is not `there` gets no slot. No gradient flows through the assignment.
    """
    # The algorithm does not terminate on non-finite numbers; they still show up in the loss.
    cost = -jax.lax.stop_gradient(jnp.nan_to_num(similarity)) * there
    slots, objects = optax.assignment.hungarian_algorithm(cost)
    chosen = jnp.full(similarity.shape[0], -1, jnp.int32).at[slots].set(objects.astype(jnp.int32))
    return jnp.where((chosen >= 0) & there[chosen], chosen, -1)


class Terms(NamedTuple):
    """Both terms of Eq. 4 and metrics for monitoring, summed over the slots of each frame.

    Attributes:
      classes: -log p(c), weighted by `eos_coef` for slots without an object.
      dice: 1 - Dice of slots with an object.
      iou: of their masks, binarized at one half.
      correct: the number of them whose most probable class is correct.
      matched: the number of slots with an object.
    """

    classes: Float[Array, "B F"]
    dice: Float[Array, "B F"]
    iou: Float[Array, "B F"]
    correct: Float[Array, "B F"]
    matched: Float[Array, "B F"]


def terms(
    classes: Float[Array, "B F N K"], masks: Float[Array, "B F N h w"], truth: Truth,
    eos_coef: float,
) -> Terms:
    """Assigns the slots, in the same way for all F frames, and computes the loss terms.

    If a frame does not show a slot's object, the slot's class there is "no object". The masks of
    slots without an object are not supervised.

    Args:
      classes: logits; the last class is "no object".
      masks: logits at stride 4.
      truth: of the same frames.
      eos_coef: weight of "no object".
    """
    nothing = classes.shape[-1] - 1
    dice = dice_coefficients(masks, truth.masks, truth.weight)
    pairs = similarity(dice, jax.nn.softmax(classes), truth)
    chosen = jax.vmap(assign)(pairs, truth.present.any(1))
    of_slot = jnp.maximum(chosen, 0)
    matched = jnp.take_along_axis(truth.present, of_slot[:, None], axis=2)
    matched &= (chosen >= 0)[:, None]
    wanted = jnp.where(matched, jnp.take_along_axis(truth.classes, of_slot, 1)[:, None], nothing)
    log_p = jnp.take_along_axis(jax.nn.log_softmax(classes), wanted[..., None], -1)[..., 0]
    own = _of_slot(dice, of_slot)
    known = truth.weight[:, :, None] > 0
    here = ((masks > 0) & known).astype(jnp.float32)
    there = ((truth.masks > 0.5) & known).astype(jnp.float32)
    both = _of_slot(jnp.einsum("bfnhw,bfmhw->bfnm", here, there), of_slot)
    size = here.sum((-2, -1)) + jnp.take_along_axis(there.sum((-2, -1)), of_slot[:, None], 2)
    weight = jnp.where(matched, 1.0, eos_coef) * truth.counted[..., None]
    sums = (
        -log_p * weight, (1 - own) * matched, both / jnp.maximum(size - both, 1) * matched,
        (classes.argmax(-1) == wanted) & matched, matched,
    )
    return Terms(*(x.astype(jnp.float32).sum(-1) for x in sums))


def _of_slot(values: Float[Array, "B F N M"], of_slot: Int[Array, "B N"]) -> Float[Array, "B F N"]:
    return jnp.take_along_axis(values, of_slot[:, None, :, None], axis=3)[..., 0]
