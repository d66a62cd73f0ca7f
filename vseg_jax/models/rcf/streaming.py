"""One video as a stream: features and audio of preceding frames, identities and their totals."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, UInt8

from vseg_jax.layers.resize import bilinear
from vseg_jax.models.base import Variables
from vseg_jax.models.rcf import identity
from vseg_jax.models.rcf.config import RcfConfig
from vseg_jax.models.rcf.firing import firing
from vseg_jax.models.rcf.network import Output, Pyramid
from vseg_jax.tasks.vis import PATCH, Instances, Prompt


@struct.dataclass
class State:
    """The state of one stream with N slots; its size does not depend on the video's length.

    Attributes:
      features: [delta, h, w, C], the last maps of the preceding frames, the newest first, so that
        no frame goes through the backbone twice; None for delta 0.
      audio: [delta, A], their audio features; None for delta 0 or a model without audio.
      audio_valid: [delta] bool, which of them have audio; None like `audio`.
      identities: see `Identities`; their masks have stride 4.
      tracks: see `Tracks`.
      count: [] int32, frames seen.
    """

    features: Any  # arrays, but `jax.eval_shape` and `jax.vmap` also use shapes and axes
    audio: Any
    audio_valid: Any
    identities: identity.Identities
    tracks: identity.Tracks
    count: Any


class Encoded(NamedTuple):
    """One frame after the backbone; the audio is None for a model without audio."""

    pyramid: Pyramid
    audio: Float[Array, "1 A"] | None
    audio_valid: Bool[Array, " 1"] | None


@dataclasses.dataclass(frozen=True)
class Stream:
    """A model bound to its variables, which follows one video.

    The methods are pure: make a stream inside of the function that is jitted or vmapped.

    Attributes:
      config: of the model.
      network: of the model.
      variables: of the network.
    """

    config: RcfConfig
    network: nn.Module
    variables: Variables

    def first_step(
        self, frame: UInt8[Array, "H W 3"], prompt: Prompt | None
    ) -> tuple[State, Instances]:
        """Returns the state after the first frame and its prediction.

        The first frame takes the place of the frames before it.
        """
        c = self.config
        features = audio = valid = None
        encoded = self._encode(frame, prompt)
        if c.references:
            features = jnp.repeat(encoded.pyramid[-1], c.references, axis=0)
            if c.audio:
                audio = jnp.repeat(encoded.audio, c.references, axis=0)
                valid = jnp.repeat(encoded.audio_valid, c.references, axis=0)
        cells = tuple(-(-n // 4) for n in frame.shape[:2])
        state = State(
            features, audio, valid, identity.first(c.queries, cells),
            identity.no_tracks(c.queries, c.categories), jnp.zeros((), jnp.int32),
        )
        return self._predict(state, frame, encoded)

    def step(
        self, state: State, frame: UInt8[Array, "H W 3"], prompt: Prompt | None
    ) -> tuple[State, Instances]:
        """Predicts the next frame and remembers it."""
        return self._predict(state, frame, self._encode(frame, prompt))

    def _encode(self, frame: Array, prompt: Prompt | None) -> Encoded:
        """Returns the frame's maps and audio features, silence where the prompt has no audio.

        Raises:
          ValueError: the audio has the wrong shape.
        """
        pyramid = self.network.apply(self.variables, frame[None], train=False, method="encode")
        if not self.config.audio:
            return Encoded(pyramid, None, None)
        prompt = prompt or {}
        if "audio" not in prompt:
            silent = jnp.zeros((1, self.config.audio_features), self.config.dtype)
            return Encoded(pyramid, silent, jnp.zeros(1, bool))
        patch = prompt["audio"]
        if patch.shape != PATCH:
            raise ValueError(f"the audio of a frame is a log-mel patch {PATCH}, got {patch.shape}")
        audio = self.network.apply(self.variables, patch[None], method="encode_audio")
        return Encoded(pyramid, audio, jnp.asarray(prompt.get("audio_valid", True))[None])

    def _predict(
        self, state: State, frame: Array, encoded: Encoded
    ) -> tuple[State, Instances]:
        c = self.config
        references = audio = valid = None
        if c.references:
            references = state.features[None]
        if c.audio:
            audio, valid = encoded.audio[None], encoded.audio_valid[None]
            if c.references:
                audio = jnp.concatenate([state.audio[None, ::-1], audio], axis=1)
                valid = jnp.concatenate([state.audio_valid[None, ::-1], valid], axis=1)
        output = self.network.apply(
            self.variables, encoded.pyramid, references, audio, valid, train=False
        )
        probabilities = jax.nn.softmax(output.classes[-1, 0])
        masks = binary(c, output.masks[-1, 0], frame.shape[:2])
        before = identity.seen(state.identities, state.count)[state.identities.slots]
        identities, assigned = identity.follow(
            state.identities, firing(c, probabilities, masks, before), masks, state.count,
            c.override_iou if c.iou_override else None, c.override_frames,
        )
        prediction = instances(output, frame.shape[:2], state.count[None], assigned[None])
        state = state.replace(
            features=_push(state.features, encoded.pyramid[-1]),
            audio=_push(state.audio, encoded.audio),
            audio_valid=_push(state.audio_valid, encoded.audio_valid),
            identities=identities,
            tracks=identity.record(state.tracks, assigned, probabilities[:, :-1]),
            count=state.count + 1,
        )
        return state, jax.tree.map(lambda x: x[0], prediction)


def binary(
    config: RcfConfig, masks: Float[Array, "*B N h w"], size: tuple[int, int]
) -> Bool[Array, "*B N _ _"]:
    """Returns the masks at stride 4 of frames of `size` (height, width), without their padding."""
    height, width = (-(-n // 4) for n in size)
    return jax.nn.sigmoid(masks[..., :height, :width]) > config.mask_threshold


def instances(
    output: Output, size: tuple[int, int], frame: Array, identities: Array
) -> Instances:
    """Returns the prediction of the last decoder layer for B frames.

    Args:
      output: of the network.
      size: height and width of the frames.
      frame: [B], their numbers.
      identities: [B, N], of the slots, -1 for no object.
    """
    probabilities = jax.nn.softmax(output.classes[-1])
    masks = jnp.moveaxis(output.masks[-1], 1, -1)
    padded = 4 * masks.shape[1], 4 * masks.shape[2]
    logits = bilinear(masks, padded, align_corners=False)[:, : size[0], : size[1]]
    return Instances(
        jnp.moveaxis(logits, -1, 1), probabilities[..., :-1].max(-1), frame, probabilities,
        identities,
    )


def _push(kept: Array | None, new: Array | None) -> Array | None:
    """Puts `new` before `kept` and drops the oldest entry."""
    return None if kept is None else jnp.concatenate([new, kept[:-1]])
