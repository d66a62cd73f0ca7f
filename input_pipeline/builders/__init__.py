"""Builders, which turn official downloads into prepared datasets; one module per dataset.

    vseg data verify  davis --source /data/DAVIS --option year=2017
    vseg data prepare davis --source /data/DAVIS --prepared data

The module of a builder defines `Options` (a frozen dataclass), `Builder` (a `VideoBuilder`) and,
unless the dataset is synthetic, `verify(source, options) -> list of problems`. Modules and the
readers that they need (h5py, scipy, av) are imported only when they are used.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vseg_jax import urls

__all__ = ["BUILDERS", "parse_options", "prepare", "prepare_shard", "verify"]

_INFO = "dataset_info.json"  # TFDS writes it last
BUILDERS = {
    "moving_shapes": "vseg_jax.input_pipeline.builders.moving_shapes",
    "davis": "vseg_jax.input_pipeline.builders.davis",
    "a2d_sentences": "vseg_jax.input_pipeline.builders.a2d_sentences",
    "jhmdb_sentences": "vseg_jax.input_pipeline.builders.jhmdb_sentences",
    "youtube_vos": "vseg_jax.input_pipeline.builders.youtube_vos",
    "refer_youtube_vos": "vseg_jax.input_pipeline.builders.refer_youtube_vos",
    "youtube_vis": "vseg_jax.input_pipeline.builders.youtube_vis",
    "ovis": "vseg_jax.input_pipeline.builders.ovis",
    "avis": "vseg_jax.input_pipeline.builders.avis",
    "coco": "vseg_jax.input_pipeline.builders.coco",
    "stills": "vseg_jax.input_pipeline.builders.stills",
    "cutouts": "vseg_jax.input_pipeline.builders.cutouts",
    "refer_stills": "vseg_jax.input_pipeline.builders.refer_stills",
}


def prepare(
    name: str, source: str | Path, prepared: str | Path, options: Mapping[str, Any] | None = None,
    *, skip_faulty: bool = False,
) -> Path:
    """Builds a dataset from `source` unless it is prepared already; returns its folder.

    A build that stops keeps the videos that are done, and the next one goes on after them.

    The name of the folder identifies the options (for an option that names a file, the file's
    content), but not `source`: use different `prepared` folders for two downloads of one dataset.

    Args:
      name: a key of `BUILDERS`.
      source: folder of the official download; not needed once the dataset is prepared.
      prepared: folder of all prepared datasets.
      options: options of the builder, see its `Options`.
      skip_faulty: whether to leave out videos that cannot be read, and list them in the folder.

    Raises:
      ValueError: unknown name or option, or the download is missing, incomplete or unreadable.
    """
    builder = _builder(name, source, prepared, options)
    folder = Path(builder.data_dir)
    if (folder / _INFO).is_file():
        return folder
    print(f"{name}: building {folder}", flush=True)
    return builder.build(skip_faulty=skip_faulty)


def prepare_shard(
    name: str, source: str | Path, prepared: str | Path, options: Mapping[str, Any] | None = None,
    *, shard: tuple[int, int], skip_faulty: bool = False,
) -> str:
    """Converts a part of a dataset's videos, and keeps them for a later `prepare`.

    The shards of a dataset can be converted at the same time, also on several machines that share
    `source` and `prepared`; `prepare` then makes of them what it would have made alone.

    Args:
      name, source, prepared, options: as for `prepare`.
      shard: (number from 1, number of shards).
      skip_faulty: whether to go on after videos that cannot be read; `prepare` meets them again.

    Returns:
      What was done, as a sentence.

    Raises:
      ValueError: as for `prepare`, or there is no such shard.
    """
    number, count = shard
    if not 1 <= number <= count:
        raise ValueError(f"the shard is {number}/{count}; it must be from 1/{count} to "
                         f"{count}/{count}")
    builder = _builder(name, source, prepared, options)
    folder = Path(builder.data_dir)
    if (folder / _INFO).is_file():
        return f"{folder} is prepared already"
    kept, faulty = builder.keep(number, count, skip_faulty=skip_faulty)
    return (f"shard {number} of {count}: {kept} videos are converted, {faulty} are faulty; when "
            f"all shards are done, the same command without --shard writes {folder}")


def _builder(
    name: str, source: str | Path, prepared: str | Path, options: Mapping[str, Any] | None
) -> Any:
    """Returns the builder of a dataset, which is prepared already or has a source folder."""
    module = _module(name)
    parsed = parse_options(module.Options, options or {}, name)
    builder = module.Builder(source, prepared, parsed, _variant(parsed))
    folder = Path(builder.data_dir)
    if hasattr(module, "verify") and not (folder / _INFO).is_file():
        _check_source(name, source, f"nothing is prepared in {folder}")
    return builder


def verify(
    name: str, source: str | Path, options: Mapping[str, Any] | None = None
) -> list[str]:
    """Returns the problems of the download in `source`; [] if there are none.

    Raises:
      ValueError: unknown name or option, or no such folder.
    """
    module = _module(name)
    parsed = parse_options(module.Options, options or {}, name)
    if not hasattr(module, "verify"):
        return []  # synthetic
    _check_source(name, source, "there is nothing to verify")
    return module.verify(Path(source), parsed)


def parse_options(cls: type, values: Mapping[str, Any], name: str) -> Any:
    """Returns the dataclass `cls` from a mapping with values of its types or as strings.

    Args:
      cls: the `Options` of a builder.
      values: {option: value}; values from the command line are strings such as "2016" or "a,b".
      name: of the dataset, for errors.

    Raises:
      ValueError: an unknown option (names the nearest known one) or a value of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    arguments = {}
    for key, value in values.items():
        if key not in hints:
            raise ValueError(f"{name} has no option '{key}'{_nearest(key, hints)}")
        arguments[key] = _convert(hints[key], value, f"option '{key}' of {name}")
    return cls(**arguments)


