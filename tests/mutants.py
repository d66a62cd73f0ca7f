"""A mutation run: small changes of the models' equations, each of which the tests should notice.

`make mutants` calls it (CONTRIBUTING.md). The mutations, their session file and the test process
are those of Cosmic Ray. What it lacks is here: a random sample, spread over the packages; the
omission of changes that cannot alter a result; and only the tests of the changed package.

Usage: python tests/mutants.py [seed] [mutants per package]
"""

import ast
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import use_db

PACKAGES = ("losses", "models/cvls", "models/mmvt", "models/qvim", "models/rcf", "models/swiftnet")
DATA = ("__init__.py", "config.py")  # names and default values
# Replacements that end in an exception on arrays (shifts, `&` for `+`), or that repeat another one.
TRIVIAL = re.compile(
    r"_(FloorDiv|Mod|Pow|RShift|LShift|BitXor)$|(Add|Sub|Mul|Div|FloorDiv|Mod|Pow)_Bit(And|Or)$"
    r"|Bit(And|Or)_(Add|Sub|Mul|Div)$|USub_(Invert|Not)$|Delete_USub$|(?<!IsNot)_Is$|(?<!Is)_IsNot$"
)
TIMEOUT = 3600  # seconds; a mutant that needs more counts as killed


def silent_spans(path: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Returns the spans of a module in which no change alters a result.

    They are type annotations and the texts of errors.
    """
    nodes = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            nodes.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            nodes.append(node.annotation)
        elif isinstance(node, ast.Raise):
            nodes.append(node)
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes if n]


def sample(items, seed: int, count: int) -> list:
    """Draws at most `count` mutants of each package, and one of each place in the code."""
    draw, spans, places = random.Random(seed), {}, {}
    for item in sorted(items, key=lambda i: repr(i.mutations[0])):
        change = item.mutations[0]
        path = Path(change.module_path)
        if path not in spans:
            spans[path] = silent_spans(path)
        silent = any(start <= change.start_pos < end for start, end in spans[path])
        row, column = change.start_pos
        before = path.read_text().splitlines()[row - 1][:column].rstrip()
        unpacks = "BinaryOperator" in change.operator_name and (not before or before[-1] in "({[,")
        if silent or unpacks or TRIVIAL.search(change.operator_name):
            continue
        places.setdefault(path.parent, {}).setdefault((path, change.start_pos), []).append(item)
    chosen = []
    for package in places.values():
        drawn = draw.sample(sorted(package), min(count, len(package)))
        chosen += [draw.choice(package[place]) for place in drawn]
    return chosen


def tests(path: Path) -> str:
    """Returns the command that runs the tests of a module's package, its own tests first."""
    folder = Path("tests", *path.parent.parts[1:])
    name = path.stem
    files = sorted(folder.glob("test_*.py"), key=lambda f: (name not in f.stem,
                                                            name not in f.read_text(), f))
    stored = sorted(Path("tests/parity").glob("test_*_goldens.py"))
    files += [f for f in stored if path.parent.name in f.read_text()]
    return f"{sys.executable} -m pytest -x -m 'not parity and not slow' {' '.join(map(str, files))}"


def main(seed: int = 2, count: int = 11) -> int:
    """Runs the sample and prints the survivors; a second call resumes."""
    work = Path("runs/mutants").absolute()
    session, copy = f"{work}/{seed}.sqlite", work / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    for name in subprocess.check_output(["git", "ls-files"], text=True).splitlines():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, copy / name, follow_symlinks=False)
    os.chdir(copy)
    os.nice(19)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    # Most mutants leave most programs as they are.
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": f"{work}/compiled",
                   "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    modules = [p for name in PACKAGES for p in sorted(Path("vseg_jax", name).glob("*.py"))
               if p.name not in DATA]
    with use_db(session) as database:
        if not database.num_work_items:
            init(modules, database, {})
            chosen = sample(database.work_items, seed, count)
            database.clear()
            database.add_work_items(chosen)
        for item in database.pending_work_items:   # in random order
            change = item.mutations[0]
            result = mutate_and_test([change], tests(Path(change.module_path)), TIMEOUT)
            database.set_result(item.job_id, result)
            print(f"{change.module_path}:{change.start_pos[0]}", change.operator_name,
                  result.test_outcome.value, flush=True)
        results = [result for _, result in database.completed_work_items]
    alive = [result for result in results if not result.is_killed]
    print(*(result.diff for result in alive), sep="\n")
    print(f"{len(results) - len(alive)} of {len(results)} mutants were killed")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
