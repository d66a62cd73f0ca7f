"""What all evaluations share: work split over processes, times, saved results, printed tables.

Every process scores a share of the videos; `gather` then gives all processes the rows of all, so
that each computes the same scores. Results are saved atomically, by a single process only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from vseg_jax.atomic import atomic_folder

TABLE = "scores.json"  # of a saved evaluation


@dataclasses.dataclass
class Run:
    """An evaluation in progress.

    Attributes:
      bar: to advance.
      folder: where predictions are saved; None where they are not.
      table: name of the file in `folder` that `write` writes.
    """

    bar: tqdm
    folder: Path | None
    table: str = TABLE

    def write(self, content: Mapping[str, Any]) -> None:
        """Writes the table of a saved evaluation as JSON; nothing where nothing is saved."""
        if self.folder:
            (self.folder / self.table).write_text(json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def start(
    name: str, total: int, unit: str, *, save: str | Path | None, progress: bool,
    table: str = TABLE,
) -> Iterator[Run]:
    """Opens an evaluation; its folder appears, complete, when the block ends without an error.

    Args:
      name: of the dataset, for the progress bar.
      total: how many units of work there are.
      unit: of the progress bar.
      save: folder for the predictions; an earlier evaluation there is replaced.
      progress: whether to show a progress bar, on the first process.
      table: see `Run`; a folder that holds a file of this name is an earlier evaluation.

    Raises:
      ValueError: `save` is another folder, or several processes would share it.
    """
    if save and jax.process_count() > 1:
        raise ValueError("predictions are saved by one process only; evaluate on a single machine "
                         "to save them")
    keep = atomic_folder(save, replaces=table) if save else contextlib.nullcontext()
    with progress_bar(f"evaluate {name}", total, unit, progress) as bar, keep as folder:
        yield Run(bar, folder, table)


def progress_bar(description: str, total: int, unit: str, show: bool) -> tqdm:
    """Returns a progress bar, shown by the first process only."""
    return tqdm(total=total, unit=f" {unit}", desc=description,
                disable=not (show and jax.process_index() == 0))


def shard(count: int) -> range:
    """Returns the numbers, of `count` videos, that this process scores."""
    return range(jax.process_index(), count, jax.process_count())


def gather(value: Any) -> list[Any]:
    """Returns every process's value, in the order of the processes; all processes must call this.

    Args:
      value: anything that JSON can hold. With several processes it comes back as from JSON (tuples
        as lists, keys as strings), with one process unchanged.
    """
    if jax.process_count() == 1:
        return [value]
    mine = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(mine)))
    padded = np.pad(mine, (0, int(lengths.max()) - len(mine)))
    together = multihost_utils.process_allgather(padded)
    return [json.loads(text[:length].tobytes())
            for text, length in zip(together, lengths, strict=True)]


@dataclasses.dataclass
class Clock:
    """Seconds that a segmenter takes; reading, decoding and scoring are not timed.

    Attributes:
      starts: per video, the start and the second frame together: the cost of an asynchronous start
        shows only when the second frame is predicted. It includes adaptation to the first frame,
        and compilation where the frames' size is new.
      frames: per frame after these.
    """

    starts: list[float] = dataclasses.field(default_factory=list)
    frames: list[float] = dataclasses.field(default_factory=list)

    def gather(self) -> Clock:
        """Returns the times of all processes; all processes must call this."""
        parts = gather(dataclasses.asdict(self))
        return Clock(*([x for part in parts for x in part[name]] for name in ("starts", "frames")))

    def result(self) -> dict[str, float | None]:
        """Returns `frames_per_second`, and the medians `seconds_per_frame` and `seconds_to_start`;
        None where no such time was taken."""
        return {
            "frames_per_second": len(self.frames) / sum(self.frames) if self.frames else None,
            "seconds_per_frame": float(np.median(self.frames)) if self.frames else None,
            "seconds_to_start": float(np.median(self.starts)) if self.starts else None,
        }


def print_table(headings: Sequence[str], rows: Mapping[str, Sequence[float | None]]) -> None:
    """Prints a row of numbers for each dataset, "-" for None."""
    name_width = max(map(len, rows), default=0)
    widths = [max(9, len(heading)) for heading in headings]
    print(" " * name_width, *(f"{h:>{w}}" for h, w in zip(headings, widths, strict=True)))
    for name, values in rows.items():
        texts = ("-" if value is None else f"{value:.1f}" for value in values)
        print(f"{name:{name_width}}", *(f"{t:>{w}}" for t, w in zip(texts, widths, strict=True)))
