"""Submissions of index PNGs: DAVIS, YouTube-VOS and Refer-YouTube-VOS."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from vseg_jax.atomic import atomic_file, atomic_folder
from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.builders import davis, refer_youtube_vos, youtube_vos
from vseg_jax.media import overlay
from vseg_jax.submission.base import Format, raise_problems

if TYPE_CHECKING:   # checking a submission does not need JAX
    from vseg_jax.inference.segmenter import Segmenter
    from vseg_jax.input_pipeline.records import Dataset

BINARY = frozenset({255})   # ids of gray masks of a single object, where 255 is not void
# A video's name, its frames and its mask prompts; None where an expression is the prompt.
Listed = tuple[str, list[Path], list[Path] | None]


@dataclasses.dataclass(frozen=True)
class Video:
    """What a server expects of one video, or of one expression of a video.

    Attributes:
      frames: their names without suffix, in order.
      size: height and width.
      ids: of the objects in the mask prompts, or `BINARY`.
    """

    frames: tuple[str, ...]
    size: tuple[int, int]
    ids: frozenset[int]


@dataclasses.dataclass(frozen=True)
class IndexPngs(Format):
    """A format of index PNGs.

    Attributes:
      split: see `Format`.
      folder: prefix of all paths.
      read: source -> {split: its videos}.
      predicts: which videos `predict` yields: "masks" for mask prompts of the first frame,
        "entering" for those of later frames too, "expressions".
    """

    split: str
    folder: str
    read: Callable[[Path], dict[str, list[Listed]]]
    predicts: Literal["masks", "entering", "expressions"]

    def wanted(self, source: str | Path, split: str = "") -> dict[str, Video]:
        """Returns what the server expects of every video, or of every "<video>/<expression>".

        See `Format.wanted`; missing frames or first-frame masks are an error too.
        """
        source, split = Path(source), split or self.split
        listed = self.read(source)
        if split not in listed:
            raise ValueError(f"{source} has no list of {split}, only of {', '.join(listed)}")
        videos = {}
        for name, frames, masks in listed[split]:
            if not frames or masks == []:
                raise ValueError(f"{source}: the video {name} of {split} has {len(frames)} frames "
                                 f"and {len(masks or ())} masks; extract the download again")
            width, height = _open(frames[0], frames[0], lambda image: image.size)
            videos[name] = Video(tuple(p.stem for p in frames), (height, width),
                                 BINARY if masks is None else _ids(masks))
        return videos

    def check(self, source: str | Path, submission: str | Path, split: str = "") -> list[str]:
        """Returns every problem of a submission; see `Format.check`."""
        expected = {f"{self.folder}{name}": video
                    for name, video in self.wanted(source, split).items()}
        paths = {f"{name}/{frame}.png": video
                 for name, video in expected.items() for frame in video.frames}
        problems = []
        with _files(Path(submission)) as files:
            for name, video in expected.items():
                missing = [path for frame in video.frames
                           if (path := f"{name}/{frame}.png") not in files]
                if len(missing) == len(video.frames):
                    problems.append(f"{name}: missing, with its {len(missing)} frames")
                else:
                    problems += [f"{path}: missing" for path in missing]
            problems += [f"{path}: unexpected, the frame or video is not in the "
                         f"{split or self.split} split"
                         for path in sorted(files.keys() - paths.keys())]
            for path in sorted(files.keys() & paths.keys()):
                with files[path]() as file:
                    problems += [f"{path}: {problem}"
                                 for problem in _problems(file, path, paths[path])]
        return problems

    def write(self, source: str | Path,
              predictions: Iterable[tuple[str, Iterable[tuple[int, np.ndarray]]]],
              output: str | Path, split: str = "") -> Path:
        """Writes the folder `output` and the zip `<output>.zip`; see `Format.write`.

        Args:
          source, split, output: see `Format.write`.
          predictions: for each video its id, and for each of its frames the number (in the order of
            the source's files) and the index mask [H, W].
        """
        videos = self.wanted(source, split)
        archive = Path(f"{output}.zip")
        if archive.exists():
            raise ValueError(f"{archive} exists already; choose a new folder or remove it first")
        with atomic_folder(output) as folder, atomic_file(archive) as temporary:
            for name, frames in predictions:
                if name not in videos:
                    raise ValueError(f"{source} has no video {name}; the dataset is another split")
                _write_video(folder / self.folder / name, videos[name], frames,
                             f"{source} has {len(videos[name].frames)} frames of {name}")
            raise_problems(self.check(source, folder, split))
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as packed:
                for path in sorted(folder.rglob("*.png")):
                    packed.write(path, path.relative_to(folder))
        return archive

    def predict(
        self, segmenter: Segmenter, dataset: Dataset, progress: bool
    ) -> Iterator[tuple[str, Iterator[tuple[int, np.ndarray]]]]:
        """Yields the predictions that `write` takes; see `Format.predict`."""
        from vseg_jax.evaluation import expressions, propagation

        if self.predicts == "expressions":
            return expressions.predict_videos(segmenter, dataset, progress=progress)
        return propagation.predict_videos(
            segmenter, dataset, entering=self.predicts == "entering", progress=progress)


# --- the lists of the downloads -----------------------------------------------------------------


def _davis(source: Path) -> dict[str, list[Listed]]:
    return {split: [(s.name, s.frames, [m for m in s.masks if m is not None]) for s in sequences]
            for split, sequences in davis.read_lists(source, davis.Options()).items()}


def _youtube_vos(source: Path) -> dict[str, list[Listed]]:
    found = youtube_vos.read_splits(source, youtube_vos.Options(dev=0))
    return {split: [(v.name, list(v.frames.values()), list(v.masks.values())) for v in videos]
            for split, videos in found.items()}


def _refer_youtube_vos(source: Path) -> dict[str, list[Listed]]:
    found = refer_youtube_vos.read_splits(source, refer_youtube_vos.Options(dev=0))
    listed: dict[str, list[Listed]] = {split: [] for split in found}
    for split, videos in found.items():
        for v in videos:
            # Frames may be missing; only the first is opened, for its size.
            frames = [v.video.frames.get(n, Path(v.video.name, f"{n:05d}.jpg"))
                      for n in sorted(v.frames)]
            listed[split] += [(f"{v.video.name}/{number}", frames, None)
                              for number in range(len(v.expressions))]
    return listed


DAVIS = IndexPngs("test-dev", "", _davis, "masks")
YOUTUBE_VOS = IndexPngs("valid", "Annotations/", _youtube_vos, "entering")
REFER_YOUTUBE_VOS = IndexPngs("valid", "Annotations/", _refer_youtube_vos, "expressions")


# --- files --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _files(submission: Path) -> Iterator[dict[str, Callable[[], Any]]]:
    """Yields {path inside the submission: a function that opens it to read bytes}."""
    if submission.is_dir():
        yield {p.relative_to(submission).as_posix(): functools.partial(p.open, "rb")
               for p in submission.rglob("*") if p.is_file()}
    elif not submission.is_file():
        raise ValueError(f"there is no submission {submission}; it must be a folder or a zip")
    else:
        try:
            archive = zipfile.ZipFile(submission)
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{submission} cannot be read as a zip: {error}") from None
        with archive:
            yield {name: functools.partial(archive.open, name)
                   for name in archive.namelist() if not name.endswith("/")}


def _write_video(folder: Path, video: Video, frames: Iterable[tuple[int, np.ndarray]],
                 where: str) -> None:
    folder.mkdir(parents=True)
    for number, index in frames:
        if number >= len(video.frames):
            raise ValueError(f"{where}, but the dataset has more; build it from that source")
        path = folder / f"{video.frames[number]}.png"
        if video.ids == BINARY:
            Image.fromarray((index != 0).astype(np.uint8) * 255).save(path)
        else:
            overlay.save_index(path, index)


def _problems(file: Any, path: str, video: Video) -> list[str]:
    try:
        kind, mode, mask = _open(file, path, lambda im: (im.format, im.mode, np.asarray(im)))
    except ValueError as error:
        return [str(error).removeprefix(f"{path} ")]
    binary = video.ids == BINARY
    if kind != "PNG" or mode not in (("L",) if binary else ("P", "L")):
        must = "L, with the values 0 and 255" if binary else "P, whose values are ids"
        return [f"is a {kind} of mode {mode}; it must be a PNG of mode {must}"]
    if mask.shape != video.size:
        return [f"is {mask.shape[1]} x {mask.shape[0]}, but the frame is {video.size[1]} x "
                f"{video.size[0]}"]
    other = sorted(set(np.flatnonzero(np.bincount(mask.ravel())).tolist()) - {0} - video.ids)
    if not other:
        return []
    listed = ", ".join(map(str, other[:8]))
    if binary:
        return [f"has the values {listed}; it must have 0 and 255 only"]
    return [f"has the ids {listed}, but the masks of the download have "
            f"{', '.join(map(str, sorted(video.ids)))}"]


def _ids(masks: list[Path]) -> frozenset[int]:
    ids: set[int] = set()
    for path in masks:
        ids.update(np.unique(_open(path, path, np.asarray)).tolist())
    return frozenset(ids - {0, VOID})


def _open(file: Any, name: Any, read: Callable[[Image.Image], Any]) -> Any:
    try:
        with Image.open(file) as image:
            return read(image)
    except (OSError, SyntaxError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name} cannot be read as an image: {error}") from None
