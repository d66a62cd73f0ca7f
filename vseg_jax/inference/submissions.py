"""What the servers of DAVIS 2017 and YouTube-VOS take, written and checked.

| kind | files | frames |
|---|---|---|
| `davis` | `<sequence>/<frame>.png` | all of `JPEGImages/480p`, of the split's sequences |
| `youtube_vos` | `Annotations/<video>/<frame>.png` | all of `JPEGImages`, every fifth of the film |

Files are index PNGs of the frames' size and bear the frames' names; their ids are those of the
masks that the download gives (the first ones of objects). As a command:

    python -m vseg_jax.inference.submissions check --kind davis --source DAVIS FOLDER_OR_ZIP
    python -m vseg_jax.inference.submissions write --kind davis --source DAVIS \\
        --checkpoint RUN --prepared DATASET OUTPUT

DAVIS is the folder of the official download (`--source`), RUN a training's working directory or an
export, DATASET the folder that `python -m input_pipeline.builders prepare` printed. `check` lists
every fault and ends with exit code 2 where there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from input_pipeline.builders import davis, youtube_vos
from input_pipeline.records import VOID
from vseg_jax.inference import overlay
from vseg_jax.inference.files import whole_folder

SPLITS = {"davis": "test-dev", "youtube_vos": "valid"}
FOLDER = {"davis": "", "youtube_vos": "Annotations/"}
Listed = tuple[str, list[Path], list[Path]]   # a video's name, frames and given masks


@dataclasses.dataclass(frozen=True)
class Video:
    """What is wanted of one video."""

    frames: tuple[str, ...]   # names without their ending, in order
    size: tuple[int, int]     # height, width
    ids: frozenset[int]       # that the given masks name


def wanted(kind: str, source: str | Path, split: str = "") -> dict[str, Video]:
    """What the server wants of every video.

    Args:
      kind: a key of `SPLITS`.
      source: folder of the official download, as `input_pipeline.builders` wants it.
      split: the one that `SPLITS` says where empty.

    Raises:
      ValueError: the download lacks frames or first masks, or there is no such split.
    """
    if kind not in SPLITS:
        raise ValueError(f"there is no kind {kind!r} of submission, only {', '.join(SPLITS)}")
    source, split = Path(source), split or SPLITS[kind]
    listed = (_davis if kind == "davis" else _youtube_vos)(source)
    if split not in listed:
        raise ValueError(f"{source} has no list of {split}, only of {', '.join(listed)}")
    videos = {}
    for name, frames, masks in listed[split]:
        if not frames or not masks:
            raise ValueError(f"{source}: the video {name} of {split} has {len(frames)} frames and "
                             f"{len(masks)} given masks; extract the download again")
        ids: set[int] = set()
        for path in masks:
            ids.update(np.unique(_open(path, path, np.asarray)).tolist())
        width, height = _open(frames[0], frames[0], lambda image: image.size)
        videos[name] = Video(tuple(p.stem for p in frames), (height, width),
                             frozenset(ids - {0, VOID}))
    return videos


def _davis(source: Path) -> dict[str, list[Listed]]:
    return {split: [(s.name, s.frames, [m for m in s.masks if m is not None]) for s in sequences]
            for split, sequences in davis.read_lists(source, davis.Options()).items()}


def _youtube_vos(source: Path) -> dict[str, list[Listed]]:
    found = youtube_vos.read_splits(source, youtube_vos.Options(dev=0))
    return {split: [(v.name, list(v.frames.values()), list(v.masks.values())) for v in videos]
            for split, videos in found.items()}


# --- checking ---------------------------------------------------------------------------------


def check(kind: str, source: str | Path, submission: str | Path, split: str = "") -> list[str]:
    """Every fault of a submission, one line each; an empty list where the server will take it.

    Args:
      kind, source, split: see `wanted`.
      submission: a folder or a zip.

    Raises:
      ValueError: `submission` is neither, or the official download cannot be read.
    """
    videos = wanted(kind, source, split)
    expected = {f"{FOLDER[kind]}{name}/{frame}.png": video
                for name, video in videos.items() for frame in video.frames}
    faults = []
    with _files(Path(submission)) as files:
        for name, video in videos.items():
            paths = [f"{FOLDER[kind]}{name}/{frame}.png" for frame in video.frames]
            missing = [path for path in paths if path not in files]
            if len(missing) == len(paths):
                faults.append(f"{FOLDER[kind]}{name}: missing, with its {len(paths)} frames")
            else:
                faults += [f"{path}: missing" for path in missing]
        faults += [f"{path}: not wanted, the frame or video is not in the {split or SPLITS[kind]} "
                   "split" for path in sorted(files.keys() - expected.keys())]
        for path in sorted(files.keys() & expected.keys()):
            with files[path]() as file:
                faults += [f"{path}: {fault}" for fault in _faults(file, path, expected[path])]
    return faults


@contextlib.contextmanager
def _files(submission: Path) -> Iterator[dict[str, Callable[[], io.BufferedIOBase]]]:
    """{path inside the submission: how to open it}."""
    if submission.is_dir():
        yield {p.relative_to(submission).as_posix(): functools.partial(p.open, "rb")
               for p in submission.rglob("*") if p.is_file()}
    elif not submission.is_file():
        raise ValueError(f"there is no submission {submission}; name a folder or a zip")
    else:
        try:
            archive = zipfile.ZipFile(submission)
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{submission} is no zip that can be read: {error}") from None
        with archive:
            yield {name: functools.partial(archive.open, name)
                   for name in archive.namelist() if not name.endswith("/")}


def _faults(file: io.BufferedIOBase, path: str, video: Video) -> list[str]:
    try:
        kind, mode, mask = _open(file, path, lambda im: (im.format, im.mode, np.asarray(im)))
    except ValueError as error:
        return [str(error).removeprefix(f"{path} ")]
    if kind != "PNG" or mode not in ("P", "L"):
        return [f"a {kind} of mode {mode}; wanted is a PNG of mode P, whose values are ids"]
    if mask.shape != video.size:
        return [f"{mask.shape[1]} x {mask.shape[0]}, but the frame is {video.size[1]} x "
                f"{video.size[0]}"]
    strange = sorted(set(np.flatnonzero(np.bincount(mask.ravel())).tolist()) - {0} - video.ids)
    return [f"ids {', '.join(map(str, strange[:8]))} that no given mask has (these are "
            f"{', '.join(map(str, sorted(video.ids)))})"] if strange else []


def _open(file: Any, name: Any, read: Callable[[Image.Image], Any]) -> Any:
    try:
        with Image.open(file) as image:
            return read(image)
    except (OSError, SyntaxError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name} cannot be read as a picture: {error}") from None


# --- writing ----------------------------------------------------------------------------------


def write(
    kind: str, source: str | Path, answers: Iterable[tuple[str, Iterable[tuple[int, np.ndarray]]]],
    output: str | Path, split: str = "",
) -> Path:
    """Writes a submission, as the folder `output` and as `<output>.zip`, checked, or neither.

    Args:
      kind, source, split: see `wanted`.
      answers: of each video its id, and of its frames their numbers (in the order of the source's
        files) and index masks [H, W]: what `vseg_jax.inference.propagate.videos` gives of a
        dataset that was built from the same source.
      output: a folder that is not there yet.

    Returns:
      The zip's path.

    Raises:
      ValueError: `output` or its zip is there already, or the answers are not what the server
        wants.
    """
    videos = wanted(kind, source, split)
    archive = Path(f"{output}.zip")
    if archive.exists():
        raise ValueError(f"{archive} is there already; name a new folder or remove it first")
    with whole_folder(output) as folder, _whole_file(archive) as temporary:
        for name, frames in answers:
            if name not in videos:
                raise ValueError(f"{source} has no video {name}; the dataset is another split")
            names, target = videos[name].frames, folder / FOLDER[kind] / name
            target.mkdir(parents=True)
            for number, index in frames:
                if number >= len(names):
                    raise ValueError(f"{source} has {len(names)} frames of {name}, the dataset "
                                     "more; build it from that source")
                overlay.save_index(target / f"{names[number]}.png", index)
        if faults := check(kind, source, folder, split):
            raise ValueError(f"the submission has {len(faults)} faults:\n" + "\n".join(faults[:20]))
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as packed:
            for path in sorted(folder.rglob("*.png")):
                packed.write(path, path.relative_to(folder))
    return archive


@contextlib.contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """A temporary file that becomes `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vseg_jax.inference.submissions",
                                     description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("check", "a folder or a zip"), ("write", "a new folder")):
        command = commands.add_parser(name)
        command.add_argument("--kind", choices=SPLITS, required=True)
        command.add_argument("--source", required=True, help="folder of the official download")
        command.add_argument("--split", default="", help=f"default: {SPLITS}")
        if name == "write":
            command.add_argument("--checkpoint", required=True, help="workdir, or an export")
            command.add_argument("--prepared", required=True, help="folder of the built dataset")
        command.add_argument("path", help=what)
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        if options.command == "write":
            print(_write(options))
            return
        faults = check(options.kind, options.source, options.path, options.split)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    if faults:
        print(*faults, sep="\n")
        parser.exit(2, f"error: {options.path} has {len(faults)} faults\n")
    print(f"{options.path} is complete")


def _write(options: argparse.Namespace) -> Path:
    from input_pipeline.records import open_dataset
    from vseg_jax.inference import propagate
    from vseg_jax.inference.segmenter import load

    dataset = open_dataset(options.prepared, options.split or SPLITS[options.kind])
    answers = propagate.videos(load(options.checkpoint), dataset,
                               entering=options.kind == "youtube_vos", progress=sys.stderr.isatty())
    return write(options.kind, options.source, answers, options.path, options.split)


if __name__ == "__main__":
    main()
