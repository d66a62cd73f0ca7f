"""AVIS, audio-visual instance segmentation: the layout of YouTube-VIS and a sound file a video.

Layout: as in `youtube_vis`, and `<split>/audio/<video>.wav`. The dataset of the paper (1 427
videos, 20 categories of YouTube-VIS) is not published; this reads data of one's own in the form the
paper tells, "the format of Youtube-VIS dataset". A quarter of train is held out as `dev`, as the
paper splits its videos; which ones it does not say.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vseg_jax.input_pipeline import audio, records
from vseg_jax.input_pipeline.builders import files, tracks, youtube_vis
from vseg_jax.input_pipeline.codecs import SAMPLE_RATE
from vseg_jax.input_pipeline.video_builder import VideoBuilder

SPLITS = ("train", "valid")


@dataclasses.dataclass(frozen=True)
class Options:
    """How AVIS is read."""

    dev: float = 0.25  # share of the train videos that go to the split `dev` instead; 0: none
    seed: int = 0  # which ones, see `files.draw`
    missing_audio: Literal["error", "silent"] = "error"  # what a video without a sound file is

    def __post_init__(self):
        if not 0 <= self.dev < 1:
            raise ValueError(f"avis: the option 'dev' is {self.dev}; it is a share in [0, 1)")


class Builder(VideoBuilder):
    """AVIS records, with sound; `options` is an `Options`."""

    name = "avis"

    def splits(self):
        """Raises a ValueError that lists what is missing before the first record is read."""
        options = self.options
        found = self._found.splits
        tracks.check_whole("AVIS", self.source, found)
        silent = [p for split, videos in found.items() for p in _silent(split, videos)]
        if silent and options.missing_audio == "error":
            raise ValueError(f"AVIS in {self.source} lacks sound: {'; '.join(silent)}; "
                             "missing_audio=silent takes these videos without")
        held = round(options.dev * len(found.get("train", ())))
        splits = tracks.hold_out(found, held, options.seed)
        return {split: map(record, videos) for split, videos in splits.items()}

    def categories(self):
        return self._found.categories

    @functools.cached_property
    def _found(self) -> tracks.Annotations:
        return read(self.source)


def verify(source: Path, options: Options) -> list[str]:
    """What is wrong with the data: as `youtube_vis.verify`, and sound that is missing or bad."""
    del options
    try:
        found = read(source)
    except ValueError as error:
        return [str(error)]
    return tracks.faults(found, {}) + [
        p for split, videos in found.splits.items()
        for p in _silent(split, videos) + _unusable(split, videos)]


def read(source: Path) -> tracks.Annotations:
    """The splits whose annotation file is there; see `tracks.read`."""
    return tracks.read({split: youtube_vis.places(source, split) for split in SPLITS},
                       f"the folder of AVIS (the one that holds {' and '.join(SPLITS)})")


def audio_path(video: tracks.Video) -> Path:
    """Where the sound of a video is."""
    images = video.frames[0].parents[len(Path(video.name).parts)]
    return images.parent / "audio" / f"{video.name}.wav"


def record(video: tracks.Video) -> records.Record:
    """Reads one video and its sound, if there is any; both last equally long (inferred)."""
    path = audio_path(video)
    if not path.is_file():
        return tracks.record(video)
    samples = audio.read_audio(path)
    return tracks.record(video, len(video.frames) * SAMPLE_RATE / len(samples),
                         records.encode_audio(samples))


def _silent(split: str, videos: Sequence[tracks.Video]) -> list[str]:
    if lost := [path for v in videos if not (path := audio_path(v)).is_file()]:
        return [f"{split}: videos without sound: {files.first_names(lost, len(videos))}"]
    return []


def _unusable(split: str, videos: Sequence[tracks.Video]) -> list[str]:
    faults = []
    for path in filter(Path.is_file, map(audio_path, videos)):
        try:
            audio.read_audio(path)
        except ValueError as error:
            faults.append(error)
    if not faults:
        return []
    return [f"{split}: sound that cannot be used: {len(faults)} of {len(videos)}, the first: "
            f"{faults[0]}"]
