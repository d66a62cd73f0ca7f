"""The common part of the clip models: a window of frames and a query in, one mask out."""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from vseg_jax.layers.window import State, push
from vseg_jax.models.base import Batch, Prediction, Variables, one_object
from vseg_jax.tasks.rvos import Prompt
from vseg_jax.weights import bert, efficientnet, i3d, resnet
from vseg_jax.weights.convert import part, with_part

HEADS = "contrast"  # parameters that only the contrastive loss reads


class ClipModel(abc.ABC):
    """A model that segments the object of a referring expression in one frame of a clip.

    models/base.py documents the methods. A subclass also has `init`, `pretrained`, `loss` and
    `predict`.

    Args:
      config: with `window`, the frames of a clip.
      network: a flax module with the method `encode_query` (tokens and which of them are valid, to
        any pytree with a leading batch axis).
    """

    task = "rvos"

    def __init__(self, config: Any, network: Any):
        self.config = config
        self.network = network
        self.window = config.window
        self.delay = self.window.delay

    @property
    def vocabulary(self) -> int:
        """Number of token ids that the text encoder knows."""
        if getattr(self.config, "text", "words") == "bert":
            return self.config.bert.vocab_size
        return self.config.vocabulary

    @abc.abstractmethod
    def window_logits(self, variables: Variables, state: State) -> Float[Array, "1 H W"]:
        """Returns the logits that the window of a stream gives for its target frame."""

    def start(self, variables: Variables, frame: jax.Array, prompt: Prompt) -> State:
        """Encodes the query and puts the first frame into the window."""
        query = self.network.apply(
            network_variables(variables), prompt["tokens"][None], prompt["tokens_valid"][None],
            method="encode_query",
        )
        return self.window.start(frame, query)

    def step(
        self, variables: Variables, state: State, frame: jax.Array
    ) -> tuple[State, Prediction]:
        """Adds a frame to the window and predicts its target frame."""
        state = push(state, frame)
        return state, self.predict_window(variables, state)

    def predict_window(self, variables: Variables, state: State) -> Prediction:
        """Returns the prediction for the window's target frame.

        After `start` of a model without delay this is the prediction for the first frame.
        """
        logits = self.window_logits(variables, state)
        number = self.window.target_frame(state)
        return jax.tree.map(lambda x: x[0], one_object(logits, number[None]))


def network_variables(variables: Variables) -> Variables:
    """Returns the part of a model's variables that its network reads."""
    params = {k: v for k, v in variables["params"].items() if k != HEADS}
    return {"params": params, "batch_stats": variables["batch_stats"]}


def smallest_inputs(
    batch: Batch, frames: int
) -> tuple[UInt8[Array, "1 T 32 32 3"], Int[Array, "1 L"], Bool[Array, "1 L"]]:
    """Returns `frames` frames, tokens and their validity for the initialization of a network.

    The shapes of the parameters depend on no other size, so one clip of small frames suffices.
    """
    tokens = jnp.zeros((1, batch["tokens"].shape[1]), jnp.int32)
    return jnp.zeros((1, frames, 32, 32, 3), jnp.uint8), tokens, jnp.ones(tokens.shape, bool)


def with_backbone_weights(config: Any, variables: Variables) -> Variables:
    """Returns `variables` with the backbone of `config.backbone_weights`, if it names one."""
    if not config.backbone_weights:
        return variables
    loaders = {"i3d": ("i3d", i3d.load), "efficientnet_lite0": ("lite", efficientnet.load)}
    name, load = loaders.get(config.backbone, ("resnet", resnet.load))
    name = f"visual/{name}"
    return with_part(variables, name, load(config.backbone_weights, part(variables, name)))


def with_bert_weights(config: Any, variables: Variables) -> Variables:
    """Returns `variables` with the BERT of `config.bert_weights`, if the config uses one."""
    if config.text != "bert" or not config.bert_weights:
        return variables
    loaded = bert.load(config.bert_weights, config.bert)
    return with_part(variables, "text/bert", {"params": loaded})
