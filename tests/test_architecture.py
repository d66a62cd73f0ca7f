"""Checks which package may import which, where gradients are taken, and how long files are.

docs/architecture.md draws the tables below.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TREES = ("vseg_jax", "input_pipeline", "configs")  # all three are installed below vseg_jax
LONGEST = 400  # lines of a file

# Package or module -> those of vseg_jax that it may import. One may always import itself. Order:
# each knows only what stands above its own line.
MAY_IMPORT = {
    "index_masks": (),
    "binarize": (),
    "atomic": (),
    "run_lengths": (),
    "urls": (),
    "arguments": (),
    "text_files": (),
    "interruption": (),
    "__version__": (),  # a constant of vseg_jax/__init__.py
    "packages": (),
    "model_file": ("atomic",),
    "config": ("urls",),
    "zoo": ("arguments", "config", "model_file", "packages", "urls"),
    "layers": ("config",),
    "losses": ("config", "layers"),
    "metrics": ("arguments", "binarize", "config", "index_masks", "run_lengths", "text_files"),
    "tasks": ("config", "index_masks", "layers", "losses"),
    "backbones": ("config", "layers"),
    "text": ("config", "layers"),
    "weights": ("config", "layers", "backbones", "text", "packages"),
    "models": ("config", "index_masks", "layers", "losses", "tasks", "backbones", "text",
               "weights"),
    "input_pipeline": ("__version__", "arguments", "atomic", "index_masks", "packages",
                       "run_lengths", "text_files", "urls"),
    "training": ("atomic", "config", "interruption", "layers", "losses", "metrics", "tasks",
                 "models", "input_pipeline"),
    "media": ("atomic", "index_masks", "input_pipeline"),
    "inference": ("atomic", "binarize", "config", "index_masks", "interruption", "model_file",
                  "packages", "run_lengths", "zoo", "tasks", "models", "input_pipeline",
                  "training.checkpoints", "media"),
    "export": ("atomic", "layers", "tasks", "models", "training.checkpoints", "inference"),
    "demo": ("arguments", "atomic", "index_masks", "interruption", "inference", "input_pipeline",
             "media"),
    "evaluation": ("atomic", "binarize", "index_masks", "run_lengths", "metrics", "tasks", "models",
                   "input_pipeline", "media", "inference"),
    "submission": ("arguments", "atomic", "index_masks", "run_lengths", "metrics",
                   "input_pipeline", "media", "inference", "evaluation"),
    "tools": ("arguments", "atomic", "backbones.efficientnet", "binarize", "config", "index_masks",
              "layers", "metrics", "packages", "run_lengths", "tasks", "text_files", "urls",
              "models", "weights.efficientnet", "weights.raft", "input_pipeline", "media",
              "inference", "evaluation", "training.checkpoints"),
    "settings": ("config", "training.settings", "input_pipeline.settings"),
    "configs": ("config", "settings", "text", "training.settings", "models", "input_pipeline"),
    "experiment": ("atomic", "config", "index_masks", "model_file", "settings", "tasks", "metrics",
                   "models", "training", "input_pipeline", "media", "inference", "evaluation",
                   "export", "tools"),
    "commands": ("config", "experiment"),
    "main": ("commands",),
    "cli": ("arguments", "commands", "config", "demo", "input_pipeline.builders", "metrics",
            "submission", "tools", "urls", "zoo", "__version__"),
    "__init__": ("inference",),  # vseg_jax.load
}

# Packages that only some places may import; the reason goes into the message.
OUTSIDE = {
    "tensorflow": ((), "the library and its tests run without TensorFlow"),
    "torch": (("tests/parity/", "tests/goldens/", "benchmarks/"),
              "torch is for comparisons; vseg_jax.weights.pytorch reads its files"),
    "jax": (("vseg_jax/", "tests/", "benchmarks/", "colabs/"),
            "workers of the pipeline start clean, configs compute nothing"),
    "flax": (("vseg_jax/", "tests/", "benchmarks/", "colabs/"), "as jax"),
}
NUMPY_ONLY = ("vseg_jax/metrics/", "vseg_jax/run_lengths.py")
NAME = re.compile(r"vseg_jax(\.\w+)+")  # a module imported by its name
GRADIENTS = ("vseg_jax/training/", "vseg_jax/models/swiftnet/adaptation")  # adaptation: inference


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported name: `vseg_jax.text.bert.Bert`, in line `line`."""

    name: str
    line: int


