"""rcf: online video instance segmentation by robust context fusion, with or without audio.

docs/papers/rcf.md maps the equations, tables and settings of the paper to this code.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.models.base import Batch, Variables, quick_key
from vseg_jax.models.rcf import identity, streaming
from vseg_jax.models.rcf.config import STRIDE, RcfConfig
from vseg_jax.models.rcf.firing import firing
from vseg_jax.models.rcf.network import Network, Output
from vseg_jax.models.rcf.objective import terms, truth
from vseg_jax.tasks import Means
from vseg_jax.tasks.vis import PATCH, Instances, Prompt
from vseg_jax.weights import efficientnet, resnet, swin, vggish
from vseg_jax.weights.convert import part, with_part

_BACKBONES = {"resnet": resnet, "swin": swin, "efficientnet_lite0": efficientnet}


class Rcf:
    """The model of rcf; the methods are those of `vseg_jax.models.base.Model`.

    Its predictions are `vseg_jax.tasks.vis.Instances`.

    Attributes:
      uses_audio: whether it reads `audio`; see `vseg_jax.tasks.vis`.
    """

    task = "vis"
    delay = 0
    progress: ClassVar = {"class": "class {:.3f}", "dice": "dice {:.3f}", "iou": "IoU {:.0%}",
                          "correct": "correct {:.0%}"}

    def __init__(self, config: RcfConfig):
        self.config = config
        self.uses_audio = config.audio
        self.network = Network(config)

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Returns random variables; see `Model.init`."""
        # The parameters depend neither on the frames' size nor on the number of objects.
        frame = jnp.zeros((1, STRIDE, STRIDE, 3), jnp.uint8)
        patch = jnp.zeros((1, *PATCH)) if self.uses_audio else None
        return dict(self.network.init(quick_key(key), frame, patch, train=False, method="full"))

    def pretrained(self, variables: Variables) -> Variables:
        """Returns `variables` with the public weights that the config names."""
        c = self.config
        parts = [("backbone", _BACKBONES[c.backbone], c.backbone_weights)]
        if self.uses_audio:
            parts.append(("vggish", vggish, c.vggish_weights))
        for name, weights, path in parts:
            if path:
                loaded = weights.load(path, part(variables, name))
                variables = with_part(variables, name, loaded)
        return variables

    def loss(
        self, variables: Variables, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Variables, Means]:
        """Computes Eq. 4 of the target frame, summed over slots and decoder layers, per sample.

        With `order_supervision` every frame of the clip is predicted from the frames before it,
        with one assignment for all of them; a sample's loss is then the mean over its frames.
        """
        del step  # the loss does not depend on the progress of training
        c = self.config
        frames = batch["frames"].shape[1] if c.order_supervision else 1
        output, updates = self._outputs(variables, batch, frames, key)
        targets = truth(batch, frames)
        each = jax.vmap(lambda classes, masks: terms(classes, masks, targets, c.eos_coef))(
            self._by_frame(output.classes, frames), self._by_frame(output.masks, frames)
        )
        count = targets.counted.sum()
        total = (each.classes + each.dice).sum() / jnp.maximum(count, 1)
        matched = each.matched[-1].sum()
        return total, updates, {
            "loss": (total * count, count),
            "class": (each.classes[-1].sum(), count), "dice": (each.dice[-1].sum(), matched),
            "iou": (each.iou[-1].sum(), matched), "correct": (each.correct[-1].sum(), matched),
        }

    def predict(self, variables: Variables, batch: Batch) -> Instances:
        """Returns the slots of the target frames; identities are slot numbers, -1 for no object."""
        c = self.config
        output, _ = self._outputs(variables, batch, 1, None)
        (samples, length), size = batch["frames"].shape[:2], batch["frames"].shape[2:4]
        masks = streaming.binary(c, output.masks[-1], size)
        there = jax.vmap(lambda classes, masks: firing(c, jax.nn.softmax(classes), masks))(
            output.classes[-1], masks)
        slots = jnp.where(there, jnp.arange(c.queries, dtype=jnp.int32), -1)
        number = jnp.full(samples, length - 1, jnp.int32)
        return streaming.instances(output, size, number, slots)

    def start(
        self, variables: Variables, frame: jax.Array, prompt: Prompt | None = None
    ) -> streaming.State:
        """Returns the state after the first frame."""
        return self.first_step(variables, frame, prompt)[0]

    def first_step(
        self, variables: Variables, frame: jax.Array, prompt: Prompt | None = None
    ) -> tuple[streaming.State, Instances]:
        """Returns the state after the first frame, and its prediction."""
        return self._stream(variables).first_step(frame, prompt)

    def step(
        self, variables: Variables, state: streaming.State, frame: jax.Array,
        prompt: Prompt | None = None,
    ) -> tuple[streaming.State, Instances]:
        """Predicts the next frame; the prompt of a model with audio is the frame's audio."""
        return self._stream(variables).step(state, frame, prompt)

    def summary(self, state: streaming.State) -> identity.Summary:
        """Returns category and score of each identity, over all frames seen."""
        return identity.summary(state.tracks)

    def _stream(self, variables: Variables) -> streaming.Stream:
        return streaming.Stream(self.config, self.network, variables)

    def _outputs(
        self, variables: Variables, batch: Batch, targets: int, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        """Runs the network on the last `targets` frames of each clip, along an axis of B * targets.

        Each frame goes through the backbone once. The clip's first frame takes the place of the
        frames before it, as at the beginning of a stream.

        Args:
          variables: of the network.
          batch: see `vseg_jax.tasks.vis`.
          targets: how many frames to predict.
          key: for training; None for inference, which needs only the last decoder layer.
        """
        c, train = self.config, key is not None
        samples, length = batch["frames"].shape[:2]
        if length != 1 + c.references:
            raise ValueError(
                f"rcf with references={c.references} takes clips of {1 + c.references} frames, "
                f"got {length}; set the same number of references for the samples"
            )
        rngs = {"dropout": key} if train else {}
        mutable = ["batch_stats"] if train else []
        flat = batch["frames"].reshape(-1, *batch["frames"].shape[2:])
        pyramid, updates = self.network.apply(
            variables, flat, train=train, method="encode", mutable=mutable, rngs=rngs
        )
        pyramid = [x.reshape(samples, length, *x.shape[1:]) for x in pyramid]
        target = np.arange(length - targets, length)
        before = np.maximum(target[:, None] - 1 - np.arange(c.references), 0)

        def merged(x: jax.Array, numbers: np.ndarray) -> jax.Array:
            picked = jnp.stack([x[:, n] for n in numbers.ravel()], axis=1)
            return picked.reshape(samples * targets, *numbers.shape[1:], *x.shape[2:])

        audio = valid = None
        if c.audio:
            order = np.concatenate([before[:, ::-1], target[:, None]], axis=1)
            audio = merged(self._encode_audio(variables, batch), order)
            valid = merged(batch["audio_valid"], order)
        references = merged(pyramid[-1], before) if c.references else None
        layers = train and c.aux_loss
        output = self.network.apply(
            variables, tuple(merged(x, target) for x in pyramid), references, audio, valid,
            train=train, layers=layers, rngs=rngs,
        )
        return output, updates

    def _encode_audio(self, variables: Variables, batch: Batch) -> jax.Array:
        if "audio" not in batch:
            raise ValueError(
                "rcf with audio=True reads audio, but the batch has no 'audio'; let the samples "
                "provide it (uses_audio=True), or set audio=False"
            )
        patches = batch["audio"]
        features = self.network.apply(
            variables, patches.reshape(-1, *patches.shape[2:]), method="encode_audio"
        )
        return features.reshape(*patches.shape[:2], -1)

    def _by_frame(self, x: jax.Array, frames: int) -> jax.Array:
        """Reshapes [D, B * F, ...] to [D, B, F, ...]."""
        return x.reshape(x.shape[0], -1, frames, *x.shape[2:])

