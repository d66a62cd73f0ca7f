"""Converts public weights with a table of rules; no key may be left over on either side."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vseg_jax.packages import locate
from vseg_jax.weights import pytorch
from vseg_jax.weights.layouts import place_of

StateDict = Mapping[str, np.ndarray]  # of a public checkpoint, flat
Layout = Callable[[np.ndarray], np.ndarray]
SHOWN = 5  # problems of a kind that an error lists


def same(x: np.ndarray) -> np.ndarray:
    """Returns `x` unchanged."""
    return x


def kernel(x: np.ndarray) -> np.ndarray:
    """Converts the kernel of a torch.nn.Conv or torch.nn.Linear.

    Args:
      x: [out, in, *window]; a linear layer has no window.

    Returns:
      [*window, in, out]; [in, out] where every side of the window is 1.
    """
    if all(size == 1 for size in x.shape[2:]):
        return x.reshape(x.shape[:2]).T
    return np.moveaxis(x, (0, 1), (-1, -2))


@dataclass(frozen=True)
class Rule:
    """A rule for one kind of public key.

    Attributes:
      pattern: regular expression that matches the whole key.
      target: path in our variables, '/'-joined and starting with the collection ("params/..."),
        with \\1 for groups of the pattern; None for keys that are known and dropped.
      layout: converts the public array to ours.
    """

    pattern: str
    target: str | None
    layout: Layout = same


def layer(pattern: str, target: str, layout: Layout = kernel) -> list[Rule]:
    """Returns the rules for a convolution or a linear layer, with or without bias."""
    return [
        Rule(rf"{pattern}\.weight", f"params/{target}/kernel", layout),
        Rule(rf"{pattern}\.bias", f"params/{target}/bias"),
    ]


def norm(pattern: str, target: str) -> list[Rule]:
    """Returns the rules for a layer or group norm; some releases call its arrays gamma and beta."""
    return [
        Rule(rf"{pattern}\.(?:weight|gamma)", f"params/{target}/scale"),
        Rule(rf"{pattern}\.(?:bias|beta)", f"params/{target}/bias"),
    ]


def batch_norm(pattern: str, target: str) -> list[Rule]:
    """Returns the rules for a torch.nn.BatchNorm, as our `BatchNorm`."""
    return [
        Rule(rf"{pattern}\.weight", f"params/{target}/scale"),
        Rule(rf"{pattern}\.bias", f"params/{target}/bias"),
        Rule(rf"{pattern}\.running_mean", f"batch_stats/{target}/mean"),
        Rule(rf"{pattern}\.running_var", f"batch_stats/{target}/var"),
        Rule(rf"{pattern}\.num_batches_tracked", None),
    ]


def convert(
    state_dict: StateDict,
    rules: Iterable[Rule],
    like: Mapping[str, Any],
    without: Sequence[str] = (),
) -> dict[str, Any]:
    """Converts public arrays to our variables.

    Args:
      state_dict: public key -> array.
      rules: tried in order; the first one whose pattern matches the whole key is applied.
      like: our collections ({"params": ..., "batch_stats": ...}), arrays or their shapes
        (`jax.eval_shape`); the result has this structure, these shapes and dtypes.
      without: prefixes of our paths that this network was built without; public arrays for them
        are dropped ("params/mixed_5" for an I3D of four stages).

    Raises:
      ValueError: there are public keys without a rule, arrays of ours that no key or two keys
        fill, or shapes that differ. The message has the number of each, names the first of them,
        and tells of what else the weights are if they are known (see `place_of`).
    """
    wanted = {_path(path): leaf for path, leaf in jax.tree.leaves_with_path(dict(like))}
    rules = [(re.compile(rule.pattern), rule) for rule in rules]
    filled: dict[str, np.ndarray] = {}
    problems: dict[str, list[str]] = {
        kind: [] for kind in ("missing", "unexpected", "shape", "duplicate")}
    for key in sorted(state_dict):
        match, rule = next(
            ((m, rule) for pattern, rule in rules if (m := pattern.fullmatch(key))), (None, None)
        )
        if rule is None:
            problems["unexpected"].append(f"{key} {list(state_dict[key].shape)}")
            continue
        if rule.target is None:
            continue
        target = match.expand(rule.target)
        if target not in wanted:
            if not target.startswith(tuple(without)) or not without:
                problems["unexpected"].append(f"{key} (the network has no {target})")
            continue
        value, shape = rule.layout(state_dict[key]), wanted[target].shape
        if target in filled:
            problems["duplicate"].append(f"{key} fills {target} a second time")
        elif value.shape != shape:
            problems["shape"].append(f"{key} gives {list(value.shape)}, {target} is {list(shape)}")
        filled[target] = value
    problems["missing"] = [f"no key fills {path}" for path in wanted if path not in filled]
    if any(problems.values()):
        raise ValueError(_summary(problems, state_dict, len(wanted)))
    return jax.tree.map_with_path(
        lambda path, leaf: np.ascontiguousarray(filled[_path(path)], dtype=leaf.dtype), dict(like)
    )


def _summary(
    problems: Mapping[str, Sequence[str]], state_dict: StateDict, arrays: int
) -> str:
    """Returns the text of the error about weights that do not fit a network of some arrays."""
    names = {"missing": "arrays missing", "unexpected": "keys unexpected",
             "shape": "of another shape", "duplicate": "given twice"}
    counts = [f"{len(lines)} {names[kind]}" for kind, lines in problems.items() if lines]
    lines = [f"the weights do not fit the network, which has {arrays} arrays: {', '.join(counts)}"]
    # A few differences are those of a damaged or modified file, not of another network.
    if 10 * sum(map(len, problems.values())) > arrays and (place := place_of(state_dict)):
        lines[0] += f". They look like {place}"
    for kind, found in problems.items():
        lines += [f"{kind}: {text}" for text in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"{kind}: and {len(found) - SHOWN} more")
    return "\n  ".join(lines)


def unwrapped(state_dict: StateDict) -> dict[str, np.ndarray]:
    """Removes the dotted prefix that all keys share.

    Wrappers put it before the network's own names: DataParallel's "module.", or the field of an
    outer module.
    """
    names = [key.split(".") for key in state_dict]
    shared = 0
    while names and all(len(n) > shared + 1 and n[shared] == names[0][shared] for n in names):
        shared += 1
    return {".".join(n[shared:]): v for n, v in zip(names, state_dict.values(), strict=True)}


def part(variables: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns the variables of the submodule `name` ("backbone", or "a/b"), by collection.

    Raises:
      ValueError: there is no such submodule.
    """
    found = {}
    for collection, tree in variables.items():
        for step in name.split("/"):
            tree = tree.get(step) if isinstance(tree, Mapping) else None
        if tree is not None:
            found[collection] = tree
    if not found:
        raise ValueError(f"the network has no submodule '{name}'")
    return found


