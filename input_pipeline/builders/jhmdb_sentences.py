"""J-HMDB-Sentences (Gavrilyuk et al. 2018) over the videos of J-HMDB (Jhuang et al. 2013).

    Rename_Images/<action>/<video>/<%05d>.png           320x240, frames counted from 1
    puppet_mask/<action>/<video>/puppet_mask.mat        part_mask [H, W, T], T up to the frames
    jhmdb_annotation.txt                                video_id,query

Each video has one person and one expression; the category is the action. The only split is `test`:
models are trained on A2D-Sentences. Frames after the last mask are left out, as in MTTR. Three
frames per video are scored: those of a published list (`samples`), or evenly spaced ones.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from vseg_jax import urls
from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files
from vseg_jax.input_pipeline.sample_lists import read_rows
from vseg_jax.input_pipeline.unread import Unread
from vseg_jax.input_pipeline.video_builder import VideoBuilder
from vseg_jax.text_files import read_text

FPS = 30.0  # of HMDB-51, the origin of the clips
HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of J-HMDB-Sentences."""

    # Frames per video that keep their mask, the middles of equal parts (inferred: ACGA says
    # "uniformly sample 3 frames"); 0 keeps all.
    frames: int = 3
    # List of the frames that keep their mask: a .txt in the form of ACGA's, LBDT's and MMVT's
    # test.txt, see `vseg_jax.input_pipeline.sample_lists`; else JSON in the form of MTTR's
    # jhmdb_sentences_samples_metadata.json, [[video, path of the frame, ...], ...].
    samples: str = ""


@dataclasses.dataclass(frozen=True)
class Official:
    """Counts of the official files."""

    videos: int = 928


@dataclasses.dataclass(frozen=True)
class Video:
    """One video: the places of its frames and masks, and its expressions."""

    name: str
    action: str
    images: Path
    masks: Path
    queries: list[str]


class Builder(VideoBuilder):
    """Builds J-HMDB-Sentences; `options` is an `Options`."""

    name = "jhmdb_sentences"

    def splits(self) -> dict[str, list[Unread]]:
        """Returns the records of every split; see `VideoBuilder.splits`."""
        videos = read_listing(self.source)
        if problems := _missing(videos):
            raise ValueError(
                f"J-HMDB-Sentences in {self.source} is incomplete: {'; '.join(problems)}; "
                f"extract the archives again, see {urls.DATASETS}jhmdb_sentences"
            )
        samples = read_samples(Path(self.options.samples)) if self.options.samples else None
        if samples is not None and (lost := sorted({v.name for v in videos} - set(samples))):
            raise ValueError(f"{self.options.samples} lists no frame of "
                             f"{files.first_names(lost, len(videos))} videos")
        return {"test": [
            Unread(read_video, v, self.options.frames, None if samples is None else samples[v.name])
            for v in videos]}


def verify(source: Path, options: Options, official: Official | None = None) -> list[str]:
    """Returns the problems of a download: counts, missing files, truncated files."""
    official = official or Official()
    try:
        videos = read_listing(source)
        samples = read_samples(Path(options.samples)) if options.samples else None
    except ValueError as error:
        return [str(error)]
    problems = []
    if len(videos) != official.videos:
        problems.append(f"jhmdb_annotation.txt names {len(videos)} videos; the official file "
                        f"names {official.videos}")
    if samples is not None and set(samples) != {v.name for v in videos}:
        problems.append(f"{options.samples} lists {len(samples)} videos, not those of "
                        "jhmdb_annotation.txt")
    problems += _missing(videos)
    paths = [p for v in videos for p in files.numbered(v.images, ".png").values()]
    paths += [v.masks for v in videos if v.masks.is_file()]
    return problems + files.broken(paths)


def read_listing(source: Path) -> list[Video]:
    """Returns the videos of jhmdb_annotation.txt; the action is the folder of the frames.

    Raises:
      ValueError: a file or folder is missing, a row cannot be read (path and line).
    """
    queries: dict[str, list[str]] = {}
    path = source / "jhmdb_annotation.txt"
    for where, row in files.read_rows(path, ("video_id", "query"), header=True):
        queries.setdefault(row["video_id"], []).append(files.tidy(row["query"], where))
    folders = {}
    for kind in ("Rename_Images", "puppet_mask"):
        if not (source / kind).is_dir():
            raise ValueError(f"{source / kind} does not exist: extract {kind} of J-HMDB into "
                             f"{source}, see {urls.DATASETS}jhmdb_sentences")
        folders[kind] = {p.name: p for p in sorted((source / kind).glob("*/*")) if p.is_dir()}
    videos = []
    for name, expressions in queries.items():
        images = folders["Rename_Images"].get(name, source / "Rename_Images" / "unknown" / name)
        masks = folders["puppet_mask"].get(name, source / "puppet_mask" / images.parent.name / name)
        path = masks / "puppet_mask.mat"
        videos.append(Video(name, images.parent.name, images, path, expressions))
    return videos


