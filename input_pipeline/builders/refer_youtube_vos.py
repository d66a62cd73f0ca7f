"""Refer-YouTube-VOS (Seo et al. 2020, URVOS): YouTube-VOS with referring expressions.

Layout: `train/{JPEGImages,Annotations}` and `train/meta.json` as in YouTube-VOS 2019, the frames of
valid and test, and `meta_expressions/<split>/meta_expressions.json`:
{"videos": {video: {"expressions": {"0": {"exp": text, "obj_id": "1"}}, "frames": ["00000", ...]}}}.
Only train has masks and the object that an expression names. The file of valid also lists the
videos of test, which are those in the file of test. In both splits the object of an expression is
`UNKNOWN_OBJECT`. The benchmark's server scores them, so a part of train is held out as `dev`: the
same videos as in `youtube_vos`.

The split `a2r` has the 3,528 pairs of video and expression on which models trained on A2D are
tested: those of train whose object has a category of A2D. The paper does not publish how it chose
them; the rule here gives the same number (inferred, see the page of the dataset).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files, youtube_vos
from vseg_jax.input_pipeline.index import Category
from vseg_jax.input_pipeline.video_builder import VideoBuilder

SPLITS = ("train", "valid", "test")
OFFICIAL = {"train": 3471, "valid": 202, "test": 305}  # videos
EXPRESSIONS = 12913  # of train
A2R_PAIRS = 3528
A2R_CATEGORIES = ("person", "dog", "cat", "bird")  # A2D's adults and babies are persons
CATEGORIES = (  # numbered by position, as in public code; the download has no numbers
    "airplane", "ape", "bear", "bike", "bird", "boat", "bucket", "bus", "camel", "cat", "cow",
    "crocodile", "deer", "dog", "dolphin", "duck", "eagle", "earless_seal", "elephant", "fish",
    "fox", "frisbee", "frog", "giant_panda", "giraffe", "hand", "hat", "hedgehog", "horse", "knife",
    "leopard", "lion", "lizard", "monkey", "motorbike", "mouse", "others", "owl", "paddle",
    "parachute", "parrot", "penguin", "person", "plant", "rabbit", "raccoon", "sedan", "shark",
    "sheep", "sign", "skateboard", "snail", "snake", "snowboard", "squirrel", "surfboard",
    "tennis_racket", "tiger", "toilet", "train", "truck", "turtle", "umbrella", "whale", "zebra",
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of Refer-YouTube-VOS."""

    dev: int = 100  # train videos moved to the split `dev`; 0: none
    seed: int = 0  # selects them, see `files.draw`
    a2r_categories: tuple[str, ...] = A2R_CATEGORIES  # of a2r (inferred); (): no a2r
    a2r_max_words: int = 25  # longer expressions are not in a2r (inferred); 0: no limit


@dataclasses.dataclass(frozen=True)
class Referred:
    """A video with the frames that the file of expressions lists, and its expressions in order."""

    video: youtube_vos.Video
    frames: tuple[int, ...]
    expressions: tuple[records.Expression, ...]


class Builder(VideoBuilder):
    """Builds Refer-YouTube-VOS; `options` is an `Options`."""

    name = "refer_youtube_vos"

    def splits(self) -> dict[str, Iterable[records.Record]]:
        """Returns the records of every split; see `VideoBuilder.splits`."""
        found = read_splits(self.source, self.options)
        if problems := _missing(found) + _miscounted(found, self.options):
            raise ValueError(
                f"Refer-YouTube-VOS in {self.source} is incomplete: {'; '.join(problems)}; extract "
                "the archive again"
            )
        return {split: (record(v) for v in videos) for split, videos in found.items()}

    def categories(self) -> Sequence[Category]:
        """Returns the categories, numbered from 0."""
        return [Category(number, name) for number, name in enumerate(CATEGORIES)]


def verify(
    source: Path, options: Options, official: dict[str, int] = OFFICIAL
) -> list[str]:
    """Returns the problems of a download: counts, missing files, truncated files."""
    try:
        found = read_splits(source, dataclasses.replace(options, dev=0))
    except ValueError as error:
        return [str(error)]
    problems = _miscounted(found, options)
    for split, count in official.items():
        if split not in found:
            problems.append(f"there is no {_json(Path(), split)}")
        elif len(found[split]) != count:
            problems.append(f"{split} has {len(found[split])} videos; the official one has {count}")
    strange = {c for v in found.get("train", ()) for c in v.video.objects.values()}
    if strange := strange.difference(CATEGORIES):
        problems.append("train/meta.json: unknown categories: "
                        f"{files.first_names(sorted(strange))}")
    problems += _missing(found)
    for split, videos in found.items():
        if split == "a2r":  # of train
            continue
        paths = [p for v in videos for p in (*v.video.frames.values(), *v.video.masks.values())]
        problems += files.broken(paths, split)
    return problems


