"""cvls: contrastive video-language segmentation.

docs/papers/cvls.md holds each equation, table and switch of the paper beside its place here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vseg_jax.layers.window import State, push
from vseg_jax.models.base import Batch, Prediction, Variables, one_object, quick_key
from vseg_jax.models.cvls import contrast
from vseg_jax.models.cvls.config import CvlsConfig
from vseg_jax.models.cvls.network import Network, Output
from vseg_jax.models.cvls.objective import objective
from vseg_jax.tasks import Means
from vseg_jax.tasks.rvos import Prompt
from vseg_jax.weights import i3d, resnet


class Cvls:
    """The model of models/base.py; see there for what each function is for.

    `variables` holds `params` (the network's, and `contrast`, the two heads of L_ccl) and
    `batch_stats`.
    """

    task = "rvos"

    def __init__(self, config: CvlsConfig):
        self.config = config
        self.window = config.window
        self.delay = self.window.delay
        self.network = Network(config)

    @property
    def vocabulary(self) -> int:
        """Token ids that the text encoder knows."""
        return self.config.vocabulary

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        keys = jax.random.split(quick_key(key))
        # The parameters depend on no size but these, so the smallest clip will do.
        frames = jnp.zeros((1, batch["frames"].shape[1], 32, 32, 3), jnp.uint8)
        tokens = jnp.zeros((1, batch["tokens"].shape[1]), jnp.int32)
        variables = dict(self.network.init(
            keys[0], frames, jnp.zeros((1, 1), jnp.int32), tokens, jnp.ones(tokens.shape, bool),
            train=False, method="full",
        ))
        if self.config.ccl:
            heads = contrast.init(self.config, keys[1])
            variables["params"] = {**variables["params"], "contrast": heads}
        return variables

    def pretrained(self, variables: Variables) -> Variables:
        c = self.config
        if not c.backbone_weights:
            return variables
        name, load = ("i3d", i3d.load) if c.backbone == "i3d" else ("resnet", resnet.load)
        kinds = ("params", "batch_stats")
        loaded = load(c.backbone_weights, {kind: variables[kind]["visual"][name] for kind in kinds})
        changed = {kind: {**variables[kind], "visual": {name: loaded[kind]}} for kind in kinds}
        return {**variables, **changed}

    def loss(
        self, variables: Variables, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Variables, Means]:
        del key, step  # nothing is drawn, and nothing changes in the course of training
        clips = batch["frames"].shape[:2]
        every = jnp.broadcast_to(jnp.arange(clips[1]), clips)
        output, updates = self._forward(variables, batch, every, train=True)
        heads = variables["params"].get("contrast")
        total, means = objective(self.config, heads, batch, output)
        return total, updates, means

    def predict(self, variables: Variables, batch: Batch) -> Prediction:
        target = batch["target"].astype(jnp.int32)
        output, _ = self._forward(variables, batch, target[:, None], train=False)
        return one_object(output.logits[:, 0], target)

    def _forward(
        self, variables: Variables, batch: Batch, asked: jax.Array, *, train: bool
    ) -> tuple[Output, Variables]:
        return self.network.apply(
            _network(variables), batch["frames"], asked, batch["tokens"], batch["tokens_valid"],
            train=train, method="full", mutable=["batch_stats"] if train else [],
        )

    def start(self, variables: Variables, frame: jax.Array, prompt: Prompt) -> State:
        sentence = self.network.apply(
            _network(variables), prompt["tokens"][None], prompt["tokens_valid"][None],
            method="encode_query",
        )
        return self.window.start(frame, sentence)

    def step(
        self, variables: Variables, state: State, frame: jax.Array
    ) -> tuple[State, Prediction]:
        state = push(state, frame)
        output = self.network.apply(
            _network(variables), self.window.clip(state)[None],
            jnp.full((1, 1), self.window.target, jnp.int32), state.query, train=False,
        )
        prediction = one_object(output.logits[:, 0], self.window.predicted(state)[None])
        return state, jax.tree.map(lambda x: x[0], prediction)


def _network(variables: Variables) -> Variables:
    params = {k: v for k, v in variables["params"].items() if k != "contrast"}
    return {"params": params, "batch_stats": variables["batch_stats"]}
