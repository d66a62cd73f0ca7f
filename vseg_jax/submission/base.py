"""The interface of all submission formats."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:   # checking a submission does not need JAX
    from vseg_jax.inference.segmenter import Segmenter
    from vseg_jax.input_pipeline.records import Dataset


class Format(abc.ABC):
    """What the server of one benchmark takes.

    Attributes:
      split: the split that is submitted by default.

    In all methods, `source` is the folder of the official download, as
    `vseg_jax.input_pipeline.builders` reads it, and `split` is the attribute where it is empty.
    """

    split: str

    @abc.abstractmethod
    def wanted(self, source: str | Path, split: str = "") -> Any:
        """Returns what the server expects of each video of a split.

        Raises:
          ValueError: the download cannot be read or has no such split.
        """

    @abc.abstractmethod
    def check(self, source: str | Path, submission: str | Path, split: str = "") -> list[str]:
        """Returns every problem of a submission, one line each; empty if the server will take it.

        Args:
          source, split: see the class.
          submission: a zip or a folder.

        Raises:
          ValueError: the submission or the download cannot be read.
        """

    @abc.abstractmethod
    def write(self, source: str | Path, predictions: Iterable[tuple[str, Any]],
              output: str | Path, split: str = "") -> Path:
        """Writes and checks a submission; on an error, nothing is left behind.

        Args:
          source, split: see the class.
          predictions: (name, prediction) for each video, as `predict` yields them for a dataset
            that was built from the same source.
          output: must not exist yet.

        Returns:
          The path of the zip to upload.

        Raises:
          ValueError: the output exists already, or the predictions are not what the server takes.
        """

    @abc.abstractmethod
    def predict(
        self, segmenter: Segmenter, dataset: Dataset, progress: bool
    ) -> Iterator[tuple[str, Any]]:
        """Yields the predictions that `write` takes.

        Args:
          segmenter: a loaded model.
          dataset: the opened split.
          progress: whether to show a progress bar.
        """


def raise_problems(problems: Sequence[str]) -> None:
    """Raises a ValueError that lists the first problems of a submission, if it has any."""
    if problems:
        raise ValueError(f"the submission has {count(problems)}:\n" + "\n".join(problems[:20]))


def count(problems: Sequence[str]) -> str:
    """Returns "1 problem", "2 problems" and so on."""
    return f"{len(problems)} problem" + "s" * (len(problems) != 1)
