"""mmvt: modeling motion with multi-modal features for text-based video segmentation.

docs/papers/mmvt.md holds each part, number and switch of the paper beside its place here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vseg_jax.layers.window import State, push
from vseg_jax.models.base import Batch, Prediction, Variables, one_object, quick_key
from vseg_jax.models.mmvt.config import MmvtConfig
from vseg_jax.models.mmvt.network import Network, Sentence
from vseg_jax.models.mmvt.objective import losses
from vseg_jax.models.mmvt.streaming import clip
from vseg_jax.tasks import Means
from vseg_jax.tasks.rvos import Prompt, overlap, target_frame_mask
from vseg_jax.weights import bert, mmvt


class Mmvt:
    """The model of models/base.py; see there for what each function is for.

    With the motion stream a batch has one entry more: `flow`, uint8 [B, T, H, W, 3], for each frame
    of the clip the color picture of the flow from it to the video's next frame, through the same
    geometry as the frame. A stream's frames then have six channels: see streaming.py.

    Attributes:
      flow: whether the model reads flow pictures.
    """

    task = "rvos"

    def __init__(self, config: MmvtConfig):
        self.config = config
        self.flow = config.motion
        self.window = config.window
        self.delay = self.window.delay
        self.network = Network(config)

    @property
    def vocabulary(self) -> int:
        """Token ids that the text encoder knows."""
        c = self.config
        return c.bert.vocab_size if c.text == "bert" else c.vocabulary

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        key = quick_key(key)
        # The parameters depend on no size but these, so the smallest clip will do.
        frames = jnp.zeros((1, 1, 32, 32, 3), jnp.uint8)
        tokens = jnp.zeros((1, batch["tokens"].shape[1]), jnp.int32)
        return dict(self.network.init(
            key, frames, frames if self.flow else None, jnp.zeros(1, jnp.int32), tokens,
            jnp.ones(tokens.shape, bool), train=False, method="full",
        ))

    def pretrained(self, variables: Variables) -> Variables:
        c = self.config
        if c.network_weights:
            return mmvt.load(c.network_weights, variables)
        for name, path in (("vision", c.backbone_weights), ("flow", c.flow_weights)):
            if path and name in variables["params"]:
                variables = mmvt.load_stream(path, variables, name)
        if c.bert_weights and c.text == "bert":
            params = dict(variables["params"])
            params["text"] = {**params["text"], "bert": bert.load(c.bert_weights, c.bert)}
            variables = {**variables, "params": params}
        return variables

    def loss(
        self, variables: Variables, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Variables, Means]:
        del step  # nothing changes in the course of training
        output, updates = self.network.apply(
            variables, *self._inputs(batch), batch["tokens"], batch["tokens_valid"], train=True,
            method="full", mutable=["batch_stats"], rngs={"dropout": key},
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
        output = self.network.apply(
            variables, *self._inputs(batch), batch["tokens"], batch["tokens_valid"], train=False,
            method="full",
        )
        return one_object(output.logits, batch["target"].astype(jnp.int32))

    def start(self, variables: Variables, frame: jax.Array, prompt: Prompt) -> State:
        self._check_frame(frame)
        sentence = self.network.apply(
            variables, prompt["tokens"][None], prompt["tokens_valid"][None],
            method="encode_sentence",
        )
        return self.window.start(frame, sentence)

    def step(
        self, variables: Variables, state: State, frame: jax.Array
    ) -> tuple[State, Prediction]:
        self._check_frame(frame)
        state = push(state, frame)
        return state, self.prediction(variables, state)

    def prediction(self, variables: Variables, state: State) -> Prediction:
        """What `step` says of its state; alone it answers for the first frame if `delay` is 0."""
        frames, flow = clip(self.config, state)
        target = jnp.full((1,), self.config.clip_target, jnp.int32)
        output = self.network.apply(
            variables, frames[None], None if flow is None else flow[None], target,
            Sentence(*state.query), train=False,
        )
        number = self.window.predicted(state)
        return jax.tree.map(lambda x: x[0], one_object(output.logits, number[None]))

    def _inputs(self, batch: Batch) -> tuple[jax.Array, jax.Array | None, jax.Array]:
        """Frames, flow and target of a batch."""
        if self.flow and "flow" not in batch:
            raise ValueError(
                "mmvt with motion=True reads flow, but the batch has no 'flow'; let the samples "
                "give it, from a dataset that holds flow, or set motion=False"
            )
        flow = batch["flow"] if self.flow else None
        return batch["frames"], flow, batch["target"].astype(jnp.int32)

    def _check_frame(self, frame: jax.Array) -> None:
        wanted = 6 if self.flow else 3
        if frame.shape[-1] != wanted:
            raise ValueError(
                f"mmvt with motion={self.flow} takes frames of {wanted} channels, got "
                f"{frame.shape[-1]}; beside the colors there is the flow's picture with motion"
            )
