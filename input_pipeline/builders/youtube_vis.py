"""YouTube-VIS (Yang et al. 2019), the 2019 and 2021 downloads, and videos of one's own in its form.

Layout: `<split>/JPEGImages/<video>/<%05d>.jpg` for train, valid and test, and the annotations in
`<split>.json` at the top (2019) or in `<split>/instances.json` (2021), see `tracks`. Only train has
annotations; valid and test are scored by the benchmark's servers, so a part of train is held out as
`dev`.

The two years order their 40 categories differently, and 2021 has some that 2019 lacks: classes are
told apart by name. Frames are every fifth of a video of 30 a second, as in YouTube-VOS.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Literal

import numpy as np

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import tracks
from vseg_jax.input_pipeline.categories import OFFICIAL as CATEGORIES
from vseg_jax.input_pipeline.video_builder import VideoBuilder

SPLITS = ("train", "valid", "test")
OFFICIAL = {  # videos
    2019: {"train": 2238, "valid": 302, "test": 343},
    2021: {"train": 2985, "valid": 421, "test": 453},
}
FPS = 30.0  # of the videos that the frames are numbers in


@dataclasses.dataclass(frozen=True)
class Options:
    """How YouTube-VIS is read."""

    year: Literal[2019, 2021, 0] = 2019  # what `verify` compares with, 0 for one's own videos;
    # years are prepared in folders of their own
    dev: int = 200  # train videos that go to the split `dev` instead; 0: none
    seed: int = 0  # which ones, see `files.draw`


class Builder(VideoBuilder):
    """YouTube-VIS records; `options` is an `Options`."""

    name = "youtube_vis"

    def splits(self):
        """Raises a ValueError that lists what is missing before the first record is read."""
        options = self.options
        splits = tracks.hold_out(self._found.splits, options.dev, options.seed)
        tracks.check_whole("YouTube-VIS", self.source, splits)
        return {split: (tracks.record(v, rate(v)) for v in videos)
                for split, videos in splits.items()}

    def categories(self):
        return self._found.categories

    @functools.cached_property
    def _found(self) -> tracks.Annotations:
        return read(self.source)


def verify(
    source: Path, options: Options, official: dict[str, int] | None = None
) -> list[str]:
    """What is wrong with the download: counts, categories, missing images, images cut off, codes
    that are damaged or not of their video's size, objects that no frame shows."""
    try:
        return tracks.faults(read(source), official or OFFICIAL.get(options.year, {}),
                             CATEGORIES.get(f"youtube_vis_{options.year}", ()))
    except ValueError as error:
        return [str(error)]


def read(source: Path) -> tracks.Annotations:
    """The splits whose annotation file is there; see `tracks.read`."""
    return tracks.read({split: places(source, split) for split in SPLITS},
                       f"the folder of YouTube-VIS (the one that holds {', '.join(SPLITS)})")


def places(source: Path, split: str) -> list[tuple[Path, Path]]:
    """Where a split's annotation file may be, each with the folder of its images."""
    images = source / split / "JPEGImages"
    return [(source / f"{split}.json", images), (source / split / "instances.json", images)]


def rate(video: tracks.Video) -> float:
    """Frames a second; 0 where the frames' names are no numbers that rise."""
    try:
        step = int(np.diff([int(path.stem) for path in video.frames]).min(initial=FPS))
    except ValueError:
        return 0.0
    return FPS / step if step > 0 else 0.0
