"""Configs: frozen dataclasses in the packages that read them, one `ConfigDict` per config file.

A config file builds its sections with `section(SomeSettings, key=value)`, so that every key of the
dataclass can be overridden on the command line (`load`); `parse(SomeSettings, mapping)` turns a
section back into the dataclass. Both name the nearest key when they meet an unknown one.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib.util
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ml_collections import ConfigDict

from vseg_jax import urls

T = TypeVar("T")

LIBRARY = Path(__file__).parent / "configs"


def load(name_and_variant: str, overrides: Mapping[str, str] | None = None) -> ConfigDict:
    """Runs `get_config(variant)` of a config and applies the overrides.

    Args:
      name_and_variant: a config of the library (`qvim`, `qvim:davis` or `configs/qvim.py:davis`),
        or a file (`path/to/file.py`, `path/to/file.py:variant`). A file that exists comes first.
      overrides: {dotted key below the config: Python literal or plain text}.

    Any key below an `options` section may be set: these belong to the dataset builder, which
    rejects the ones that it does not know.

    Raises:
      ValueError: no such config or variant, no `get_config` in the file, an unknown key.
    """
    get_config, variant, _ = find(name_and_variant, "get_config", "config")
    if variant and not inspect.signature(get_config).parameters:
        raise ValueError(f"config '{name_and_variant.partition(':')[0]}' has no variants, "
                         f"got '{variant}'")
    config = get_config(variant) if variant else get_config()
    for key, text in (overrides or {}).items():
        _override(config, key, text)
    return config


def find(name_and_variant: str, function: str, kind: str) -> tuple[Callable[..., Any], str, str]:
    """Imports the file of a config or study and returns its `function`, the variant and the name.

    Args:
      name_and_variant: see `load`.
      function: the function that the file must define, such as `get_config`.
      kind: what the messages call the file: "config" or "study".

    Raises:
      ValueError: there is no such file, or it does not define the function.
    """
    name, _, variant = name_and_variant.partition(":")
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        path = _library_file(name, function, kind)
    spec = importlib.util.spec_from_file_location(f"{kind}_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # both hold for every .py file
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, function):
        raise ValueError(f"{kind} file '{path}' has no function {function}")
    return getattr(module, function), variant, path.stem


def _library_file(name: str, function: str, kind: str) -> Path:
    """Returns the file of a config of the library, named `qvim` or `configs/qvim.py`."""
    known = [path.stem for path in sorted(LIBRARY.glob("[!_]*.py"))
             if f"\ndef {function}(" in path.read_text(encoding="utf-8")]
    stem = name.removeprefix("configs/").removesuffix(".py")
    if stem in known:
        return LIBRARY / f"{stem}.py"
    if Path(name).exists():
        raise ValueError(f"'{name}' is not a {kind} file; it must be a Python file ({urls.DOCS})")
    close = difflib.get_close_matches(stem, known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else "."
    raise ValueError(f"there is no {kind} '{name}'{hint} Give the path of a Python file or one of "
                     f"the library's own: {', '.join(known)} ({urls.DOCS})")


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
    """Returns the Python value that `text` spells (`true`, `0.1`, `(1, 2)`), or `text` itself."""
    if text.lower() in ("true", "false", "none"):
        text = text.capitalize()
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def section(cls: type, **values: Any) -> ConfigDict:
    """Returns the dataclass `cls` as a `ConfigDict`, with `values` in place of its defaults."""
    instance: Any = parse(cls, values, cls.__name__)
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
      ValueError: an unknown key (the message gives the nearest known one), a missing key or a
        value of the wrong type; `where` names the section in the message.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
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
        raise ValueError(f"config section '{where}' lacks the keys {', '.join(missing)}")
    return cls(**arguments)


def nearest(key: str, known: Iterable[str]) -> str:
    """Returns "; did you mean ...?" for an unknown key, or a list of the known ones."""
    known = sorted(known)
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known are: {', '.join(known)}" if known else "; there are no keys below it"


def shallow(instance: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass as a dict, one level deep (`asdict` is recursive)."""
    return {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance)}


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Returns `value` as the type `hint`, or raises a ValueError that names the key."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(inner, value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"config key '{where}' must be a section, got {value!r}")
        return parse(hint, value, where)
    if origin is typing.Literal:
        if value not in inner:
            options = ", ".join(map(repr, inner))
            raise ValueError(f"config key '{where}' is {value!r}; it must be one of {options}")
        return value
    if origin is tuple:
        return _convert_tuple(inner, value, where)
    if dict in (origin, hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"config key '{where}' must be a mapping, got {value!r}")
        of = inner[1] if inner else Any
        return {k: _convert(of, v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"config key '{where}' must be {hint.__name__}, got {value!r}")
    return value


def _convert_union(options: tuple, value: Any, where: str) -> Any:
    if value is None and types.NoneType in options:
        return None
    errors = []
    for option in options:
        if option is not types.NoneType:
            try:
                return _convert(option, value, where)
            except ValueError as error:
                errors.append(error)
    raise errors[0]


def _convert_tuple(inner: tuple, value: Any, where: str) -> tuple:
    if not isinstance(value, (tuple, list)):
        raise ValueError(f"config key '{where}' must be a tuple, got {value!r}")
    if inner[-1:] == (Ellipsis,):
        inner = inner[:1] * len(value)
    elif not inner:
        inner = (Any,) * len(value)
    if len(inner) != len(value):
        raise ValueError(f"config key '{where}' must have {len(inner)} values, got {value!r}")
    pairs = enumerate(zip(inner, value, strict=True))
    return tuple(_convert(h, v, f"{where}[{i}]") for i, (h, v) in pairs)