def imports(source: str, module: str, package: bool = False) -> Iterator[Import]:
    """What a module imports, also inside functions, relatively, and by name in a string."""
    above = module.split(".") if package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = above[:len(above) - node.level + 1] if node.level else []
            parts = [*base, *([node.module] if node.module else [])]
            for alias in node.names:
                yield Import(".".join([*parts, alias.name]), node.lineno)
        elif isinstance(node, ast.Constant) and NAME.fullmatch(str(node.value)):
            yield Import(node.value, node.lineno)


def is_under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def package_of(path: str) -> str:
    """Returns the package of a file: "text" for `vseg_jax/text/bert.py`, "main" for its main.py."""
    parts = Path(path).parts
    return (parts[1] if parts[0] == "vseg_jax" else parts[0]).removesuffix(".py")


def module_of(path: str) -> str:
    """'input_pipeline/text.py' -> 'vseg_jax.input_pipeline.text'."""
    module = path.removesuffix(".py").replace("/", ".")
    return module if not path.startswith(TREES[1:]) else f"vseg_jax.{module}"


def import_faults(path: str, source: str) -> list[str]:
    """Imports of a file that the tables do not allow, one line of text each."""
    module = module_of(path)
    package = module.endswith(".__init__")
    faults = []
    for found in imports(source, module.removesuffix(".__init__"), package):
        where = f"{path}:{found.line}: imports {found.name}"
        top = found.name.split(".")[0]
        if top in OUTSIDE:
            allowed, reason = OUTSIDE[top]
            if not path.startswith(allowed) or path.startswith(NUMPY_ONLY):
                faults.append(f"{where}; {reason}; allowed in: {', '.join(allowed) or 'nowhere'}")
        elif top in TREES[1:]:
            faults.append(f"{where}; its name is vseg_jax.{found.name}")
        elif path.startswith(TREES) and (fault := _library_fault(path, found.name, top)):
            faults.append(f"{where}; {fault}")
    return faults


def _library_fault(path: str, name: str, top: str) -> str:
    if top not in ("vseg_jax", "tests", "benchmarks"):
        return ""  # a package from elsewhere
    package = package_of(path)
    if package not in MAY_IMPORT:
        return f"'{package}' is new: add it to MAY_IMPORT here and to docs/architecture.md"
    if top != "vseg_jax":
        return f"nothing in vseg_jax imports {top}"
    target = name.removeprefix("vseg_jax.")
    allowed = MAY_IMPORT[package]
    if "." not in name or not any(is_under(target, known) for known in (package, *allowed)):
        return f"'{package}' may import: {', '.join(allowed) or 'nothing else of vseg_jax'}"
    mine, theirs = Path(path).parts, name.split(".")
    folders = [p.name for p in (ROOT / "vseg_jax/models").iterdir() if p.is_dir()]
    if (package == "models" and len(mine) > 3 and len(theirs) > 2
            and theirs[2] in folders and theirs[2] != mine[2]):
        return f"'{mine[2]}' and '{theirs[2]}' must not know each other: move it down to layers"
    return ""


def gradient_faults(path: str, source: str) -> list[str]:
    """Uses of `grad` and `value_and_grad` outside training."""
    if not path.startswith("vseg_jax/") or path.startswith(GRADIENTS):
        return []
    names = ("grad", "value_and_grad")
    lines = {
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.ImportFrom) and any(a.name in names for a in node.names))
    }
    return [f"{path}:{line}: takes a gradient; only {' and '.join(GRADIENTS)} do"
            for line in sorted(lines)]


def python_files(*trees: str) -> list[str]:
    return [str(p.relative_to(ROOT)) for tree in trees for p in sorted((ROOT / tree).rglob("*.py"))]


ALL = python_files(*TREES, "tests", "benchmarks")


def check(faults: list[str]) -> None:
    assert not faults, "\n" + "\n".join(faults)


def test_imports():
    check([fault for path in ALL for fault in import_faults(path, (ROOT / path).read_text())])


