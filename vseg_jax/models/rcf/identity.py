"""Identities of slots across frames, and their totals over a video (Section III-B4).

A slot keeps its identity, which is its own number at first, even through frames in which it has no
object. If the mask of slot i overlaps that of slot j in the preceding frame, i takes the identity
of j instead. How conflicts between slots are resolved is inferred:

1. Pairs (i, j) whose IoU exceeds the threshold are matched greedily, in descending order of IoU;
   each slot of either frame is in at most one pair.
2. The remaining slots with an object, in order of their number, keep their identity if it is not
   taken in this frame; otherwise they get a new one, the next unused number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int


@struct.dataclass
class Identities:
    """The identities of the slots.

    Attributes:
      slots: [N] int32, each slot's identity, whether it has an object or not.
      unused: [] int32, the next new identity.
    """

    slots: Any  # arrays, but `jax.eval_shape` and `jax.vmap` also use shapes and axes
    unused: Any


@struct.dataclass
class Tracks:
    """Sums over a video's frames for the most recently seen identities, in P places.

    Attributes:
      identity: [P] int32, negative where a place is free.
      probabilities: [P, K], class probabilities, summed over the frames that show the object.
      frames: [P] int32, the number of these frames.
      last: [P] int32, the last of these frames; negative for a free place.
    """

    identity: Any
    probabilities: Any
    frames: Any
    last: Any


class Summary(NamedTuple):
    """Category and score of each identity of a video.

    Attributes:
      identity: negative where a place is free.
      category: from 0.
      score: in [0, 1]; 0 where a place is free.
      frames: the number of frames that show the object.
    """

    identity: Int[Array, " P"]
    category: Int[Array, " P"]
    score: Float[Array, " P"]
    frames: Int[Array, " P"]


def first(slots: int) -> Identities:
    """Returns the identities before the first frame."""
    return Identities(jnp.arange(slots, dtype=jnp.int32), jnp.int32(slots))


def no_tracks(places: int, categories: int) -> Tracks:
    """Returns the totals before the first frame."""
    zeros = jnp.zeros((places, categories))
    free = jnp.full(places, -1, jnp.int32)
    return Tracks(free, zeros, jnp.zeros(places, jnp.int32), free)


def follow(
    identities: Identities,
    fired: Bool[Array, " N"],
    masks: Bool[Array, "N h w"],
    before: Int[Array, " N"],
    masks_before: Bool[Array, "N h w"],
    override: float | None,
) -> tuple[Identities, Int[Array, " N"]]:
    """Returns the identities after a frame, and those of its slots, -1 where `fired` is False.

    Args:
      identities: after the preceding frame.
      fired: which slots have an object.
      masks: of the slots.
      before: the second result for the preceding frame; all -1 for the first frame.
      masks_before: masks of the preceding frame.
      override: IoU above which a mask passes on its identity; None: never.
    """
    assigned = jnp.full(fired.shape, -1, jnp.int32)
    if override is not None:
        iou = _iou(masks, masks_before)
        iou = jnp.where(fired[:, None] & (before >= 0), iou, 0)
        assigned = _pass_on(iou, before, override)

    def settle(carry, slot):
        assigned, unused = carry
        own = identities.slots[slot]
        open_ = fired[slot] & (assigned[slot] < 0)
        new = open_ & (assigned == own).any()
        number = jnp.where(new, unused, own)
        assigned = assigned.at[slot].set(jnp.where(open_, number, assigned[slot]))
        return (assigned, unused + new), None

    slots = jnp.arange(fired.shape[0])
    (assigned, unused), _ = jax.lax.scan(settle, (assigned, identities.unused), slots)
    return Identities(jnp.where(assigned >= 0, assigned, identities.slots), unused), assigned


def _iou(ours: Bool[Array, "N h w"], theirs: Bool[Array, "M h w"]) -> Float[Array, "N M"]:
    ours, theirs = (x.reshape(x.shape[0], -1).astype(jnp.float32) for x in (ours, theirs))
    both = ours @ theirs.T
    either = ours.sum(1)[:, None] + theirs.sum(1) - both
    return both / jnp.maximum(either, 1)


def _pass_on(iou: Float[Array, "N N"], before: Int[Array, " N"], least: float) -> Int[Array, " N"]:
    """Applies rule 1: returns the identity that each slot takes over, -1 for none."""

    def pair(_, carry):
        iou, assigned = carry
        ours, theirs = jnp.unravel_index(iou.argmax(), iou.shape)
        matched = iou[ours, theirs] > least
        assigned = assigned.at[ours].set(jnp.where(matched, before[theirs], assigned[ours]))
        rest = iou.at[ours].set(0).at[:, theirs].set(0)
        return jnp.where(matched, rest, iou), assigned

    assigned = jnp.full(before.shape, -1, jnp.int32)
    return jax.lax.fori_loop(0, before.shape[0], pair, (iou, assigned))[1]


def record(
    tracks: Tracks,
    identities: Int[Array, " N"],
    probabilities: Float[Array, "N K"],
    frame: Int[Array, ""],
) -> Tracks:
    """Adds a frame's slots to the sums of their identities.

    An identity without a place takes a free one, or evicts the least recently seen identity, whose
    sums are lost.

    Args:
      tracks: with at least two places for each slot.
      identities: -1 where a slot has no object; otherwise unique.
      probabilities: of the K categories, without "no object".
      frame: its number.
    """
    known = (identities[:, None] == tracks.identity) & (identities >= 0)[:, None]  # [N, P]
    last = jnp.where(known.any(0), frame, tracks.last)
    missing = (identities >= 0) & ~known.any(1)
    oldest = jnp.argsort(last, stable=True)
    place = oldest[jnp.maximum(jnp.cumsum(missing) - 1, 0)]
    new = (jnp.arange(last.shape[0]) == place[:, None]) & missing[:, None]
    here, fresh = (known | new).astype(jnp.float32), new.any(0)

    def added(sums: Array, values: Array) -> Array:
        kept = jnp.where(fresh.reshape(-1, *(1,) * (sums.ndim - 1)), 0, sums)
        return kept + (here.T @ values).astype(sums.dtype)

    entering = jnp.where(new, identities[:, None], 0).sum(0)
    return Tracks(
        jnp.where(fresh, entering, tracks.identity),
        added(tracks.probabilities, probabilities),
        added(tracks.frames, jnp.ones(identities.shape)),
        jnp.where(fresh, frame, last),
    )


def summary(tracks: Tracks) -> Summary:
    """Returns the category and the score of each identity over the frames that show the object.

    The category is the one with the largest mean probability, which is the score (inferred; VisTR
    takes a majority vote).
    """
    mean = tracks.probabilities / jnp.maximum(tracks.frames, 1)[:, None]
    category = mean.argmax(-1).astype(jnp.int32)
    return Summary(tracks.identity, category, mean.max(-1), tracks.frames)
