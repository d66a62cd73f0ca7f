"""Many runs, one table: rows of settings by seeds, each cell trained and scored once.

A study file has `get_study(variant) -> StudyConfig` (`vseg_jax.settings`). A cell lies in
`<workdir>/<row>/<seed>`, is a run like any other, and counts once its `scores.json` stands there,
which is written last and whole: a study that was stopped goes on where it was, and no table shows a
run that has not ended. Its table is named after the study, so that studies that have cells in
common can share a workdir; so can processes, each of which takes the cells that no other is at.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from vseg_jax import config
from vseg_jax.atomic import write_text
from vseg_jax.settings import RowConfig, StudyConfig

SCORES, LOCK = "scores.json", "lock"  # of a cell
# {key of what `count` returns: (heading, unit)}
COSTS = {
    "parameters": ("parameters, M", 1e6),
    "training_parameters": ("of training alone, M", 1e6),
    "training_state": ("queues and copies, M", 1e6),
    "predict_flops": ("answer, GFLOP", 1e9),
    "step_flops": ("training, GFLOP", 1e9),
}


def load(file_and_variant: str) -> tuple[str, StudyConfig]:
    """The study of a file, and its name: the variant's, or the file's where it has none.

    Raises:
      ValueError: no such file, no `get_study` in it, no such variant.
    """
    get_study, variant, name = config.find(file_and_variant, "get_study", "study")
    return variant or name, get_study(variant) if variant else get_study()


def run(name: str, study: StudyConfig, workdir: str | Path, overrides: Mapping[str, str],
        train: Any) -> str:
    """Runs the cells that are missing, seed by seed, and writes the table after each.

    Args:
      name: of the table.
      study: the cells.
      workdir: of all of them.
      overrides: changes of every cell, as `vseg_jax.config.load` takes them.
      train: (config file, overrides, workdir) -> (the settings as plain values, a function that
        trains and returns the scores, or nothing where it was stopped).

    Returns:
      The table, Markdown.

    Raises:
      ValueError: a cell's config cannot be used, or a cell was run with other settings.
    """
    workdir, elsewhere = Path(workdir), 0
    for seed in study.seeds:
        for title, row in study.rows.items():
            changes = {**_changes(row, overrides), "train.seed": str(seed), "evaluation.overlay_clips": "0"}
            folder = workdir / title / str(seed)
            settings, start = train(row.config, changes, folder)
            settings = json.loads(json.dumps(settings))
            with _claimed(folder) as ours:
                if _done(folder, settings):
                    continue
                if not ours:
                    elsewhere += 1
                    continue
                print(f"{name}: {title}, seed {seed}", flush=True)
                scores = start()
                if not scores:
                    return report(name, study, workdir)
                write_text(folder / SCORES, json.dumps({"settings": settings, "scores": scores}))
            report(name, study, workdir)
    if elsewhere:
        print(f"{name}: {elsewhere} cells are left to other processes", flush=True)
    return report(name, study, workdir)


def report(name: str, study: StudyConfig, workdir: Path) -> str:
    """Writes `<name>.md`, `.csv` (every run) and `.png` of the cells that are there."""
    cells = collect(study, workdir)
    text = markdown(study, cells)
    write_text(workdir / f"{name}.md", text)
    rows = [[title, seed, *values] for title, of_row in cells.items()
            for seed, values in of_row.items()]
    write_text(workdir / f"{name}.csv", _csv(["row", "seed", *study.columns], rows))
    _plot(study, cells, workdir / f"{name}.png")
    return text


def cost(name: str, study: StudyConfig, workdir: str | Path, overrides: Mapping[str, str],
         count: Any) -> str:
    """Writes what each row costs, `<name>-cost.md` and `.csv`; trains nothing.

    Args:
      name, study, workdir, overrides: see `run`.
      count: (config file, overrides) -> what `vseg_jax.training.dry_run.count` returns.

    Returns:
      The table, Markdown; operations are of one sample.
    """
    rows = []
    Path(workdir).mkdir(parents=True, exist_ok=True)
    for title, row in study.rows.items():
        print(f"{name}: {title}", flush=True)
        costs = count(row.config, _changes(row, overrides))
        rows.append([title, *(costs[key] for key in COSTS)])
    text = _head([heading for heading, _ in COSTS.values()])
    for title, *values in rows:
        texts = ("" if value is None else f"{value / unit:,.3f}"
                 for value, (_, unit) in zip(values, COSTS.values(), strict=True))
        text += f"| {title} | {' | '.join(texts)} |\n"
    write_text(Path(workdir) / f"{name}-cost.md", text)
    write_text(Path(workdir) / f"{name}-cost.csv", _csv(["row", *COSTS], rows))
    return text


def collect(study: StudyConfig, workdir: Path) -> dict[str, dict[int, list[float]]]:
    """{row: {seed: its value in each column}} of the cells that have ended."""
    cells: dict[str, dict[int, list[float]]] = {name: {} for name in study.rows}
    for name in study.rows:
        for seed in study.seeds:
            path = workdir / name / str(seed) / SCORES
            if path.is_file():
                scores = json.loads(path.read_text())["scores"]
                cells[name][seed] = [_look_up(scores, p, path) for p in study.columns.values()]
    return cells


def markdown(study: StudyConfig, cells: Mapping[str, Mapping[int, list[float]]]) -> str:
    """Mean and standard deviation over the seeds, in percent; a paired two-sided t-test of each
    row against the baseline, p below its value, where both have the same two seeds or more."""
    text = _head(["runs", *study.columns])
    base = cells.get(study.baseline, {})
    for name, of_row in cells.items():
        texts = []
        for column in range(len(study.columns)):
            values = 100 * np.array([v[column] for v in of_row.values()])
            if not values.size or np.isnan(values).any():
                texts.append("")
                continue
            texts.append(f"{values.mean():.1f}")
            if values.size > 1:
                texts[-1] += f" ± {values.std(ddof=1):.1f}"
            shared = [s for s in of_row if s in base] if name != study.baseline else []
            if len(shared) > 1:
                pair = [np.array([c[s][column] for s in shared]) for c in (of_row, base)]
                if np.ptp(pair[0] - pair[1]) > 1e-9:   # else equal but for rounding
                    texts[-1] += f" (p {stats.ttest_rel(*pair).pvalue:.2g})"
        text += f"| {name} | {len(of_row)} | {' | '.join(texts)} |\n"
    text += "\nPercent: mean ± standard deviation over the runs."
    if study.baseline:
        text += (f" p: paired two-sided t-test against {study.baseline} on the seeds that both "
                 "have, each by itself, not corrected for their number.")
    return text + "\n"


def _changes(row: RowConfig, overrides: Mapping[str, str]) -> dict[str, str]:
    return {**{k: str(v) for k, v in row.changes.items()}, **overrides}


def _head(headings: list[str]) -> str:
    return f"| | {' | '.join(headings)} |\n{'|---' * (len(headings) + 1)}|\n"


def _csv(head: list[str], rows: list[list[Any]]) -> str:
    lines = io.StringIO()
    csv.writer(lines).writerows([head, *rows])
    return lines.getvalue()


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Whether the cell is ours for as long as we are at it; a process that dies lets go of it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _done(folder: Path, settings: Any) -> bool:
    path = folder / SCORES
    if not path.is_file():
        return False
    before = json.loads(path.read_text())["settings"]
    if before != settings:
        keys = sorted(k for k in before.keys() | settings.keys()
                      if before.get(k) != settings.get(k))
        raise ValueError(f"{folder} was run with other settings ({', '.join(keys)}); give the "
                         "study another workdir, or delete that folder")
    return True


def _look_up(scores: Any, path: str, file: Path) -> float:
    """The value at a path; no number where its dataset was not scored, or nothing counts."""
    dataset, *_ = path.split("/")
    if dataset not in scores:
        return math.nan
    for key in path.split("/"):
        if not isinstance(scores, Mapping) or key not in scores:
            known = ", ".join(scores) if isinstance(scores, Mapping) else scores
            raise ValueError(f"{file} has no '{path}': at '{key}' there is {known}")
        scores = scores[key]
    if scores is None:   # nothing to count there
        return math.nan
    if isinstance(scores, Mapping):
        raise ValueError(f"{file}: '{path}' is no number; below it there are {', '.join(scores)}")
    return float(scores)


def _plot(study: StudyConfig, cells: Mapping[str, Mapping[int, list[float]]], path: Path) -> None:
    """A panel a column: the study's lines, or a bar a row."""
    try:
        import matplotlib
    except ImportError:   # an extra; the table says the same
        return
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    values = {name: 100 * np.array(list(of_row.values())) for name, of_row in cells.items()
              if of_row}   # {row: [runs, columns]}
    count = len(study.columns)
    height = 2.8 if study.lines else 1 + 0.35 * len(values)
    figure, axes = plt.subplots(1, count, sharey=not study.lines, squeeze=False,
                                layout="constrained", figsize=(1.5 + 2.2 * count, height))
    for column, (axis, heading) in enumerate(zip(axes[0], study.columns, strict=True)):
        shown = {name: runs[:, column] for name, runs in values.items()}
        (_draw_lines if study.lines else _draw_bars)(axis, study, shown)
        axis.set_title(heading, fontsize=9)
    if study.lines:
        figure.legend(*axes[0][0].get_legend_handles_labels(), fontsize=8, ncols=len(study.lines),
                      loc="outside lower center")
        axes[0][0].set_ylabel("percent")
    else:
        figure.supxlabel("percent", fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_lines(axis: Any, study: StudyConfig, shown: Mapping[str, np.ndarray]) -> None:
    """Means over the ticks, the standard deviation above and below each."""
    ticks = list(dict.fromkeys(tick for line in study.lines.values() for tick in line))
    for number, (legend, line) in enumerate(study.lines.items()):
        there = {tick: shown[row] for tick, row in line.items() if row in shown}
        axis.errorbar(
            [ticks.index(tick) + 0.1 * number for tick in there],   # not one upon the other
            [runs.mean() for runs in there.values()],
            [runs.std(ddof=1) if len(runs) > 1 else 0 for runs in there.values()],
            capsize=3, marker="o", label=legend,
        )
    axis.set_xticks(range(len(ticks)), ticks)


def _draw_bars(axis: Any, study: StudyConfig, shown: Mapping[str, np.ndarray]) -> None:
    """Means, and every run as a dot."""
    places = [-k for k in range(len(shown))]   # from the top
    for place, (name, runs) in zip(places, shown.items(), strict=True):
        axis.barh(place, runs.mean(), color="0.7" if name == study.baseline else "C0")
        axis.plot(runs, [place] * len(runs), "k.", markersize=4)
    axis.set_yticks(places, shown)
