"""The tables of a study: scores of its complete cells, and the cost of its rows."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from vseg_jax.atomic import write_text
from vseg_jax.experiment.study.endpoint import SCORES
from vseg_jax.settings import StudyConfig

# {key of what `vseg_jax.training.dry_run.count` returns: (heading, unit)}
COSTS = {
    "parameters": ("parameters, M", 1e6),
    "training_parameters": ("of training only, M", 1e6),
    "training_state": ("queues and copies, M", 1e6),
    "predict_flops": ("inference, GFLOP", 1e9),
    "step_flops": ("training, GFLOP", 1e9),
}
Cells = Mapping[str, Mapping[int, Sequence[float]]]  # {row: {seed: a value per column}}


def collect(study: StudyConfig, workdir: Path) -> dict[str, dict[int, list[float]]]:
    """Returns {row: {seed: its value in each column}} of the complete cells.

    Raises:
      ValueError: the scores of a cell lack a column.
    """
    cells: dict[str, dict[int, list[float]]] = {name: {} for name in study.rows}
    for name in study.rows:
        for seed in study.seeds:
            path = workdir / name / str(seed) / SCORES
            if path.is_file():
                scores = json.loads(path.read_text())["scores"]
                cells[name][seed] = [_look_up(scores, p, path) for p in study.columns.values()]
    return cells


def score_table(study: StudyConfig, cells: Cells) -> str:
    """Returns a Markdown table of means and standard deviations over the seeds, in percent.

    The value of a row with two seeds or more in common with the baseline has the p of a paired
    two-sided t-test on these, except in a study with an endpoint, which is its only test.
    """
    text = _head(["runs", *study.columns])
    tested = study.baseline and study.endpoint is None
    base = cells.get(study.baseline, {}) if tested else {}
    for name, of_row in cells.items():
        texts = [_entry(of_row, base if name != study.baseline else {}, column)
                 for column in range(len(study.columns))]
        text += f"| {name} | {len(of_row)} | {' | '.join(texts)} |\n"
    text += "\nPercent: mean ± standard deviation over the runs."
    if tested:
        text += (f" p: paired two-sided t-test against {study.baseline} on the seeds that both "
                 "have, each comparison by itself, not corrected for their number.")
    return text + "\n"


def _entry(of_row: Mapping[int, Sequence[float]], base: Mapping[int, Sequence[float]],
           column: int) -> str:
    """Returns the text of one value of the table; empty where it has no number."""
    values = 100 * np.array([v[column] for v in of_row.values()])
    if not values.size or np.isnan(values).any():
        return ""
    text = f"{values.mean():.1f}"
    if values.size > 1:
        text += f" ± {values.std(ddof=1):.1f}"
    shared = [seed for seed in of_row if seed in base]
    if len(shared) > 1:
        pair = [np.array([c[seed][column] for seed in shared]) for c in (of_row, base)]
        if np.ptp(pair[0] - pair[1]) > 1e-9:   # else the differences are equal up to rounding
            text += f" (p {stats.ttest_rel(pair[0], pair[1]).pvalue:.2g})"
    return text


def cost_table(costs: Mapping[str, Sequence[int | float | None]]) -> str:
    """Returns a Markdown table of costs.

    Args:
      costs: {row: a value for each of `COSTS`, None where it is unknown}.
    """
    text = _head([heading for heading, _ in COSTS.values()])
    for title, values in costs.items():
        texts = ("" if value is None else f"{value / unit:,.3f}"
                 for value, (_, unit) in zip(values, COSTS.values(), strict=True))
        text += f"| {title} | {' | '.join(texts)} |\n"
    return text


def write_csv(path: Path, head: list[str], rows: list[list[Any]]) -> None:
    """Writes a table as CSV, atomically."""
    lines = io.StringIO()
    csv.writer(lines).writerows([head, *rows])
    write_text(path, lines.getvalue())


def _head(headings: list[str]) -> str:
    return f"| | {' | '.join(headings)} |\n{'|---' * (len(headings) + 1)}|\n"


def _look_up(scores: Any, path: str, file: Path) -> float:
    """Returns the value at a path; NaN where its dataset was not evaluated or nothing counts.

    Raises:
      ValueError: the scores of the dataset lack the path, or it is not that of a number.
    """
    dataset, *_ = path.split("/")
    if dataset not in scores:
        return math.nan
    for key in path.split("/"):
        if scores is None:   # nothing of this kind was measured
            return math.nan
        if not isinstance(scores, Mapping) or key not in scores:
            known = ", ".join(scores) if isinstance(scores, Mapping) else scores
            raise ValueError(f"{file} has no '{path}': at '{key}' there is {known}")
        scores = scores[key]
    if scores is None:   # there was nothing to count
        return math.nan
    if isinstance(scores, Mapping):
        raise ValueError(f"{file}: '{path}' is not a number; below it there are "
                         f"{', '.join(scores)}")
    return float(scores)