def read_splits(source: Path, options: Options) -> dict[str, list[Referred]]:
    """Returns the videos of every split that has expressions, in order of their names.

    Raises:
      ValueError: no expressions, a file that cannot be read (names path, video and expression), not
        enough videos to hold out, or an unknown category.
    """
    if strange := set(options.a2r_categories).difference(CATEGORIES):
        raise ValueError(f"a2r_categories names {', '.join(sorted(strange))}; the categories are "
                         f"{', '.join(CATEGORIES)} (cars are sedans)")
    found = {}
    for split in SPLITS:
        if _json(source, split).is_file():
            found[split] = _read(source, split)
    if not found:
        raise ValueError(
            f"there is no {_json(source, 'train')}, and none of valid or test: {source} is not the "
            "folder of Refer-YouTube-VOS (the one that holds meta_expressions, train and valid), "
            "or the archive is extracted only in part"
        )
    if "valid" in found:
        tested = {v.video.name for v in found.get("test", ())}
        found["valid"] = [v for v in found["valid"] if v.video.name not in tested]
    if "train" in found:
        if pairs := [p for v in found["train"] if (p := _a2r(v, options)).expressions]:
            found["a2r"] = pairs
        if options.dev:
            held = youtube_vos.held_out([v.video.name for v in found["train"]], options.dev,
                                        options.seed)
            found["dev"] = [v for v in found["train"] if v.video.name in held]
            found["train"] = [v for v in found["train"] if v.video.name not in held]
    return found


def record(referred: Referred) -> records.Record:
    """Reads one video."""
    frames = {n: p for n, p in referred.video.frames.items() if n in referred.frames}
    record = youtube_vos.record(dataclasses.replace(referred.video, frames=frames))
    return dataclasses.replace(record, expressions=list(referred.expressions))


def _a2r(referred: Referred, options: Options) -> Referred:
    """Returns the video with only the expressions that are in a2r."""
    kept = (
        e for e in referred.expressions
        if referred.video.objects[e.object_id] in options.a2r_categories
        and (not options.a2r_max_words or len(e.text.split()) <= options.a2r_max_words)
    )
    return dataclasses.replace(referred, expressions=tuple(kept))


def _miscounted(found: dict[str, list[Referred]], options: Options) -> list[str]:
    """Returns the problems with the number of expressions, if train has all videos."""
    whole = [*found.get("train", ()), *found.get("dev", ())]
    if len(whole) != OFFICIAL["train"]:
        return []
    counts = [("train", sum(len(v.expressions) for v in whole), EXPRESSIONS)]
    if (options.a2r_categories, options.a2r_max_words) == (A2R_CATEGORIES, 25):
        pairs = sum(len(v.expressions) for v in found.get("a2r", ()))
        counts.append(("a2r", pairs, A2R_PAIRS))
    return [f"{split} has {count} expressions; the official one has {official}"
            for split, count, official in counts if count != official]


def _json(source: Path, split: str) -> Path:
    return source / "meta_expressions" / split / "meta_expressions.json"


def _read(source: Path, split: str) -> list[Referred]:
    path = _json(source, split)
    content = files.read_json(path)
    listed = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f'{path} should hold {{"videos": {{name: {{"expressions": ..., "frames": '
                         "...}}}")
    if split == "train":
        videos = {v.name: v for v in youtube_vos.read_meta(source / "train" / "meta.json")}
        if absent := sorted(listed.keys() - videos.keys()):
            raise ValueError(f"{source / 'train' / 'meta.json'} lacks videos that {path} names: "
                             f"{files.first_names(absent, len(listed))}")
    else:
        videos = {name: _without_masks(source, split, name) for name in listed}
    return [_referred(path, videos[name], listed[name], split == "train")
            for name in sorted(listed)]


def _without_masks(source: Path, split: str, name: str) -> youtube_vos.Video:
    folders = [source / place / "JPEGImages" / name for place in dict.fromkeys((split, "valid"))]
    folder = next((f for f in folders if f.is_dir()), folders[0])
    return youtube_vos.Video(name, files.numbered(folder, ".jpg"), {}, {}, {})


def _referred(path: Path, video: youtube_vos.Video, entry: Any, named: bool) -> Referred:
    where = f"{path}, video {video.name}"
    try:
        frames = tuple(files.whole_number(f, where, "a frame") for f in entry["frames"])
        listed = sorted((files.whole_number(key, where, "an expression's key"), value)
                       for key, value in entry["expressions"].items())
        expressions = tuple(
            _expression(value, video.objects if named else None, f"{where}, expression {key}")
            for key, value in listed
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f'{where} should be {{"expressions": {{"0": {{"exp": ..., "obj_id": ...}}'
                         f'}}, "frames": [...]}} (obj_id only in train); {error!r}') from error
    if not named and [key for key, _ in listed] != list(range(len(listed))):
        raise ValueError(f"{where}: the expressions' keys should be 0 to {len(listed) - 1}, got "
                         f"{[key for key, _ in listed]}; predictions are submitted under them")
    return Referred(video, frames, expressions)


def _expression(
    value: dict[str, Any], objects: dict[int, str] | None, where: str
) -> records.Expression:
    text = files.tidy(value["exp"], where)
    if objects is None:
        return records.Expression(text, records.UNKNOWN_OBJECT)
    object_id = files.whole_number(value["obj_id"], where, "obj_id")
    if object_id not in objects:
        raise ValueError(f"{where} names the object {object_id}; meta.json has {sorted(objects)}")
    return records.Expression(text, object_id)


def _missing(found: dict[str, list[Referred]]) -> list[str]:
    problems = []
    for split, videos in found.items():
        if split == "a2r":  # of train
            continue
        problems += youtube_vos.missing(split, [v.video for v in videos])
        lost = [f"{v.video.name}/{n:05d}.jpg" for v in videos if v.video.frames
                for n in v.frames if n not in v.video.frames]
        if lost:
            problems.append(f"{split}: missing frames that the file of expressions lists: "
                            f"{files.first_names(lost)}")
    return problems
