"""The memory of a stream: keys and values of pixels, in arrays of fixed size.

The M places of an object's memory, with P = h * w places for each frame:

    [ first frame: P | previous frame: P | ring: capacity * kept ]

The first frame, in which the object was prompted, is never overwritten. The ring holds the kept
part of later frames and evicts the oldest: whole frames (STM), or the pixels least similar to the
memory (SwiftNet's pixel-adaptive memory). `valid` marks the places in use. A static memory has the
first part only.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

MASKED = -1e30  # score of unused places; finite, so that an empty memory does not read NaN


@struct.dataclass
class Memory:
    """Memory of the N slots of one stream.

    Attributes:
      keys: [N, M, Ck].
      values: [N, M, Cv].
      valid: [N, M] bool.
      updates: [] int32, frames put into the ring so far.
    """

    keys: Any  # arrays, but `jax.eval_shape` and `jax.vmap` also use shapes and axes
    values: Any
    valid: Any
    updates: Any


def create(
    key: Float[Array, "N P K"],
    value: Float[Array, "N P V"],
    present: Bool[Array, " N"],
    ring: int | None,
    dtype: DTypeLike,
) -> Memory:
    """Returns the memory after the first frame.

    Args:
      key: of the first frame.
      value: of the first frame.
      present: slots that hold an object.
      ring: places of the ring; None for a static memory.
      dtype: of the stored keys and values.
    """
    objects, places, _ = key.shape
    later = 0 if ring is None else places + ring

    def extended(x: Array) -> Array:
        return jnp.pad(x.astype(dtype), ((0, 0), (0, later), (0, 0)))

    valid = jnp.zeros((objects, places + later), bool).at[:, :places].set(present[:, None])
    return Memory(extended(key), extended(value), valid, jnp.zeros((), jnp.int32))


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
    scores = jnp.einsum("qk,nmk->nqm", query.astype(keys.dtype), keys,
                        preferred_element_type=jnp.float32)
    scores = jnp.where(valid[:, None], scores / query.shape[-1] ** 0.5, MASKED)
    affinity = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return jnp.einsum("nqm,nmv->nqv", affinity, values)


def recall(query: Float[Array, "Q K"], memory: Memory, places: int) -> Float[Array, "N Q V"]:
    """Computes `read` in blocks of a frame's `places`, up to the last place in use.

    The softmax is computed online: sums are kept relative to the largest score so far. A memory
    with a large capacity therefore costs no time before it is filled, and never needs the
    affinities of all its places at once.
    """
    objects, size, _ = memory.keys.shape
    number = jnp.arange(size)
    filled = jnp.max(jnp.where(memory.valid.any(0), number + 1, 0))
    query = query.astype(memory.keys.dtype)

    def block(i: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        largest, total, content = carry
        start = jnp.minimum(i * places, size - places)  # the last block may overlap another
        unread = memory.valid & (number >= i * places)
        keys, values, valid = (
            lax.dynamic_slice_in_dim(x, start, places, axis=1)
            for x in (memory.keys, memory.values, unread)
        )
        scores = jnp.einsum("qk,npk->nqp", query, keys, preferred_element_type=jnp.float32)
        scores = jnp.where(valid[:, None], scores / query.shape[-1] ** 0.5, MASKED)
        new = jnp.maximum(largest, scores.max(-1))
        weight, shrink = jnp.exp(scores - new[..., None]), jnp.exp(largest - new)
        content = content * shrink[..., None] + jnp.einsum(
            "nqp,npv->nqv", weight.astype(values.dtype), values,
            preferred_element_type=jnp.float32)
        return new, total * shrink + weight.sum(-1), content

    shape = (objects, query.shape[0])
    empty = (jnp.full(shape, MASKED), jnp.zeros(shape),
             jnp.zeros((*shape, memory.values.shape[-1])))
    _, total, content = lax.fori_loop(0, (filled + places - 1) // places, block, empty)
    return (content / jnp.maximum(total, 1e-30)[..., None]).astype(memory.values.dtype)


def set_first(
    memory: Memory,
    key: Float[Array, "N P K"],
    value: Float[Array, "N P V"],
    entering: Bool[Array, " N"],
) -> Memory:
    """Returns the memory with a first frame for the `entering` slots, which had none."""
    return _written(memory, 0, key, value, entering[:, None], entering)


def set_previous(
    memory: Memory,
    key: Float[Array, "N P K"],
    value: Float[Array, "N P V"],
    valid: Bool[Array, " N"],
) -> Memory:
    """Returns the memory with a new previous frame, which the `valid` slots may read."""
    everywhere = jnp.ones((key.shape[0], 1), bool)
    return _written(memory, key.shape[1], key, value, everywhere, valid)


def keep_previous(memory: Memory, due: Bool[Array, ""], places: int, kept: int) -> Memory:
    """Returns the memory with `kept` pixels of the previous frame in the ring, if it is `due`.

    A part of a frame is chosen separately for each object: the pixels least similar to its memory.

    Args:
      memory: of the frames up to the previous one.
      due: whether to keep the frame; otherwise the memory is unchanged.
      places: P, pixels of a frame.
      kept: how many of them to keep.
    """
    capacity = (memory.keys.shape[1] - 2 * places) // kept
    start = 2 * places + (memory.updates % capacity) * kept
    key, value = (x[:, places : 2 * places] for x in (memory.keys, memory.values))
    valid = memory.valid[:, places]
    if kept < places:
        chosen = lax.cond(
            due, lambda: least_similar(key, memory, kept),
            lambda: jnp.zeros((key.shape[0], kept), jnp.int32),
        )
        key, value = (jnp.take_along_axis(x, chosen[..., None], axis=1) for x in (key, value))
    write = jnp.broadcast_to(due, (key.shape[0], 1))
    memory = _written(memory, start, key, value, write, valid)
    return memory.replace(updates=memory.updates + due.astype(jnp.int32))


def least_similar(
    key: Float[Array, "N P K"], memory: Memory, kept: int
) -> Int[Array, "N {kept}"]:
    """Returns the pixels of the previous frame least similar to the memory of earlier frames.

    Similarity is the cosine of the keys (SwiftNet, pixel-adaptive memory).

    Returns:
      positions in [0, P), in ascending order.
    """
    places = key.shape[1]
    # The previous frame's own places do not count.
    valid = memory.valid.at[:, places : 2 * places].set(False)
    cosine = jnp.einsum("npk,nmk->npm", _unit(key), _unit(memory.keys))
    nearest = jnp.where(valid[:, None], cosine, -2).max(axis=-1)
    return jnp.sort(lax.top_k(-nearest, kept)[1], axis=-1).astype(jnp.int32)


def _unit(x: Array) -> Array:
    x = x.astype(jnp.float32)
    return x * lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))


def _written(
    memory: Memory, start: int | Array, key: Array, value: Array, write: Array, valid: Array
) -> Memory:
    """Writes `key` and `value` from place `start` on, in the slots where `write` [N, 1] is True.

    Only the affected part is read, selected and written back, so that a donated memory is updated
    in place; a condition around the whole memory would copy it when streams are vmapped.
    """

    def put(array: Array, part: Array, write: Array) -> Array:
        old = lax.dynamic_slice_in_dim(array, start, part.shape[1], axis=1)
        part = jnp.where(write, part.astype(array.dtype), old)
        return lax.dynamic_update_slice_in_dim(array, part, start, axis=1)

    valid = jnp.broadcast_to(valid[:, None], key.shape[:2])
    return memory.replace(
        keys=put(memory.keys, key, write[..., None]),
        values=put(memory.values, value, write[..., None]),
        valid=put(memory.valid, valid, write),
    )