def _module(name: str) -> types.ModuleType:
    if name not in BUILDERS:
        raise ValueError(f"there is no dataset '{name}'{_nearest(name, BUILDERS)}")
    return importlib.import_module(BUILDERS[name])


def _check_source(name: str, source: str | Path, state: str) -> None:
    if not source or not Path(source).is_dir():
        fault = f"source folder '{source}' does not exist" if source else "no source was given"
        raise ValueError(
            f"{name}: {fault} and {state}; download the dataset ({urls.DATASETS}{name}) and give "
            "the folder that it was extracted to"
        )


def _variant(options: Any) -> str:
    """Returns 'default', or a name derived from the options that differ from their defaults."""
    changed = {
        field.name: value
        for field in dataclasses.fields(options)
        if (value := getattr(options, field.name)) != field.default
    }
    if not changed:
        return "default"
    content = {key: _fingerprint(value) for key, value in changed.items()}
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _fingerprint(value: Any) -> Any:
    if isinstance(value, str) and value and Path(value).is_file():
        return hashlib.blake2b(Path(value).read_bytes(), digest_size=16).hexdigest()
    return value


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Returns `value` as the type `hint`; strings are parsed."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        for allowed in inner:
            if value == allowed or (isinstance(value, str) and value == str(allowed)):
                return allowed
        raise ValueError(f"{where} is {value!r}; it must be one of {', '.join(map(repr, inner))}")
    if origin is tuple:
        items = value
        if isinstance(value, str):
            items = [item for item in value.split(",") if item]
        if not isinstance(items, (list, tuple)):
            raise ValueError(f"{where} needs values separated by commas, got {value!r}")
        if inner[-1] is not Ellipsis and len(items) != len(inner):
            raise ValueError(f"{where} needs {len(inner)} values, got {value!r}")
        return tuple(_convert(inner[0], item, where) for item in items)
    if hint is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if hint in (int, float) and not isinstance(value, bool):
        try:
            number = hint(value)
        except (TypeError, ValueError):
            number = None
        if number is not None and (isinstance(value, str) or number == value):
            return number
    if hint in (bool, str) and isinstance(value, hint):
        return value
    raise ValueError(f"{where} needs {getattr(hint, '__name__', hint)}, got {value!r}")


def _nearest(key: str, known: Iterable[str]) -> str:
    known = sorted(known)
    if close := difflib.get_close_matches(key, known, n=1):
        return f"; did you mean '{close[0]}'?"
    return f"; known are: {', '.join(known) or 'none'}"
