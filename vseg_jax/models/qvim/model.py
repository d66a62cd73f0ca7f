"""qvim: cross-modal domain generalization for query-based video segmentation.

docs/papers/qvim.md maps each equation, table and switch of the paper to its place here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vseg_jax.layers.window import State
from vseg_jax.models.base import Batch, Prediction, Variables, one_object, quick_key
from vseg_jax.models.clip import (
    ClipModel,
    network_variables,
    smallest_inputs,
    with_backbone_weights,
    with_bert_weights,
)
from vseg_jax.models.qvim import constraint, qfa, robustnet
from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.interaction import Query
from vseg_jax.models.qvim.network import Network, Output
from vseg_jax.models.qvim.objective import pointing_loss, segmentation_loss, shrink
from vseg_jax.models.qvim.perturbations import perturbations
from vseg_jax.tasks import Means
from vseg_jax.tasks.rvos import overlap, target_frame_mask


class Qvim(ClipModel):
    """Referring segmentation with feature augmentation across videos.

    `variables` holds `params` (those of the network, and `contrast`, the two heads of L_const),
    `batch_stats`, `moco` (models/qvim/moco.py), and with ISW `whitening` (robustnet.py).
    """

    progress: ClassVar = {
        "segmentation": "seg {:.3f}", "contrast": "const {:.2f}", "iou": "IoU {:.0%}",
        "qfa_background": "QFA bg {:.0%}", "qfa_object": "obj {:.0%}",
    }

    def __init__(self, config: QvimConfig):
        super().__init__(config, Network(config))

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Returns random variables, with the queue of L_const and the state of ISW if used."""
        keys = jax.random.split(quick_key(key))
        frames, tokens, valid = smallest_inputs(batch, batch["frames"].shape[1])
        output, variables = self.network.init_with_output(
            keys[0], frames, jnp.zeros(1, jnp.int32), tokens, valid, train=False, method="full"
        )
        variables = dict(variables)
        if self.config.contrast:
            heads, state = constraint.init(self.config, keys[1])
            variables["params"] = {**variables["params"], "contrast": heads}
            variables["moco"] = state
        if self.config.compared.method == "isw":
            variables["whitening"] = robustnet.init(output.normalized)
        return variables

    def pretrained(self, variables: Variables) -> Variables:
        """Returns `variables` with the weights of the backbone and BERT that the config names."""
        return with_bert_weights(self.config, with_backbone_weights(self.config, variables))

    def loss(
        self, variables: Variables, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Variables, Means]:
        """Computes L = L_seg + L_const (Section 3.5), and further losses where they are used."""
        c = self.config
        dropout_key, perturb_key = jax.random.split(key)
        perturb = None
        if c.qfa_scales or c.am_adain_scales or c.compared.perturbs:
            perturb = perturbations(c, batch, perturb_key, step)
        output, updates = self.network.apply(
            network_variables(variables), batch["frames"], batch["target"], batch["tokens"],
            batch["tokens_valid"], train=True, perturb=perturb, method="full",
            mutable=["batch_stats"], rngs={"dropout": dropout_key},
        )
        mask, weight = target_frame_mask(batch)
        iou, has_union = overlap(output.logits, mask, weight)
        means = {"iou": ((iou * has_union).sum(), has_union.sum())}
        total = jnp.zeros(())

        def add(name: str, factor: float, each: jax.Array, counted: jax.Array) -> None:
            nonlocal total
            means[name] = (each.sum(), counted.sum())
            total += factor * each.sum() / jnp.maximum(counted.sum(), 1)

        add("segmentation", 1.0, *segmentation_loss(output.responses, mask, weight, c))
        if c.pointing_weight:
            add("pointing", c.pointing_weight, *pointing_loss(output.pooling, mask, weight))
        if c.contrast:
            each, counted, updates["moco"] = constraint.loss(
                c, variables["params"]["contrast"], variables["moco"], batch, output, step
            )
            add("contrast", c.contrast_weight, each, counted)
        if c.compared.whitens:
            add("whitening", c.compared.whitening_weight,
                *robustnet.loss(c, variables.get("whitening"), batch, output))
        if c.compared.method == "isw":
            updates["whitening"] = self._measure(variables, batch, perturb_key, step)
        if c.qfa_scales:
            means |= self._qfa_means(output, mask, weight, batch, step)
        samples = batch["valid"].sum(dtype=jnp.float32)
        return total, updates, means | {"loss": (total * samples, samples)}

    def _measure(
        self, variables: Variables, batch: Batch, key: jax.Array, step: jax.Array
    ) -> robustnet.State:
        """Updates ISW's statistics with this batch, if this is a measuring step."""
        network = jax.lax.stop_gradient(network_variables(variables))

        def encode(frames: jax.Array) -> dict[str, jax.Array]:
            return self.network.apply(
                network, frames, batch["target"], method="normalized_features"
            )

        return robustnet.measure(
            self.config, variables["whitening"], batch, encode, jax.random.fold_in(key, 3), step
        )

    def _qfa_means(self, output: Output, mask: jax.Array, weight: jax.Array, batch: Batch,
                   step: jax.Array) -> Means:
        """Returns the metrics of QFA: its threshold, and the shares of cells that it replaces."""
        active, beta = qfa.schedule(step, self.config)
        weights = qfa.relative(output.pooling[min(self.config.qfa_scales) - 1])
        small = shrink(mask, weight, weights.shape[1:], soft=False)
        background, named = qfa.replaced(weights, jnp.where(active, beta, -1), *small)
        count = batch["valid"].sum(dtype=jnp.float32)
        return {"qfa_beta": (active * beta * count, count), "qfa_background": background,
                "qfa_object": named}

    def remarks(self, means: Mapping[str, float]) -> list[str]:
        """Returns in words what QFA did at the end of training; see `Model`."""
        if not {"qfa_background", "qfa_object"} <= means.keys():
            return []
        background, named = means["qfa_background"], means["qfa_object"]
        remark = (f"At the end of training, QFA replaces {100 * background:.0f} % of the "
                  f"background and {100 * named:.0f} % of the named object with features of other "
                  "videos")
        if max(background, named) < 0.1:
            remark += ": it changes little"
        elif named >= background:
            remark += ": the pooling weights do not point at the object"
        return [f"{remark}."]

    def predict(self, variables: Variables, batch: Batch) -> Prediction:
        """Predicts the mask of the target frame of each clip."""
        output = self._infer(variables, batch)
        return one_object(output.logits, batch["target"].astype(jnp.int32))

    def heat_map(self, variables: Variables, batch: Batch) -> Float[Array, "B H W"]:
        """Returns the pooling weights of scale 1, scaled so that the largest is 1."""
        return qfa.peak(self._infer(variables, batch).pooling[0])

    def _infer(self, variables: Variables, batch: Batch) -> Output:
        return self.network.apply(
            network_variables(variables), batch["frames"], batch["target"], batch["tokens"],
            batch["tokens_valid"], train=False, method="full",
        )

    def window_logits(self, variables: Variables, state: State) -> jax.Array:
        """See `ClipModel.window_logits`."""
        output = self.network.apply(
            network_variables(variables), self.window.clip(state)[None],
            jnp.full((1,), self.window.target, jnp.int32), Query(*state.query), train=False,
        )
        return output.logits
