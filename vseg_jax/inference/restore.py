"""Reads a model from a training's working directory, an export, an import or a file; saves it."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from vseg_jax import model_file, models
from vseg_jax.config import parse
from vseg_jax.inference import share, sources
from vseg_jax.inference.prompts import streams_of
from vseg_jax.input_pipeline.index import CATEGORIES, Category, read_categories, write_categories
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import Tokenizer, load_tokenizer
from vseg_jax.models.base import Model, Variables
from vseg_jax.training import checkpoints

TOKENIZER = "tokenizer"   # folder, in working directories and exports
VARIABLES = "variables"   # orbax folder of an export
ABOUT = "about.json"      # of an export: the config and the shapes that the model was built for


@dataclasses.dataclass(frozen=True)
class Restored:
    """A model with its variables and everything else that predicting needs.

    Attributes:
      model: built from the saved config.
      variables: of the model, on the host.
      tokenizer: for models that take a query, else None.
      clip: for models that see frames at the size of their clips, else None.
      about: `config`, the resolved config as plain values, and `batch`, {name: [shape, dtype]} of
        the batches that the variables were made for.
      categories: for models that find objects: the names of the classes, in order; else ().
    """

    model: Model
    variables: Variables
    tokenizer: Tokenizer | None
    clip: ClipConfig | None
    about: dict[str, Any]
    categories: tuple[str, ...] = ()

    @property
    def short_side(self) -> int:
        """Returns the shorter side of the frames that the run was evaluated at, in pixels.

        It is 0 where they keep their size, and for models that see frames at the size of their
        clips.
        """
        if self.clip is not None:
            return 0
        return self.about.get("config", {}).get("evaluation", {}).get("short_side", 0)


def restore(source: str | os.PathLike, changes: Mapping[str, Any] | None = None) -> Restored:
    """Reads the newest checkpoint of a working directory, or what `export` or `import` wrote.

    Args:
      source: the folder or `.safetensors` file; or the name of a shipped model or of one on the
        Hugging Face Hub, see `vseg_jax.inference.sources.find`.
      changes: keys of the model's config with values that replace the saved ones; only keys that
        do not change the model's arrays (first-frame adaptation, the size of a memory).

    Raises:
      ValueError: there is no such model, it lacks something or is damaged, or its arrays are not
        those of the model that its config describes; the message says which.
    """
    path = sources.find(source)
    if path.is_dir():
        variables, about = _read(path)
        return _restored(variables, about, path, path, changes)
    if path.suffix != model_file.SUFFIX:
        raise ValueError(f"{path} is not a model; name a folder or a {model_file.SUFFIX} file that "
                         "`vseg export` wrote, or the workdir of a training")
    content = model_file.read(path)
    with tempfile.TemporaryDirectory() as folder:
        share.unpack(content.texts, Path(folder))
        variables = traverse_util.unflatten_dict(content.arrays, sep="/")
        return _restored(variables, content.about, path, Path(folder), changes)


def _restored(variables: Variables, about: dict[str, Any], path: Path, folder: Path,
              changes: Mapping[str, Any] | None) -> Restored:
    """Builds the model that `about` describes and checks that the variables fit.

    Args:
      variables: as they were read.
      about: see `Restored`.
      path: names the model in messages.
      folder: with the tokenizer and the categories.
      changes: see `restore`.
    """
    config = about.get("config", {})
    _require({**about, **config}, ("system", "model", "batch"), path)
    if changes:
        config = {**config, "model": {**config["model"], **changes}}
        about = {**about, "config": config}
    try:
        model = models.build(config["system"], config["model"])
    except ValueError as error:   # a changed key, or a config of another version
        version = about.get("versions", {}).get("vseg_jax", "of an unknown version")
        raise ValueError(f"{error} (in the config of {path}, written by vseg_jax {version})"
                         ) from error
    needs = streams_of(model).needs
    clip, tokenizer = None, None
    names: tuple[str, ...] = ()
    if "clip" in needs:
        _require(config, ("clip",), path)
        clip = parse(ClipConfig, config["clip"], "config.clip")
    if "categories" in needs:
        names = load_categories(folder, model)
    if "tokenizer" in needs:
        _require(config, ("text",), path)
        tokenizer = _load_tokenizer(folder, config["text"]["length"])
    wanted = _wanted(model, about["batch"])
    if share.LEFT_OUT in about:
        variables = share.with_public(variables, about, wanted)
    checkpoints.compare(
        checkpoints.describe(variables), checkpoints.describe(wanted), str(path))
    return Restored(model, variables, tokenizer, clip, about, names)


def _read(path: Path) -> tuple[Variables, dict[str, Any]]:
    if (path / "checkpoints").is_dir():
        return checkpoints.load(path)
    if (path / ABOUT).is_file():
        about = _read_about(path)
        return _read_variables(path), about
    raise ValueError(f"{path} holds neither checkpoints/ (a workdir of training) nor {ABOUT} (an "
                     "export or an import); name a folder that one of them wrote")


def _holder(folder: Path, name: str) -> Path:
    """Returns the folder with a file of the model: for `best` of a workdir, maybe the workdir."""
    above = folder.absolute().parent
    return above if folder.name == "best" and not (folder / name).exists() else folder


def _load_tokenizer(folder: Path, length: int) -> Tokenizer:
    path = _holder(folder, TOKENIZER) / TOKENIZER
    if not path.is_dir():
        raise ValueError(f"{folder} has no folder {TOKENIZER}/; copy it from the workdir that the "
                         "checkpoint was made in")
    return load_tokenizer(path, length)


def tokenizer_from(source: str | os.PathLike, length: int) -> Tokenizer | None:
    """Returns the tokenizer of a model without reading its arrays; None if it has none.

    Args:
      source: see `restore`.
      length: number of tokens that it returns.

    Raises:
      ValueError: there is no such model, or its tokenizer cannot be read.
    """
    path = sources.find(source)
    if path.is_dir():
        folder = _holder(path, TOKENIZER) / TOKENIZER
        return load_tokenizer(folder, length) if folder.is_dir() else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        share.unpack(model_file.read(path).texts, folder)
        return load_tokenizer(folder / TOKENIZER, length) if (folder / TOKENIZER).is_dir() else None


def load_categories(folder: Path, model: Model) -> tuple[str, ...]:
    """Returns the names of a model's classes from a working directory or an export.

    Raises:
      ValueError: they are missing, or there are not as many as the model has.
    """
    folder = _holder(folder, CATEGORIES)
    names = tuple(category.name for category in read_categories(folder))
    if not names:
        raise ValueError(f"{folder} has no {CATEGORIES}; copy it from the workdir that the "
                         "checkpoint was made in")
    if len(names) != model.config.categories:
        raise ValueError(f"{folder / CATEGORIES} names {len(names)} categories, but the model has "
                         f"{model.config.categories}; it belongs to another run")
    return names


def save_categories(folder: Path, names: Sequence[str]) -> None:
    """Writes what `load_categories` reads."""
    write_categories(folder, [Category(k, name) for k, name in enumerate(names, 1)])


def _require(config: dict[str, Any], keys: tuple[str, ...], path: Path) -> None:
    missing = [key for key in keys if key not in config]
    if missing:
        raise ValueError(f"the config saved in {path} has no {', '.join(missing)}; it was not "
                         "written by vseg_jax.main")


def save(restored: Restored, folder: Path) -> None:
    """Writes what `restore` reads into an existing folder."""
    (folder / ABOUT).write_text(json.dumps(_about(restored), indent=2) + "\n")
    save_texts(restored, folder)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / VARIABLES).absolute(), dict(restored.variables))


def same(one: Restored, other: Restored) -> bool:
    """Returns whether two models have the same config, shapes, categories and arrays, bit by bit.

    The tokenizers are not compared.
    """
    if one.categories != other.categories or \
            json.dumps(_about(one), sort_keys=True) != json.dumps(_about(other), sort_keys=True):
        return False
    mine, others = share.flat(one.variables), share.flat(other.variables)
    return mine.keys() == others.keys() and all(
        np.asarray(array).tobytes() == np.asarray(others[name]).tobytes()
        for name, array in mine.items())


def save_file(restored: Restored, path: str | os.PathLike, *, half: bool = False,
              slim: bool = False) -> list[str]:
    """Writes a model as one `.safetensors` file, which `restore` reads; whole or not at all.

    Args:
      restored: what to write; absolute paths in its config are cut to their last part.
      path: must not exist.
      half: see `vseg_jax.model_file.write`.
      slim: leaves out the arrays that are the same in the packages of public weights that the
        model's config names (`package:NAME`). Who loads the file needs these packages.

    Returns:
      The names of the arrays that were left out.

    Raises:
      ValueError: the file exists, `slim` finds nothing to leave out, or the tokenizer has files
        that are not text.
    """
    about = {**share.without_paths(_about(restored)), "prompt": streams_of(restored.model).prompt}
    arrays = share.flat(restored.variables)
    left_out: dict[str, list[int]] = {}
    if slim:
        wanted = _wanted(restored.model, about["batch"])
        public = share.public_arrays(about["config"], wanted)
        arrays, left_out = share.without_public(arrays, public)
        if not left_out:
            raise ValueError("no array of the model is the same as in a package of public weights "
                             "that its config names (model.*_weights=package:NAME); leave out slim")
        about[share.LEFT_OUT] = left_out
    with tempfile.TemporaryDirectory() as folder:
        save_texts(restored, Path(folder))
        texts = share.texts_in(Path(folder))
    model_file.write(path, model_file.ModelFile(arrays, about, texts), half)
    return list(left_out)


def _about(restored: Restored) -> dict[str, Any]:
    return {key: restored.about[key] for key in ("config", "batch", "versions")
            if key in restored.about}


def save_texts(restored: Restored, folder: Path) -> None:
    """Writes the tokenizer and the categories, where the model has them."""
    if restored.tokenizer is not None:
        (folder / TOKENIZER).mkdir()
        restored.tokenizer.save(folder / TOKENIZER)
    if restored.categories:
        save_categories(folder, restored.categories)


def _read_about(path: Path) -> dict[str, Any]:
    try:
        return json.loads((path / ABOUT).read_text())
    except ValueError as error:
        raise ValueError(f"{path / ABOUT} cannot be read ({error}); write the folder again"
                         ) from error


def _read_variables(path: Path) -> Variables:
    folder = (path / VARIABLES).absolute()
    with ocp.PyTreeCheckpointer() as checkpointer:
        try:
            tree = checkpointer.metadata(folder).item_metadata.tree
            host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            return checkpointer.restore(folder, restore_args=host)
        except (OSError, ValueError, AttributeError) as error:
            raise ValueError(f"the arrays in {folder} cannot be read ({error}); write the folder "
                             "again") from error


def _wanted(model: Model, batch: dict[str, Any]) -> Variables:
    """Returns the shapes of a model's variables."""
    shapes = {name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
              for name, (shape, dtype) in batch.items()}
    return jax.eval_shape(model.init, jax.random.key(0), shapes)
