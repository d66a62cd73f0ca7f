"""What a stream remembers: keys and values of pixels, in arrays of fixed size.

The M places of an object's memory, P = h * w of them a frame:

    [ first frame: P | previous frame: P | ring: capacity * kept ]

The first frame, in which the object was given, is never overwritten. The ring holds what stays of
later frames, the oldest making room: whole frames (STM) or the pixels least similar to what is
remembered already (SwiftNet's pixel-adaptive memory). `valid` says which places hold anything. A
static memory has the first part only.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

NEVER = -1e30  # finite, so that an object without any memory reads numbers and not NaN


@struct.dataclass
class Memory:
    """Memory of the N slots of one stream.

    Attributes:
      keys: [N, M, Ck].
      values: [N, M, Cv].
      valid: [N, M] bool.
      updates: [] int32, frames that were put into the ring.
    """

    keys: Any  # arrays; `jax.eval_shape` and `jax.vmap` put other things here
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
    """The memory after the first frame.

    Args:
      key: of the first frame.
      value: of the same.
      present: slots whose object is there.
      ring: places of the ring; None for a static memory.
      dtype: of keys and values.
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
    """Eq. 1 and the sum of Eq. 2: for each query pixel, the mean value of the places like it.

    Affinities are softmax over the valid places of <query, key> / sqrt(K), as both public codes
    have it (Eq. 1 prints no root). SwiftNet's code takes the exponential as it is; here the largest
    score is subtracted first, which changes nothing but overflow. An object with no valid place
    reads a mean that means nothing.
    """
    scores = jnp.einsum("qk,nmk->nqm", query.astype(keys.dtype), keys,
                        preferred_element_type=jnp.float32)
    scores = jnp.where(valid[:, None], scores / query.shape[-1] ** 0.5, NEVER)
    affinity = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return jnp.einsum("nqm,nmv->nqv", affinity, values)


def recall(query: Float[Array, "Q K"], memory: Memory, places: int) -> Float[Array, "N Q V"]:
    """`read` of a stream's memory, a frame's `places` at a time and only as far as it is filled.

    The softmax runs along: sums are kept relative to the largest score so far. So a memory that
    may become large costs neither time before it is, nor affinities of all its places at once.
    """
    objects, size, _ = memory.keys.shape
    number = jnp.arange(size)
    filled = jnp.max(jnp.where(memory.valid.any(0), number + 1, 0))
    query = query.astype(memory.keys.dtype)

    def block(i: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        largest, total, content = carry
        begin = jnp.minimum(i * places, size - places)  # the last block may overlap the one before
        unread = memory.valid & (number >= i * places)
        keys, values, valid = (
            lax.dynamic_slice_in_dim(x, begin, places, axis=1)
            for x in (memory.keys, memory.values, unread)
        )
        scores = jnp.einsum("qk,npk->nqp", query, keys, preferred_element_type=jnp.float32)
        scores = jnp.where(valid[:, None], scores / query.shape[-1] ** 0.5, NEVER)
        new = jnp.maximum(largest, scores.max(-1))
        weight, shrink = jnp.exp(scores - new[..., None]), jnp.exp(largest - new)
        content = content * shrink[..., None] + jnp.einsum(
            "nqp,npv->nqv", weight.astype(values.dtype), values,
            preferred_element_type=jnp.float32)
        return new, total * shrink + weight.sum(-1), content

    shape = (objects, query.shape[0])
    nothing = (jnp.full(shape, NEVER), jnp.zeros(shape),
               jnp.zeros((*shape, memory.values.shape[-1])))
    _, total, content = lax.fori_loop(0, (filled + places - 1) // places, block, nothing)
    return (content / jnp.maximum(total, 1e-30)[..., None]).astype(memory.values.dtype)


def set_first(
    memory: Memory,
    key: Float[Array, "N P K"],
    value: Float[Array, "N P V"],
    entering: Bool[Array, " N"],
) -> Memory:
    """The same with a first frame for the `entering` slots, which had none."""
    return _written(memory, 0, key, value, entering[:, None], entering)


def set_previous(
    memory: Memory,
    key: Float[Array, "N P K"],
    value: Float[Array, "N P V"],
    valid: Bool[Array, " N"],
) -> Memory:
    """The same with another previous frame, which the `valid` slots may read."""
    everywhere = jnp.ones((key.shape[0], 1), bool)
    return _written(memory, key.shape[1], key, value, everywhere, valid)


def keep_previous(memory: Memory, due: Bool[Array, ""], places: int, kept: int) -> Memory:
    """The same with `kept` pixels of the previous frame in the ring, if it is `due`.

    A part of a frame is chosen for each object by itself: its pixels least similar to its memory.

    Args:
      memory: of the frames up to the previous one.
      due: whether anything is to happen.
      places: P, pixels of a frame.
      kept: how many of them stay.
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
    """Which pixels of the previous frame are least like anything remembered of earlier ones.

    Similarity is the cosine of the keys (SwiftNet, pixel-adaptive memory).

    Returns:
      positions in [0, P), in rising order.
    """
    places = key.shape[1]
    # The previous frame's own places are no memory yet.
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
    """`key` and `value` from place `start` on, in the slots that `write` [N, 1] names.

    A small part is read, chosen from and written back, so that a donated memory changes in place;
    a condition around the whole would copy it where streams are vmapped.
    """
    def put(whole: Array, part: Array, write: Array) -> Array:
        old = lax.dynamic_slice_in_dim(whole, start, part.shape[1], axis=1)
        part = jnp.where(write, part.astype(whole.dtype), old)
        return lax.dynamic_update_slice_in_dim(whole, part, start, axis=1)

    valid = jnp.broadcast_to(valid[:, None], key.shape[:2])
    return memory.replace(
        keys=put(memory.keys, key, write[..., None]),
        values=put(memory.values, value, write[..., None]),
        valid=put(memory.valid, valid, write),
    )
