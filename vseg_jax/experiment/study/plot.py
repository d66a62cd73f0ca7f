"""The figure of a study: a panel per column, with lines over ticks or a bar per row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vseg_jax.experiment.study.table import Cells
from vseg_jax.settings import StudyConfig


def plot(study: StudyConfig, cells: Cells, path: Path) -> None:
    """Writes the figure of a study's complete cells; nothing where matplotlib is not installed.

    Args:
      study: the study; its `lines` replace the bars.
      cells: see `vseg_jax.experiment.study.collect`.
      path: the image.
    """
    try:
        import matplotlib
    except ImportError:   # an optional dependency; the table has the same numbers
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
    """Draws the means over the ticks, with the standard deviation above and below each."""
    ticks = list(dict.fromkeys(tick for line in study.lines.values() for tick in line))
    for number, (legend, line) in enumerate(study.lines.items()):
        complete = {tick: shown[row] for tick, row in line.items() if row in shown}
        axis.errorbar(
            [ticks.index(tick) + 0.1 * number for tick in complete],   # so that none is hidden
            [runs.mean() for runs in complete.values()],
            [runs.std(ddof=1) if len(runs) > 1 else 0 for runs in complete.values()],
            capsize=3, marker="o", label=legend,
        )
    axis.set_xticks(range(len(ticks)), ticks)


def _draw_bars(axis: Any, study: StudyConfig, shown: Mapping[str, np.ndarray]) -> None:
    """Draws the means as bars and every run as a dot."""
    places = [-k for k in range(len(shown))]   # from top to bottom
    for place, (name, runs) in zip(places, shown.items(), strict=True):
        axis.barh(place, runs.mean(), color="0.7" if name == study.baseline else "C0")
        axis.plot(runs, [place] * len(runs), "k.", markersize=4)
    axis.set_yticks(places, shown)
