"""Identities of slots across frames, and their totals over a video (Section III-B4).

A video with N slots has N identities, and each slot owns one of them, at first its own number. It
keeps this identity through frames in which it has no object. If the mask of slot i overlaps the
last mask of an identity that another slot owns, the two slots swap their identities, so that the
owners always remain a permutation. How conflicts between slots are resolved is inferred:

1. Pairs of a slot with an object and an identity are matched greedily, in descending order of the
   IoU of their masks, which must exceed a threshold; each slot and each identity is in at most one
   pair. The paper compares with the preceding frame only. If older masks are compared too, the
   pairs with identities of the preceding frame come first.
2. The other slots with an object have the identity that they own after that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int


@struct.dataclass
class Identities:
    """Who owns which of the N identities, and where they were seen last.

    Attributes:
      slots: [N] int32, each slot's identity, whether it has an object or not; a permutation.
      masks: [N, h, w] bool, for each identity its mask in the last frame that shows it.
      last: [N] int32, for each identity the number of this frame; -1 where there is none.
    """

    slots: Any  # arrays, but `jax.eval_shape` and `jax.vmap` also use shapes and axes
    masks: Any
    last: Any


@struct.dataclass
class Tracks:
    """Sums over the frames that show an identity, for each of the N identities.

    Attributes:
      probabilities: [N, K], class probabilities.
      frames: [N] int32, the number of these frames.
    """

    probabilities: Any
    frames: Any


class Summary(NamedTuple):
    """Category and score of each identity of a video.

    Attributes:
      identity: its number; -1 where no frame shows it.
      category: from 0.
      score: in [0, 1]; 0 where no frame shows it.
      frames: the number of frames that show the object.
    """

    identity: Int[Array, " N"]
    category: Int[Array, " N"]
    score: Float[Array, " N"]
    frames: Int[Array, " N"]


def first(slots: int, cells: tuple[int, int]) -> Identities:
    """Returns the identities before the first frame, for masks of `cells` (height, width)."""
    return Identities(
        jnp.arange(slots, dtype=jnp.int32), jnp.zeros((slots, *cells), bool),
        jnp.full(slots, -1, jnp.int32),
    )


def no_tracks(slots: int, categories: int) -> Tracks:
    """Returns the totals before the first frame."""
    return Tracks(jnp.zeros((slots, categories)), jnp.zeros(slots, jnp.int32))


def seen(identities: Identities, frame: Int[Array, ""], frames: int = 1) -> Bool[Array, " N"]:
    """Returns which identities one of the last `frames` frames before `frame` shows."""
    return (identities.last >= 0) & (identities.last >= frame - frames)


def follow(
    identities: Identities,
    fired: Bool[Array, " N"],
    masks: Bool[Array, "N h w"],
    frame: Int[Array, ""],
    override: float | None,
    frames: int = 1,
) -> tuple[Identities, Int[Array, " N"]]:
    """Returns the identities after a frame, and those of its slots, -1 where `fired` is False.

    Args:
      identities: after the preceding frame.
      fired: which slots have an object.
      masks: of the slots.
      frame: its number, from 0.
      override: IoU above which a slot takes over an identity; None: never.
      frames: how many frames ago an identity may have been seen to be taken over.
    """
    slots = identities.slots
    if override is not None:
        iou = mask_iou(masks, identities.masks)
        comparable = fired[:, None] & seen(identities, frame, frames) & (iou > override)
        slots = _take_over(slots, jnp.where(comparable, iou + seen(identities, frame), 0))
    assigned = jnp.where(fired, slots, -1)
    # The slot of each identity; those of identities that the frame does not show do not matter.
    owner = jnp.argsort(slots)
    shown = fired[owner]
    return Identities(
        slots, jnp.where(shown[:, None, None], masks[owner], identities.masks),
        jnp.where(shown, frame, identities.last),
    ), assigned


def mask_iou(
    ours: Bool[Array, "N h w"], theirs: Bool[Array, "M h w"]
) -> Float[Array, "N M"]:
    """Returns the IoU of all pairs of masks; 0 where both are empty."""
    ours, theirs = (x.reshape(x.shape[0], -1).astype(jnp.float32) for x in (ours, theirs))
    both = ours @ theirs.T
    either = ours.sum(1)[:, None] + theirs.sum(1) - both
    return both / jnp.maximum(either, 1)


def _take_over(slots: Int[Array, " N"], rank: Float[Array, "N N"]) -> Int[Array, " N"]:
    """Applies rule 1: returns the identity of each slot; pairs of rank 0 are not matched."""

    def pair(_, carry):
        rank, slots = carry
        slot, identity = jnp.unravel_index(rank.argmax(), rank.shape)
        matched = rank[slot, identity] > 0
        swapped = slots.at[(slots == identity).argmax()].set(slots[slot]).at[slot].set(identity)
        rest = rank.at[slot].set(0).at[:, identity].set(0)
        return jnp.where(matched, rest, rank), jnp.where(matched, swapped, slots)

    return jax.lax.fori_loop(0, slots.shape[0], pair, (rank, slots))[1]


def record(
    tracks: Tracks, identities: Int[Array, " N"], probabilities: Float[Array, "N K"]
) -> Tracks:
    """Adds a frame's slots to the sums of their identities.

    Args:
      tracks: before the frame.
      identities: of the slots; -1 where a slot has no object.
      probabilities: of the K categories, without "no object".
    """
    here = identities[:, None] == jnp.arange(identities.shape[0])  # [slot, identity]
    return Tracks(
        tracks.probabilities + here.T.astype(probabilities.dtype) @ probabilities,
        tracks.frames + here.sum(0, dtype=jnp.int32),
    )


def summary(tracks: Tracks) -> Summary:
    """Returns the category and the score of each identity over the frames that show the object.

    The category is the one with the largest mean probability, which is the score (inferred; VisTR
    takes a majority vote).
    """
    mean = tracks.probabilities / jnp.maximum(tracks.frames, 1)[:, None]
    numbers = jnp.arange(tracks.frames.shape[0], dtype=jnp.int32)
    return Summary(
        jnp.where(tracks.frames > 0, numbers, -1), mean.argmax(-1).astype(jnp.int32),
        mean.max(-1), tracks.frames,
    )
