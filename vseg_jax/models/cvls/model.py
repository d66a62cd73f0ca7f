"""cvls: contrastive video-language segmentation.

docs/papers/cvls.md maps each equation, table and switch of the paper to its place here.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from vseg_jax.layers.window import State
from vseg_jax.models.base import Batch, Prediction, Variables, one_object, quick_key
from vseg_jax.models.clip import (
    ClipModel,
    network_variables,
    smallest_inputs,
    with_backbone_weights,
)
from vseg_jax.models.cvls import contrast
from vseg_jax.models.cvls.config import CvlsConfig
from vseg_jax.models.cvls.network import Network, Output
from vseg_jax.models.cvls.objective import objective
from vseg_jax.tasks import Means


class Cvls(ClipModel):
    """Referring segmentation that contrasts the expression with the instances of a clip.

    `variables` holds `params` (those of the network, and `contrast`, the two heads of L_ccl) and
    `batch_stats`.
    """

    progress: ClassVar = {"segmentation": "seg {:.3f}", "contrast": "contrast {:.2f}",
                          "iou": "IoU {:.0%}"}

    def __init__(self, config: CvlsConfig):
        super().__init__(config, Network(config))

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Returns random variables, with the heads of L_ccl if the contrast is on."""
        keys = jax.random.split(quick_key(key))
        frames, tokens, valid = smallest_inputs(batch, batch["frames"].shape[1])
        variables = dict(self.network.init(
            keys[0], frames, jnp.zeros((1, 1), jnp.int32), tokens, valid, train=False,
            method="full",
        ))
        if self.config.ccl:
            heads = contrast.init(self.config, keys[1])
            variables["params"] = {**variables["params"], "contrast": heads}
        return variables

    def pretrained(self, variables: Variables) -> Variables:
        """Returns `variables` with the weights of the backbone that the config names."""
        return with_backbone_weights(self.config, variables)

    def loss(
        self, variables: Variables, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Variables, Means]:
        """Computes L (Eq. 4) from all frames of the clips."""
        del key, step  # nothing is drawn, and nothing changes in the course of training
        clips = batch["frames"].shape[:2]
        every = jnp.broadcast_to(jnp.arange(clips[1]), clips)
        output, updates = self._forward(variables, batch, every, train=True)
        heads = variables["params"].get("contrast")
        total, means = objective(self.config, heads, batch, output)
        return total, updates, means

    def predict(self, variables: Variables, batch: Batch) -> Prediction:
        """Predicts the mask of the target frame of each clip."""
        target = batch["target"].astype(jnp.int32)
        output, _ = self._forward(variables, batch, target[:, None], train=False)
        return one_object(output.logits[:, 0], target)

    def _forward(
        self, variables: Variables, batch: Batch, positions: jax.Array, *, train: bool
    ) -> tuple[Output, Variables]:
        """Segments the frames at these positions, and returns the new batch statistics."""
        return self.network.apply(
            network_variables(variables), batch["frames"], positions, batch["tokens"],
            batch["tokens_valid"], train=train, method="full",
            mutable=["batch_stats"] if train else [],
        )

    def window_logits(self, variables: Variables, state: State) -> jax.Array:
        """See `ClipModel.window_logits`."""
        output = self.network.apply(
            network_variables(variables), self.window.clip(state)[None],
            jnp.full((1, 1), self.window.target, jnp.int32), state.query, train=False,
        )
        return output.logits[:, 0]
