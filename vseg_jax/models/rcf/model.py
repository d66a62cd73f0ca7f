"""rcf: online video instance segmentation by robust context fusion, with or without sound.

docs/papers/rcf.md holds each equation, table and switch of the paper beside its place here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.models.base import Batch, Variables, quick_key
from vseg_jax.models.rcf import identity, streaming
from vseg_jax.models.rcf.config import STRIDE, RcfConfig
from vseg_jax.models.rcf.network import Network, Output
from vseg_jax.models.rcf.objective import terms, truth
from vseg_jax.tasks import Means
from vseg_jax.tasks.vis import PATCH, Instances, Prompt
from vseg_jax.weights import resnet, swin, vggish
from vseg_jax.weights.convert import part, with_part


class Rcf:
    """The model of models/base.py; see there for what each function is for.

    Its answers are `vseg_jax.tasks.vis.Instances`.

    Attributes:
      hears: whether it reads `audio`; see `vseg_jax.tasks.vis`.
    """

    task = "vis"
    delay = 0

    def __init__(self, config: RcfConfig):
        self.config = config
        self.uses_audio = config.audio
        self.network = Network(config)

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        # The parameters depend neither on the frames' size nor on the number of objects.
        frame = jnp.zeros((1, STRIDE, STRIDE, 3), jnp.uint8)
        patch = jnp.zeros((1, *PATCH)) if self.uses_audio else None
        return dict(self.network.init(quick_key(key), frame, patch, train=False, method="full"))

    def pretrained(self, variables: Variables) -> Variables:
        c = self.config
        parts = [("backbone", swin if c.backbone == "swin" else resnet, c.backbone_weights)]
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
        """Eq. 4 of the target frame, added up over slots and decoder layers, a sample's mean.

        With `order_supervision` every frame of the clip is answered for, each from the frames
        before it, with one assignment for all; a sample is then the mean of its frames.
        """
        del step  # nothing changes in the course of training
        c = self.config
        frames = batch["frames"].shape[1] if c.order_supervision else 1
        output, updates = self._predictions(variables, batch, frames, key)
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
        """Slots of the target frames; identities are the slots' numbers, -1 where none is."""
        output, _ = self._predictions(variables, batch, 1, None)
        number = jnp.full(batch["frames"].shape[:1], batch["frames"].shape[1] - 1, jnp.int32)
        return streaming.instances(self.config, output, batch["frames"].shape[2:4], number)

    def start(
        self, variables: Variables, frame: jax.Array, prompt: Prompt | None = None
    ) -> streaming.State:
        return self.first_step(variables, frame, prompt)[0]

    def first_step(
        self, variables: Variables, frame: jax.Array, prompt: Prompt | None = None
    ) -> tuple[streaming.State, Instances]:
        """`start`, with the answer for the first frame."""
        return streaming.first_step(self.config, self.network, variables, frame, prompt)

    def step(
        self, variables: Variables, state: streaming.State, frame: jax.Array,
        prompt: Prompt | None = None,
    ) -> tuple[streaming.State, Instances]:
        """A model that hears takes each frame's sound as its prompt; none is silence."""
        return streaming.step(self.config, self.network, variables, state, frame, prompt)

    def summary(self, state: streaming.State) -> identity.Summary:
        """Category and score of each identity, over all frames seen."""
        return identity.summary(state.tracks)

    def _predictions(
        self, variables: Variables, batch: Batch, targets: int, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        """Answers for the last `targets` frames of each clip, a leading axis of B * targets.

        Each frame goes through the backbone once. What would lie before the clip is its first
        frame, as at the beginning of a stream.

        Args:
          variables: of the network.
          batch: see `vseg_jax.tasks.vis`.
          targets: how many frames are answered for.
          key: for training; None otherwise, when the last decoder layer alone answers.
        """
        c, train = self.config, key is not None
        samples, length = batch["frames"].shape[:2]
        if length != 1 + c.references:
            raise ValueError(
                f"rcf with references={c.references} takes clips of {1 + c.references} frames, "
                f"got {length}; set the references of the samples alike"
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
            heard = self._heard(variables, batch)
            order = np.concatenate([before[:, ::-1], target[:, None]], axis=1)
            audio, valid = merged(heard, order), merged(batch["audio_valid"], order)
        references = merged(pyramid[-1], before) if c.references else None
        layers = train and c.aux_loss
        output = self.network.apply(
            variables, tuple(merged(x, target) for x in pyramid), references, audio, valid,
            train=train, layers=layers, rngs=rngs,
        )
        return output, updates

    def _heard(self, variables: Variables, batch: Batch) -> jax.Array:
        if "audio" not in batch:
            raise ValueError(
                "rcf with audio=True hears, but the batch has no 'audio'; let the samples give it, "
                "or set audio=False"
            )
        audio = batch["audio"]
        heard = self.network.apply(
            variables, audio.reshape(-1, *audio.shape[2:]), method="hear"
        )
        return heard.reshape(*audio.shape[:2], -1)

    def _by_frame(self, x: jax.Array, frames: int) -> jax.Array:
        """[D, B * F, ...] as [D, B, F, ...]."""
        return x.reshape(x.shape[0], -1, frames, *x.shape[2:])


