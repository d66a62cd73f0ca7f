"""Which object a slot is, from frame to frame, and what a video says of it (Section III-B4).

A slot keeps its identity, which is at first its own number, also through frames in which it has no
object. Where the mask of slot i overlaps that of slot j in the frame before, i takes the identity
of j instead. What happens when slots compete is inferred:

1. Pairs (i, j) whose IoU exceeds the threshold are served in falling order of IoU; each slot of
   either frame is in one pair at most.
2. The other slots with an object, in order of their number, keep their identity where nobody has
   it in this frame; else they get a new one, the next number never used.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int


@struct.dataclass
class Identities:
    """Who the slots are.

    Attributes:
      slots: [N] int32, each slot's identity, whether it has an object or not.
      unused: [] int32, the next new identity.
    """

    slots: Any  # arrays; `jax.eval_shape` and `jax.vmap` put other things here
    unused: Any


@struct.dataclass
class Tracks:
    """Sums over the frames of a video for the identities seen last, a place for each.

    Attributes:
      identity: [P] int32, negative where a place is free.
      probabilities: [P, K], class probabilities, added up over the frames with the object.
      frames: [P] int32, how many there are.
      last: [P] int32, the last of them; negative where there is none.
    """

    identity: Any
    probabilities: Any
    frames: Any
    last: Any


class Summary(NamedTuple):
    """What a video says of each identity.

    Attributes:
      identity: negative where a place has none.
      category: from 0.
      score: in [0, 1]; 0 where a place has none.
      frames: in how many frames it was seen.
    """

    identity: Int[Array, " P"]
    category: Int[Array, " P"]
    score: Float[Array, " P"]
    frames: Int[Array, " P"]


def first(slots: int) -> Identities:
    """Before the first frame."""
    return Identities(jnp.arange(slots, dtype=jnp.int32), jnp.int32(slots))


def no_tracks(places: int, categories: int) -> Tracks:
    """The same."""
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
    """The identities of a frame's slots, -1 where `fired` is False.

    Args:
      identities: after the frame before.
      fired: which slots have an object.
      masks: theirs.
      before: what this function returned for the frame before; all -1 for none.
      masks_before: of the same frame.
      override: the IoU above which a mask passes on its identity; None: never.
    """
    given = jnp.full(fired.shape, -1, jnp.int32)
    if override is not None:
        iou = _iou(masks, masks_before)
        iou = jnp.where(fired[:, None] & (before >= 0), iou, 0)
        given = _pass_on(iou, before, override)

    def settle(carry, slot):
        given, unused = carry
        own = identities.slots[slot]
        asks = fired[slot] & (given[slot] < 0)
        new = asks & (given == own).any()
        prediction = jnp.where(new, unused, own)
        given = given.at[slot].set(jnp.where(asks, prediction, given[slot]))
        return (given, unused + new), None

    number = jnp.arange(fired.shape[0])
    (given, unused), _ = jax.lax.scan(settle, (given, identities.unused), number)
    return Identities(jnp.where(given >= 0, given, identities.slots), unused), given


def _iou(ours: Bool[Array, "N h w"], theirs: Bool[Array, "M h w"]) -> Float[Array, "N M"]:
    ours, theirs = (x.reshape(x.shape[0], -1).astype(jnp.float32) for x in (ours, theirs))
    both = ours @ theirs.T
    either = ours.sum(1)[:, None] + theirs.sum(1) - both
    return both / jnp.maximum(either, 1)


def _pass_on(iou: Float[Array, "N N"], before: Int[Array, " N"], least: float) -> Int[Array, " N"]:
    """Rule 1: the identity that each slot takes over, -1 for none."""

    def pair(_, carry):
        iou, given = carry
        ours, theirs = jnp.unravel_index(iou.argmax(), iou.shape)
        taken = iou[ours, theirs] > least
        given = given.at[ours].set(jnp.where(taken, before[theirs], given[ours]))
        rest = iou.at[ours].set(0).at[:, theirs].set(0)
        return jnp.where(taken, rest, iou), given

    given = jnp.full(before.shape, -1, jnp.int32)
    return jax.lax.fori_loop(0, before.shape[0], pair, (iou, given))[1]


def record(
    tracks: Tracks,
    identities: Int[Array, " N"],
    probabilities: Float[Array, "N K"],
    frame: Int[Array, ""],
) -> Tracks:
    """Adds a frame's slots to the sums of their identities.

    An identity without a place takes a free one, or that of the identity not seen for longest,
    whose sums are lost.

    Args:
      tracks: with at least two places for each slot.
      identities: -1 where a slot has no object; no other number twice.
      probabilities: of the K categories, without that of no object.
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
