"""Configs: plain frozen dataclasses in the rooms that read them, one `ConfigDict` in the file.

A config file builds its sections with `section(SomeSettings, key=value)`, so every key of the
dataclass can be overridden on the command line (`load`); `parse(SomeSettings, mapping)` turns the
section back into the dataclass. Both name the nearest key where one is unknown.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib.util
import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ml_collections import ConfigDict

T = TypeVar("T")


def load(file_and_variant: str, overrides: Mapping[str, str] | None = None) -> ConfigDict:
    """Runs `get_config(variant)` of a config file and sets the overrides.

    Args:
      file_and_variant: `configs/qvim.py` or `configs/qvim.py:variant`.
      overrides: {dotted key below the config: text of a Python literal or plain text}.

    Keys below an `options` are the dataset builder's: any may be set, and the builder says which
    there are.

    Raises:
      ValueError: no such file or variant, no `get_config` in it, an unknown key.
    """
    file, _, variant = file_and_variant.partition(":")
    if not Path(file).is_file() or Path(file).suffix != ".py":
        raise ValueError(
            f"no config file '{file}' (a Python file); the library's own stand in configs/"
        )
    spec = importlib.util.spec_from_file_location(f"config_{Path(file).stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ValueError(f"config file '{file}' has no function get_config")
    if variant and not inspect.signature(module.get_config).parameters:
        raise ValueError(f"config file '{file}' has no variants, got '{variant}'")
    config = module.get_config(variant) if variant else module.get_config()
    for key, text in (overrides or {}).items():
        _override(config, key, text)
    return config


def _override(config: ConfigDict, key: str, text: str) -> None:
    *path, last = key.split(".")
    node: Any = config
    for depth, name in enumerate([*path, last]):
        if path[-1:] == ["options"] and depth == len(path) and isinstance(node, ConfigDict):
            break
        if not isinstance(node, ConfigDict) or name not in node:
            known = list(node) if isinstance(node, ConfigDict) else []
            where = ".".join(["config", *path[:depth]])
            raise ValueError(f"unknown config key '{where}.{name}'{nearest(name, known)}")
        if depth < len(path):
            node = node[name]
    with node.ignore_type():
        node[last] = text if isinstance(node.get(last), str) else literal(text)


def literal(text: str) -> Any:
    """The Python value that a text of the command line spells, else the text."""
    if text.lower() in ("true", "false", "none"):
        text = text.capitalize()
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def section(cls: type, **values: Any) -> ConfigDict:
    """The dataclass `cls` as an overridable `ConfigDict`, `values` over its defaults."""
    instance = parse(cls, values, cls.__name__)
    config = ConfigDict()
    for field in dataclasses.fields(cls):
        value = getattr(instance, field.name)
        if dataclasses.is_dataclass(value):
            value = section(type(value), **shallow(value))
        elif isinstance(value, Mapping):
            value = ConfigDict({
                k: section(type(v), **shallow(v)) if dataclasses.is_dataclass(v) else v
                for k, v in value.items()
            })
        config[field.name] = value
    return config


def parse(cls: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """Builds the dataclass `cls` from a mapping.

    Raises:
      ValueError: an unknown key (with the nearest known one), a missing key, a value of another
        type; `where` says which section is meant.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    arguments = {}
    for key, value in values.items():
        if key not in fields:
            raise ValueError(f"unknown config key '{where}.{key}'{nearest(key, fields)}")
        arguments[key] = _convert(hints[key], value, f"{where}.{key}")
    missing = [
        name
        for name, f in fields.items()
        if name not in arguments
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"config section '{where}' lacks {', '.join(missing)}")
    return cls(**arguments)


def nearest(key: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' for an unknown key, or the list of what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known are: {', '.join(known)}" if known else "; there are no keys below it"


def shallow(instance: Any) -> dict[str, Any]:
    """The fields of a dataclass as a dict, one level deep (`asdict` goes all the way)."""
    return {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance)}


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint`, or a ValueError that names the key."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(inner, value, where)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, (Mapping, hint)):
            raise ValueError(f"config key '{where}' wants a section, got {value!r}")
        return value if isinstance(value, hint) else parse(hint, value, where)
    if origin is typing.Literal:
        if value not in inner:
            options = ", ".join(map(repr, inner))
            raise ValueError(f"config key '{where}' is {value!r}; it must be one of {options}")
        return value
    if origin is tuple:
        return _convert_tuple(inner, value, where)
    if dict in (origin, hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"config key '{where}' wants a mapping, got {value!r}")
        of = inner[1] if inner else Any
        return {k: _convert(of, v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"config key '{where}' wants {hint.__name__}, got {value!r}")
    return value


def _convert_union(options: tuple, value: Any, where: str) -> Any:
    if value is None and types.NoneType in options:
        return None
    error = None
    for option in options:
        if option is not types.NoneType:
            try:
                return _convert(option, value, where)
            except ValueError as e:
                error = error or e
    raise error


def _convert_tuple(inner: tuple, value: Any, where: str) -> tuple:
    if not isinstance(value, (tuple, list)):
        raise ValueError(f"config key '{where}' wants a tuple, got {value!r}")
    if inner[-1:] == (Ellipsis,):
        inner = inner[:1] * len(value)
    elif not inner:
        inner = (Any,) * len(value)
    if len(inner) != len(value):
        raise ValueError(f"config key '{where}' wants {len(inner)} values, got {value!r}")
    pairs = enumerate(zip(inner, value, strict=True))
    return tuple(_convert(h, v, f"{where}[{i}]") for i, (h, v) in pairs)
