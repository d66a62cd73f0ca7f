"""Submissions of a `results.json`: YouTube-VIS and OVIS.

A zip with a list that has an entry per object: {"video_id", "category_id", "score",
"segmentations"}, with the ids of the download's annotation file, and a compressed run-length code
or null for each frame.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import zipfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseg_jax.atomic import atomic_file
from vseg_jax.input_pipeline.builders import ovis, tracks, youtube_vis
from vseg_jax.run_lengths import Spans
from vseg_jax.submission.base import Format, raise_problems

if TYPE_CHECKING:   # checking a submission does not need JAX
    from vseg_jax.inference.segmenter import Segmenter
    from vseg_jax.input_pipeline.records import Dataset

NAME = "results.json"


@dataclasses.dataclass(frozen=True)
class ResultsJson(Format):
    """A format of objects in one JSON file.

    Attributes:
      split: see `Format`.
      read: source -> splits and categories of its annotation files; images are not read.
    """

    split: str
    read: Callable[[Path], Any]

    def wanted(
        self, source: str | Path, split: str = ""
    ) -> tuple[dict[Any, tracks.Video], dict[str, int]]:
        """Returns the videos of a split by their ids, and the categories' ids by their names.

        See `Format.wanted`.
        """
        split, found = split or self.split, self.read(Path(source))
        if split not in found.splits:
            raise ValueError(f"{source} has no annotation file of {split}, only of "
                             f"{', '.join(found.splits)}")
        videos = {video.number: video for video in found.splits[split]}
        return videos, {category.name: category.id for category in found.categories}

    def check(self, source: str | Path, submission: str | Path, split: str = "") -> list[str]:
        """Returns every problem of a zip, a folder that holds `results.json`, or that file.

        See `Format.check`.
        """
        videos, categories = self.wanted(source, split)
        content, problems = _open(Path(submission))
        try:
            entries = json.loads(content)
        except ValueError as error:
            return [*problems, f"{NAME} is not JSON: {error}"]
        if not isinstance(entries, list) or not entries:
            return [*problems, f"{NAME} must be a list of at least one object, it is "
                               f"{str(entries)[:40]}; the official tool fails on an empty list"]
        for k, entry in enumerate(entries):
            problems += [f"entry {k}: {problem}"
                         for problem in _problems(entry, videos, categories)]
        return problems

    def write(self, source: str | Path,
              predictions: Iterable[tuple[str, Sequence[Mapping[str, Any]]]],
              output: str | Path, split: str = "") -> Path:
        """Writes a zip; see `Format.write`.

        Args:
          source, split: see `Format.write`.
          predictions: for each video the name of its folder (a record's `video_id`) and its
            objects: `category` (name), `score`, and `segmentations`, for each frame a code of
            `vseg_jax.run_lengths.encode_rle` at the frames' size, or None.
          output: the zip, which must not exist yet; ".zip" is appended where it is missing.
        """
        archive = Path(output if str(output).endswith(".zip") else f"{output}.zip")
        if archive.exists():
            raise ValueError(f"{archive} exists already; choose a new file or remove it first")
        entries = self._entries(source, predictions, split)
        with atomic_file(archive) as temporary:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed:
                packed.writestr(NAME, json.dumps(entries))
            raise_problems(self.check(source, temporary, split))
        return archive

    def predict(
        self, segmenter: Segmenter, dataset: Dataset, progress: bool
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yields the predictions that `write` takes; see `Format.predict`."""
        from vseg_jax.evaluation import instances

        return instances.predict_videos(segmenter, dataset, progress=progress)

    def _entries(self, source: str | Path,
                 predictions: Iterable[tuple[str, Sequence[Mapping[str, Any]]]],
                 split: str) -> list[dict[str, Any]]:
        videos, categories = self.wanted(source, split)
        numbers = {video.name: number for number, video in videos.items()}
        entries = []
        for name, objects in predictions:
            if name not in numbers:
                raise ValueError(f"{source} has no video {name}; the dataset is another split")
            for found in objects:
                if found["category"] not in categories:
                    raise ValueError(f"{source} has no category {found['category']!r}; the model "
                                     "was trained for others")
                entries.append({
                    "video_id": numbers[name], "category_id": categories[found["category"]],
                    "score": float(found["score"]), "segmentations": list(found["segmentations"]),
                })
        return entries


YOUTUBE_VIS = ResultsJson("valid", youtube_vis.read)
OVIS = ResultsJson("valid", ovis.read)


def _open(submission: Path) -> tuple[bytes, list[str]]:
    """Returns the content of `results.json` and the problems of the zip around it."""
    if submission.is_dir():
        submission = submission / NAME
    try:
        data = submission.read_bytes()
        if not zipfile.is_zipfile(io.BytesIO(data)):
            return data, []
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            inside = next((n for n in names if n.rpartition("/")[2] == NAME), None)
            if inside is None:
                raise ValueError(f"{submission} holds no {NAME}, only {', '.join(names[:5])}")
            problems = [] if names == [NAME] else [
                f"the zip must hold {NAME} only, it holds {', '.join(names[:5])}"]
            return archive.read(inside), problems
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{submission} cannot be read: {error}; it must be a zip, {NAME}, or the "
                         "folder that holds it") from None


def _problems(
    entry: Any, videos: Mapping[Any, tracks.Video], categories: Mapping[str, int]
) -> list[str]:
    if not isinstance(entry, Mapping):
        return [f"{str(entry)[:40]} is not an object"]
    problems = []
    if entry.get("category_id") not in categories.values():
        problems.append(f"the category_id is {entry.get('category_id')!r}; the download has "
                        f"{min(categories.values())} to {max(categories.values())}")
    score = entry.get("score")
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
        problems.append(f"the score is {score!r}; it must be a finite number")
    number = entry.get("video_id")
    if not isinstance(number, Hashable) or (video := videos.get(number)) is None:
        return [*problems, f"the video_id is {number!r}, which the split does not list"]
    codes = entry.get("segmentations")
    if not isinstance(codes, list) or len(codes) != len(video.frames):
        found = len(codes) if isinstance(codes, list) else repr(codes)
        return [*problems, f"the segmentations are {found}; video {video.number} ({video.name}) "
                           f"has {len(video.frames)} frames, each with a code or null"]
    for t, code in enumerate(codes):
        if code is None:
            continue
        try:
            Spans(code, video.size, f"frame {t}")
            if not isinstance(code["counts"], str):
                problems.append(f"the counts of frame {t} are a list; the official tool reads "
                                "compressed strings only")
        except ValueError as error:
            problems.append(str(error))
    return problems
