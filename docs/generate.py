"""Writes the pages of the site that come from the code: `python docs/generate.py`.

- reference/cli.md: the `--help` of every command;
- reference/configuration.md: every key of every config dataclass, with its default and its comment;
- project/{benchmarks,changelog,contributing}.md: files that stand elsewhere in the repository;
- models/zoo.md and the table in models/index.md: the shipped models. Only these are committed.
"""

from __future__ import annotations

import ast
import dataclasses
import io
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import model_cards

from vseg_jax.cli import TOOLS
from vseg_jax.commands import COMMANDS

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
GITHUB = "https://github.com/vseg-jax/vseg_jax/blob/main/"

COPIES = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "benchmarks/README.md": "project/benchmarks.md",
}

# (heading, key below `--config`, file, class)
CONFIGS = (
    ("The config file", "", "vseg_jax/settings.py", "Settings"),
    ("Datasets", "data", "input_pipeline/settings.py", "DatasetConfig"),
    ("Clips", "clip", "input_pipeline/settings.py", "ClipConfig"),
    ("Clips of mask propagation", "propagation", "input_pipeline/settings.py",
     "PropagationConfig"),
    ("Clips of instance segmentation", "instances", "input_pipeline/settings.py",
     "InstanceConfig"),
    ("Text", "text", "input_pipeline/settings.py", "TextConfig"),
    ("Training", "train", "vseg_jax/training/settings.py", "TrainConfig"),
    ("Evaluation", "evaluation", "vseg_jax/settings.py", "EvaluationConfig"),
    ("qvim", "model", "vseg_jax/models/qvim/config.py", "QvimConfig"),
    ("qvim: compared methods", "model.compared", "vseg_jax/models/qvim/config.py",
     "ComparedConfig"),
    ("cvls", "model", "vseg_jax/models/cvls/config.py", "CvlsConfig"),
    ("mmvt", "model", "vseg_jax/models/mmvt/config.py", "MmvtConfig"),
    ("rcf", "model", "vseg_jax/models/rcf/config.py", "RcfConfig"),
    ("swiftnet", "model", "vseg_jax/models/swiftnet/config.py", "SwiftnetConfig"),
    ("BERT", "model.bert", "vseg_jax/text/bert.py", "BertConfig"),
    ("A study", "", "vseg_jax/settings.py", "StudyConfig"),
    ("A row of a study", "", "vseg_jax/settings.py", "RowConfig"),
)


@dataclasses.dataclass
class Field:
    """One key of a config: its group's heading ("" for the same as above) and its description."""

    name: str
    type: str
    default: str
    text: str = ""
    group: str = ""


def fields(path: Path, name: str) -> list[Field]:
    """Returns the fields of a dataclass with their comments, or its docstring's `Attributes`."""
    source = path.read_text()
    node = next(n for n in ast.walk(ast.parse(source))
                if isinstance(n, ast.ClassDef) and n.name == name)
    comments = {
        t.start[0]: (t.string.startswith("#  "), t.start[1], t.string.lstrip("# ").rstrip())
        for t in tokenize.generate_tokens(io.StringIO(source).readline)
        if t.type == tokenize.COMMENT
    }
    lines = source.splitlines()
    documented = attributes(ast.get_docstring(node) or "")
    found: list[Field] = []
    end = node.body[0].lineno
    for item in node.body:
        if not isinstance(item, ast.AnnAssign):
            continue
        field = Field(item.target.id, ast.unparse(item.annotation), default(item.value))
        above: list[str] = []
        for number in range(end + 1, item.lineno):
            if number not in comments:
                above = []
                continue
            indented, column, text = comments[number]
            attached = bool(lines[number - 2].strip())
            continues = indented or column > 4 or text[:1].islower()  # the comment above
            if found and not above and attached and continues:
                found[-1].text = f"{found[-1].text} {text}".strip()
            else:
                above.append(text)
        trailing = " ".join(comments[n][-1] for n in range(item.lineno, item.end_lineno + 1)
                            if n in comments)
        heading = " ".join(above)
        if trailing or field.name in documented or re.search(r"\((Section|Eq|Table)", heading):
            field.text, field.group = trailing or documented.get(field.name, ""), heading
        else:
            field.text = heading
        found.append(field)
        end = item.end_lineno
    while found and comments.get(end + 1, (False,))[0]:  # the rest of the last field's comment
        end += 1
        found[-1].text += f" {comments[end][-1]}"
    return found


