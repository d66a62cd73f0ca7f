"""Predictions for many videos: which they are, where their files lie, and a summary of all."""

from __future__ import annotations

import collections
import glob
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vseg_jax.atomic import write_text
from vseg_jax.config import nearest
from vseg_jax.inference import formats
from vseg_jax.inference.predict import TABLE, predict_to_folder
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.media.excerpt import WHOLE, Part, is_camera
from vseg_jax.media.images import in_order, is_image
from vseg_jax.media.video import ENDINGS

SUMMARY = "summary.json"


def find_videos(
    given: Sequence[str | os.PathLike], output: str | os.PathLike | None = None
) -> tuple[list[Path], bool]:
    """Returns the videos that a user names, and whether there may be several.

    Args:
      given: files, folders of images, folders of such files and folders, and patterns such as
        "clips/**/*.mp4". Hidden files are ignored, and files of a folder that are no videos.
      output: folder of the predictions; a pattern does not find what was written there.

    Returns:
      The videos, each once, in the order of `given` and there in that of the numbers in their
      names; and False if `given` is a single video.

    Raises:
      ValueError: a pattern fits no file, or a folder holds images beside videos.
    """
    found: list[Path] = []
    several = len(given) != 1
    for path in map(Path, given):
        text = str(path)
        if path.is_dir():
            inside = _inside(path)
            several |= inside != [path]
            found += inside
        elif not path.exists() and glob.has_magic(text):
            fitting = [Path(p) for p in glob.glob(text, recursive=True)
                       if output is None or not _lies_in(p, output)]
            if not fitting:
                raise ValueError(f"no file fits {text}; it is neither a video nor a folder")
            several = True
            found += sorted(fitting, key=lambda p: (in_order(p.parent), in_order(p)))
        else:
            found.append(path)
    found = list(dict.fromkeys(found))
    if several and any(map(is_camera, found)):
        raise ValueError("a camera is segmented until it is stopped; name no other video with it")
    return found, several


def _lies_in(path: str, folder: str | os.PathLike) -> bool:
    return Path(os.path.abspath(folder)) in Path(os.path.abspath(path)).parents


def _inside(folder: Path) -> list[Path]:
    """Returns the videos in a folder; the folder itself if it is one, or holds nothing."""
    entries = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=in_order)
    videos = [p for p in entries if p.suffix.lower() in ENDINGS and p.is_file()]
    images = [p for p in entries if is_image(p)]
    if images and videos:
        raise ValueError(f"{folder} holds images ({images[0].name}) and videos ({videos[0].name}); "
                         f"name the videos by a pattern, such as '{folder}/*{videos[0].suffix}'")
    if images:
        return [folder]
    folders = [p for p in entries if p.is_dir() and any(map(is_image, p.iterdir()))]
    return sorted([*videos, *folders], key=in_order) or [folder]


def names_of(videos: Sequence[Path]) -> list[str]:
    """Returns a name for each video: its path below the folder that all have in common.

    Files have no suffix in it, unless the name would then be that of another video or its folder.
    """
    paths = [Path(os.path.abspath(video)) for video in videos]
    common = Path(os.path.commonpath([path.parent for path in paths]))
    whole = [path.relative_to(common) for path in paths]
    short = [path if original.is_dir() else path.with_suffix("")
             for path, original in zip(whole, videos, strict=True)]
    used = collections.Counter(name for path in short for name in (path, *path.parents))
    return [(path if used[path] == 1 else full).as_posix()
            for path, full in zip(short, whole, strict=True)]


def mask_of(masks: str | os.PathLike, name: str) -> Path:
    """Returns the mask prompt of one of several videos.

    Args:
      masks: a folder that holds NAME.png, the mask of the first frame, or the folder NAME, as
        `predict_to_folder` takes it, for each video.
      name: of the video.

    Raises:
      ValueError: it holds none, or several.
    """
    wanted = Path(masks, name)
    beside = wanted.parent.iterdir() if wanted.parent.is_dir() else ()
    found = [p for p in beside if p.name == wanted.name or (p.is_file() and p.stem == wanted.name)]
    if len(found) != 1:
        has = f"holds {found[0].name} and {found[1].name}" if found else "holds no mask"
        raise ValueError(f"{masks} {has} for the video {name}; with several videos, --mask is a "
                         f"folder with {name}.png (of the first frame) or the folder {name}")
    return found[0]


