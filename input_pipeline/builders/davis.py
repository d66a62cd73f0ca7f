"""DAVIS 2016 and 2017 (Perazzi et al. 2016, Pont-Tuset et al. 2017), optionally with expressions.

Layout: `JPEGImages/<resolution>/<sequence>/<%05d>.jpg` (from 00000),
`Annotations/<resolution>/<sequence>/<%05d>.png`, and lists of the splits, either pairs of paths
(`ImageSets/480p/train.txt`, the 2016 download) or names of sequences
(`ImageSets/2016/train.txt` and `ImageSets/2017/train.txt`, the 2017 download). Your own videos in
this layout may have frames of any start, step and number of digits, PNGs as frames, frames without
a mask, and categories (`categories.json`); `vseg data new` writes it.

2016: one object, masks 0/255 (or the masks of 2017, whose objects are merged). 2017: palette masks
whose index is the object's id. test-dev and test-challenge have a mask of the first frame only.

The option `holdout` keeps training sequences aside, as a split of that name: to choose checkpoints
and settings without the val sequences.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files
from vseg_jax.input_pipeline.unread import Unread
from vseg_jax.input_pipeline.video_builder import VideoBuilder
from vseg_jax.text_files import read_json, read_text

SPLITS = ("train", "val", "test-dev", "test-challenge")
HOLDOUT = "holdout"
CATEGORIES = "categories.json"  # of your own videos: {sequence: {object id: category}}
OFFICIAL = {  # sequences per split
    2016: {"train": 30, "val": 20},
    2017: {"train": 60, "val": 30, "test-dev": 30, "test-challenge": 30},
}
FPS = 24.0


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of DAVIS."""

    # 2016: one object per sequence; 0: your own videos in the layout of 2017, in any number
    year: Literal[2016, 2017, 0] = 2017
    resolution: str = "480p"  # folder below JPEGImages, Annotations and ImageSets (2016)
    queries: str = ""  # JSON file: {sequence: {style: [texts] or {object id: [texts]}}}
    holdout: tuple[str, ...] = ()  # sequences of train that are the split "holdout" instead
    sequences: tuple[str, ...] = ()  # only these of all splits; () takes all


@dataclasses.dataclass(frozen=True)
class Sequence:
    """One sequence: paths of frames and masks (None: not annotated)."""

    name: str
    frames: list[Path]
    masks: list[Path | None]


class Builder(VideoBuilder):
    """Builds DAVIS; `options` is an `Options`."""

    name = "davis"

    def splits(self) -> dict[str, list[Unread]]:
        """Returns the records of every split; see `VideoBuilder.splits`."""
        listed = _held_out(read_lists(self.source, self.options), self.options.holdout)
        lists = _only(listed, self.options.sequences)
        problems = [p for split, found in lists.items() for p in _missing(split, found)]
        if problems:
            raise ValueError(
                f"DAVIS in {self.source} is incomplete: {'; '.join(problems)}; extract the archive "
                "again, or remove the sequences from the list"
            )
        queries = read_queries(Path(self.options.queries)) if self.options.queries else {}
        named = read_categories(self.source, listed, self.options)
        if unknown := _unknown(queries, listed, self.options.queries):
            warnings.warn(unknown, stacklevel=2)
        return {
            split: [Unread(record, s, self.options, queries.get(s.name, {}), named.get(s.name, {}))
                    for s in found]
            for split, found in lists.items()
        }

    def categories(self) -> list[records.Category]:
        """Returns the categories of your own videos, in alphabetical order."""
        lists = read_lists(self.source, self.options)
        named = read_categories(self.source, lists, self.options)
        names = sorted({name for objects in named.values() for name in objects.values()})
        return [records.Category(k, name) for k, name in enumerate(names, 1)]


