"""mmvt: modeling motion with multi-modal features for text-based video segmentation.

docs/papers/mmvt.md maps each part, number and switch of the paper to its place here.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from vseg_jax.layers.window import State
from vseg_jax.models.base import Batch, Prediction, Variables, one_object, quick_key
from vseg_jax.models.clip import ClipModel, network_variables, smallest_inputs, with_bert_weights
from vseg_jax.models.mmvt.config import MmvtConfig
from vseg_jax.models.mmvt.network import Network, Query
from vseg_jax.models.mmvt.objective import losses
from vseg_jax.models.mmvt.streaming import clip
from vseg_jax.tasks import Means
from vseg_jax.tasks.rvos import Prompt, overlap, target_frame_mask
from vseg_jax.weights import mmvt


class Mmvt(ClipModel):
    """Referring segmentation from appearance, motion and language.

    With the motion stream a batch has one more entry: `flow`, uint8 [B, T, H, W, 3], for each frame
    of the clip the color picture of the flow from it to the video's next frame, with the same
    geometry as the frame. A stream's frames then have six channels: see streaming.py.

    Attributes:
      flow: whether the model reads flow pictures.
    """

    progress: ClassVar = {
        "segmentation": "seg {:.3f}", "vision_language": "v-l {:.2f}",
        "flow_language": "f-l {:.2f}", "vision_flow": "v-f {:.2f}", "iou": "IoU {:.0%}",
    }

    def __init__(self, config: MmvtConfig):
        super().__init__(config, Network(config))
        self.flow = config.motion

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Returns random variables."""
        frames, tokens, valid = smallest_inputs(batch, 1)
        return dict(self.network.init(
            quick_key(key), frames, frames if self.flow else None, jnp.zeros(1, jnp.int32), tokens,
            valid, train=False, method="full",
        ))

    def pretrained(self, variables: Variables) -> Variables:
        """Returns `variables` with the weights that the config names: all, or those of parts."""
        c = self.config
        if c.network_weights:
            return mmvt.load(c.network_weights, variables)
        for name, path in (("vision", c.backbone_weights), ("flow", c.flow_weights)):
            if path and name in variables["params"]:
                variables = mmvt.load_stream(path, variables, name)
        return with_bert_weights(c, variables)

    def loss(
        self, variables: Variables, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Variables, Means]:
        """Computes the segmentation and alignment losses of the target frames."""
        del step  # nothing changes in the course of training
        output, updates = self.network.apply(
            network_variables(variables), *self._inputs(batch), batch["tokens"],
            batch["tokens_valid"], train=True, method="full", mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        mask, weight = target_frame_mask(batch)
        terms, counted = losses(self.config, output, mask, weight)
        count = counted.sum()
        total = jnp.zeros(())
        for name, each in terms.items():
            share = 1.0 if name in ("segmentation", "coarse") else self.config.align_weight
            total += share * each.sum() / jnp.maximum(count, 1)
        iou, has_union = overlap(output.logits, mask, weight)
        samples = batch["valid"].sum(dtype=jnp.float32)
        means = {name: (each.sum(), count) for name, each in terms.items()}
        means["iou"] = ((iou * has_union).sum(), has_union.sum())
        return total, updates, means | {"loss": (total * samples, samples)}

    def predict(self, variables: Variables, batch: Batch) -> Prediction:
        """Predicts the mask of the target frame of each clip."""
        output = self.network.apply(
            network_variables(variables), *self._inputs(batch), batch["tokens"],
            batch["tokens_valid"], train=False, method="full",
        )
        return one_object(output.logits, batch["target"].astype(jnp.int32))

    def start(self, variables: Variables, frame: jax.Array, prompt: Prompt) -> State:
        """See `ClipModel.start`; with the motion stream the frame has six channels."""
        self._check_frame(frame)
        return super().start(variables, frame, prompt)

    def step(
        self, variables: Variables, state: State, frame: jax.Array
    ) -> tuple[State, Prediction]:
        """See `ClipModel.step`; with the motion stream the frame has six channels."""
        self._check_frame(frame)
        return super().step(variables, state, frame)

    def window_logits(self, variables: Variables, state: State) -> jax.Array:
        """See `ClipModel.window_logits`."""
        frames, flow = clip(self.config, state)
        output = self.network.apply(
            network_variables(variables), frames[None], None if flow is None else flow[None],
            jnp.full((1,), self.window.target, jnp.int32), Query(*state.query), train=False,
        )
        return output.logits

    def _inputs(self, batch: Batch) -> tuple[jax.Array, jax.Array | None, jax.Array]:
        """Returns frames, flow and target of a batch."""
        if self.flow and "flow" not in batch:
            raise ValueError(
                "mmvt with motion=True reads flow, but the batch has no 'flow'; take samples with "
                "flow, from a dataset that contains it, or set motion=False"
            )
        flow = batch["flow"] if self.flow else None
        return batch["frames"], flow, batch["target"].astype(jnp.int32)

    def _check_frame(self, frame: jax.Array) -> None:
        wanted = 6 if self.flow else 3
        if frame.shape[-1] != wanted:
            raise ValueError(
                f"mmvt with motion={self.flow} takes frames of {wanted} channels, got "
                f"{frame.shape[-1]}; with motion, append the picture of the flow to the colors"
            )
