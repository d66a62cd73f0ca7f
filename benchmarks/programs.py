"""The training step and the streaming step of every system, at the paper's size.

Nothing here holds arrays: the programs are built from shapes, for `accelerator.py`, which runs
them, and for `tests/test_lowering.py`, which lowers them for devices that are not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from vseg_jax.experiment.build import batch_shapes, build_model, read
from vseg_jax.export.programs import stream_inputs
from vseg_jax.inference.engine import over_streams
from vseg_jax.inference.restore import Restored
from vseg_jax.settings import Settings
from vseg_jax.training.setup import Setup


class System(NamedTuple):
    """A system at its paper's size.

    Attributes:
      config: as `vseg train` takes it.
      changes: of the config, as on a command line.
      small: more changes, to try a program out.
      size: (height, width) of the frames of a stream; None for that of the training's clips.
    """

    config: str
    changes: Mapping[str, str]
    small: Mapping[str, str]
    size: tuple[int, int] | None = None


_SMALL = {"train.batch_size": "2", "clip.height": "64", "clip.width": "64"}
_BERT = {"model.bert.hidden_size": "12", "model.bert.num_attention_heads": "2",
         "model.bert.num_hidden_layers": "1", "model.bert.intermediate_size": "16",
         "model.bert.vocab_size": "50"}
_FOLLOWER = _SMALL | {"model.width": "4", "model.depth": "18"}
_ONE = {"model.objects": "1"}   # of a stream; training has its own number
SYSTEMS = {
    "swiftnet": System("swiftnet:stage2", _ONE, _FOLLOWER, (480, 854)),
    "stm": System("swiftnet:stage2", {**_ONE, "model.network": "stm"}, _FOLLOWER, (480, 854)),
    "cvls": System("cvls:a2d", {}, _SMALL | {
        "model.backbone": "resnet18", "model.resnet_width": "4", "model.vocabulary": "50",
        "model.word_width": "12", "model.lstm_width": "10", "model.channels": "16",
        "model.projection_hidden": "16", "model.projection_dim": "8"}),
    "mmvt": System("mmvt:a2d", {}, _SMALL | _BERT | {
        "model.width": "4", "model.depth": "18", "model.flow_depth": "18", "model.channels": "16",
        "model.layers": "1", "model.align_channels": "8"}),
    "qvim": System("qvim:a2d", {}, _SMALL | _BERT | {
        "model.backbone": "resnet18", "model.resnet_width": "4", "model.channels": "16",
        "model.decoder_channels": "(8, 8, 8, 8, 8)", "clip.length": "2", "clip.target": "1"}),
    "rcf": System("rcf:youtube_vis", {}, _SMALL | {
        "model.depth": "18", "model.width": "4", "model.channels": "16", "model.heads": "2",
        "model.hidden": "16", "model.encoder_layers": "1", "model.decoder_layers": "1",
        "model.mask_channels": "8"}),
}


def training(settings: Settings) -> Setup:
    """Returns what the jitted training step of a config is built from."""
    model = build_model(settings)
    return Setup.build(model, batch_shapes(settings, model), settings.train)


def restored(settings: Settings) -> Restored:
    """Returns the model of a config as it is read for inference, with shapes in place of arrays."""
    model = build_model(settings)
    batch = batch_shapes(settings, model)
    variables = jax.eval_shape(model.init, jax.random.key(0), batch)
    # Of a tokenizer, the programs need the number of its tokens only.
    return Restored(model, variables, getattr(settings, "text", None), settings.clip, {
        "batch": {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in batch.items()}})


class Stream(NamedTuple):
    """One stream of a model.

    Attributes:
      model: of the stream.
      start: (variables, frame, prompt) -> the state after the first frame.
      step: (variables, state, frame) -> (the next state, a prediction).
      frame, prompt: shapes of the inputs, with a leading axis of one stream.
    """

    model: Any
    start: Any
    step: Any
    frame: jax.ShapeDtypeStruct
    prompt: dict[str, jax.ShapeDtypeStruct]


def stream(settings: Settings, size: tuple[int, int] | None) -> Stream:
    """Returns one stream of the model of a config.

    Args:
      settings: of the model.
      size: see `System`.
    """
    source = restored(settings)
    inputs = stream_inputs(source, size)
    frame, prompt = jax.tree.map(
        lambda spec: jax.ShapeDtypeStruct((1, *spec.shape[1:]), spec.dtype),
        (inputs.frame, inputs.prompt))
    return Stream(source.model, over_streams(source.model.start), over_streams(source.model.step),
                  frame, prompt)


def settings_of(system: System, changes: Mapping[str, str], small: bool = False) -> Settings:
    """Returns the settings of a system.

    Args:
      system: one of `SYSTEMS`.
      changes: more changes of its config.
      small: whether to make it small.
    """
    return read(system.config, {**system.changes, **(system.small if small else {}), **changes})
