"""Mask propagation on STM or SwiftNet, with first-frame adaptation.

docs/papers/swiftnet.md maps the equations, tables and settings of the paper to this code.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vseg_jax.index_masks import VOID
from vseg_jax.models.base import Batch, Variables, quick_key
from vseg_jax.models.swiftnet import memory, streaming
from vseg_jax.models.swiftnet.aggregation import aggregate, others, probabilities
from vseg_jax.models.swiftnet.config import SwiftnetConfig
from vseg_jax.models.swiftnet.init import tie_keys
from vseg_jax.models.swiftnet.network import StmNetwork, SwiftNetwork
from vseg_jax.models.swiftnet.streaming import State, Stream, crop, pad_masks, prepare
from vseg_jax.tasks import Means
from vseg_jax.tasks.slots import slot_masks
from vseg_jax.tasks.vos import Prompt, SlotMasks, overlap
from vseg_jax.tasks.vos import index as most_probable
from vseg_jax.weights import swiftnet


class Swiftnet:
    """The model of mask propagation; the methods are those of `vseg_jax.models.base.Model`.

    `variables` holds `params` and `batch_stats`; the statistics of batch norm never change.
    """

    task = "vos"
    delay = 0
    progress: ClassVar = {"iou": "IoU {:.0%}"}

    def __init__(self, config: SwiftnetConfig):
        self.config = c = config
        network = StmNetwork if c.network == "stm" else SwiftNetwork
        self.network = network(
            backbone=c.backbone, depth=c.depth, width=c.width, dtype=c.dtype,
            key_channels=c.key_channels, value_channels=c.value_channels, mdim=c.mdim,
            dropout=c.dropout,
        )

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Returns random variables; see `Model.init`."""
        key = quick_key(key)
        # The parameters depend neither on the frames' size nor on the number of objects.
        frame, mask = jnp.zeros((1, 32, 32, 3)), jnp.zeros((1, 1, 32, 32))
        variables = dict(self.network.init(key, frame, mask, mask))
        if self.config.tied_key_gain:
            variables["params"] = tie_keys(variables["params"], self.config.tied_key_gain)
        return variables

    def pretrained(self, variables: Variables) -> Variables:
        """Returns `variables` with the public weights that the config names."""
        if self.config.network_weights:
            return swiftnet.load(self.config.network_weights, variables)
        if self.config.backbone_weights:
            return swiftnet.load_backbone(self.config.backbone_weights, variables)
        return variables

    def loss(
        self, variables: Variables, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Variables, Means]:
        """Computes the cross entropy of every frame but the first.

        The first frame is remembered with its true masks, every later one with its soft prediction,
        through which no gradient flows unless the config says so. A frame's loss is the mean over
        the pixels whose slot is known; frames are summed, as in the public training code. An object
        that is not in the first frame is background.
        """
        logits = self._propagate(variables, batch, key)  # [T - 1, B, M, H, W]
        masks = jnp.moveaxis(batch["masks"], 1, 0)[1:]
        known = (jnp.moveaxis(batch["masks_valid"], 1, 0)[1:] & batch["valid"])[..., None, None]
        known = (known & (masks != VOID)).astype(jnp.float32)
        truth = slot_masks(masks, logits.shape[2] - 1) * batch["objects"][:, :, None, None]
        truth = jnp.concatenate([1 - truth.sum(2, keepdims=True), truth], axis=2)
        each = -(truth * jax.nn.log_softmax(logits, axis=2)).sum(2)
        count = known.sum((2, 3))
        frames = (each * known).sum((2, 3)) / jnp.maximum(count, 1)
        counted = (count > 0).any(0).astype(jnp.float32)
        total, samples = frames.sum(), counted.sum()
        predicted = most_probable(probabilities(logits))
        tracked = truth[:, :, 1:].sum(2) > 0
        shown = jnp.where(known > 0, jnp.where(tracked, masks, 0), VOID)
        iou, has_union = overlap(predicted, shown.astype(jnp.uint8), logits.shape[2] - 1)
        means = {"loss": (total, samples), "iou": ((iou * has_union).sum(), has_union.sum())}
        return total / jnp.maximum(samples, 1), {}, means

    def _propagate(
        self, variables: Variables, batch: Batch, key: jax.Array
    ) -> Float[Array, "T B M H W"]:
        """Returns the logits of frames 1 ... T - 1; the encoder runs on all frames at once."""
        frames = jnp.moveaxis(batch["frames"], 1, 0)
        length, samples, height, width = frames.shape[:4]
        objects, size = batch["objects"], (height, width)
        images = prepare(frames)

        def run(*inputs: Any, method: str, **options: Any) -> Any:
            return self.network.apply(variables, *inputs, method=method, **options)

        flat = run(images.reshape(-1, *images.shape[2:]), method="encode")
        features = jax.tree.map(lambda x: x.reshape(length, samples, *x.shape[1:]), flat)
        queries, values = run(jax.tree.map(lambda x: x[samples:], flat), method="query")
        queries, values = (
            x.reshape(length - 1, samples, *x.shape[1:]) for x in (queries, values)
        )
        masks = slot_masks(batch["masks"][:, 0], objects.shape[1]) * objects[..., None, None]
        remembered, logits = [], []
        for t in range(1, length):
            before, now = (jax.tree.map(lambda x, t=t: x[t], features) for t in (t - 1, t))
            masks = pad_masks(masks)
            fused = run(before, images[t - 1], masks, others(masks), method="fuse")
            remembered.append([
                x.reshape(*x.shape[:2], -1, x.shape[-1]) for x in run(fused, method="memorize")
            ])
            keys, contents = (jnp.concatenate(x, axis=2) for x in zip(*remembered, strict=True))
            valid = jnp.ones(keys.shape[:3], bool)
            query = queries[t - 1].reshape(samples, -1, keys.shape[-1])
            read = jax.vmap(memory.read)(query, keys, contents, valid)
            read = read.reshape(samples, -1, *values.shape[2:])
            probability = run(
                read, values[t - 1], now, method="decode", train=True,
                rngs={"dropout": jax.random.fold_in(key, t)},
            )
            logits.append(aggregate(crop(probability, *size), objects))
            masks = probabilities(logits[-1])
            if self.config.cut_gradient:
                masks = jax.lax.stop_gradient(masks)
        return jnp.stack(logits)

    def predict(self, variables: Variables, batch: Batch) -> SlotMasks:
        """Propagates each clip's first masks through it and returns the last frame's prediction."""
        stream, objects = self._stream(variables), batch["objects"].shape[1]
        first = jax.vmap(lambda frame, mask: stream.start(frame, {"mask": mask}, objects))
        advance = jax.vmap(stream.step)
        frames = jnp.moveaxis(batch["frames"], 1, 0)
        state = first(frames[0], batch["masks"][:, 0])
        nothing = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(advance, state, frames[1])[1]
        )
        (_, prediction), _ = jax.lax.scan(
            lambda carry, frame: (advance(carry[0], frame), None), (state, nothing), frames[1:]
        )
        return prediction

    def start(self, variables: Variables, frame: jax.Array, prompt: Prompt) -> State:
        """Returns the state after the first frame, whose objects the prompt names.

        It has a slot for each entry of the prompt's `named`, and `config.objects` without it.
        """
        slots = len(prompt["named"]) if "named" in prompt else self.config.objects
        return self._stream(variables).start(frame, prompt, slots)

    def step(
        self, variables: Variables, state: State, frame: jax.Array, prompt: Prompt | None = None
    ) -> tuple[State, SlotMasks]:
        """Predicts the next frame; a prompt adds or corrects objects, see `Stream.step`."""
        return self._stream(variables).step(state, frame, prompt)

    def grow(self, state: State, slots: int) -> State:
        """Returns the state with more slots, the new ones free."""
        return streaming.grow(state, slots)

    def remove(self, state: State, slots: Bool[Array, " N"]) -> State:
        """Returns the state without the objects in these slots, which are free then."""
        return streaming.remove(state, slots)

    def _stream(self, variables: Variables) -> Stream:
        return Stream(self.config, self.network, variables)
