"""The figures of a study: a panel per column, with lines over ticks or a dot per row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vseg_jax.experiment.study.endpoint import Comparison
from vseg_jax.experiment.study.table import Cells
from vseg_jax.settings import EndpointConfig, StudyConfig


def plot(study: StudyConfig, cells: Cells, path: Path) -> None:
    """Writes the figure of a study's complete cells; nothing where matplotlib is not installed.

    Args:
      study: the study; with `lines`, these are drawn instead of its rows.
      cells: see `vseg_jax.experiment.study.collect`.
      path: the image.
    """
    plt = _pyplot()
    if plt is None:
        return
    values = {name: 100 * np.array(list(of_row.values())) for name, of_row in cells.items()
              if of_row}   # {row: [runs, columns]}
    count = len(study.columns)
    height = 2.8 if study.lines else 1 + 0.25 * len(values)
    figure, axes = plt.subplots(1, count, sharey=not study.lines, squeeze=False,
                                layout="constrained", figsize=(1.5 + 1.5 * count, height))
    for column, (axis, heading) in enumerate(zip(axes[0], study.columns, strict=True)):
        shown = {name: runs[:, column] for name, runs in values.items()}
        (_draw_lines if study.lines else _draw_rows)(axis, study, shown)
        axis.set_title(heading, fontsize=9)
    if study.lines:
        figure.legend(*axes[0][0].get_legend_handles_labels(), fontsize=8, ncols=len(study.lines),
                      loc="outside lower center")
        axes[0][0].set_ylabel("percent")
    else:
        figure.supxlabel("percent: mean and standard deviation, and every run", fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_endpoint(endpoint: EndpointConfig, found: Mapping[str, Comparison], path: Path) -> None:
    """Writes the differences to each rival; nothing where none was tested or matplotlib is missing.

    Args:
      endpoint: what was compared.
      found: {rival: comparison}; empty where nothing was tested.
      path: the image.
    """
    plt = _pyplot()
    if plt is None or not found:
        return
    figure, axis = plt.subplots(layout="constrained", figsize=(6, 1 + 0.3 * len(found)))
    for place, c in zip(_places(found), found.values(), strict=True):
        axis.plot(100 * np.array(c.by_seed), [place] * len(c.by_seed), ".", color="0.6")
        axis.plot([100 * c.low, 100 * c.high], [place] * 2, color="C0", linewidth=2)
        axis.plot(100 * c.difference, place, "o", color="C0")
    axis.axvline(0, color="0.3", linewidth=0.8)
    axis.set_yticks(_places(found), found)
    axis.set_xlabel(f"{endpoint.row} minus the row, {endpoint.dataset}, percentage points: each "
                    "seed,\nmean and 95 % interval", fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _pyplot() -> Any:
    """Returns matplotlib.pyplot, or None: the tables have the same numbers."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt


def _places(rows: Mapping[str, object]) -> list[int]:
    return [-k for k in range(len(rows))]   # from top to bottom


def _draw_lines(axis: Any, study: StudyConfig, shown: Mapping[str, np.ndarray]) -> None:
    """Draws the means over the ticks, with the standard deviation above and below each."""
    ticks = list(dict.fromkeys(tick for line in study.lines.values() for tick in line))
    for number, (legend, line) in enumerate(study.lines.items()):
        complete = {tick: shown[row] for tick, row in line.items() if row in shown}
        axis.errorbar(
            [ticks.index(tick) + 0.1 * number for tick in complete],   # so that none is hidden
            [runs.mean() for runs in complete.values()], [_deviation(r) for r in complete.values()],
            capsize=3, marker="o", label=legend,
        )
    axis.set_xticks(range(len(ticks)), ticks)
    axis.tick_params(labelsize=8)


def _draw_rows(axis: Any, study: StudyConfig, shown: Mapping[str, np.ndarray]) -> None:
    """Draws the mean of each row with its standard deviation, and every run.

    The axis does not begin at 0, where differences of a few points could not be seen.
    """
    for place, (name, runs) in zip(_places(shown), shown.items(), strict=True):
        axis.plot(runs, [place] * len(runs), ".", color="0.6", markersize=4)
        axis.errorbar(runs.mean(), place, xerr=_deviation(runs), capsize=2, marker="o",
                      color="0.3" if name == study.baseline else "C0")
    axis.set_yticks(_places(shown), shown)
    axis.grid(axis="x", linewidth=0.4)


def _deviation(runs: np.ndarray) -> float:
    return runs.std(ddof=1) if len(runs) > 1 else 0.0
