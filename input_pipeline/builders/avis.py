"""AVIS, audio-visual instance segmentation: the layout of YouTube-VIS and an audio file per video.

Layout: as in `youtube_vis`, and `<split>/audio/<video>.wav`. The dataset of the paper (1,427
videos, 20 categories of YouTube-VIS) is not published; this builder reads your own data in the
form that the paper describes, "the format of Youtube-VIS dataset". A quarter of train is held out
as `dev`, the proportion of the paper, which does not say which videos.
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
from vseg_jax.input_pipeline.unread import Unread
from vseg_jax.input_pipeline.video_builder import VideoBuilder

SPLITS = ("train", "valid")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of AVIS."""

    dev: float = 0.25  # share of the train videos moved to the split `dev`; 0: none
    seed: int = 0  # selects them, see `files.draw`
    missing_audio: Literal["error", "silent"] = "error"  # treatment of videos without audio

    def __post_init__(self):
        if not 0 <= self.dev < 1:
            raise ValueError(f"avis: the option 'dev' is {self.dev}; it must be a share in [0, 1)")


class Builder(VideoBuilder):
    """Builds AVIS with audio; `options` is an `Options`."""

    name = "avis"

    def splits(self) -> dict[str, list[Unread]]:
        """Returns the records of every split; see `VideoBuilder.splits`."""
        options = self.options
        found = self._found.splits
        tracks.check_whole("AVIS", self.source, found)
        silent = [p for split, videos in found.items() for p in _silent(split, videos)]
        if silent and options.missing_audio == "error":
            raise ValueError(f"AVIS in {self.source} lacks audio: {'; '.join(silent)}; "
                             "missing_audio=silent uses these videos without audio")
        held = round(options.dev * len(found.get("train", ())))
        splits = tracks.hold_out(found, held, options.seed)
        return {split: [Unread(record, v, depends_on=(v, audio_path(v))) for v in videos]
                for split, videos in splits.items()}

    def categories(self) -> Sequence[records.Category]:
        """Returns the categories of the annotation files."""
        return self._found.categories

    @functools.cached_property
    def _found(self) -> tracks.Annotations:
        return read(self.source)


def verify(source: Path, options: Options) -> list[str]:
    """Returns the problems of the data: those of `youtube_vis.verify`, and of the audio."""
    del options
    try:
        found = read(source)
    except ValueError as error:
        return [str(error)]
    return tracks.faults(found, {}) + [
        p for split, videos in found.splits.items()
        for p in _silent(split, videos) + _unusable(split, videos)]


def read(source: Path) -> tracks.Annotations:
    """Returns the splits that have an annotation file; see `tracks.read`."""
    return tracks.read({split: youtube_vis.places(source, split) for split in SPLITS},
                       f"the folder of AVIS (the one that holds {' and '.join(SPLITS)})")


def audio_path(video: tracks.Video) -> Path:
    """Returns the path of a video's audio file."""
    images = video.frames[0].parents[len(Path(video.name).parts)]
    return images.parent / "audio" / f"{video.name}.wav"


def record(video: tracks.Video) -> records.Record:
    """Reads one video and its audio, if it has any; both have the same duration (inferred)."""
    path = audio_path(video)
    if not path.is_file():
        return tracks.record(video)
    samples = audio.read_audio(path)
    return tracks.record(video, len(video.frames) * SAMPLE_RATE / len(samples),
                         records.encode_audio(samples))


def _silent(split: str, videos: Sequence[tracks.Video]) -> list[str]:
    if lost := [path for v in videos if not (path := audio_path(v)).is_file()]:
        return [f"{split}: videos without audio: {files.first_names(lost, len(videos))}"]
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
    return [f"{split}: audio that cannot be used: {len(faults)} of {len(videos)}, the first: "
            f"{faults[0]}"]
