"""The common part of the analysis commands: samples, JSON files, figures, the command line."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vseg_jax.evaluation.frames import batch_of


def evenly(samples: Any, limit: int) -> list[int]:
    """Returns the numbers of up to `limit` evenly spread samples."""
    spread = np.linspace(0, len(samples) - 1, min(limit, len(samples)))
    return np.unique(spread.astype(int)).tolist()


def chosen(samples: Any, numbers: Sequence[int] | None, rows: int) -> list[int]:
    """Returns the samples of a picture: those with the numbers, or else `rows` evenly spread ones.

    Raises:
      ValueError: there is no sample of such a number.
    """
    wrong = [n for n in numbers or () if not 0 <= n < len(samples)]
    if wrong:
        raise ValueError(f"there is no sample {', '.join(map(str, wrong))}; the split has "
                         f"{len(samples)}, numbered from 0")
    return list(numbers) if numbers else evenly(samples, rows)


def batches(samples: Any, limit: int) -> Iterator[dict[str, np.ndarray]]:
    """Returns batches of one sample each, for up to `limit` samples."""
    return (batch_of(samples, [number]) for number in evenly(samples, limit))


def write(folder: Path, name: str, numbers: Any) -> None:
    """Writes `<name>.json` into the folder and prints its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"{folder / name}.json")


def figure(path: Path, columns: int, draw: Callable[[Any], None],
           rows: int | None = None, side: float = 3.0) -> None:
    """Calls `draw` and saves a PNG if matplotlib is installed.

    Args:
      path: of the file.
      draw: takes the panels: [columns], or [rows, columns] if `rows` is given.
      columns, rows: numbers of panels.
      side: width and height of a panel in inches.
    """
    try:
        from matplotlib.figure import Figure  # leaves the backend of a notebook as it is
    except ImportError:  # an optional dependency; the numbers are in the JSON file
        return
    canvas = Figure(figsize=(side * columns, side * (rows or 1)), layout="constrained")
    axes = canvas.subplots(rows or 1, columns, squeeze=False)
    draw(axes if rows else axes[0])
    canvas.savefig(path, dpi=120)
    print(path)


def principal_colors(maps: Float[np.ndarray, "C h w"]) -> Float[np.ndarray, "h w 3"]:
    """Returns the first three principal components of the channels as colors in [0, 1]."""
    channels, height, width = maps.shape
    x = maps.reshape(channels, -1).T
    x = x - x.mean(0)
    _, _, axes = np.linalg.svd(x, full_matrices=False)
    colors = x @ axes[:3].T
    colors = np.pad(colors, ((0, 0), (0, 3 - colors.shape[1])))
    low, high = colors.min(0), colors.max(0)
    colors = (colors - low) / np.where(high > low, high - low, 1)
    return colors.reshape(height, width, 3)


def takes_dataset(command: argparse.ArgumentParser) -> None:
    """Adds the arguments for the samples of an analysis and the folder of its results."""
    command.add_argument("--dataset", type=Path, required=True, help="prepared dataset")
    command.add_argument("--split", required=True)
    command.add_argument("--output", type=Path, required=True, help="folder")


def run(parser: argparse.ArgumentParser, arguments: list[str] | None) -> None:
    """Calls the `function` of the chosen command; a user error ends the process with one line."""
    chosen = parser.parse_args(arguments)
    try:
        chosen.function(chosen)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
