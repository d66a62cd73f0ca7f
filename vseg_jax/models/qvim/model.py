"""qvim: cross-modal domain generalization for query-based video segmentation.

docs/papers/qvim.md holds each equation, table and switch of the paper beside its place here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vseg_jax.layers.window import State, push
from vseg_jax.models.base import Batch, Prediction, Variables, one_object, quick_key
from vseg_jax.models.qvim import constraint, qfa, robustnet
from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.network import Network, Output, Query
from vseg_jax.models.qvim.objective import segmentation_loss, shrink
from vseg_jax.models.qvim.perturbations import perturbations
from vseg_jax.tasks import Means
from vseg_jax.tasks.rvos import Prompt, overlap, target_frame_mask
from vseg_jax.weights import bert, i3d, resnet


class Qvim:
    """The model of models/base.py; see there for what each function is for.

    `variables` holds `params` (the network's, and `contrast`, the two heads of L_const),
    `batch_stats`, `moco` (models/qvim/moco.py), and with ISW `whitening` (robustnet.py).
    """

    task = "rvos"

    def __init__(self, config: QvimConfig):
        self.config = config
        self.window = config.window
        self.delay = self.window.delay
        self.network = Network(config)

    @property
    def vocabulary(self) -> int:
        """Token ids that the text encoder knows."""
        c = self.config
        return c.bert.vocab_size if c.text == "bert" else c.vocabulary

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        keys = jax.random.split(quick_key(key))
        # The parameters depend on no size but these, so the smallest clip will do.
        frames = jnp.zeros((1, batch["frames"].shape[1], 32, 32, 3), jnp.uint8)
        tokens = jnp.zeros((1, batch["tokens"].shape[1]), jnp.int32)
        output, variables = self.network.init_with_output(
            keys[0], frames, jnp.zeros(1, jnp.int32), tokens, jnp.ones(tokens.shape, bool),
            train=False, method="full",
        )
        variables = dict(variables)
        if self.config.contrast:
            heads, state = constraint.init(self.config, keys[1], variables["params"])
            variables["params"] = {**variables["params"], "contrast": heads}
            variables["moco"] = state
        if self.config.compared.method == "isw":
            channels = tuple(v.shape[-1] for v in output.visual)
            variables["whitening"] = robustnet.init(self.config, channels)
        return variables

    def pretrained(self, variables: Variables) -> Variables:
        c = self.config
        params, stats = dict(variables["params"]), dict(variables["batch_stats"])
        if c.backbone_weights:
            name, load = ("i3d", i3d.load) if c.backbone == "i3d" else ("resnet", resnet.load)
            like = {"params": params["visual"][name], "batch_stats": stats["visual"][name]}
            loaded = load(c.backbone_weights, like)
            params["visual"], stats["visual"] = (
                {name: loaded[collection]} for collection in ("params", "batch_stats")
            )
        if c.bert_weights and c.text == "bert":
            params["text"] = {**params["text"], "bert": bert.load(c.bert_weights, c.bert)}
        return {**variables, "params": params, "batch_stats": stats}

    def loss(
        self, variables: Variables, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Variables, Means]:
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
        each, counted = segmentation_loss(output.responses, mask, weight, c)
        total = each.sum() / jnp.maximum(counted.sum(), 1)
        iou, has_union = overlap(output.logits, mask, weight)
        means = {
            "segmentation": (each.sum(), counted.sum()),
            "iou": ((iou * has_union).sum(), has_union.sum()),
        }
        if c.contrast:
            each, counted, updates["moco"] = constraint.loss(
                c, variables["params"], variables["moco"], batch, output, perturb, step
            )
            total += c.contrast_weight * each.sum() / jnp.maximum(counted.sum(), 1)
            means["contrast"] = (each.sum(), counted.sum())
        if c.compared.whitens:
            each, counted = robustnet.loss(c, variables.get("whitening"), batch, output)
            total += c.compared.whitening_weight * each.sum() / jnp.maximum(counted.sum(), 1)
            means["whitening"] = (each.sum(), counted.sum())
        if c.compared.method == "isw":
            updates["whitening"] = self._measure(variables, batch, perturb_key, step)
        if c.qfa_scales:
            means |= self._qfa_means(output, mask, weight, batch, step)
        samples = batch["valid"].sum(dtype=jnp.float32)
        return total, updates, means | {"loss": (total * samples, samples)}

    def _measure(
        self, variables: Variables, batch: Batch, key: jax.Array, step: jax.Array
    ) -> robustnet.State:
        """ISW's statistics of this batch, where it is time for them."""
        network = jax.lax.stop_gradient(network_variables(variables))

        def see(frames: jax.Array) -> tuple[jax.Array, ...]:
            return self.network.apply(network, frames, batch["target"], method="encode_frames")

        return robustnet.measure(
            self.config, variables["whitening"], batch, see, jax.random.fold_in(key, 3), step
        )

    def _qfa_means(self, output: Output, mask: jax.Array, weight: jax.Array, batch: Batch,
                   step: jax.Array) -> Means:
        active, beta = qfa.schedule(step, self.config)
        weights = qfa.peak(output.pooling[min(self.config.qfa_scales) - 1])
        small = shrink(mask, weight, weights.shape[1:], soft=False)
        rest, named = qfa.replaced(weights, jnp.where(active, beta, -1), *small)
        count = batch["valid"].sum(dtype=jnp.float32)
        return {"qfa_beta": (active * beta * count, count), "qfa_background": rest,
                "qfa_object": named}

    def predict(self, variables: Variables, batch: Batch) -> Prediction:
        output = self.network.apply(
            network_variables(variables), batch["frames"], batch["target"], batch["tokens"],
            batch["tokens_valid"], train=False, method="full",
        )
        return one_object(output.logits, batch["target"].astype(jnp.int32))

    def start(self, variables: Variables, frame: jax.Array, prompt: Prompt) -> State:
        query = self.network.apply(
            network_variables(variables), prompt["tokens"][None], prompt["tokens_valid"][None],
            method="encode_query",
        )
        return self.window.start(frame, query)

    def step(
        self, variables: Variables, state: State, frame: jax.Array
    ) -> tuple[State, Prediction]:
        state = push(state, frame)
        return state, self.prediction(variables, state)

    def prediction(self, variables: Variables, state: State) -> Prediction:
        """What `step` says of its state; alone it answers for the first frame if `delay` is 0."""
        output = self.network.apply(
            network_variables(variables), self.window.clip(state)[None],
            jnp.full((1,), self.config.clip_target, jnp.int32), Query(*state.query), train=False,
        )
        number = self.window.predicted(state)
        return jax.tree.map(lambda x: x[0], one_object(output.logits, number[None]))


def network_variables(variables: Variables) -> Variables:
    """What the network reads of the model's variables."""
    params = {k: v for k, v in variables["params"].items() if k != "contrast"}
    return {"params": params, "batch_stats": variables["batch_stats"]}
