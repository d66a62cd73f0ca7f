"""OVIS, occluded video instance segmentation (Qi et al. 2022).

Layout: `<split>/<video>/img_%07d.jpg` for train, valid and test, and `annotations_<split>.json` at
the top or in `annotations/`, in the form of YouTube-VIS (see `tracks`). Only train has annotations,
so a part of train can be held out as `dev`.

The split `vos25` has 25 train videos for segmentation from a first-frame mask, one object at a
time. The paper's 25 videos are not published; `files.draw` selects ours.

Masks of OVIS cover the visible part of an object and should not overlap; where two do, the smaller
one gets the pixels.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files, tracks
from vseg_jax.input_pipeline.categories import OFFICIAL as CATEGORIES
from vseg_jax.input_pipeline.unread import Unread
from vseg_jax.input_pipeline.video_builder import VideoBuilder

SPLITS = ("train", "valid", "test")
OFFICIAL = {"train": 607, "valid": 140, "test": 154}  # videos
VOS_VIDEOS = 25


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of OVIS."""

    seed: int = 0  # selects the train videos of vos25 and dev, see `files.draw`
    dev: int = 0  # train videos moved to the split `dev`; vos25 is drawn from all


class Builder(VideoBuilder):
    """Builds OVIS; `options` is an `Options`."""

    name = "ovis"

    def splits(self) -> dict[str, list[Unread]]:
        """Returns the records of every split; see `VideoBuilder.splits`."""
        options = self.options
        found = self._found.splits
        tracks.check_whole("OVIS", self.source, found)
        splits = tracks.hold_out(found, options.dev, options.seed)
        if "train" in found:
            count = min(VOS_VIDEOS, len(found["train"]))
            chosen = files.draw([v.name for v in found["train"]], count, options.seed)
            splits["vos25"] = [v for v in found["train"] if v.name in chosen]
        return {split: [Unread(tracks.record, v) for v in videos]
                for split, videos in splits.items()}

    def categories(self) -> Sequence[records.Category]:
        """Returns the categories of the annotation files."""
        return self._found.categories

    @functools.cached_property
    def _found(self) -> tracks.Annotations:
        return read(self.source)


def verify(source: Path, options: Options, official: dict[str, int] = OFFICIAL) -> list[str]:
    """Returns the problems of a download.

    Checks counts and categories, images that are missing or truncated, run-length codes that are
    damaged or do not have their video's size, and objects that no frame shows.
    """
    del options
    try:
        return tracks.faults(read(source), official, CATEGORIES["ovis"])
    except ValueError as error:
        return [str(error)]


def read(source: Path) -> tracks.Annotations:
    """Returns the splits that have an annotation file; see `tracks.read`."""
    places = {
        split: [(folder / f"annotations_{split}.json", source / split)
                for folder in (source, source / "annotations")]
        for split in SPLITS
    }
    return tracks.read(places, f"the folder of OVIS (the one that holds {', '.join(SPLITS)})")
