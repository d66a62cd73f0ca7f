"""Configs: plain frozen dataclasses in the rooms that read them, one `ConfigDict` in the file.

A config file builds its sections with `section(SomeSettings, key=value)`, so every key of the
dataclass can be overridden on the command line; `parse(SomeSettings, mapping)` turns the section
back into the dataclass and names the nearest key where one is unknown.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

T = TypeVar("T")


def section(cls: type, **values: Any) -> ConfigDict:
    """The dataclass `cls` as an overridable `ConfigDict`, `values` over its defaults."""
    instance = parse(cls, values, cls.__name__)
    hints = typing.get_type_hints(cls)
    config = ConfigDict()
    for field in dataclasses.fields(cls):
        value = getattr(instance, field.name)
        if dataclasses.is_dataclass(value):
            value = section(type(value), **shallow(value))
        elif value is None:
            value = placeholder(_without_none(hints[field.name]))
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


def nearest(key: str, known: typing.Iterable[str]) -> str:
    """'; did you mean ...?' for an unknown key, or the list of what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are: {', '.join(known)}"


def shallow(instance: Any) -> dict[str, Any]:
    """The fields of a dataclass as a dict, one level deep (`dataclasses.asdict` goes all the way)."""
    return {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance)}


def _without_none(hint: Any) -> type:
    options = [a for a in typing.get_args(hint) if a is not types.NoneType]
    base = options[0] if options else str
    return typing.get_origin(base) or base


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and types.NoneType in typing.get_args(hint):
            return None
        options = [a for a in typing.get_args(hint) if a is not types.NoneType]
        errors = []
        for option in options:
            try:
                return _convert(option, value, where)
            except ValueError as error:
                errors.append(error)
        raise errors[0]
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"config key '{where}' wants a section, got {value!r}")
        return parse(hint, value, where)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            raise ValueError(f"config key '{where}' is {value!r}; it must be one of "
                             f"{', '.join(map(repr, typing.get_args(hint)))}")
        return value
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, (tuple, list)):
            raise ValueError(f"config key '{where}' wants a tuple, got {value!r}")
        inner = typing.get_args(hint)
        if inner and inner[-1] is Ellipsis:
            return tuple(_convert(inner[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if inner and len(inner) != len(value):
            raise ValueError(f"config key '{where}' wants {len(inner)} values, got {value!r}")
        return tuple(
            _convert(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(zip(inner, value, strict=True))
        ) if inner else tuple(value)
    if origin is dict or hint is dict:
        if not isinstance(value, Mapping):
            raise ValueError(f"config key '{where}' wants a mapping, got {value!r}")
        inner = typing.get_args(hint)[1] if origin is dict else Any
        return {k: _convert(inner, v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Any:
        return value
    wrong_bool = isinstance(value, bool) and hint is not bool
    if isinstance(hint, type) and (not isinstance(value, hint) or wrong_bool):
        raise ValueError(f"config key '{where}' wants {hint.__name__}, got {value!r}")
    return value
