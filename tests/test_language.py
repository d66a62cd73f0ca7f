"""The terms that the glossary (docs/project/conventions.md) replaces stand in no name, message or
heading.

Checked are the names in the code, strings that are names (config keys, keys of JSON files), the
texts that a user reads (error messages, the help of the command line), and in Markdown the headings
and the code. Ordinary words in comments and running text are free.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = ("vseg_jax", "input_pipeline", "configs", "tests", "benchmarks")
TESTS = ("tests/", "benchmarks/")  # their strings are inputs or quotations, but for names
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs", "benchmarks")

# Pattern of a whole word -> what to write.
EVERYWHERE = {
    r"films?": "video",
    r"hear|hears|heard|hearing|ears?|deaf": "audio, uses audio, without audio",
    r"answer\w*": "prediction, predict",
    r"twins?": "distractor; in tests, reference implementation",
    r"told": "prompt, mask prompt",
    r"mend(s|ed|ing)?": "fix",
    r"exchang\w+": "expression-shuffled",
    r"perceptrons?": "MLP",
    r"(colour|grey|centre|neighbour|behaviour|favour)\w*": "American spelling",
    r"(normal|optim|initial|general|visual|serial|special|summar|minim|maxim|organ|recogn|token|"
    r"penal|random|synchron|local|parallel|regular|quant|real|emphas)is(e|ed|es|ers?|ing|ations?)":
        "American spelling",
    r"learnt|analys(e|ed|ing)|labelled|modelling": "American spelling",
}
IN_NAMES = {  # ordinary words in a text
    r"made": "synthetic",
    r"houses?|rooms": "codebase, package",
}
NAMES = {  # of several words
    r"start_from": "init_from",
    r"whole_(file|folder)": "atomic_file, atomic_folder",
    r"sentence_pairs": "expression_pairs",
}
KEYS = {  # as a config key or the key of a JSON file only
    r"also": "extra_datasets",
    r"followed": "track_recall",
    r"kept": "identity_preservation",
    r"switched": "identity_switches",
}
IN_TEXTS = {
    r"no number": "non-finite",
    r"whole or not at all": "atomically",
    r"(goes|gone|go) on": "resumes",
    r"(?<!there )is no (?!longer)\w+": "is not a ...",
}
# (file or folder, word) -> reason.
EXCEPTIONS = {
    ("tests/test_language.py", ""): "lists the retired terms",
    ("CHANGELOG.md", ""): "lists what was renamed",
    ("docs/project/changelog.md", ""): "a generated copy of CHANGELOG.md",
}


class Find(NamedTuple):
    """A retired term in line `line` of the file `path`, and what to write instead."""

    path: str
    line: int
    term: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: '{self.term}'; write: {self.instead}"


def words_of(name: str) -> list[str]:
    """'made_with' -> ['made', 'with'], 'FilmReader' -> ['film', 'reader']."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return [word for word in re.split(r"[\W_\d]+", parts.lower()) if word]


def in_name(name: str) -> Iterator[tuple[str, str]]:
    """The retired terms in a name, each with what to write instead."""
    for pattern, instead in (EVERYWHERE | IN_NAMES).items():
        yield from ((word, instead) for word in words_of(name) if re.fullmatch(pattern, word))
    for pattern, instead in NAMES.items():
        if re.search(rf"(?<![a-z]){pattern}(?![a-z])", name):
            yield name, instead


def in_text(text: str) -> Iterator[tuple[str, str]]:
    """The retired terms in a text for the user, each with what to write instead."""
    for pattern, instead in (EVERYWHERE | IN_TEXTS).items():
        for match in re.finditer(rf"(?<![\w-])({pattern})(?![\w-])", text, re.IGNORECASE):
            yield match.group(), instead
    for name in re.findall(r"\w*_\w+", text):
        yield from in_name(name)


def names_of(node: ast.AST) -> list[str]:
    """The names that a node of the syntax tree defines or uses."""
    match node:
        case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
            return [name]
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.keyword(arg=str(name)):
            return [name]
        case ast.alias(name=name, asname=other):
            return [name, *([other] if other else [])]
    return []