def test_packages_stand_below_what_they_import():
    order = list(MAY_IMPORT)
    check([
        f"MAY_IMPORT: '{package}' knows '{known}', which does not come before it: a cycle"
        for i, package in enumerate(order)
        for known in MAY_IMPORT[package]
        if known.split(".")[0] not in order[:i] and package != "__init__"
    ])


def test_gradients_are_taken_in_training_only():
    check([fault for path in ALL for fault in gradient_faults(path, (ROOT / path).read_text())])


def test_configs_import_dataclasses_only():
    check([
        f"{path}:{found.line}: imports {found.name}; configs import dataclasses (...Config), "
        "vseg_jax.config and other configs, nothing that computes"
        for path in python_files("configs")
        for found in imports((ROOT / path).read_text(), "vseg_jax.configs.x")
        if found.name.split(".")[0] in TREES
        and not is_under(found.name, "vseg_jax.config")
        and not is_under(found.name, "vseg_jax.configs")
        and not found.name.endswith("Config")
    ])


def test_files_are_short_enough_to_read():
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in ALL}
    check([f"{path} has {n} lines, more than {LONGEST}: cut it where two things meet"
           for path, n in lengths.items() if n > LONGEST])


@pytest.mark.parametrize(("path", "source", "said"), [
    ("vseg_jax/layers/x.py", "from vseg_jax.models.base import Model", "'layers' may import: conf"),
    ("vseg_jax/layers/x.py", "def f():\n  import vseg_jax.text", "x.py:2: imports vseg_jax.text"),
    ("vseg_jax/layers/x.py", "import vseg_jax", "'layers' may import"),
    ("vseg_jax/layers/x.py", "from ..models import base", "imports vseg_jax.models.base"),
    ("vseg_jax/text/x.py", "m = import_module('vseg_jax.weights.bert')", "'text' may import"),
    ("vseg_jax/losses/x.py", "import vseg_jax.input_pipeline.text", "'losses' may"),
    ("vseg_jax/inference/x.py", "import vseg_jax.training.loop", "training.checkpoints"),
    ("vseg_jax/training/x.py", "import vseg_jax.inference", "'training' may import"),
    ("vseg_jax/models/swiftnet/x.py", "import vseg_jax.models.qvim", "must not know each other"),
    ("vseg_jax/models/x.py", "import vseg_jax.configs.qvim", "'models' may import"),
    ("vseg_jax/metrics/x.py", "import jax.numpy", "imports jax.numpy"),
    ("vseg_jax/attic/x.py", "import vseg_jax.layers", "'attic' is new: add it"),
    ("input_pipeline/x.py", "from vseg_jax import config", "'input_pipeline' may import"),
    ("input_pipeline/x.py", "import jax", "start clean"),
    ("configs/x.py", "from flax import linen", "imports flax.linen"),
    ("tests/x.py", "import tensorflow as tf", "allowed in: nowhere"),
    ("vseg_jax/backbones/x.py", "import torch", "imports torch"),
])
def test_a_forbidden_import_is_seen(path, source, said):
    [fault] = import_faults(path, source)
    assert said in fault


@pytest.mark.parametrize(("path", "source"), [
    ("vseg_jax/layers/x.py", "import jax\nfrom vseg_jax.layers import y\nfrom . import z"),
    ("vseg_jax/models/__init__.py", "m = import_module('vseg_jax.models.qvim')"),
    ("vseg_jax/models/qvim/x.py", "import vseg_jax.models.qvim.y, vseg_jax.models.base"),
    ("vseg_jax/inference/x.py", "from vseg_jax.training.checkpoints import restore"),
    ("vseg_jax/commands.py", "from vseg_jax import experiment"),
    ("tests/parity/x.py", "import torch"),
    ("input_pipeline/x.py", "import numpy, vseg_jax.input_pipeline.text"),
])
def test_an_allowed_import_passes(path, source):
    assert import_faults(path, source) == []


def test_a_gradient_elsewhere_is_seen():
    for source in ("import jax\njax.grad(f)", "\nfrom jax import value_and_grad", "\nnn.grad(f)"):
        [fault] = gradient_faults("vseg_jax/models/qvim/x.py", source)
        assert "x.py:2: takes a gradient" in fault
    assert gradient_faults("vseg_jax/training/step.py", "jax.grad(f)") == []
    assert gradient_faults("vseg_jax/models/swiftnet/adaptation.py", "jax.grad(f)") == []
