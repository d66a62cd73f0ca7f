"""From official downloads to prepared datasets: one builder a dataset.

    python -m vseg_jax.input_pipeline.builders verify  davis --source /data/DAVIS --option year=2017
    python -m vseg_jax.input_pipeline.builders prepare davis --source /data/DAVIS --prepared data

A builder's module holds `Options` (a frozen dataclass), `Builder` (a `VideoBuilder`) and, where
there is something to download, `verify(source, options) -> list of problems`. It is imported only
when it is asked for, and so are the readers that it needs (h5py, scipy, av).
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
}


def prepare(
    name: str, source: str | Path, prepared: str | Path, options: Mapping[str, Any] | None = None
) -> Path:
    """The folder of the prepared dataset, built from `source` unless it is there already.

    The folder's name is unique to the options (an option that names a file counts by the file's
    content), not to `source`: give another `prepared` to hold two downloads of one dataset.

    Args:
      name: a key of `BUILDERS`.
      source: folder of the official download; may be empty once the dataset is prepared.
      prepared: folder that holds all prepared datasets.
      options: the builder's options, see its `Options`.

    Raises:
      ValueError: unknown name or option, a download that is missing or not whole, a file in it
        that cannot be read.
    """
    module = _module(name)
    parsed = parse_options(module.Options, options or {}, name)
    builder = module.Builder(source, prepared, parsed, _variant(parsed))
    folder = Path(builder.data_dir)
    if (folder / "dataset_info.json").is_file():
        return folder
    if hasattr(module, "verify"):
        _check_source(name, source, f"nothing is prepared in {folder}")
    print(f"{name}: building {folder}", flush=True)
    return builder.build()


def verify(
    name: str, source: str | Path, options: Mapping[str, Any] | None = None
) -> list[str]:
    """What is wrong with the download in `source`; empty where all is well.

    Raises:
      ValueError: unknown name or option, or no such folder.
    """
    module = _module(name)
    parsed = parse_options(module.Options, options or {}, name)
    if not hasattr(module, "verify"):
        return []  # made, not downloaded
    _check_source(name, source, "nothing to verify")
    return module.verify(Path(source), parsed)


def parse_options(cls: type, values: Mapping[str, Any], name: str) -> Any:
    """The dataclass `cls` from a mapping whose values have its types or are their spelling.

    Raises:
      ValueError: an unknown option (with the nearest known one) or a value of another type.
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
        said = f"'{source}' is no folder" if source else "no source was given"
        raise ValueError(
            f"{name}: {said} and {state}; download the dataset as docs/data.md says and give "
            "the folder it was extracted to"
        )


def _variant(options: Any) -> str:
    """'default', or a name made from the options that differ from it."""
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
    """`value` as the type `hint`; strings, as the command line gives them, are spelled values."""
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
            raise ValueError(f"{where} wants values separated by commas, got {value!r}")
        if inner[-1] is not Ellipsis and len(items) != len(inner):
            raise ValueError(f"{where} wants {len(inner)} values, got {value!r}")
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
    raise ValueError(f"{where} wants {getattr(hint, '__name__', hint)}, got {value!r}")


def _nearest(key: str, known: Iterable[str]) -> str:
    known = sorted(known)
    if close := difflib.get_close_matches(key, known, n=1):
        return f"; did you mean '{close[0]}'?"
    return f"; known are: {', '.join(known) or 'none'}"