def read_samples(path: Path) -> dict[str, set[int]]:
    """Returns {video: frame numbers from 1} of a list in one of the forms of `Options.samples`."""
    samples: dict[str, set[int]] = {}
    if path.suffix == ".txt":
        for row in read_rows(path):
            samples.setdefault(row.video, set()).add(row.frame + 1)
        return samples
    try:
        text = read_text(path)
    except OSError as error:
        raise ValueError(f"the sample list {path} cannot be read ({error.strerror})") from error
    for where, video, frame in _json_rows(path, text):
        number = files.whole_number(PurePosixPath(frame).stem, where, "the frame's name")
        samples.setdefault(video, set()).add(number)
    return samples


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, str, str]]:
    """Yields (where, video, frame) of entries [video, path of the frame, ...]."""
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the sample list {path} is not JSON: {error}") from error
    for i, row in enumerate(rows if isinstance(rows, list) else [rows]):
        where = f"{path}, entry {i}"
        if not isinstance(row, list) or [type(x) for x in row[:2]] != [str, str]:
            raise ValueError(f"{where}: expected [video, path of the frame, ...], got {row!r}")
        yield where, row[0], row[1]


def _missing(videos: list[Video]) -> list[str]:
    problems = []
    numbers = {v.name: list(files.numbered(v.images, ".png")) for v in videos}
    if lost := [v.name for v in videos if not numbers[v.name]]:
        problems.append(f"videos without frames in Rename_Images: "
                        f"{files.first_names(lost, len(videos))}")
    if lost := [v.name for v in videos if files.gaps(numbers[v.name], 1)]:
        problems.append(f"videos with gaps between their frames: "
                        f"{files.first_names(lost, len(videos))}")
    if lost := [v.name for v in videos if not v.masks.is_file()]:
        problems.append(f"videos without puppet_mask.mat: {files.first_names(lost, len(videos))}")
    return problems


def read_video(
    video: Video, count: int, samples: set[int] | None = None
) -> records.Record:
    """Reads one video; annotated are the frames `samples`, or `count` (0: all) spaced evenly."""
    part_mask = read_masks(video.masks)
    paths = list(files.numbered(video.images, ".png").values())
    length = min(len(paths), part_mask.shape[2])
    if samples is None:
        kept = uniform(length, count) if count else range(length)
    else:
        kept = [number - 1 for number in sorted(samples)]
        if kept and not (kept[0] >= 0 and kept[-1] < length):
            raise ValueError(f"the sample list names frames {[k + 1 for k in kept]} of "
                             f"{video.name}, which has {length} frames with masks")
    frames, masks = [], [b""] * length
    size = part_mask.shape[:2]
    for path in paths[:length]:
        data, image = files.read_image(path)
        files.check_size(video.masks, size, (image.height, image.width), path)
        frames.append(data)
    for t in kept:
        masks[t] = records.encode_mask((part_mask[:, :, t] > 0).astype(np.uint8))
    return records.Record(
        video_id=video.name, frames=frames, masks=masks, height=size[0], width=size[1], fps=FPS,
        objects=[records.Object(1, video.action)],
        expressions=[records.Expression(text, 1) for text in video.queries],
    )


def uniform(length: int, count: int) -> list[int]:
    """Returns the middles of `count` equal parts of `length` frames; all if there are fewer."""
    if length <= count:
        return list(range(length))
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def read_masks(path: Path) -> np.ndarray:
    """Returns part_mask [H, W, T] of a MATLAB file of version 5 or 7.3 (which is HDF5)."""
    try:
        with open(path, "rb") as file:
            head = file.read(520)
        reader = _read_hdf5 if HDF5 in (head[:8], head[512:]) else _read_matlab
        masks = reader(path)
    except ImportError:
        raise
    except Exception as error:  # scipy raises many types of errors for damaged files
        raise ValueError(f"{path} cannot be read as a puppet mask ({error!r}); extract or download "
                         "it again") from error
    if masks.ndim == 2:  # one frame
        masks = masks[:, :, np.newaxis]
    if masks.ndim != 3:
        raise ValueError(f"{path}: part_mask has the shape {masks.shape}, expected [H, W, T]")
    return masks


def _read_hdf5(path: Path) -> np.ndarray:
    with files.require("h5py").File(path, "r") as file:
        return np.asarray(file["part_mask"]).T  # MATLAB stores columns first


def _read_matlab(path: Path) -> np.ndarray:
    return files.require("scipy.io").loadmat(path, variable_names=["part_mask"])["part_mask"]
