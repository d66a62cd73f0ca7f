"""OVIS, occluded video instance segmentation (Qi et al. 2022).

Layout: `<split>/<video>/img_%07d.jpg` for train, valid and test, and `annotations_<split>.json` at
the top or in `annotations/`, in the form of YouTube-VIS (see `tracks`). Only train has annotations;
frames of valid and test have no masks, so a part of train can be held out as `dev`.

The split `vos25` holds 25 of the train videos for segmentation from a given first mask, each object
by itself (the paper's 25 are not published; see `files.draw` and docs/data.md for these).

Masks of OVIS are what is visible of an object and should not overlap; where two do, the smaller one
keeps the pixels.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files, tracks
from vseg_jax.input_pipeline.categories import OFFICIAL as CATEGORIES
from vseg_jax.input_pipeline.video_builder import VideoBuilder

SPLITS = ("train", "valid", "test")
OFFICIAL = {"train": 607, "valid": 140, "test": 154}  # videos
VOS_VIDEOS = 25


@dataclasses.dataclass(frozen=True)
class Options:
    """How OVIS is read."""

    seed: int = 0  # which train videos are in vos25 and in dev, see `files.draw`
    dev: int = 0  # train videos that go to the split `dev` instead; vos25 is drawn of all


class Builder(VideoBuilder):
    """OVIS records; `options` is an `Options`."""

    name = "ovis"

    def splits(self):
        """Raises a ValueError that lists what is missing before the first record is read."""
        options = self.options
        found = self._found.splits
        tracks.check_whole("OVIS", self.source, found)
        splits = tracks.hold_out(found, options.dev, options.seed)
        if "train" in found:
            count = min(VOS_VIDEOS, len(found["train"]))
            chosen = files.draw([v.name for v in found["train"]], count, options.seed)
            splits["vos25"] = [v for v in found["train"] if v.name in chosen]
        return {split: map(tracks.record, videos) for split, videos in splits.items()}

    def categories(self):
        return self._found.categories

    @functools.cached_property
    def _found(self) -> tracks.Annotations:
        return read(self.source)


def verify(source: Path, options: Options, official: dict[str, int] = OFFICIAL) -> list[str]:
    """What is wrong with the download: counts, categories, missing images, images cut off, codes
    that are damaged or not of their video's size, objects that no frame shows."""
    del options
    try:
        return tracks.faults(read(source), official, CATEGORIES["ovis"])
    except ValueError as error:
        return [str(error)]


def read(source: Path) -> tracks.Annotations:
    """The splits whose annotation file is there; see `tracks.read`."""
    places = {
        split: [(folder / f"annotations_{split}.json", source / split)
                for folder in (source, source / "annotations")]
        for split in SPLITS
    }
    return tracks.read(places, f"the folder of OVIS (the one that holds {', '.join(SPLITS)})")
