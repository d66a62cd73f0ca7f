"""One video as a stream: the state between frames, and how a frame updates it.

A frame reads the memory of all frames before it; then it becomes the previous frame. The part of a
previous frame that is kept enters the ring after the next frame has been read, as in the public
code. Everything has a fixed size, so nothing is recompiled when a video gets longer, an object is
corrected, or one enters a free slot.
"""

from __future__ import annotations

import dataclasses
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
from vseg_jax.models.swiftnet.copies import changed_copies
from vseg_jax.models.swiftnet.encoders import STRIDE, Features
from vseg_jax.tasks.slots import slot_masks
from vseg_jax.tasks.vos import Prompt, SlotMasks, corrected, index, named_masks


@struct.dataclass
class Last:
    """The last frame, which the variation-aware trigger compares with the next one.

    Attributes:
      frame: [H, W, 3] uint8.
      index: [H, W] uint8, its predicted slots.
      score: [] float32, pixels that varied since a frame was last kept.
    """

    frame: Any
    index: Any
    score: Any


@struct.dataclass
class State:
    """The state of one stream with N slots.

    Attributes:
      memory: see `Memory`.
      present: [N] bool, slots that hold an object.
      count: [] int32, frames seen.
      due: [N] bool, slots for which the last frame is to be kept in the ring.
      last: see `Last`; None unless `trigger` is "vat".
      keys: adapted parameters of the key convolutions; None without adaptation. The model's
        variables never change, so the next video starts from them.
      adaptation: see `Adaptation`; None without adaptation.
    """

    memory: mem.Memory
    present: Any
    count: Any
    due: Any
    last: Last | None
    keys: Any
    adaptation: adaptation.Adaptation | None


def grow(state: State, slots: int) -> State:
    """Returns the state with more slots, of which the new ones are free."""

    def padded(x: Array, axis: int = 0) -> Array:
        widths = [(0, 0)] * x.ndim
        widths[axis] = (0, slots - x.shape[axis])
        return jnp.pad(x, widths)

    m, report = state.memory, state.adaptation
    if report is not None:
        report = report.replace(objects=padded(report.objects, 1),
                                background=padded(report.background, 1))
    memory = m.replace(keys=padded(m.keys), values=padded(m.values), valid=padded(m.valid),
                       prompts=padded(m.prompts))
    return state.replace(memory=memory, present=padded(state.present), due=padded(state.due),
                         adaptation=report)


def remove(state: State, slots: Bool[Array, " N"]) -> State:
    """Returns the state without the objects in these slots, which are free then."""
    return state.replace(memory=mem.remove(state.memory, slots), present=state.present & ~slots,
                         due=state.due & ~slots)


