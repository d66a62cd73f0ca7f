"""One video as a stream: what is remembered between frames, and what a frame does to it.

A frame is read against the memory of all frames before it; then it becomes the previous frame.
What stays of a previous frame enters the ring after the next one was read, as in the public code.
Everything has a fixed size, so nothing is compiled again as a video goes on or an object enters.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, UInt8

from vseg_jax.layers.convolution import matrix_product, neighborhoods
from vseg_jax.layers.normalization import imagenet_colors
from vseg_jax.models.base import Variables
from vseg_jax.models.swiftnet import adaptation
from vseg_jax.models.swiftnet import memory as mem
from vseg_jax.models.swiftnet.aggregation import aggregate, others, probabilities
from vseg_jax.models.swiftnet.config import SwiftnetConfig
from vseg_jax.models.swiftnet.encoders import STRIDE, Features
from vseg_jax.tasks.vos import Prompt, SlotMasks, index, one_hot


@struct.dataclass
class Last:
    """The last frame, which the variation-aware trigger compares the next one with.

    Attributes:
      frame: [H, W, 3] uint8.
      index: [H, W] uint8, its slots.
      score: [] float32, pixels that varied since a frame was last kept.
    """

    frame: Any
    index: Any
    score: Any


@struct.dataclass
class State:
    """The memory of one stream with N slots.

    Attributes:
      memory: see `Memory`.
      present: [N] bool, slots that have an object.
      count: [] int32, frames seen.
      due: [] bool, whether the last frame is to stay in the ring.
      last: see `Last`; None unless `trigger` is "vat".
      keys: adapted parameters of the key convolutions; None where there is no adaptation. The
        model's variables are never changed, so the next video starts from them.
      adaptation: see `Adaptation`; None likewise.
    """

    memory: mem.Memory
    present: Any
    count: Any
    due: Any
    last: Last | None
    keys: Any
    adaptation: adaptation.Adaptation | None


def padding(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(above, below), (left, right): up to multiples of 16, the odd pixel below and right."""
    missing = -height % STRIDE, -width % STRIDE
    return tuple((m // 2, m - m // 2) for m in missing)


def prepare(frames: UInt8[Array, "*B H W 3"]) -> Float[Array, "*B h w 3"]:
    """Frames as the network takes them: padded with black, then normalized."""
    pads = [(0, 0)] * (frames.ndim - 3) + [*padding(*frames.shape[-3:-1]), (0, 0)]
    return imagenet_colors(jnp.pad(frames, pads))


def pad_masks(masks: Float[Array, "*B H W"]) -> Float[Array, "*B h w"]:
    """Masks at the size of `prepare`'s frames, 0 in what is added."""
    return jnp.pad(masks, [(0, 0)] * (masks.ndim - 2) + [*padding(*masks.shape[-2:])])


def crop(maps: Float[Array, "*B h w"], height: int, width: int) -> Float[Array, "*B H W"]:
    """The opposite of `pad_masks`."""
    (above, _), (left, _) = padding(height, width)
    return maps[..., above : above + height, left : left + width]


def start(
    config: SwiftnetConfig, network: nn.Module, variables: Variables,
    frame: UInt8[Array, "H W 3"], prompt: Prompt, objects: int,
) -> State:
    """The state after the first frame, in which the prompt names objects; adapts where asked."""
    masks = one_hot(prompt["mask"], objects)
    present = masks.any((1, 2))
    image = prepare(frame)[None]
    features = network.apply(variables, image, method="encode")
    fused = _fuse(network, variables, features, image, masks)
    keys, report = None, None
    if config.adaptation_steps:
        keys, report = _adapt(config, network, variables, features, fused, masks, present)
    key, value = _memorize(network, adaptation.with_keys(variables, keys), fused)
    ring = config.capacity * config.kept(key.shape[1]) if config.memory_update else None
    last = None
    if config.trigger == "vat":
        last = Last(frame, index(masks), jnp.zeros((), jnp.float32))
    return State(
        mem.create(key, value, present, ring, config.dtype), present, jnp.ones((), jnp.int32),
        jnp.zeros((), bool), last, keys, report,
    )


def step(
    config: SwiftnetConfig, network: nn.Module, variables: Variables, state: State,
    frame: UInt8[Array, "H W 3"], prompt: Prompt | None = None,
) -> tuple[State, SlotMasks]:
    """Answers for the next frame and remembers it.

    Where a prompt names a slot, its answer stands: the slot's probability is 1 and every other's 0.
    A slot it names for the first time has this frame for its first one in the memory. One that was
    there already is corrected; its own first frame stays, and this frame is kept in the ring.
    """
    variables = adaptation.with_keys(variables, state.keys)
    image = prepare(frame)[None]
    features = network.apply(variables, image, method="encode")
    probability = _segment(network, variables, state, features, frame.shape[:2])
    present, entering = state.present, jnp.zeros_like(state.present)
    if prompt is not None:
        given = one_hot(prompt["mask"], present.shape[0])
        named = given.any((1, 2))
        entering, present = named & ~present, present | named
        probability = jnp.where(given.any(0), given, probability)
    memory = state.memory
    if config.memory_update or prompt is not None:
        fused = _fuse(network, variables, features, image, probability)
        key, value = _memorize(network, variables, fused)
        if config.memory_update:
            places = key.shape[1]
            memory = mem.keep_previous(memory, state.due, places, config.kept(places))
            memory = mem.set_previous(memory, key, value, present & ~entering)
        if prompt is not None:
            memory = mem.set_first(memory, key, value, entering)
    slots = index(probability)
    due, last = _trigger(config, state, frame, slots)
    if prompt is not None:
        due |= (named & ~entering).any()
    prediction = SlotMasks(probability, _scores(probability, slots), state.count)
    return state.replace(
        memory=memory, present=present, count=state.count + 1, due=due, last=last
    ), prediction


def _segment(
    network: nn.Module, variables: Variables, state: State, features: Features,
    size: tuple[int, int],
) -> Float[Array, "N H W"]:
    key, value = network.apply(variables, features, method="query")
    query = key.reshape(-1, key.shape[-1])
    read = mem.recall(query, state.memory, query.shape[0])
    read = read.reshape(1, -1, *value.shape[1:])
    probability = network.apply(variables, read, value, features, method="decode")[0]
    return probabilities(aggregate(crop(probability, *size), state.present))


def _fuse(
    network: nn.Module, variables: Variables, features: Features, image: Float[Array, "1 h w 3"],
    masks: Float[Array, "N H W"],
) -> Float[Array, "1 N _ _ C"]:
    masks = pad_masks(masks)[None]
    return network.apply(variables, features, image, masks, others(masks), method="fuse")


def _memorize(
    network: nn.Module, variables: Variables, fused: Float[Array, "1 N _ _ C"]
) -> tuple[Float[Array, "N P K"], Float[Array, "N P V"]]:
    key, value = network.apply(variables, fused, method="memorize")
    return tuple(x.reshape(fused.shape[1], -1, x.shape[-1]) for x in (key, value))


def _adapt(
    config: SwiftnetConfig, network: nn.Module, variables: Variables, features: Features,
    fused: Float[Array, "1 N _ _ C"], masks: Float[Array, "N H W"], present: Bool[Array, " N"],
) -> tuple[adaptation.Keys, adaptation.Adaptation]:
    def keys_of_frame(keys: adaptation.Keys) -> tuple[jax.Array, jax.Array]:
        # The values computed beside them are read by nobody and dropped by the compiler.
        mine = adaptation.with_keys(variables, keys)
        query, _ = network.apply(mine, features, method="query")
        reference, _ = _memorize(network, mine, fused)
        return query.reshape(-1, query.shape[-1]), reference

    if jax.default_backend() == "cpu":
        keys_of_frame = _keys_by_products(features.r4, fused[0])
    small = adaptation.small_masks(pad_masks(masks), fused.shape[2:4])
    return adaptation.adapt(
        config, adaptation.keys_of(variables), keys_of_frame, small, present
    )


def _keys_by_products(
    r4: Float[Array, "1 h w C"], fused: Float[Array, "N h w C"]
) -> adaptation.KeysOf:
    """The same keys: every step sees the same neighborhoods, so they are gathered once."""
    seen = {"query_kv": neighborhoods(r4, 3), "memory_kv": neighborhoods(fused, 3)}

    def keys_of_frame(keys: adaptation.Keys) -> tuple[jax.Array, jax.Array]:
        query, reference = (
            matrix_product(x, keys[name]["kernel"].astype(x.dtype).reshape(x.shape[-1], -1))
            + keys[name]["bias"].astype(x.dtype)
            for name, x in seen.items()
        )
        return query.reshape(-1, query.shape[-1]), reference.reshape(
            len(reference), -1, reference.shape[-1])

    return keys_of_frame


def _trigger(
    config: SwiftnetConfig, state: State, frame: UInt8[Array, "H W 3"], slots: UInt8[Array, "H W"]
) -> tuple[Bool[Array, ""], Last | None]:
    """Whether this frame is to stay, and what the next one is compared with."""
    if config.trigger == "every_k":
        return state.count % config.every == 0, None
    change = jnp.abs(frame.astype(jnp.float32) - state.last.frame.astype(jnp.float32)).mean(-1)
    varied = (change > config.vat_frame) | (slots != state.last.index)
    score = state.last.score + varied.sum(dtype=jnp.float32)
    due = score > config.vat_pixels
    return due, Last(frame, slots, jnp.where(due, 0, score))


def _scores(probability: Float[Array, "N H W"], slots: UInt8[Array, "H W"]) -> Float[Array, " N"]:
    """Each object's mean probability where it is the most probable; 0 where it is nowhere."""
    region = one_hot(slots, probability.shape[0])
    return (probability * region).sum((1, 2)) / jnp.maximum(region.sum((1, 2)), 1)
