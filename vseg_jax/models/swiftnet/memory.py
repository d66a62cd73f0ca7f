"""The memory of a stream: keys and values of pixels, in arrays of fixed size.

The M places of an object's memory, with P = h * w places for each frame:

    [ first frame: P | corrections: C * P | previous frame: P | ring: capacity * kept ]

Frames with a mask prompt are kept whole. The first one, in which the object entered, is never
overwritten; of those that corrected it, the last C are kept. The ring holds the kept part of other
frames and evicts the oldest: whole frames (STM), or the pixels least similar to the memory
(SwiftNet's pixel-adaptive memory). `valid` marks the places in use. A static memory has neither
previous frame nor ring.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

MASKED = -1e30  # score of unused places; finite, so that an empty memory does not read NaN
SCORES = 2**24  # scores that are computed at once: 64 MiB

Carry = TypeVar("Carry")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the parts of an object's memory are.

    Attributes:
      places: P, pixels of a frame.
      corrections: C, frames kept whole in addition to the first one.
      capacity: frames in the ring; 0 for a static memory.
      kept: how many pixels of a frame enter the ring.
    """

    places: int
    corrections: int
    capacity: int
    kept: int

    @property
    def previous(self) -> int:
        """The first place of the previous frame."""
        return (1 + self.corrections) * self.places

    @property
    def ring(self) -> int:
        """The first place of the ring."""
        return self.previous + self.places

    @property
    def size(self) -> int:
        """M, all places."""
        return self.ring + self.capacity * self.kept if self.capacity else self.previous


@struct.dataclass
class Memory:
    """Memory of the N slots of one stream.

    Attributes:
      keys: [N, M, Ck].
      values: [N, M, Cv].
      valid: [N, M] bool.
      prompts: [N] int32, frames in which a mask prompt named the slot's object.
      updates: [] int32, frames put into the ring so far.
    """

    keys: Any  # arrays, but `jax.eval_shape` and `jax.vmap` also use shapes and axes
    values: Any
    valid: Any
    prompts: Any
    updates: Any


def create(
    layout: Layout,
    key: Float[Array, "N P K"],
    value: Float[Array, "N P V"],
    present: Bool[Array, " N"],
    dtype: DTypeLike,
) -> Memory:
    """Returns the memory after the first frame.

    Args:
      layout: of the memory.
      key: of the first frame.
      value: of the first frame.
      present: slots that hold an object.
      dtype: of the stored keys and values.
    """
    later = layout.size - layout.places

    def extended(x: Array) -> Array:
        return jnp.pad(x.astype(dtype), ((0, 0), (0, later), (0, 0)))

    valid = present[:, None] & (jnp.arange(layout.size) < layout.places)
    return Memory(extended(key), extended(value), valid, present.astype(jnp.int32),
                  jnp.zeros((), jnp.int32))


def read(
    query: Float[Array, "Q K"],
    keys: Float[Array, "N M K"],
    values: Float[Array, "N M V"],
    valid: Bool[Array, "N M"],
) -> Float[Array, "N Q V"]:
    """Computes Eq. 1 and the sum of Eq. 2: for each query pixel, the mean value of similar places.

    Affinities are the softmax of <query, key> / sqrt(K) over the valid places, as in both public
    codes (Eq. 1 prints no root). SwiftNet's code takes the plain exponential; here the largest
    score is subtracted first, which only prevents overflow. The result is meaningless for an object
    without a valid place.
    """
    affinity = jax.nn.softmax(_scores(query, keys, valid), axis=-1).astype(values.dtype)
    return jnp.einsum("nqm,nmv->nqv", affinity, values)


def recall(
    query: Float[Array, "Q K"], memory: Memory, places: int, top_k: int | None = None
) -> Float[Array, "N Q V"]:
    """Computes `read` in blocks of a frame's `places`, only those with a place in use.

    The softmax is computed online: sums are kept relative to the largest score so far. A memory
    with a large capacity therefore costs no time before it is filled, and never needs the
    affinities of all its places at once; of a large frame, not even those of all query pixels.

    Args:
      query: keys of the pixels that search the memory.
      memory: of the frames before.
      places: P, pixels of a frame.
      top_k: the softmax is over this many best places of each query pixel and object (STCN, XMem);
        None for all.
    """
    objects, _, channels = memory.values.shape
    query = query.astype(memory.keys.dtype)
    if top_k is None:
        return _in_chunks(lambda part: _mean(part, memory, places), query, objects * places)
    each = objects * max(places, top_k * channels)
    return _in_chunks(lambda part: _mean_of_best(part, memory, places, top_k), query, each)