def predict_videos(
    segmenter: Segmenter, videos: Sequence[str | os.PathLike], output: str | os.PathLike, *,
    mask: str | os.PathLike | None = None, into: Sequence[str] = (), fps: float | None = None,
    part: Part = WHOLE, **settings: Any,
) -> dict[str, Any]:
    """Segments videos, and writes their predictions in more formats.

    A single video goes to `output`, see `predict_to_folder`; several go to `output`/NAME (see
    `names_of`), with `summary.json` beside them, which is written again after each video. A video
    that an earlier call with the same settings has finished is kept, and one that fails does not
    stop the others.

    Args:
      segmenter: the model.
      videos: see `find_videos`.
      output: folder to write.
      mask: as `predict_to_folder` takes it for a single video, see `mask_of` for several.
      into: names in `formats.FORMATS`.
      fps: of folders of images; files keep their own.
      part: of each video.
      settings: the other arguments of `predict_to_folder`.

    Returns:
      What `summary.json` holds: "done", "skipped", "failed" and "waiting", the numbers of these
      videos; "frames" and "seconds" of those that were segmented now; and "videos": [{"name",
      "video", "output", "status", "frames", "seconds", "error"}], with one of these words as
      status, and "error" where it failed.

    Raises:
      ValueError: there is no video, or it is the only one and cannot be segmented.
      KeyboardInterrupt: see `predict_to_folder`.
    """
    if unknown := [name for name in into if name not in formats.FORMATS]:
        raise ValueError(f"there is no format '{unknown[0]}'"
                         f"{nearest(unknown[0], formats.FORMATS)}")
    found, several = find_videos(videos, output)
    segmenter.check_prompt(settings.get("query"), mask)
    if "alpha-video" in into and is_camera(found[0]):
        raise ValueError("alpha-video reads the video again, which a camera cannot; leave it out")
    run = _Run(segmenter, found, Path(output), several, into, fps, part)
    if not several:
        run.predict(0, mask, settings)
    else:
        if mask is not None and not Path(mask).is_dir():
            raise ValueError(f"--mask is {mask}, but there are several videos; name a folder that "
                             "holds NAME.png or the folder NAME for each video")
        run.check_names()
        run.write_summary()
        for k in range(len(found)):
            try:
                run.predict(k, None if mask is None else mask_of(mask, run.names[k]), settings)
            except KeyboardInterrupt:
                print(run.report())
                raise
            except Exception as error:   # of any kind: the other videos may be well
                run.fail(k, error)
            run.write_summary()
        print(run.report())
    run.write_all()
    return run.summary()


class _Run:
    """The videos of a call, and what became of them."""

    def __init__(self, segmenter: Segmenter, videos: Sequence[Path], output: Path, several: bool,
                 into: Sequence[str], fps: float | None, part: Part) -> None:
        self.segmenter, self.videos, self.output = segmenter, videos, output
        self.several, self.into, self.part = several, into, part
        if several and fps is not None and not any(Path(video).is_dir() for video in videos):
            raise ValueError(f"fps is {fps}, but each of the {len(videos)} videos has a frame rate "
                             "of its own; leave fps out (it is for folders of images)")
        # Of several videos, those that are files keep their own rate.
        self.fps = [fps if Path(video).is_dir() or not several else None for video in videos]
        self.names = names_of(videos)
        self.rows: list[dict[str, Any]] = [
            {"name": name, "video": str(video), "output": str(self._folder(name)),
             "status": "waiting"} for name, video in zip(self.names, videos, strict=True)]

    def _folder(self, name: str) -> Path:
        return self.output / name if self.several else self.output

    def check_names(self) -> None:
        """Raises ValueError if a video has the name of something else in the output."""
        for name in self.names:
            if name.split("/")[0] in (SUMMARY, *self.into, *(f"{kind}.json" for kind in self.into)):
                raise ValueError(f"the video {name} has the name of what --format writes beside "
                                 "it; rename it")

    def predicted(self, k: int) -> formats.Predicted:
        """Returns the predictions of a video, which are there."""
        return formats.Predicted(self.names[k], self._folder(self.names[k]), self.videos[k],
                                 self.fps[k], self.part)

    def predict(self, k: int, mask: str | os.PathLike | None, settings: dict[str, Any]) -> None:
        """Segments a video, unless that is done, and writes its files of other formats."""
        row, began = self.rows[k], time.monotonic()
        folder = Path(row["output"])
        kept = (folder / TABLE).is_file()
        if self.several and settings.get("progress", True):
            settings = {**settings, "progress": f"[{k + 1}/{len(self.rows)}] {self.names[k]}"}
        table = predict_to_folder(self.segmenter, self.videos[k], folder, mask=mask,
                                  fps=self.fps[k], part=self.part, keep=True, **settings)
        for kind in self.into:
            formats.write_each(kind, self.predicted(k), self.output, replace=not kept)
        row |= {"status": "skipped" if kept else "done", "frames": len(table["frames"]),
                "seconds": round(time.monotonic() - began, 3)}

    def fail(self, k: int, error: Exception) -> None:
        """Notes that a video cannot be segmented."""
        known = isinstance(error, ValueError | OSError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        self.rows[k] |= {"status": "failed", "error": text}
        print(f"failed: {self.names[k]}: {text}", file=sys.stderr)

    def write_all(self) -> None:
        """Writes the formats that have one file for all videos."""
        ready = [self.predicted(k) for k, row in enumerate(self.rows)
                 if row["status"] in ("done", "skipped")]
        for kind in self.into if ready else ():
            formats.write_all(kind, ready, self.segmenter.categories, self.output)

    def summary(self) -> dict[str, Any]:
        """Returns what `summary.json` holds."""
        counts = collections.Counter(row["status"] for row in self.rows)
        now = [row for row in self.rows if row["status"] == "done"]
        return {**{status: counts[status] for status in ("done", "skipped", "failed", "waiting")},
                "frames": sum(row["frames"] for row in now),
                "seconds": round(sum(row["seconds"] for row in now), 3), "videos": self.rows}

    def write_summary(self) -> None:
        """Writes `summary.json` as it is now."""
        write_text(self.output / SUMMARY, json.dumps(self.summary(), indent=1) + "\n")

    def report(self) -> str:
        """Returns the summary in words."""
        now = self.summary()
        counts = [f"{now[status]} {text}" for status, text in (
            ("done", "done"), ("skipped", "done before"), ("failed", "failed"),
            ("waiting", "not finished")) if now[status]]
        failed = [f"  failed: {row['name']}: {row['error']}" for row in self.rows
                  if row["status"] == "failed"]
        return "\n".join([f"{len(self.rows)} videos: {', '.join(counts)} ({now['frames']} frames "
                          f"in {now['seconds']:.0f} s)", *failed])