def verify(
    source: Path, options: Options, official: dict[int, dict[str, int]] = OFFICIAL
) -> list[str]:
    """Returns the problems of a download: counts, missing and damaged files, bad masks, queries."""
    try:
        lists = read_lists(source, options)
        _only(_held_out(lists, options.holdout), options.sequences)
        categories = read_categories(source, lists, options)
        queries = read_queries(Path(options.queries)) if options.queries else {}
    except ValueError as error:
        return [str(error)]
    unknown = _unknown(queries, lists, options.queries)
    problems = [unknown] if unknown else []
    for split, found in lists.items():
        count = official.get(options.year, {}).get(split)
        if count is not None and len(found) != count:
            problems.append(f"{split} lists {len(found)} sequences; the official list has {count}")
        problems += _missing(split, found)
        paths = [p for s in found for p in (*s.frames, *s.masks) if p is not None and p.is_file()]
        problems += files.broken(paths, split)
        problems += [f"{split}: {fault}" for s in found
                     if (fault := _fault(s, options, queries, categories))]
    return problems


def _fault(sequence: Sequence, options: Options, queries: dict, categories: dict) -> str:
    """Returns why a sequence whose files are all whole cannot be read, or ''."""
    if not any(sequence.masks) or not all(
            files.is_whole(p) for p in (*sequence.frames, *sequence.masks) if p is not None):
        return ""   # listed already
    try:
        record(sequence, options, queries.get(sequence.name, {}),
               categories.get(sequence.name, {}))
    except ValueError as error:
        return str(error)
    return ""


def _unknown(queries: dict, lists: dict[str, list[Sequence]], path: str) -> str:
    """Returns a problem that names the sequences of the queries that no list has, or ''."""
    listed = {s.name for found in lists.values() for s in found}
    lost = [name for name in queries if name not in listed]
    if not lost:
        return ""
    near = difflib.get_close_matches(lost[0], listed, 1)
    return (f"{path} has expressions of sequences that no list names: {files.first_names(lost)}"
            + (f"; did you mean {near[0]}?" if near else "; they are not used"))


def read_lists(source: Path, options: Options) -> dict[str, list[Sequence]]:
    """Returns the sequences of every split that has a list.

    Raises:
      ValueError: no list, a line that cannot be read (names path and line), an empty list, or a
        sequence in two lists.
    """
    names = [options.resolution, "2016"] if options.year == 2016 else ["2017"]
    folders = [source / "ImageSets" / name for name in names]
    folder = next((f for f in folders if any((f / f"{s}.txt").is_file() for s in SPLITS)), None)
    if folder is None:
        raise ValueError(
            f"no list of sequences in {' or '.join(str(f) for f in folders)}: {source} is not the "
            f"folder of DAVIS {options.year} (the one that holds ImageSets, JPEGImages and "
            "Annotations), or the archive is extracted only in part; the option 'year' selects the "
            "layout"
        )
    lists = {}
    for split in SPLITS:
        path = folder / f"{split}.txt"
        if path.is_file():
            lists[split] = _read_list(path, source, options)
    for first, second in itertools.combinations(lists, 2):
        shared = {s.name for s in lists[first]} & {s.name for s in lists[second]}
        if shared:
            raise ValueError(
                f"{folder}: {first}.txt and {second}.txt both list "
                f"{files.first_names(sorted(shared))}; a sequence belongs to one split: extract "
                "the lists of the archive again")
    return lists


def _held_out(
    lists: dict[str, list[Sequence]], names: tuple[str, ...]
) -> dict[str, list[Sequence]]:
    """Returns the splits with the named sequences of train in a split of their own.

    Raises:
      ValueError: train has no such sequence, or no other one.
    """
    if not names:
        return lists
    train = lists.get("train", [])
    if lost := [name for name in names if name not in {s.name for s in train}]:
        raise ValueError(f"the option 'holdout' names {', '.join(lost)}, which the list of train "
                         f"lacks; it lists {', '.join(s.name for s in train) or 'nothing'}")
    rest = [s for s in train if s.name not in names]
    if not rest:
        raise ValueError("the option 'holdout' names all sequences of train; leave some to train")
    return {**lists, "train": rest, HOLDOUT: [s for s in train if s.name in names]}