def default(value: ast.expr | None) -> str:
    """Returns the default as text; "required" where there is none."""
    if value is None:
        return "required"
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "dataclasses.field":
        factory = next((k.value for k in value.keywords if k.arg == "default_factory"), None)
        return f"`{ast.unparse(factory)}()`" if factory else ""
    return f"`{ast.unparse(value)}`"


def attributes(docstring: str) -> dict[str, str]:
    """Returns {name: description} of a docstring's `Attributes` section."""
    found: dict[str, str] = {}
    section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)+)", docstring, re.M)
    for line in section.group(1).splitlines() if section else ():
        if new := re.match(r" {2,4}(\w+)(?: \(.*?\))?: (.*)", line):
            name = new.group(1)
            found[name] = new.group(2)
        elif line.strip() and found:
            found[name] += f" {line.strip()}"
    return found


def configuration() -> str:
    """Returns the page of all config keys."""
    parts = [
        "# Configuration\n",
        "A config file returns a `ConfigDict` whose sections are the dataclasses below. Every key "
        "can be set on the command line, for example `--config.train.learning_rate=3e-4`; an "
        "unknown key is an error that names the nearest one. The descriptions are the comments of "
        "the source files; \"inferred\" marks values that the paper does not state.\n",
    ]
    for heading, key, path, name in CONFIGS:
        below = f", keys `--config.{key}.*`" if key else ""
        parts.append(f"## {heading}\n\n`{name}` in [`{path}`]({GITHUB}{path}){below}.\n")
        header = "| key | type | default | description |\n|---|---|---|---|"
        rows = []
        for field in fields(ROOT / path, name):
            if field.group:
                if rows:
                    parts += [header, *rows, ""]
                rows = []
                parts.append(f"{field.group}\n")
            cells = [f"`{field.name}`", f"`{field.type}`", field.default, field.text]
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts += [header, *rows, ""]
    return "\n".join(parts)


def help_of(*arguments: str) -> str:
    """Returns what `vseg ARGUMENTS --help` prints.

    Raises:
      RuntimeError: the command fails.
    """
    program = " ".join(["vseg", *arguments])
    code = f"import sys; from vseg_jax.cli import main; sys.argv[0] = {program!r}; sys.exit(main())"
    environment = {**os.environ, "COLUMNS": "96", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT),
                   "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", code, *arguments, "--help"], text=True,
                          capture_output=True, env=environment, cwd=ROOT, check=False)
    if done.returncode or not done.stdout.strip():
        raise RuntimeError(f"{program} --help failed:\n{done.stderr}")
    return done.stdout.replace(f"{ROOT}/", "").rstrip()


def cli() -> str:
    """Returns the page of the command line, one section for each command."""
    top = help_of()
    parts = [
        "# Command line\n",
        "The package installs one command, `vseg`. This page shows its help, printed when the "
        "site was built.\n",
        f"```text\n{top}\n```\n",
    ]
    for name in (*COMMANDS, *TOOLS):
        text = help_of(*name.split())
        parts.append(f"## vseg {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def copy(source: str, target: str) -> str:
    """Returns a page of the repository with its links turned into links of the site."""
    folder = (ROOT / source).parent

    def link(match: re.Match) -> str:
        path, anchor = match.group(1), match.group(2) or ""
        if "://" in path:
            return match.group(0)
        absolute = (folder / path).resolve()
        if absolute.is_relative_to(DOCS):
            new = os.path.relpath(absolute, (DOCS / target).parent)
        elif str(absolute.relative_to(ROOT)) in COPIES:
            page = DOCS / COPIES[str(absolute.relative_to(ROOT))]
            new = os.path.relpath(page, (DOCS / target).parent)
        else:
            new = GITHUB + str(absolute.relative_to(ROOT))
        return f"]({new}{anchor})"

    return re.sub(r"\]\(([^)#\s]+)(#[^)\s]*)?\)", link, (ROOT / source).read_text())


def main() -> None:
    """Writes all generated pages."""
    pages = {
        "reference/configuration.md": configuration(),
        "reference/cli.md": cli(),
        **{target: copy(source, target) for source, target in COPIES.items()},
        **model_cards.pages(),
    }
    for name, text in pages.items():
        (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / name).write_text(text.rstrip() + "\n")


if __name__ == "__main__":
    main()
