"""J and F of whole videos, gathered over the processes of an evaluation and printed as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vseg_jax.evaluation import adaptation
from vseg_jax.evaluation.runner import Clock, gather, print_table
from vseg_jax.input_pipeline.records import IndexEntry
from vseg_jax.metrics.davis import DavisMetric

SCORES = ("J&F",)   # by which a checkpoint can be chosen
HEADINGS = ("J&F", "J", "J recall", "J decay", "F", "F recall", "F decay", "frames/s")


def gather_scores(
    metric: DavisMetric, clock: Clock, index: Sequence[IndexEntry]
) -> dict[str, Any]:
    """Returns the scores and times of all processes.

    Args:
      metric, clock: this process's videos and times.
      index: all videos that were scored by any process; the scores keep their order.
    """
    rows = {name: video for part in gather(metric.rows) for name, video in part.items()}
    together = DavisMetric(metric.protocol, skip_absent=metric.skip_absent)
    together.add_rows({entry.video_id: rows[entry.video_id] for entry in index})
    return {**together.result(), **clock.gather().result()}


def report(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints a table of {dataset: scores of an evaluation}, in percent; and of an adaptation."""
    print_table(HEADINGS, {
        name: [100 * result["J&F"],
               *(100 * result[letter][key]
                 for letter in "JF" for key in ("mean", "recall", "decay")),
               result["frames_per_second"]]
        for name, result in results.items()
    })
    for name, result in results.items():
        if adapted := result.get("adaptation"):
            print(f"{name}: {adaptation.text(adapted)}")
