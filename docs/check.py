"""Checks what the site's generator does not: `python docs/check.py`.

Every file, module, config, config key and test that a page names in code exists, and so does every
image and every link into this repository or its site. Exits with 1 and a line for each fault.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout, wherever vseg_jax is installed from
REPOSITORY = re.compile(
    r"https://(?:github\.com/vseg-jax/vseg_jax/(?:blob|tree)/main"
    r"|raw\.githubusercontent\.com/vseg-jax/vseg_jax/main)/([^\s)#\"]+)"
)
SITE = re.compile(r"https://vseg-jax\.github\.io/vseg_jax/([^\s)>#\"]*)")
TREES = ("vseg_jax", "input_pipeline", "configs", "tests", "docs", "benchmarks", "colabs",
         "examples")
FILE = re.compile(rf"(?<![\w./-])((?:{'|'.join(TREES)})/[\w./-]*\w)(?::(\w+))?")
MODULE = re.compile(r"(?<![\w./])vseg_jax(?:\.\w+)+")
KEY = re.compile(r"--config\.([a-z][\w.]*[a-z0-9])(?=[=`\s.])")
SECTIONS = ("data", "clip", "propagation", "instances", "text", "train", "evaluation", "model")
FILES = "py|mp4|json|onnx|safetensors"  # what follows a dot in the name of a file, not of a key
SHORT_KEY = re.compile(rf"(?<![\w./-])((?:{'|'.join(SECTIONS)})\.(?!(?:{FILES})\b)[a-z_.]+\w)")
SHORT_CONFIG = re.compile(r"--config ([a-z]\w*)(?::(\w+))?(?![\w./])")
TEST = re.compile(r"(?<!\w)test_\w+")
PLACEHOLDER = re.compile(r"[/\w.]*[*<{…]")  # what follows stands for several names


def pages() -> list[Path]:
    """Returns the Markdown files that people read."""
    below = [page for folder in ("docs", "benchmarks", "colabs")
             for page in (ROOT / folder).rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), *below])


@functools.cache
def names_of(path: Path) -> frozenset[str]:
    """Returns the names that a module binds at its top level or in `TYPE_CHECKING`."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found.update(a.asname or a.name for a in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return frozenset(found)


def module_exists(name: str) -> bool:
    """Whether `vseg_jax.a.b` is a module, or a name in one (methods and fields included)."""
    path = ROOT
    parts = name.split(".")
    for i, part in enumerate(parts):
        if (path / part).is_dir():
            path /= part
            continue
        file = path / f"{part}.py"
        rest = parts[i + 1:]
        if not file.is_file():
            file, rest = path / "__init__.py", parts[i:]
        return file.is_file() and all(r in names_of(file) or _deep(path, r) for r in rest)
    return True


def _deep(package: Path, name: str) -> bool:
    """Whether any module of a package binds the name: a package's names may be lazy."""
    return any(name in names_of(p) for p in package.rglob("*.py"))


@functools.cache
def config_keys() -> frozenset[str]:
    """Returns the names of all fields of all config dataclasses and builders' options."""
    files = [*(ROOT / "vseg_jax").rglob("*.py"), *(ROOT / "input_pipeline").rglob("*.py")]
    return frozenset(
        item.target.id
        for path in files
        for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    )


@functools.cache
def tests() -> frozenset[str]:
    """Returns the names of all test functions and test files."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= {path.stem, *names_of(path)}
    return frozenset(found)


@functools.cache
def variants(path: Path) -> frozenset[str]:
    """Returns the variants of a config file."""
    config = importlib.import_module(f"vseg_jax.configs.{path.stem}")
    return frozenset(getattr(config, "VARIANTS", ()))


def faults(path: Path) -> Iterator[str]:
    """Yields what a page names and is not there."""
    text = path.read_text()
    for image in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text):
        if "://" not in image and not (path.parent / image).is_file():
            yield f"no image {image}"
    for target in REPOSITORY.findall(text):
        if not (ROOT / target).exists():
            yield f"no file {target} in the repository"
    for page in SITE.findall(text):
        base = ROOT / "docs" / page.rstrip("/")
        if not (base.is_dir() or base.with_suffix(".md").is_file()):
            yield f"no page {page} on the site"
    if path.name.lower() == "changelog.md":
        return  # it names what was renamed
    for code in re.findall(r"```.*?```|`[^`\n]+`", text, re.S):
        yield from code_faults(code)


def code_faults(code: str) -> Iterator[str]:
    """Yields what a piece of code names and is not there."""
    for found in FILE.finditer(code):
        file, variant = found.groups()
        if PLACEHOLDER.match(code, found.end()):
            continue
        if not (ROOT / file).exists():
            yield f"no file {file}"
        elif variant and file.startswith("configs/") and variant not in variants(ROOT / file):
            yield f"no variant {file}:{variant}"
    for name, variant in SHORT_CONFIG.findall(code):
        file = ROOT / f"configs/{name}.py"
        if not file.is_file() or (variant and variant not in variants(file)):
            yield f"no config {name}{':' if variant else ''}{variant}"
    for found in MODULE.finditer(code):
        if not module_exists(found.group()):
            yield f"no module or name {found.group()}"
    for key in [*KEY.findall(code), *SHORT_KEY.findall(code)]:
        parts = key.split(".")
        free = {"options", "datasets"} & set(parts) or parts[-1] in SECTIONS
        if not free and parts[-1] not in config_keys():
            yield f"no config key {key}"
    for found in TEST.finditer(code):
        if found.group() not in tests() and not PLACEHOLDER.match(code, found.end()):
            yield f"no test {found.group()}"


def main() -> int:
    """Prints the faults of all pages; returns the exit status."""
    found = [f"{path.relative_to(ROOT)}: {fault}" for path in pages() for fault in faults(path)]
    print("\n".join(dict.fromkeys(found)) or "docs: every name that the pages mention exists")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