def docstrings(tree: ast.AST) -> set[int]:
    """The ids of the nodes that are docstrings, but for those that a command shows as its help."""
    shown = any(isinstance(node, ast.Name) and node.id == "__doc__" for node in ast.walk(tree))
    return {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and node.body
        and isinstance(node.body[0], ast.Expr) and not (shown and isinstance(node, ast.Module))
    }


def in_code(path: str, source: str) -> Iterator[Find]:
    """The retired terms in a Python file."""
    tree = ast.parse(source)
    skipped = docstrings(tree)
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for name in names_of(node):
            yield from (Find(path, line, f"{term} in {name}", to) for term, to in in_name(name))
        if (isinstance(node, ast.Constant) and isinstance(node.value, str)
                and id(node) not in skipped):
            text = node.value
            if re.fullmatch(r"[\w./-]+", text):
                found = [*in_name(text)]
            else:
                found = [] if path.startswith(TESTS) else [*in_text(text)]
            if not path.startswith(TESTS):
                found += [(key, to) for key, to in KEYS.items() if key == text]
            yield from (Find(path, line, f"{term} in {text[:60]!r}", to) for term, to in found)
        for field in node.body if isinstance(node, ast.ClassDef) and "Config" in node.name else []:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                yield from (Find(path, field.lineno, key, to) for key, to in KEYS.items()
                            if key == field.target.id)


def in_page(path: str, text: str) -> Iterator[Find]:
    """The retired terms in the headings and the code of a Markdown file."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced:
            yield from (Find(path, number, term, to) for name in re.findall(r"\w+", line)
                        for term, to in in_name(name) if "_" in name or "." in line)
        elif line.startswith("#"):
            yield from (Find(path, number, term, to) for term, to in in_text(line))
        for span in [] if fenced else re.findall(r"`([^`]+)`", line):
            yield from (Find(path, number, f"{term} in `{span}`", to) for name in
                        re.findall(r"\w+", span) for term, to in in_name(name))


def finds(root: Path = ROOT) -> list[Find]:
    """The retired terms in all files, but for the exceptions."""
    found: list[Find] = []
    for tree in CODE:
        for file in sorted((root / tree).rglob("*.py")):
            found += in_code(str(file.relative_to(root)), file.read_text())
    for page in PAGES:
        files = sorted((root / page).rglob("*.md")) if (root / page).is_dir() else [root / page]
        for file in files:
            found += in_page(str(file.relative_to(root)), file.read_text())
    return [f for f in found if not any(
        f.path.startswith(path) and f.term.startswith(word) for path, word in EXCEPTIONS)]


def test_retired_terms_stand_nowhere():
    found = finds()
    assert not found, "\n" + "\n".join(map(str, found))


@pytest.mark.parametrize(("source", "term"), [
    ("film = 1", "film"), ("def answer(): pass", "answer"), ("class DeafModel: pass", "deaf"),
    ("f(made_with=1)", "made"), ("x.heard", "heard"), ("x['ear']", "ear"),
    ("from x import twin_of", "twin"), ("raise ValueError(f'{x} is told')", "told"),
    ("class XConfig:\n  also: int = 0", "also"), ("d = {'followed': 1}", "followed"),
    ("x = 'config.start_from'", "start_from"), ("y = normalise(x)", "normalise"),
    ("raise ValueError('is no folder')", "is no folder"), ("color, colour = 1, 2", "colour"),
])
def test_a_retired_term_is_seen(source, term):
    [found] = in_code("vseg_jax/x.py", source)
    assert term in found.term


@pytest.mark.parametrize("source", [
    "'''A film is told.'''", "x = 1  # an answer", "early = near = appear = colors", "kept = []",
    "raise ValueError('the records were made by another version')", "summary = analysis(x)",
])
def test_ordinary_words_are_free(source):
    assert not list(in_code("vseg_jax/x.py", source))


def test_headings_and_code_of_a_page_are_checked():
    page = "# Films\nA film.\n`film`, `--config.evaluation.film=2`\n```\nmodel.heard = 1\n```\n"
    assert [f.line for f in in_page("docs/x.md", page)] == [1, 3, 3, 5]