def _only(lists: dict[str, list[Sequence]], names: tuple[str, ...]) -> dict[str, list[Sequence]]:
    """Returns the named sequences alone, without splits that have none of them.

    Raises:
      ValueError: no split has such a sequence.
    """
    if not names:
        return lists
    known = sorted({s.name for found in lists.values() for s in found})
    if lost := [name for name in names if name not in known]:
        raise ValueError(f"the option 'sequences' names {', '.join(lost)}, which no list has; "
                         f"there are {', '.join(known)}")
    return {split: kept for split, found in lists.items()
            if (kept := [s for s in found if s.name in names])}


def _read_list(path: Path, source: Path, options: Options) -> list[Sequence]:
    pairs: dict[str, list[tuple[Path, Path]]] = {}
    names: dict[str, None] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if len(words) == 2 and words[0].endswith(".jpg") and words[1].endswith(".png"):
            frame, mask = (source / word.lstrip("/") for word in words)
            pairs.setdefault(PurePosixPath(words[0]).parent.name, []).append((frame, mask))
        elif len(words) == 1 and "/" not in words[0]:
            names[words[0]] = None
        elif words:
            raise ValueError(
                f"{path}, line {number}: expected the name of a sequence or "
                f"'/JPEGImages/... .jpg /Annotations/... .png', got '{line}'"
            )
    listed = [
        Sequence(name, [f for f, _ in found], [m for _, m in found])
        for name, found in pairs.items()
    ]
    listed += [_sequence(name, path.stem, source, options) for name in names]
    if not listed:
        raise ValueError(f"{path} lists no sequence")
    return listed


def _sequence(name: str, split: str, source: Path, options: Options) -> Sequence:
    """Returns a sequence that is listed by name; its frames are those found in its folders."""
    images = source / "JPEGImages" / options.resolution / name
    annotations = source / "Annotations" / options.resolution / name
    found, annotated = files.numbered(images, *files.FRAMES), files.numbered(annotations, ".png")
    numbers = sorted({*found, *annotated})
    frames = [found.get(n, images / f"{n:05d}.jpg") for n in numbers]
    masks: list[Path | None] = [annotated.get(n, annotations / f"{n:05d}.png") for n in numbers]
    if options.year == 0:
        masks = [m if n in annotated else None for n, m in zip(numbers, masks, strict=True)]
    elif split.startswith("test"):  # only the first frame is annotated
        masks = [m if i == 0 or n in annotated else None
                 for i, (n, m) in enumerate(zip(numbers, masks, strict=True))]
    return Sequence(name, frames, masks)


def _missing(split: str, found: list[Sequence]) -> list[str]:
    problems = []
    if absent := [s.name for s in found if not any(f.is_file() for f in s.frames)]:
        problems.append(f"{split}: sequences without frames: "
                        f"{files.first_names(absent, len(found))} in folders of .jpg or .png "
                        "files that are named by numbers")
    present = [s for s in found if s.name not in set(absent)]
    frames = [f for s in present for f in s.frames]
    if lost := [f for f in frames if not f.is_file()]:
        problems.append(f"{split}: missing frames: {files.first_names(lost, len(frames))}")
    for s in present:
        numbers = [files.whole_number(f.stem, str(f), "the file's name") for f in s.frames]
        if holes := files.gaps(numbers):
            problems.append(f"{split}: {s.name} lacks frames: {files.first_names(holes)}")
    if absent := [s.name for s in present if not any(s.masks)]:
        problems.append(f"{split}: sequences without masks: "
                        f"{files.first_names(absent, len(present))}")
    masks = [m for s in present for m in s.masks if m is not None]
    if lost := [m for m in masks if not m.is_file()]:
        problems.append(f"{split}: missing masks: {files.first_names(lost, len(masks))}")
    return problems