def with_part(
    variables: Mapping[str, Any], name: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a copy of `variables` in which `values` replace the submodule `name`."""

    def put(tree: Mapping[str, Any], steps: list[str], value: Any) -> dict[str, Any]:
        rest = put(tree[steps[0]], steps[1:], value) if len(steps) > 1 else value
        return {**tree, steps[0]: rest}

    replaced = {c: put(variables[c], name.split("/"), value) for c, value in values.items()}
    return {**variables, **replaced}


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Reads key -> array from .safetensors, .npz, or PyTorch's .pt, .pth, .bin, .tar.

    Nothing in a file is executed, and PyTorch is not needed (`vseg_jax.weights.pytorch`). A PyTorch
    checkpoint that holds its weights under "state_dict", "model" or "network" is unpacked.

    Args:
      path: the file, or `package:NAME` for one in an installed package (`vseg_jax.packages`).

    Raises:
      ValueError: the file does not exist, has an unknown suffix, or does not hold named arrays.
    """
    path = locate(path)
    readers = {".safetensors": _read_safetensors, ".npz": _read_npz} | dict.fromkeys(
        (".pt", ".pth", ".bin", ".tar"), pytorch.read
    )
    if not path.is_file():
        raise ValueError(f"no weights at {path}")
    if path.suffix not in readers:
        raise ValueError(
            f"{path} ends in '{path.suffix}'; weights are read from {', '.join(readers)}"
        )
    try:
        arrays = readers[path.suffix](path)
    except Exception as error:  # every reader raises its own kinds of errors for a broken file
        raise ValueError(f"cannot read weights from {path}: {error}") from error
    if not arrays:
        raise ValueError(f"{path} holds no arrays; it is damaged or no file of weights")
    return arrays


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def _path(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