def padding(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns (above, below), (left, right): up to multiples of 16, odd pixels below and right."""
    missing = -height % STRIDE, -width % STRIDE
    return tuple((m // 2, m - m // 2) for m in missing)


def prepare(frames: UInt8[Array, "*B H W 3"]) -> Float[Array, "*B h w 3"]:
    """Returns the network's input: frames padded with black, then normalized."""
    pads = [(0, 0)] * (frames.ndim - 3) + [*padding(*frames.shape[-3:-1]), (0, 0)]
    return imagenet_colors(jnp.pad(frames, pads))


def pad_masks(masks: Float[Array, "*B H W"]) -> Float[Array, "*B h w"]:
    """Pads masks with 0 to the size of `prepare`'s frames."""
    return jnp.pad(masks, [(0, 0)] * (masks.ndim - 2) + [*padding(*masks.shape[-2:])])


def crop(maps: Float[Array, "*B h w"], height: int, width: int) -> Float[Array, "*B H W"]:
    """Undoes `pad_masks`."""
    (above, _), (left, _) = padding(height, width)
    return maps[..., above : above + height, left : left + width]


@dataclasses.dataclass(frozen=True)
class Stream:
    """A model bound to its variables, which follows one video.

    The methods are pure: make a stream inside of the function that is jitted or vmapped.

    Attributes:
      config: of the model.
      network: of the model.
      variables: of the network.
    """

    config: SwiftnetConfig
    network: nn.Module
    variables: Variables

    def start(self, frame: UInt8[Array, "H W 3"], prompt: Prompt, objects: int) -> State:
        """Returns the state after the first frame; adapts the keys where the config asks for it.

        Args:
          frame: the first one.
          prompt: names its objects.
          objects: N, slots of the stream.
        """
        c = self.config
        masks, _ = named_masks(prompt, objects)
        present = masks.any((1, 2))
        image = prepare(frame)[None]
        features = self._apply(image, method="encode")
        fused = self._fuse(features, image, masks)
        keys, report = None, None
        if c.adaptation_steps:
            keys, report = self._adapt(frame, features, fused, masks, present)
        key, value = self._with_keys(keys)._memorize(fused)
        last = None
        if c.trigger == "vat":
            last = Last(frame, index(masks), jnp.zeros((), jnp.float32))
        return State(
            mem.create(self._layout(key), key, value, present, c.dtype), present,
            jnp.ones((), jnp.int32), jnp.zeros_like(present), last, keys, report,
        )

    def step(
        self, state: State, frame: UInt8[Array, "H W 3"], prompt: Prompt | None = None
    ) -> tuple[State, SlotMasks]:
        """Predicts the next frame and remembers it.

        The slots that the prompt names have its masks in place of the prediction (see `Prompt` and
        `corrected`). For them, this frame is kept whole in the memory: as the first one of a slot
        that was free, which needs a pixel, else as a correction.
        """
        stream = self._with_keys(state.keys)
        image = prepare(frame)[None]
        features = stream._apply(image, method="encode")
        probability = stream._segment(state, features, frame.shape[:2])
        present, named = state.present, jnp.zeros_like(state.present)
        if prompt is not None:
            masks, named = named_masks(prompt, len(present))
            named &= present | masks.any((1, 2))
            present, probability = present | named, corrected(probability, masks, named)
        slots = index(probability)
        scores = _scores(probability, slots)
        remembered = present & ~named & (scores >= self.config.min_confidence)
        memory = state.memory
        if self.config.memory_update or prompt is not None:
            key, value = stream._memorize(stream._fuse(features, image, probability))
            layout = self._layout(key)
            if self.config.memory_update:
                memory = mem.keep_previous(memory, layout, state.due)
                memory = mem.set_previous(memory, layout, key, value, remembered, named)
            if prompt is not None:
                memory = mem.set_prompted(memory, layout, key, value, named)
        due, last = _trigger(self.config, state, frame, slots)
        return state.replace(
            memory=memory, present=present, count=state.count + 1, due=due & remembered, last=last
        ), SlotMasks(probability, scores, state.count)

    def _layout(self, key: Float[Array, "N P K"]) -> mem.Layout:
        c, places = self.config, key.shape[1]
        return mem.Layout(
            places, c.corrections, c.capacity if c.memory_update else 0, c.kept(places))

    def _apply(self, *inputs: Any, method: str) -> Any:
        return self.network.apply(self.variables, *inputs, method=method)

    def _with_keys(self, keys: adaptation.Keys | None) -> Stream:
        """Returns the stream with other key convolutions; with the model's own for None."""
        return dataclasses.replace(self, variables=adaptation.with_keys(self.variables, keys))

    def _segment(
        self, state: State, features: Features, size: tuple[int, int]
    ) -> Float[Array, "N H W"]:
        key, value = self._apply(features, method="query")
        query = key.reshape(-1, key.shape[-1])
        read = mem.recall(query, state.memory, query.shape[0], self.config.top_k)
        read = read.reshape(1, -1, *value.shape[1:])
        probability = self._apply(read, value, features, method="decode")[0]
        return probabilities(aggregate(crop(probability, *size), state.present))

    def _fuse(
        self, features: Features, image: Float[Array, "1 h w 3"], masks: Float[Array, "N H W"]
    ) -> Float[Array, "1 N _ _ C"]:
        masks = pad_masks(masks)[None]
        return self._apply(features, image, masks, others(masks), method="fuse")

    def _memorize(
        self, fused: Float[Array, "1 N _ _ C"]
    ) -> tuple[Float[Array, "N P K"], Float[Array, "N P V"]]:
        key, value = self._apply(fused, method="memorize")
        return tuple(x.reshape(fused.shape[1], -1, x.shape[-1]) for x in (key, value))

    def _adapt(
        self, frame: UInt8[Array, "H W 3"], features: Features, fused: Float[Array, "1 N _ _ C"],
        masks: Float[Array, "N H W"], present: Bool[Array, " N"],
    ) -> tuple[adaptation.Keys, adaptation.Adaptation]:
        size, regions = fused.shape[2:4], None
        if self.config.adaptation_copies:
            frames, shown, copied = changed_copies(frame, masks, self.config.adaptation_copies)
            features = self._apply(prepare(frames), method="encode")
            regions = adaptation.Regions(*(
                adaptation.small_masks(pad_masks(x), size) for x in (shown - copied, copied)))

        def keys_of_frame(keys: adaptation.Keys) -> tuple[jax.Array, jax.Array]:
            # The values that come with the keys are unused and dropped by the compiler.
            adapted = self._with_keys(keys)
            query, _ = adapted._apply(features, method="query")
            reference, _ = adapted._memorize(fused)
            return query.reshape(-1, query.shape[-1]), reference

        if jax.default_backend() == "cpu":
            keys_of_frame = _keys_by_products(features.r4, fused[0])
        small = adaptation.small_masks(pad_masks(masks), size)
        return adaptation.adapt(
            self.config, adaptation.keys_of(self.variables), keys_of_frame, small, present, regions
        )


def _keys_by_products(
    r4: Float[Array, "B h w C"], fused: Float[Array, "N h w C"]
) -> adaptation.KeysOf:
    """Returns the same keys from matrix products.

    Every step sees the same neighborhoods, so they are gathered once.
    """
    patches = {"query_kv": neighborhoods(r4, 3), "memory_kv": neighborhoods(fused, 3)}

    def keys_of_frame(keys: adaptation.Keys) -> tuple[jax.Array, jax.Array]:
        query, reference = (
            matrix_product(x, keys[name]["kernel"].astype(x.dtype).reshape(x.shape[-1], -1))
            + keys[name]["bias"].astype(x.dtype)
            for name, x in patches.items()
        )
        return query.reshape(-1, query.shape[-1]), reference.reshape(
            len(reference), -1, reference.shape[-1])

    return keys_of_frame


def _trigger(
    config: SwiftnetConfig, state: State, frame: UInt8[Array, "H W 3"], slots: UInt8[Array, "H W"]
) -> tuple[Bool[Array, ""], Last | None]:
    """Returns whether to keep this frame, and what the next one is compared with."""
    if config.trigger == "every_k":
        return state.count % config.every == 0, None
    change = jnp.abs(frame.astype(jnp.float32) - state.last.frame.astype(jnp.float32)).mean(-1)
    varied = (change > config.vat_frame) | (slots != state.last.index)
    score = state.last.score + varied.sum(dtype=jnp.float32)
    due = score > config.vat_pixels
    return due, Last(frame, slots, jnp.where(due, 0, score))


def _scores(probability: Float[Array, "N H W"], slots: UInt8[Array, "H W"]) -> Float[Array, " N"]:
    """Returns each object's mean probability over the pixels it wins; 0 if it wins none."""
    region = slot_masks(slots, probability.shape[0])
    return (probability * region).sum((1, 2)) / jnp.maximum(region.sum((1, 2)), 1)
