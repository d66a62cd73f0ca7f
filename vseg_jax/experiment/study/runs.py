"""Runs the cells of a study, each of them once.

A cell lies in `<workdir>/<row>/<seed>` and is a run like any other. It counts once it has its
`scores.json`, which is written last and atomically: a study can be resumed, and its table shows
completed runs only. Tables are named after the study, so that studies with cells in common can
share a workdir. Several processes can share it too; each takes cells that no other is running.

A row can be initialized from another row: its cell then waits for the cell of that row and the same
seed. While another process runs that cell, this process takes other cells, and at last waits. A row
that does not train only evaluates the model that it is initialized from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vseg_jax import config
from vseg_jax.atomic import write_text
from vseg_jax.experiment.study import table
from vseg_jax.experiment.study.endpoint import SCORES, differences, verdict
from vseg_jax.experiment.study.plot import plot, plot_endpoint
from vseg_jax.experiment.study.table import collect, cost_table, score_table
from vseg_jax.settings import RowConfig, StudyConfig

LOCK = "lock"  # file of a cell, locked while a process runs it
WAIT = 5.0     # seconds between two looks at a cell that another process runs
Scores = dict[str, Any]
# (config, overrides, workdir, whether to train) -> (settings as plain values, function that scores)
Prepare = Callable[[str, Mapping[str, str], Path, bool], tuple[Any, Callable[[], Scores]]]
Count = Callable[[str, Mapping[str, str]], Mapping[str, Any]]


def load(name_and_variant: str) -> tuple[str, StudyConfig]:
    """Returns the name of a study and the study; the name is the variant's, or else the file's.

    Raises:
      ValueError: there is no such file, it has no `get_study`, or there is no such variant.
    """
    get_study, variant, name = config.find(name_and_variant, "get_study", "study")
    return variant or name, get_study(variant) if variant else get_study()


def run(name: str, study: StudyConfig, workdir: str | Path, overrides: Mapping[str, str],
        prepare: Prepare) -> str:
    """Runs the missing cells, seed by seed, and writes the table after each.

    Args:
      name: name of the table.
      study: rows and seeds.
      workdir: folder of all cells.
      overrides: changes to the config of every cell, see `vseg_jax.config.load`.
      prepare: (config, overrides, workdir, whether to train) -> (the settings as plain values, a
        function that trains, or only evaluates, and returns the scores; empty where the run was
        interrupted).

    Returns:
      The table, in Markdown.

    Raises:
      ValueError: a cell's config cannot be used, a cell was run with other settings, or a row does
        not train and has no trained model.
    """
    workdir = Path(workdir)
    cells = _cells(study, workdir, overrides, prepare)
    while cells:
        left = []
        for cell in cells:
            with _claim(cell.folder) as ours:
                if _is_complete(cell.folder, cell.settings):
                    continue
                if not ours or not cell.can_start():
                    left.append(cell)
                    continue
                print(f"{name}: {cell.title}, seed {cell.seed}", flush=True)
                scores = cell.run()
                if not scores:
                    return report(name, study, workdir)
                write_text(cell.folder / SCORES,
                           json.dumps({"settings": cell.settings, "scores": scores}))
            report(name, study, workdir)
        blocked = [cell for cell in left if not cell.can_start()]
        if not blocked:
            if left:
                print(f"{name}: {len(left)} cells are running in other processes", flush=True)
            break
        if left == cells:   # what they start from is running in another process, which may end
            time.sleep(WAIT)
        cells = left
    return report(name, study, workdir)


@dataclasses.dataclass(frozen=True)
class _Cell:
    """One row with one seed.

    Attributes:
      title, seed: the row and the seed.
      folder: working directory of the run.
      settings: as plain values; what a complete cell must have been run with.
      run: returns the scores; empty where the run was interrupted.
      starts_from: the folder of the cell that this one is initialized from, or None.
    """

    title: str
    seed: int
    folder: Path
    settings: Any
    run: Callable[[], Scores]
    starts_from: Path | None = None

    def can_start(self) -> bool:
        """Returns whether the cell that this one is initialized from is complete."""
        return self.starts_from is None or (self.starts_from / SCORES).is_file()


def _cells(study: StudyConfig, workdir: Path, overrides: Mapping[str, str],
           prepare: Prepare) -> list[_Cell]:
    """Returns all cells, seed by seed; those that others are initialized from come first."""
    titles = sorted(study.rows, key=lambda title: bool(study.rows[title].init_from))
    cells: dict[tuple[str, int], _Cell] = {}
    for seed in study.seeds:
        for title in titles:
            row, folder = study.rows[title], workdir / title / str(seed)
            changes = {**_changes(row, overrides), "train.seed": str(seed),
                       "evaluation.overlay_clips": "0"}
            start = cells[row.init_from, seed] if row.init_from else None
            if start is not None:
                changes["init_from"] = str(start.folder)
            if not (row.trains or changes.get("init_from")):
                raise ValueError(f"the row '{title}' is not trained; name the trained model that "
                                 "it evaluates: --config.init_from=...")
            settings, function = prepare(row.config, changes, folder, row.trains)
            settings = json.loads(json.dumps(settings))
            if start is not None:   # what the run starts from matters, and not where it lies
                settings["init_from"] = start.settings
            cells[title, seed] = _Cell(title, seed, folder, settings, function,
                                       start and start.folder)
    return list(cells.values())


def report(name: str, study: StudyConfig, workdir: Path) -> str:
    """Writes `<name>.md`, `<name>.csv` (every run) and `<name>.png` of the complete cells.

    A study with an endpoint that has been tested also gets `<name>-endpoint.png`.

    Returns:
      The table, in Markdown.
    """
    cells = collect(study, workdir)
    text = score_table(study, cells)
    if study.endpoint is not None:
        words, found = verdict(study, workdir)
        text += "\n" + words
        plot_endpoint(study.endpoint, found, workdir / f"{name}-endpoint.png")
    if study.paired:
        text += differences(study, workdir)
    write_text(workdir / f"{name}.md", text)
    rows = [[title, seed, *values] for title, of_row in cells.items()
            for seed, values in of_row.items()]
    table.write_csv(workdir / f"{name}.csv", ["row", "seed", *study.columns], rows)
    plot(study, cells, workdir / f"{name}.png")
    return text


def cost(name: str, study: StudyConfig, workdir: str | Path, overrides: Mapping[str, str],
         count: Count) -> str:
    """Writes the cost of each row as `<name>-cost.md` and `.csv`, without any training.

    Args:
      name, study, workdir, overrides: see `run`.
      count: (config, overrides) -> what `vseg_jax.training.dry_run.count` returns.

    Returns:
      The table, in Markdown; operations are per sample.
    """
    costs, workdir = {}, Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    for title, row in study.rows.items():
        print(f"{name}: {title}", flush=True)
        counted = count(row.config, _changes(row, overrides))
        costs[title] = [counted[key] for key in table.COSTS]
    text = cost_table(costs)
    write_text(workdir / f"{name}-cost.md", text)
    table.write_csv(workdir / f"{name}-cost.csv", ["row", *table.COSTS],
                    [[title, *values] for title, values in costs.items()])
    return text


def _changes(row: RowConfig, overrides: Mapping[str, str]) -> dict[str, str]:
    return {**{k: str(v) for k, v in row.changes.items()}, **overrides}


@contextlib.contextmanager
def _claim(folder: Path) -> Iterator[bool]:
    """Yields whether this process has the cell, until the block ends; a killed process frees it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _is_complete(folder: Path, settings: Any) -> bool:
    path = folder / SCORES
    if not path.is_file():
        return False
    before = json.loads(path.read_text())["settings"]
    if before != settings:
        keys = sorted(k for k in before.keys() | settings.keys()
                      if before.get(k) != settings.get(k))
        raise ValueError(f"{folder} was run with other settings ({', '.join(keys)}); use another "
                         "workdir for the study, or delete that folder")
    return True