def _mean(query: Float[Array, "q K"], memory: Memory, places: int) -> Float[Array, "N q V"]:
    def add(carry: tuple[Array, Array, Array], block: Memory, start: Array) -> Any:
        largest, total, content = carry
        scores = _scores(query, block.keys, block.valid)
        new = jnp.maximum(largest, scores.max(-1))
        weight, shrink = jnp.exp(scores - new[..., None]), jnp.exp(largest - new)
        content = content * shrink[..., None] + jnp.einsum(
            "nqp,npv->nqv", weight.astype(block.values.dtype), block.values,
            preferred_element_type=jnp.float32)
        return new, total * shrink + weight.sum(-1), content

    shape = (memory.keys.shape[0], query.shape[0])
    empty = (jnp.full(shape, MASKED), jnp.zeros(shape),
             jnp.zeros((*shape, memory.values.shape[-1])))
    _, total, content = _over_blocks(memory, places, add, empty)
    return (content / jnp.maximum(total, 1e-30)[..., None]).astype(memory.values.dtype)


def _mean_of_best(
    query: Float[Array, "q K"], memory: Memory, places: int, top_k: int
) -> Float[Array, "N q V"]:
    def better(carry: tuple[Array, Array], block: Memory, start: Array) -> tuple[Array, Array]:
        best, number = carry
        scores = jnp.concatenate([best, _scores(query, block.keys, block.valid)], axis=-1)
        best, at = lax.top_k(scores, top_k)
        before = jnp.take_along_axis(number, jnp.minimum(at, top_k - 1), axis=-1)
        return best, jnp.where(at < top_k, before, start + at - top_k)

    shape = (memory.keys.shape[0], query.shape[0], top_k)
    best, number = _over_blocks(
        memory, places, better, (jnp.full(shape, MASKED), jnp.zeros(shape, jnp.int32)))
    values = jax.vmap(lambda of_object, at: of_object[at])(memory.values, number)
    affinity = jax.nn.softmax(best, axis=-1) * (best > MASKED)
    return jnp.einsum("nqk,nqkv->nqv", affinity.astype(values.dtype), values)


def set_prompted(
    memory: Memory,
    layout: Layout,
    key: Float[Array, "N P K"],
    value: Float[Array, "N P V"],
    named: Bool[Array, " N"],
) -> Memory:
    """Returns the memory with the whole frame for the `named` slots.

    It is the first frame of a slot that had none, else a correction, which replaces the oldest one
    if there are C of them.
    """
    turn = jnp.where(memory.prompts, 1 + (memory.prompts - 1) % layout.corrections, 0)

    def put(i: Array, memory: Memory) -> Memory:
        return _written(memory, i * layout.places, key, value, named & (turn == i))

    memory = lax.fori_loop(0, 1 + layout.corrections, put, memory)
    return memory.replace(prompts=memory.prompts + named)


def set_previous(
    memory: Memory,
    layout: Layout,
    key: Float[Array, "N P K"],
    value: Float[Array, "N P V"],
    remembered: Bool[Array, " N"],
    prompted: Bool[Array, " N"],
) -> Memory:
    """Returns the memory with a new previous frame for the `remembered` slots.

    The `prompted` slots, for which this frame is kept whole elsewhere, get none; the others keep
    the one that they have.
    """
    memory = _written(memory, layout.previous, key, value, remembered & ~prompted)
    at = slice(layout.previous, layout.ring)
    return memory.replace(
        valid=memory.valid.at[:, at].set(memory.valid[:, at] & ~prompted[:, None]))


def keep_previous(memory: Memory, layout: Layout, due: Bool[Array, " N"]) -> Memory:
    """Returns the memory with pixels of the previous frame in the ring, for the slots that are due.

    A part of a frame is chosen separately for each object: the pixels least similar to its memory.

    Args:
      memory: of the frames up to the previous one.
      layout: of the memory.
      due: slots for which to keep the frame; those without a previous frame keep nothing.
    """
    due = due & memory.valid[:, layout.previous]
    start = layout.ring + (memory.updates % layout.capacity) * layout.kept
    key, value = (x[:, layout.previous : layout.ring] for x in (memory.keys, memory.values))
    if layout.kept < layout.places:
        chosen = lax.cond(
            due.any(), lambda: least_similar(key, memory, layout),
            lambda: jnp.zeros((key.shape[0], layout.kept), jnp.int32),
        )
        key, value = (jnp.take_along_axis(x, chosen[..., None], axis=1) for x in (key, value))
    memory = _written(memory, start, key, value, due)
    return memory.replace(updates=memory.updates + due.any())


