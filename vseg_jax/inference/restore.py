"""Everything that answering needs, from a training's working directory or an exported folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from vseg_jax import models
from vseg_jax.config import parse
from vseg_jax.input_pipeline.index import CATEGORIES, Category, read_categories, write_categories
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import Tokenizer, load_tokenizer
from vseg_jax.models.base import Model, Variables
from vseg_jax.training import checkpoints

TOKENIZER = "tokenizer"   # folder, in both
VARIABLES = "variables"   # orbax folder of an export
ABOUT = "about.json"      # of an export: the config and the batch that the model was made for


@dataclasses.dataclass(frozen=True)
class Restored:
    """A model ready to answer.

    Attributes:
      tokenizer: of a model of sentences, else None.
      clip: of a model of sentences, and of one that finds objects, else None.
      about: `config`, the resolved config as plain values, and `batch`, {name: [shape, dtype]} of
        the batches that the variables were made for.
      categories: of a model that finds objects: the names of its classes, in order.
    """

    model: Model
    variables: Variables
    tokenizer: Tokenizer | None
    clip: ClipConfig | None
    about: dict[str, Any]
    categories: tuple[str, ...] = ()


def restore(path: str | Path, changes: Mapping[str, Any] | None = None) -> Restored:
    """The newest checkpoint of a working directory, or what `export` wrote.

    Args:
      changes: keys of the model's config and their values in place of the saved ones; such as have
        no arrays of their own (first-frame adaptation, what a memory keeps).

    Raises:
      ValueError: the folder is missing or lacks something, or its arrays are not those of the
        model that its config describes; names what.
    """
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"there is no folder {path}; name the workdir of a training, or a folder "
                         "that export wrote")
    if (path / "checkpoints").is_dir():
        variables, about = checkpoints.load(path)
    elif (path / ABOUT).is_file():
        about, variables = _read_about(path), _read_variables(path)
    else:
        raise ValueError(f"{path} holds neither checkpoints/ (a workdir of training) nor {ABOUT} "
                         "(an export); name a folder that one of them wrote")
    config = about.get("config", {})
    _needs(config, ("system", "model"), path)
    if changes:
        config = {**config, "model": {**config["model"], **changes}}
        about = {**about, "config": config}
    model = models.build(config["system"], config["model"])
    tokenizer = clip = None
    names: tuple[str, ...] = ()
    if model.task in ("rvos", "vis"):
        _needs(config, ("clip",), path)
        clip = parse(ClipConfig, config["clip"], "config.clip")
    if model.task == "vis":
        names = load_categories(path, model)
    if model.task == "rvos":
        _needs(config, ("text",), path)
        if not (path / TOKENIZER).is_dir():
            raise ValueError(f"{path} has no folder {TOKENIZER}/; copy it from the workdir that "
                             "the checkpoint was made in")
        tokenizer = load_tokenizer(path / TOKENIZER, config["text"]["length"])
    _check(model, variables, about["batch"], path)
    return Restored(model, variables, tokenizer, clip, about, names)


def load_categories(folder: Path, model: Model) -> tuple[str, ...]:
    """The names of a model's classes, of a working directory or an export.

    Raises:
      ValueError: they are not there, or not as many as the model has.
    """
    names = tuple(category.name for category in read_categories(folder))
    if not names:
        raise ValueError(f"{folder} has no {CATEGORIES}; copy it from the workdir that the "
                         "checkpoint was made in")
    if len(names) != model.config.categories:
        raise ValueError(f"{folder / CATEGORIES} names {len(names)} categories, but the model has "
                         f"{model.config.categories}; it is that of another run")
    return names


def save_categories(folder: Path, names: Sequence[str]) -> None:
    """Writes what `load_categories` reads."""
    write_categories(folder, [Category(k, name) for k, name in enumerate(names, 1)])


def _needs(config: dict[str, Any], keys: tuple[str, ...], path: Path) -> None:
    missing = [key for key in keys if key not in config]
    if missing:
        raise ValueError(f"the config saved in {path} has no {', '.join(missing)}; it was not "
                         "written by vseg_jax.main")


def save(restored: Restored, folder: Path) -> None:
    """Writes what `restore` reads, into a folder that is there."""
    about = {key: restored.about[key] for key in ("config", "batch", "versions")
             if key in restored.about}
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n")
    if restored.tokenizer is not None:
        restored.tokenizer.save(folder / TOKENIZER)
    if restored.categories:
        save_categories(folder, restored.categories)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / VARIABLES).absolute(), dict(restored.variables))


def _read_about(path: Path) -> dict[str, Any]:
    try:
        return json.loads((path / ABOUT).read_text())
    except ValueError as error:
        raise ValueError(f"{path / ABOUT} cannot be read ({error}); export the model again"
                         ) from error


def _read_variables(path: Path) -> Variables:
    folder = (path / VARIABLES).absolute()
    with ocp.PyTreeCheckpointer() as checkpointer:
        try:
            tree = checkpointer.metadata(folder).item_metadata.tree
            host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            return checkpointer.restore(folder, restore_args=host)
        except (OSError, ValueError, AttributeError) as error:
            raise ValueError(f"the arrays in {folder} cannot be read ({error}); export the model "
                             "again") from error


def _check(model: Model, variables: Variables, batch: dict[str, Any], path: Path) -> None:
    shapes = {name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
              for name, (shape, dtype) in batch.items()}
    wanted = jax.eval_shape(model.init, jax.random.key(0), shapes)
    checkpoints.compare(checkpoints.describe(variables), checkpoints.describe(wanted), str(path))
