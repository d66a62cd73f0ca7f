"""YouTube-VIS (Yang et al. 2019), the 2019 and 2021 downloads, and your own videos in this form.

Layout: `<split>/JPEGImages/<video>/<%05d>.jpg` for train, valid and test, and the annotations in
`<split>.json` at the top (2019) or in `<split>/instances.json` (2021), see `tracks`. Only train has
annotations; the benchmark's servers score valid and test, so a part of train is held out as `dev`.

The two years order their 40 categories differently and do not have quite the same ones, so classes
are identified by name. Frames are every fifth frame of videos at 30 fps, as in YouTube-VOS.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import tracks
from vseg_jax.input_pipeline.categories import OFFICIAL as CATEGORIES
from vseg_jax.input_pipeline.unread import Unread
from vseg_jax.input_pipeline.video_builder import VideoBuilder

SPLITS = ("train", "valid", "test")
OFFICIAL = {  # videos
    2019: {"train": 2238, "valid": 302, "test": 343},
    2021: {"train": 2985, "valid": 421, "test": 453},
}
FPS = 30.0  # of the videos in which the frames are numbered


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of YouTube-VIS."""

    # The lists that `verify` compares with, 0 for your own videos. Each year is prepared in its own
    # folder.
    year: Literal[2019, 2021, 0] = 2019
    dev: int = 200  # train videos moved to the split `dev`; 0: none
    seed: int = 0  # selects them, see `files.draw`


class Builder(VideoBuilder):
    """Builds YouTube-VIS; `options` is an `Options`."""

    name = "youtube_vis"

    def splits(self) -> dict[str, list[Unread]]:
        """Returns the records of every split; see `VideoBuilder.splits`."""
        options = self.options
        splits = tracks.hold_out(self._found.splits, options.dev, options.seed)
        tracks.check_whole("YouTube-VIS", self.source, splits)
        return {split: [Unread(tracks.record, v, rate(v)) for v in videos]
                for split, videos in splits.items()}

    def categories(self) -> Sequence[records.Category]:
        """Returns the categories of the annotation files."""
        return self._found.categories

    @functools.cached_property
    def _found(self) -> tracks.Annotations:
        return read(self.source)


def verify(
    source: Path, options: Options, official: dict[str, int] | None = None
) -> list[str]:
    """Returns the problems of a download.

    Checks counts and categories, images that are missing or truncated, run-length codes that are
    damaged or do not have their video's size, and objects that no frame shows.
    """
    try:
        return tracks.faults(read(source), official or OFFICIAL.get(options.year, {}),
                             CATEGORIES.get(f"youtube_vis_{options.year}", ()))
    except ValueError as error:
        return [str(error)]


def read(source: Path) -> tracks.Annotations:
    """Returns the splits that have an annotation file; see `tracks.read`."""
    return tracks.read({split: places(source, split) for split in SPLITS},
                       f"the folder of YouTube-VIS (the one that holds {', '.join(SPLITS)})")


def places(source: Path, split: str) -> list[tuple[Path, Path]]:
    """Returns where a split's annotation file may be, with the folder of its images."""
    images = source / split / "JPEGImages"
    return [(source / f"{split}.json", images), (source / split / "instances.json", images)]


def rate(video: tracks.Video) -> float:
    """Returns the frame rate; 0 if the frames' names are not increasing numbers."""
    try:
        step = int(np.diff([int(path.stem) for path in video.frames]).min(initial=FPS))
    except ValueError:
        return 0.0
    return FPS / step if step > 0 else 0.0