def least_similar(
    key: Float[Array, "N P K"], memory: Memory, layout: Layout
) -> Int[Array, "N _"]:
    """Returns the pixels of the previous frame least similar to the memory of earlier frames.

    Similarity is the cosine of the keys (SwiftNet, pixel-adaptive memory).

    Returns:
      `layout.kept` positions in [0, P), in ascending order.
    """
    # The previous frame's own places do not count.
    valid = memory.valid.at[:, layout.previous : layout.ring].set(False)
    memory = memory.replace(valid=valid)

    def nearest(part: Float[Array, "N p K"]) -> Float[Array, "N p"]:
        def nearer(best: Array, block: Memory, start: Array) -> Array:
            cosine = jnp.einsum("npk,nmk->npm", part, _unit(block.keys))
            cosine = jnp.where(block.valid[:, None], cosine, -2)
            return jnp.maximum(best, cosine.max(axis=-1))

        return _over_blocks(memory, layout.places, nearer, jnp.full(part.shape[:2], -2.0))

    similar = _in_chunks(nearest, _unit(key), key.shape[0] * layout.places)
    return jnp.sort(lax.top_k(-similar, layout.kept)[1], axis=-1).astype(jnp.int32)


def remove(memory: Memory, slots: Bool[Array, " N"]) -> Memory:
    """Returns the memory without anything of these slots."""
    return memory.replace(
        valid=memory.valid & ~slots[:, None], prompts=jnp.where(slots, 0, memory.prompts))


def _scores(
    query: Float[Array, "Q K"], keys: Float[Array, "N M K"], valid: Bool[Array, "N M"]
) -> Float[Array, "N Q M"]:
    scores = jnp.einsum("qk,nmk->nqm", query.astype(keys.dtype), keys,
                        preferred_element_type=jnp.float32)
    return jnp.where(valid[:, None], scores / query.shape[-1] ** 0.5, MASKED)


def _over_blocks(
    memory: Memory, places: int, function: Callable[[Carry, Memory, Array], Carry], carry: Carry
) -> Carry:
    """Returns `carry` after `carry = function(carry, block, start)` for the blocks of `places`.

    A block is the part of the memory from place `start` on. Blocks without a valid place are left
    out.
    """
    size = memory.valid.shape[1]
    count = -(-size // places)
    filled = jnp.pad(memory.valid.any(0), (0, count * places - size))
    used = filled.reshape(count, places).any(1)
    order = jnp.argsort(~used, stable=True).astype(jnp.int32)

    def block(j: Array, carry: Carry) -> Carry:
        first = order[j] * places
        start = jnp.minimum(first, size - places)  # the last block may overlap another
        keys, values, valid = (
            lax.dynamic_slice_in_dim(x, start, places, axis=1)
            for x in (memory.keys, memory.values, memory.valid)
        )
        unread = start + jnp.arange(places) >= first
        return function(
            carry, memory.replace(keys=keys, values=values, valid=valid & unread), start)

    return lax.fori_loop(0, used.sum(dtype=jnp.int32), block, carry)


def _in_chunks(
    function: Callable[[Array], Array], query: Float[Array, "*_ Q K"], each: int
) -> Float[Array, "N Q *_"]:
    """Returns `function(query)`, computed for parts of the query's pixels one after another.

    Args:
      function: maps [..., q, K] to [N, q, ...]; pixels do not depend on each other.
      query: all pixels.
      each: numbers that `function` needs for a pixel; `SCORES` of them are computed at once.
    """
    pixels = query.shape[-2]
    count = -(-pixels // max(1, SCORES // each))
    if count == 1:
        return function(query)
    size = -(-pixels // count)
    missing = count * size - pixels
    padded = jnp.pad(query, [(0, 0)] * (query.ndim - 2) + [(0, missing), (0, 0)])
    parts = padded.reshape(*query.shape[:-2], count, size, query.shape[-1])
    out = jnp.moveaxis(lax.map(function, jnp.moveaxis(parts, -3, 0)), 0, 1)
    return out.reshape(out.shape[0], count * size, *out.shape[3:])[:, :pixels]


def _unit(x: Array) -> Array:
    x = x.astype(jnp.float32)
    return x * lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))


def _written(
    memory: Memory, start: int | Array, key: Array, value: Array, write: Bool[Array, " N"]
) -> Memory:
    """Writes `key` and `value` from place `start` on, in the slots where `write` is True.

    Only the affected part is read, selected and written back, so that a donated memory is updated
    in place; a condition around the whole memory would copy it when streams are vmapped.
    """

    def put(array: Array, part: Array, write: Array) -> Array:
        old = lax.dynamic_slice_in_dim(array, start, part.shape[1], axis=1)
        part = jnp.where(write, part.astype(array.dtype), old)
        return lax.dynamic_update_slice_in_dim(array, part, start, axis=1)

    return memory.replace(
        keys=put(memory.keys, key, write[:, None, None]),
        values=put(memory.values, value, write[:, None, None]),
        valid=put(memory.valid, jnp.ones(key.shape[:2], bool), write[:, None]),
    )
