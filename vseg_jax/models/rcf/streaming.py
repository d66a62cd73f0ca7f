"""A video as a stream: maps and sound of the frames before, identities, and what they add up to."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, UInt8

from vseg_jax.layers.resize import bilinear
from vseg_jax.models.base import Variables
from vseg_jax.models.rcf import identity
from vseg_jax.models.rcf.config import RcfConfig
from vseg_jax.models.rcf.network import Output
from vseg_jax.tasks.vis import PATCH, Instances, Prompt, fired


@struct.dataclass
class State:
    """The memory of one stream with N slots; it does not depend on how long the video is.

    Attributes:
      features: [delta, h, w, C], the last maps of the frames before, the newest first, so that no
        frame goes through the backbone twice; None for delta 0.
      sound: [delta, A], what was heard with them; None for delta 0 or a model that does not hear.
      sound_valid: [delta] bool, likewise.
      identities: see `Identities`.
      tracks: see `Tracks`.
      given: [N] int32, the last frame's identities, -1 where a slot had no object.
      masks: [N, h, w] bool, its masks at stride 4.
      count: [] int32, frames seen.
    """

    features: Any  # arrays; `jax.eval_shape` and `jax.vmap` put other things here
    audio: Any
    audio_valid: Any
    identities: identity.Identities
    tracks: identity.Tracks
    given: Any
    masks: Any
    count: Any


def first_step(
    config: RcfConfig, network: nn.Module, variables: Variables, frame: UInt8[Array, "H W 3"],
    prompt: Prompt | None,
) -> tuple[State, Instances]:
    """The state after the first frame, and the answer for it; the frame stands for its own past."""
    features = audio = valid = None
    pyramid, heard, hearable = _encode(config, network, variables, frame, prompt)
    if config.references:
        features = jnp.repeat(pyramid[-1], config.references, axis=0)
        if config.audio:
            audio = jnp.repeat(heard, config.references, axis=0)
            valid = jnp.repeat(hearable, config.references, axis=0)
    cells = tuple(-(-n // 4) for n in frame.shape[:2])
    state = State(
        features, audio, valid, identity.first(config.queries),
        identity.no_tracks(config.tracks, config.categories),
        jnp.full(config.queries, -1, jnp.int32), jnp.zeros((config.queries, *cells), bool),
        jnp.zeros((), jnp.int32),
    )
    return _prediction(config, network, variables, state, frame, pyramid, heard, hearable)


def step(
    config: RcfConfig, network: nn.Module, variables: Variables, state: State,
    frame: UInt8[Array, "H W 3"], prompt: Prompt | None,
) -> tuple[State, Instances]:
    """Answers for the next frame and remembers it."""
    encoded = _encode(config, network, variables, frame, prompt)
    return _prediction(config, network, variables, state, frame, *encoded)


def instances(
    config: RcfConfig, output: Output, size: tuple[int, int], frame: Array
) -> Instances:
    """The answer of the last decoder layer for B frames; identities are the slots' numbers."""
    probabilities = jax.nn.softmax(output.classes[-1])
    masks = jnp.moveaxis(output.masks[-1], 1, -1)
    padded = 4 * masks.shape[1], 4 * masks.shape[2]
    logits = bilinear(masks, padded, align_corners=False)[:, : size[0], : size[1]]
    slots = jnp.where(
        fired(probabilities, config.fire), jnp.arange(config.queries, dtype=jnp.int32), -1
    )
    return Instances(
        jnp.moveaxis(logits, -1, 1), probabilities[..., :-1].max(-1), frame, probabilities, slots
    )


def _encode(
    config: RcfConfig, network: nn.Module, variables: Variables, frame: Array,
    prompt: Prompt | None,
) -> tuple[Any, Float[Array, "1 A"] | None, Any]:
    """The frame's maps, what is heard with it, and whether there is anything to be heard."""
    pyramid = network.apply(variables, frame[None], train=False, method="encode")
    if not config.audio:
        return pyramid, None, None
    prompt = prompt or {}
    if "audio" not in prompt:
        return pyramid, jnp.zeros((1, config.audio_features), config.dtype), jnp.zeros(1, bool)
    patch = prompt["audio"]
    if patch.shape != PATCH:
        raise ValueError(f"the sound of a frame is a log-mel patch {PATCH}, got {patch.shape}")
    heard = network.apply(variables, patch[None], method="hear")
    return pyramid, heard, jnp.asarray(prompt.get("audio_valid", True))[None]


def _prediction(
    config: RcfConfig, network: nn.Module, variables: Variables, state: State, frame: Array,
    pyramid: Any, heard: Array | None, hearable: Array | None,
) -> tuple[State, Instances]:
    references = audio = valid = None
    if config.references:
        references = state.features[None]
    if config.audio:
        audio, valid = heard[None], hearable[None]
        if config.references:
            audio = jnp.concatenate([state.audio[None, ::-1], audio], axis=1)
            valid = jnp.concatenate([state.audio_valid[None, ::-1], valid], axis=1)
    output = network.apply(variables, pyramid, references, audio, valid, train=False)
    prediction = instances(config, output, frame.shape[:2], state.count[None])
    prediction = jax.tree.map(lambda x: x[0], prediction)
    height, width = state.masks.shape[1:]
    masks = jax.nn.sigmoid(output.masks[-1, 0, :, :height, :width]) > config.mask_threshold
    identities, given = identity.follow(
        state.identities, prediction.identities >= 0, masks, state.given, state.masks,
        config.override_iou if config.iou_override else None,
    )
    tracks = identity.record(
        state.tracks, given, prediction.probabilities[:, :-1], state.count
    )
    state = state.replace(
        features=_newest(state.features, pyramid[-1]), audio=_newest(state.audio, heard),
        audio_valid=_newest(state.audio_valid, hearable), identities=identities, tracks=tracks,
        given=given, masks=masks, count=state.count + 1,
    )
    return state, prediction.replace(identities=given)


def _newest(kept: Array | None, new: Array | None) -> Array | None:
    """`kept` with `new` before, and without the oldest."""
    return None if kept is None else jnp.concatenate([new, kept[:-1]])
