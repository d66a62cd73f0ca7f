"""Public weights of a whole network as a folder that everything that reads a checkpoint takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax

from vseg_jax.atomic import atomic_folder
from vseg_jax.experiment.build import batch_shapes, build_model, describe
from vseg_jax.experiment.rvos import tokenizer_of
from vseg_jax.inference.prompts import streams_of
from vseg_jax.inference.restore import Restored, save
from vseg_jax.input_pipeline.text import Tokenizer
from vseg_jax.models.base import Model
from vseg_jax.settings import Settings
from vseg_jax.training.runtime import versions

KEY = "network_weights"  # of the models that have public code


def import_weights(settings: Settings, weights: str | Path, output: str | Path) -> Path:
    """Writes public weights as a new folder, atomically; reads no data and trains nothing.

    The folder holds what `vseg_jax.inference.restore.restore` reads, as an export does, but no
    programs: `vseg_jax.load`, `predict`, `evaluate`, `export` and `init_from` take it.

    Args:
      settings: a config whose model is that of the weights.
      weights: a file, see `vseg_jax.weights.convert.read`.
      output: must not exist, or be an empty folder.

    Raises:
      ValueError: the file cannot be read or does not fit the model, which the message describes;
        the model has no public weights; the config names no tokenizer for a model of expressions;
        or `output` exists.
    """
    with atomic_folder(output) as folder:
        settings = _with_weights(settings, weights)
        model = build_model(settings)
        tokenizer = _tokenizer(settings, model)
        batch = batch_shapes(settings, model)
        # A whole network: no array is initialized here, so shapes are enough.
        variables = model.pretrained(jax.eval_shape(model.init, jax.random.key(0), batch))
        about = {
            "config": describe(settings, model), "versions": versions(),
            "batch": {name: [list(x.shape), str(x.dtype)] for name, x in batch.items()},
        }
        save(Restored(model, variables, tokenizer, settings.clip, about), folder)
    return Path(output)


def _tokenizer(settings: Settings, model: Model) -> Tokenizer | None:
    """Returns the tokenizer of a model of expressions."""
    if "tokenizer" not in streams_of(model).needs:
        return None
    if settings.text.tokenizer == "words":
        raise ValueError("the weights belong to a tokenizer: name its folder in "
                         "--config.text.tokenizer")
    return tokenizer_of(settings, model, ())


def _with_weights(settings: Settings, weights: str | Path) -> Settings:
    """Returns the settings with the file as the weights of the whole network."""
    config = build_model(settings).config
    if not hasattr(config, KEY):
        parts = ", ".join(f"--config.model.{field.name}" for field in dataclasses.fields(config)
                          if field.name.endswith("_weights"))
        raise ValueError(f"there are no public weights of a whole {settings.system}; those of its "
                         f"parts are read when it is trained ({parts})")
    return dataclasses.replace(settings, model={**settings.model, KEY: str(weights)})
