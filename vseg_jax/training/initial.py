"""Initializes a run from the variables of another run, whose model may lack some modules."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

import jax
from flax import traverse_util

from vseg_jax.models.base import Variables
from vseg_jax.training.checkpoints import compare, describe


def merge(
    initial: Variables, wanted: Variables, fresh: Callable[[], Variables]
) -> Variables:
    """Returns the variables of a model, initialized from those of another run.

    The runs may differ in whole modules and collections: what only the new one has is initialized
    afresh, what only the old one has is not used, and one line is printed about both. A module that
    both have must have the same arrays in both.

    Args:
      initial: variables of the other run.
      wanted: the shapes of the model's variables.
      fresh: returns the model's own initial variables; called only if something is missing.

    Raises:
      ValueError: a module has other arrays, or the runs have no array in common.
    """
    old, shapes = _flat(initial), _flat(wanted)
    missing, unused = _outside(shapes, _folders(old)), _outside(old, _folders(shapes))
    kept = {name: leaf for name, leaf in old.items() if name not in unused}
    if not kept:   # nothing fits: the message lists what is wanted
        missing = {}
    compare(describe(traverse_util.unflatten_dict(kept, sep="/")),
            describe(traverse_util.unflatten_dict(
                {name: leaf for name, leaf in shapes.items() if name not in missing}, sep="/")),
            "of init_from")
    notes = [f"{text} {', '.join(sorted(set(modules.values())))}" for text, modules in
             (("initialized afresh:", missing), ("not used:", unused)) if modules]
    if notes and jax.process_index() == 0:
        print(f"init_from: {'; '.join(notes)}", flush=True)
    if missing:
        own = _flat(fresh())
        kept |= {name: own[name] for name in missing}
    return traverse_util.unflatten_dict(kept, sep="/")


def without(variables: Variables, patterns: Iterable[str]) -> Variables:
    """Returns the variables without the parameters that match a pattern.

    Args:
      variables: of a model.
      patterns: regular expressions over the paths of parameters, as in `train.groups`.

    Raises:
      ValueError: no parameter matches a pattern.
    """
    flat = _flat(variables)
    for pattern in patterns:
        found = [name for name in flat if name.startswith("params/")
                 and re.search(pattern, name.removeprefix("params/"))]
        if not found:
            raise ValueError(f"init_fresh has the pattern '{pattern}', which no parameter of the "
                             "model of init_from matches")
        for name in found:
            del flat[name]
    return traverse_util.unflatten_dict(flat, sep="/")


def _flat(variables: Variables) -> dict[str, Any]:
    return traverse_util.flatten_dict(dict(variables), sep="/")


def _folders(names: Iterable[str]) -> set[str]:
    """Returns all modules and collections around some arrays."""
    return {folder for name in names for folder in _around(name)}


def _around(name: str) -> list[str]:
    """Returns the modules and the collection around an array, from the largest."""
    parts = name.split("/")
    return ["/".join(parts[:k]) for k in range(1, len(parts))]


def _outside(names: Iterable[str], folders: Collection[str]) -> dict[str, str]:
    """Returns {array: largest module around it that is not one of the folders}, if there is one."""
    return {name: next(folder for folder in _around(name) if folder not in folders)
            for name in names if _around(name)[-1] not in folders}
