"""What the servers of DAVIS, YouTube-VOS, Refer-YouTube-VOS, YouTube-VIS and OVIS take, checked.

| kind | files | frames |
|---|---|---|
| `davis` | `<sequence>/<frame>.png` | all of `JPEGImages/480p`, of the split's sequences |
| `youtube_vos` | `Annotations/<video>/<frame>.png` | all of `JPEGImages`, every fifth of the video |
| `refer_youtube_vos` | `Annotations/<video>/<sentence>/<frame>.png` | those that its file lists |
| `youtube_vis`, `ovis` | `results.json`, see `vseg_jax.submission.results_json` | all |

The others are PNGs of the frames' size and bear the frames' names. They are index masks, whose ids
are those of the masks that the download gives (the first ones of objects); with `refer_youtube_vos`
they are gray, 255 on the object that the sentence names and 0 elsewhere. As a command:

    python -m vseg_jax.submission.index_pngs check --kind davis --source DAVIS FOLDER_OR_ZIP
    python -m vseg_jax.submission.index_pngs write --kind davis --source DAVIS \\
        --checkpoint RUN --prepared DATASET OUTPUT

DAVIS is the folder of the official download (`--source`), RUN a training's working directory or an
export, DATASET the folder that `python -m vseg_jax.input_pipeline.builders prepare` printed. `check` lists
every fault and ends with exit code 2 where there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import io
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vseg_jax.atomic import atomic_file, atomic_folder
from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.builders import davis, refer_youtube_vos, youtube_vos
from vseg_jax.media import overlay
from vseg_jax.submission import results_json as results

SPLITS = {"davis": "test-dev", "youtube_vos": "valid", "refer_youtube_vos": "valid"}
FOLDER = {"davis": "", "youtube_vos": "Annotations/", "refer_youtube_vos": "Annotations/"}
BINARY = frozenset({255})   # ids where there is one object, and nothing is void
# A video's name, its frames and its given masks; None where a sentence takes their place.
Listed = tuple[str, list[Path], list[Path] | None]


@dataclasses.dataclass(frozen=True)
class Video:
    """What is wanted of one video, or of one sentence of a video."""

    frames: tuple[str, ...]   # names without their ending, in order
    size: tuple[int, int]     # height, width
    ids: frozenset[int]       # that the given masks name, or `BINARY`


def wanted(kind: str, source: str | Path, split: str = "") -> dict[str, Video]:
    """What the server wants of every video, or of every "<video>/<sentence>".

    Args:
      kind: a key of `SPLITS`.
      source: folder of the official download, as `vseg_jax.input_pipeline.builders` wants it.
      split: the one that `SPLITS` says where empty.

    Raises:
      ValueError: the download lacks frames or first masks, or there is no such split.
    """
    if kind not in SPLITS:
        raise ValueError(f"there is no kind {kind!r} of submission, only {', '.join(SPLITS)}")
    source, split = Path(source), split or SPLITS[kind]
    listed = {"davis": _davis, "youtube_vos": _youtube_vos,
              "refer_youtube_vos": _refer_youtube_vos}[kind](source)
    if split not in listed:
        raise ValueError(f"{source} has no list of {split}, only of {', '.join(listed)}")
    videos = {}
    for name, frames, masks in listed[split]:
        if not frames or masks == []:
            raise ValueError(f"{source}: the video {name} of {split} has {len(frames)} frames and "
                             f"{len(masks or ())} given masks; extract the download again")
        width, height = _open(frames[0], frames[0], lambda image: image.size)
        videos[name] = Video(tuple(p.stem for p in frames), (height, width),
                             BINARY if masks is None else _ids(masks))
    return videos


def _ids(masks: list[Path]) -> frozenset[int]:
    ids: set[int] = set()
    for path in masks:
        ids.update(np.unique(_open(path, path, np.asarray)).tolist())
    return frozenset(ids - {0, VOID})


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
            # Of frames that are not there the name will do, but for the first, whose size is read.
            frames = [v.video.frames.get(n, Path(v.video.name, f"{n:05d}.jpg"))
                      for n in sorted(v.frames)]
            listed[split] += [(f"{v.video.name}/{sentence}", frames, None)
                              for sentence in range(len(v.expressions))]
    return listed


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
    if video.ids == BINARY and (kind, mode) != ("PNG", "L"):
        return [f"a {kind} of mode {mode}; wanted is a PNG of mode L, with the values 0 and 255"]
    if kind != "PNG" or mode not in ("P", "L"):
        return [f"a {kind} of mode {mode}; wanted is a PNG of mode P, whose values are ids"]
    if mask.shape != video.size:
        return [f"{mask.shape[1]} x {mask.shape[0]}, but the frame is {video.size[1]} x "
                f"{video.size[0]}"]
    strange = sorted(set(np.flatnonzero(np.bincount(mask.ravel())).tolist()) - {0} - video.ids)
    if strange and video.ids == BINARY:
        return [f"values {', '.join(map(str, strange[:8]))}; wanted are 0 and 255"]
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
    kind: str, source: str | Path, predictions: Iterable[tuple[str, Iterable[tuple[int, np.ndarray]]]],
    output: str | Path, split: str = "",
) -> Path:
    """Writes a submission, as the folder `output` and as `<output>.zip`, checked, or neither.

    Args:
      kind, source, split: see `wanted`.
      answers: of each video its id, and of its frames their numbers (in the order of the source's
        files) and index masks [H, W]: what `vseg_jax.evaluation.propagation.predict_videos`, or that of
        `expressions`, gives of a dataset that was built from the same source.
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
    with atomic_folder(output) as folder, atomic_file(archive) as temporary:
        for name, frames in predictions:
            if name not in videos:
                raise ValueError(f"{source} has no video {name}; the dataset is another split")
            names, target = videos[name].frames, folder / FOLDER[kind] / name
            target.mkdir(parents=True)
            for number, index in frames:
                if number >= len(names):
                    raise ValueError(f"{source} has {len(names)} frames of {name}, the dataset "
                                     "more; build it from that source")
                path = target / f"{names[number]}.png"
                if videos[name].ids == BINARY:
                    Image.fromarray((index != 0).astype(np.uint8) * 255).save(path)
                else:
                    overlay.save_index(path, index)
        if faults := check(kind, source, folder, split):
            raise ValueError(f"the submission has {len(faults)} faults:\n" + "\n".join(faults[:20]))
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as packed:
            for path in sorted(folder.rglob("*.png")):
                packed.write(path, path.relative_to(folder))
    return archive


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vseg_jax.submission.index_pngs",
                                     description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("check", "a folder or a zip"), ("write", "a new folder")):
        command = commands.add_parser(name)
        kinds = SPLITS | results.SPLITS
        command.add_argument("--kind", choices=kinds, required=True)
        command.add_argument("--source", required=True, help="folder of the official download")
        command.add_argument("--split", default="", help=f"default: {kinds}")
        if name == "write":
            command.add_argument("--checkpoint", required=True, help="workdir, or an export")
            command.add_argument("--prepared", required=True, help="folder of the built dataset")
        command.add_argument("path", help=what)
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        if options.command == "write":
            print(_write(options))
            return
        judge = results.check if options.kind in results.SPLITS else check
        faults = judge(options.kind, options.source, options.path, options.split)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    if faults:
        print(*faults, sep="\n")
        parser.exit(2, f"error: {options.path} has {len(faults)} faults\n")
    print(f"{options.path} is complete")


def _write(options: argparse.Namespace) -> Path:
    from vseg_jax.evaluation import expressions, instances
    from vseg_jax.evaluation import propagation as propagate
    from vseg_jax.inference.segmenter import load
    from vseg_jax.input_pipeline.records import open_dataset

    split = options.split or (SPLITS | results.SPLITS)[options.kind]
    dataset = open_dataset(options.prepared, split)
    segmenter, progress = load(options.checkpoint), sys.stderr.isatty()
    if options.kind in results.SPLITS:
        found = instances.predict_videos(segmenter, dataset, progress=progress)
        return results.write(options.kind, options.source, found, options.path, split)
    if options.kind == "refer_youtube_vos":
        predictions = expressions.predict_videos(segmenter, dataset, progress=progress)
    else:
        predictions = propagate.predict_videos(segmenter, dataset, entering=options.kind == "youtube_vos",
                                   progress=progress)
    return write(options.kind, options.source, predictions, options.path, options.split)


if __name__ == "__main__":
    main()
