"""Lists of samples, as public code of referring video segmentation has them.

Rows "video/frame,height,width,object,expression", as in the lists of ACGA, CSTM, LBDT and MMVT. The
name of a frame is its number, counted from 1; objects are counted from 0. Like the public code, the
expression ends at its first comma, and further columns are not read.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vseg_jax.input_pipeline.index import IndexEntry
from vseg_jax.text_files import read_text


class Row(NamedTuple):
    """A row of a list.

    Attributes:
      where: the file and the line, for messages.
      video: the name of its folder.
      frame: counted from 0.
      object_id: as in masks, from 1.
      text: the expression up to its first comma, with single spaces.
    """

    where: str
    video: str
    frame: int
    object_id: int
    text: str


def read_rows(path: str | Path) -> list[Row]:
    """Returns the rows of a list.

    Raises:
      ValueError: the file or one of its rows cannot be read.
    """
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise ValueError(f"the sample list {path} cannot be read ({error.strerror})") from error
    return [_row(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _row(line: str, where: str) -> Row:
    columns = line.split(",")
    place = PurePosixPath(columns[0])
    try:
        video, frame, number = place.parts[-2], int(place.stem), int(columns[3])
        return Row(where, video, frame - 1, number + 1, " ".join(columns[4].split()))
    except (IndexError, ValueError) as error:
        raise ValueError(f"{where}: expected video/frame,height,width,object,expression with "
                         f"numbers as frame and object, got {line!r}") from error


def choose(
    path: str | Path, index: Sequence[IndexEntry], name: str
) -> set[tuple[int, int, int]]:
    """Returns (record, expression, frame) of the samples of a dataset that a list names.

    An object's only expression is meant whatever its text, because lists correct misspellings; of
    several, the one with the row's text. Warns about rows that the dataset lacks.

    Args:
      path: of the list.
      index: of the dataset.
      name: of the dataset, for messages.

    Raises:
      ValueError: see `read_rows`.
    """
    numbers = {entry.video_id: number for number, entry in enumerate(index)}
    chosen, lost = set(), []
    for row in read_rows(path):
        number = numbers.get(row.video)
        found = [] if number is None else _named(index[number], row)
        if not found:
            lost.append(row.where)
        chosen |= {(number, expression, frame) for expression, frame in found}
    if lost:
        warnings.warn(f"{name} lacks {len(lost)} of the samples that are listed, the first of "
                      f"them in {lost[0]}", stacklevel=2)
    return chosen


def _named(entry: IndexEntry, row: Row) -> list[tuple[int, int]]:
    """Returns the expressions and the frame that a row means; () if they do not exist."""
    frame = min(row.frame, entry.length - 1)   # A2D annotates frames one beyond the end
    if not any(o.id == row.object_id and frame in o.frames for o in entry.objects):
        return []
    own = [number for number, e in enumerate(entry.expressions) if e.object_id == row.object_id]
    if len(own) > 1:
        own = [number for number in own
               if _start(entry.expressions[number].text) == _start(row.text)]
    return [(number, frame) for number in own]


def _start(text: str) -> str:
    return " ".join(text.partition(",")[0].lower().split())
