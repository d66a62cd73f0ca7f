"""The code stays short, documented and annotated; the limits are figures over the whole library."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
TREES = ("vseg_jax", "input_pipeline", "configs")
MEDIAN_FILE, FILE_90 = 130, 260  # lines
LONGEST_FUNCTION = 60  # lines, with signature and docstring
DOCUMENTED, ANNOTATED = 0.80, 0.95  # shares of the public functions and classes

Function = ast.FunctionDef | ast.AsyncFunctionDef
FILES = {str(path.relative_to(ROOT)): path.read_text()
         for tree in TREES for path in sorted((ROOT / tree).rglob("*.py"))}


def public(node: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    """The public functions, classes and methods, but none that stands in a function."""
    for child in node.body:
        if isinstance(child, Function | ast.ClassDef) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public(child)


def is_annotated(function: Function) -> bool:
    """Whether all arguments but `self` and `cls`, and the result, have an annotation."""
    a = function.args
    arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    return function.returns is not None and all(
        argument.annotation for argument in arguments if argument.arg not in ("self", "cls"))


def test_files_are_short():
    lengths = [len(text.splitlines()) for text in FILES.values()]
    assert statistics.median(lengths) <= MEDIAN_FILE
    assert np.percentile(lengths, 90) <= FILE_90


def test_functions_are_short():
    long = [
        f"{path}:{node.lineno}: {node.name} has {length} lines, more than {LONGEST_FUNCTION}"
        for path, text in FILES.items() for node in ast.walk(ast.parse(text))
        if isinstance(node, Function)
        and (length := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert not long, "\n" + "\n".join(long)


def shortfall(what: str, flags: dict[str, bool], wanted: float) -> str:
    """A message where too few of the flags are set, or nothing."""
    share = sum(flags.values()) / len(flags)
    lacking = [place for place, flag in flags.items() if not flag]
    return "" if share >= wanted else "\n".join(
        [f"{share:.1%} of the public code is {what}, {wanted:.0%} are wanted; not:", *lacking])


def test_public_code_is_documented_and_annotated():
    found = {f"{path}:{node.lineno}: {node.name}": node for path, text in FILES.items()
             for node in public(ast.parse(text))}
    documented = {place: bool(ast.get_docstring(node)) for place, node in found.items()}
    annotated = {place: is_annotated(node) for place, node in found.items()
                 if isinstance(node, Function)}
    assert not shortfall("documented", documented, DOCUMENTED)
    assert not shortfall("annotated", annotated, ANNOTATED)


def test_what_counts_as_public_and_annotated():
    module = ast.parse(
        "def f(x: int, *, y: int = 0) -> int:\n  def inner(z): pass\n"
        "def _g(): pass\n"
        "class C:\n  def m(self, x) -> int: pass\n  def __init__(self): pass\n"
        "class _D:\n  def m(self): pass\n"
    )
    assert [node.name for node in public(module)] == ["f", "C", "m"]
    assert [is_annotated(n) for n in public(module) if isinstance(n, Function)] == [True, False]
