"""YouTube-VOS (Xu et al. 2018), the 2018 and 2019 downloads.

Layout: `<split>/JPEGImages/<video>/<%05d>.jpg`, `<split>/Annotations/<video>/<%05d>.png` (palette,
the index is the object's id) and `<split>/meta.json` with the objects of every video: category and
the frames that show them. The splits are train and valid; frames are every fifth frame of videos at
30 fps (the "all frames" downloads also have the others, without masks). In valid an object has a
mask only in the first frame that shows it, so a part of train can be held out as `dev`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files
from vseg_jax.input_pipeline.unread import Unread
from vseg_jax.input_pipeline.video_builder import VideoBuilder

SPLITS = ("train", "valid")
OFFICIAL = {"train": 3471, "valid": 507}  # videos, 2019; the valid of 2018 has 474
FPS = 30.0  # of the videos in which the frames are numbered


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of YouTube-VOS."""

    dev: int = 100  # train videos moved to the split `dev`; 0: none
    seed: int = 0  # selects them, see `files.draw`


@dataclasses.dataclass(frozen=True)
class Video:
    """One video: paths of frames and masks by number, and its objects in meta.json."""

    name: str
    frames: dict[int, Path]
    masks: dict[int, Path]
    objects: dict[int, str]  # id: category
    shown: dict[int, tuple[int, ...]]  # id: numbers of the frames that show it


class Builder(VideoBuilder):
    """Builds YouTube-VOS; `options` is an `Options`."""

    name = "youtube_vos"

    def splits(self) -> dict[str, list[Unread]]:
        """Returns the records of every split; see `VideoBuilder.splits`."""
        found = read_splits(self.source, self.options)
        if problems := [p for split, videos in found.items() for p in missing(split, videos)]:
            raise ValueError(
                f"YouTube-VOS in {self.source} is incomplete: {'; '.join(problems)}; extract the "
                "archive again"
            )
        return {split: [Unread(record, v) for v in videos] for split, videos in found.items()}


def verify(
    source: Path, options: Options, official: dict[str, int] = OFFICIAL
) -> list[str]:
    """Returns the problems of a download: counts, missing files, truncated files."""
    try:
        found = read_splits(source, dataclasses.replace(options, dev=0))
    except ValueError as error:
        return [str(error)]
    problems = []
    for split, count in official.items():
        if split not in found:
            problems.append(f"there is no {split}/meta.json")
        elif len(found[split]) != count:
            problems.append(f"{split}/meta.json has {len(found[split])} videos; the official one "
                            f"has {count}")
    for split, videos in found.items():
        problems += missing(split, videos)
        paths = [p for v in videos for p in (*v.frames.values(), *v.masks.values())]
        problems += files.broken(paths, split)
    return problems


def read_splits(source: Path, options: Options) -> dict[str, list[Video]]:
    """Returns the videos of every split that has a meta.json, in order of their names.

    Raises:
      ValueError: no meta.json, one that cannot be read (names path and video), or not enough videos
        to hold out.
    """
    found = {}
    for split in SPLITS:
        path = source / split / "meta.json"
        if path.is_file():
            found[split] = read_meta(path)
    if not found:
        raise ValueError(
            f"there is no meta.json in {' or '.join(str(source / s) for s in SPLITS)}: {source} is "
            "not the folder of YouTube-VOS (the one that holds train and valid), or the archive is "
            "extracted only in part"
        )
    if options.dev and "train" in found:
        held = held_out([v.name for v in found["train"]], options.dev, options.seed)
        found["dev"] = [v for v in found["train"] if v.name in held]
        found["train"] = [v for v in found["train"] if v.name not in held]
    return found


def held_out(names: list[str], dev: int, seed: int) -> set[str]:
    """Returns the names of the train videos that are held out as `dev`.

    Raises:
      ValueError: no video would be left in train.
    """
    if not 0 < dev < len(names):
        raise ValueError(f"the option 'dev' takes {dev} videos out of train, which has "
                         f"{len(names)}; dev=0 takes none")
    return set(files.draw(names, dev, seed))


def read_meta(path: Path) -> list[Video]:
    """Returns the videos of a meta.json in order of their names; errors name path and video."""
    content = files.read_json(path)
    videos = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(videos, dict) or not videos:
        raise ValueError(f'{path} should hold {{"videos": {{name: {{"objects": ...}}}}}}')
    return [_video(path, name, videos[name]) for name in sorted(videos)]


def _video(path: Path, name: str, entry: dict) -> Video:
    where = f"{path}, video {name}"
    objects, shown = {}, {}
    try:
        for key, value in entry["objects"].items():
            number = files.whole_number(key, where, "an object's id")
            objects[number] = value.get("category") or ""
            shown[number] = tuple(sorted(int(f) for f in value.get("frames", ())))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f'{where} should be {{"objects": {{id: {{"category": ..., "frames": '
                         f"[...]}}}}}}; {error!r}") from error
    return Video(
        name=name, frames=files.numbered(path.parent / "JPEGImages" / name, *files.FRAMES),
        masks=files.numbered(path.parent / "Annotations" / name, ".png"),
        objects=objects, shown=shown,
    )


def missing(split: str, videos: list[Video]) -> list[str]:
    """Returns the problems of files that meta.json lists and that do not exist."""
    problems = []
    if absent := [v.name for v in videos if not v.frames]:
        problems.append(f"{split}: videos without frames: "
                        f"{files.first_names(absent, len(videos))}")
    lost_frames, lost_masks = [], []
    for v in videos:
        if not v.frames:
            continue
        # In valid an object has a mask only in the first frame that shows it.
        masks = {n for s in v.shown.values() for n in (s[:1] if split == "valid" else s)}
        lost_masks += [f"{v.name}/{n:05d}.png" for n in sorted(masks - set(v.masks))]
        frames = {n for s in v.shown.values() for n in s} | set(v.masks)
        lost_frames += [f"{v.name}/{n:05d}.jpg" for n in sorted(frames - set(v.frames))]
    for what, lost in (("frames", lost_frames), ("masks", lost_masks)):
        if lost:
            problems.append(f"{split}: missing {what}: {files.first_names(lost)}")
    return problems


def record(video: Video) -> records.Record:
    """Reads one video."""
    frames, masks, size = [], [], (0, 0)
    first = next(iter(video.frames.values()))
    for number, path in video.frames.items():
        data, image = files.read_image(path)
        size = size if frames else (image.height, image.width)
        files.check_size(path, (image.height, image.width), size, first)
        frames.append(data)
        if number not in video.masks:
            masks.append(b"")
            continue
        mask = files.read_mask(video.masks[number])
        files.check_size(video.masks[number], mask.shape, size, path)
        files.check_ids(video.masks[number], mask, video.objects)
        masks.append(records.encode_mask(mask))
    step = min(np.diff(list(video.frames)), default=1)
    return records.Record(
        video_id=video.name, frames=frames, masks=masks, height=size[0], width=size[1],
        fps=FPS / float(step),
        objects=[records.Object(i, c) for i, c in sorted(video.objects.items())],
    )