def read_queries(path: Path) -> dict[str, dict[str, list[str] | dict[str, list[str]]]]:
    """Returns the expressions of a file; keys that start with '_' are comments.

    Raises:
      ValueError: no such file, not JSON, or the wrong form; names the path and the sequence.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise ValueError(f"the queries file {path} cannot be read ({error.strerror})") from error
    form = "{sequence: {style: [texts] or {object id: [texts]}}}"
    if not isinstance(content, dict):
        raise ValueError(f"the queries file {path} should hold {form}")
    queries = {key: value for key, value in content.items() if not key.startswith("_")}
    for name, styles in queries.items():
        lists = []
        for texts in styles.values() if isinstance(styles, dict) else [None]:
            lists += texts.values() if isinstance(texts, dict) else [texts]
        if not all(isinstance(x, list) and all(isinstance(t, str) for t in x) for x in lists):
            raise ValueError(f"{path}, sequence '{name}': expected {form}, got {styles!r}")
    return queries


def read_categories(
    source: Path, lists: Mapping[str, list[Sequence]], options: Options
) -> dict[str, dict[int, str]]:
    """Returns {sequence: {object id: category}} of your own videos; {} if there are none.

    Raises:
      ValueError: the file has another form, or names a sequence that no list has.
    """
    path = source / CATEGORIES
    if options.year != 0 or not path.is_file():
        return {}
    found = files.read_categories(path, "sequence")
    listed = {s.name for sequences in lists.values() for s in sequences}
    if lost := [name for name in found if name not in listed]:
        raise ValueError(f"{path} names sequences that no list has: "
                         f"{files.first_names(lost, len(found))}")
    return found


def record(
    sequence: Sequence, options: Options, queries: dict, categories: Mapping[int, str]
) -> records.Record:
    """Reads one sequence; `queries` and `categories` are those of its objects."""
    frames, masks, ids, size = [], [], set(), (0, 0)
    for frame_path, mask_path in zip(sequence.frames, sequence.masks, strict=True):
        data, image = files.read_image(frame_path)
        size = size if frames else (image.height, image.width)
        files.check_size(frame_path, (image.height, image.width), size, sequence.frames[0])
        frames.append(data)
        if mask_path is None:
            masks.append(b"")
            continue
        mask = read_mask(mask_path, single=options.year == 2016)
        files.check_size(mask_path, mask.shape, size, frame_path)
        ids |= {int(i) for i in np.flatnonzero(np.bincount(mask.ravel(), minlength=256))}
        masks.append(records.encode_mask(mask))
    objects = sorted(ids - {0, VOID})
    if not objects:
        raise ValueError(f"{sequence.name} has no object: no mask has another value than 0 and 255 "
                         f"({next(filter(None, sequence.masks))}, ...); write objects as 1, 2, ...")
    if unknown := sorted(categories.keys() - set(objects)):
        raise ValueError(f"{CATEGORIES}, '{sequence.name}' has categories of the objects "
                         f"{unknown}, but the masks have the objects {objects}")
    return records.Record(
        video_id=sequence.name, frames=frames, masks=masks, height=size[0], width=size[1], fps=FPS,
        objects=[records.Object(i, categories.get(i, "")) for i in objects],
        expressions=_expressions(sequence.name, queries, objects, options.queries),
    )


def read_mask(path: Path, single: bool) -> np.ndarray:
    """Returns a mask file as an index mask uint8 [H, W].

    With `single` everything that is not black is object 1. Otherwise see `files.read_mask`.
    """
    if not single:
        return files.read_mask(path)
    values = np.asarray(files.read_image(path)[1])
    color = values[..., :3] if values.ndim == 3 else values  # some 2016 masks have channels
    return (color.reshape(*values.shape[:2], -1) > 0).any(-1).astype(np.uint8)


def _expressions(
    name: str, queries: dict, objects: list[int], path: str
) -> list[records.Expression]:
    where = f"{path}, sequence '{name}'"
    found = []
    for style, listed in queries.items():
        if isinstance(listed, list):
            if len(objects) != 1:
                raise ValueError(
                    f"{where}, style '{style}': the sequence has the objects {objects}; assign "
                    'the expressions to them: {"1": ["..."], "2": ["..."]}'
                )
            listed = {str(objects[0]): listed}
        for key, texts in listed.items():
            object_id = files.whole_number(key, where, "an object id")
            if object_id not in objects:
                raise ValueError(f"{where}, style '{style}': there is no object {object_id}, "
                                 f"the masks hold {objects}")
            found += [records.Expression(files.tidy(t, where), object_id, style) for t in texts]
    return found
