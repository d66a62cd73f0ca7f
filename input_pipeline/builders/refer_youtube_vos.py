"""Refer-YouTube-VOS (Seo et al. 2020, URVOS): YouTube-VOS with sentences.

Layout: `train/{JPEGImages,Annotations}` and `train/meta.json` as in YouTube-VOS 2019, the frames of
valid and test, and `meta_expressions/<split>/meta_expressions.json`:
{"videos": {video: {"expressions": {"0": {"exp": text, "obj_id": "1"}}, "frames": ["00000", ...]}}}.
Only train says which object a sentence names, and only train has masks. The file of valid lists the
videos of test too, which are those that the file of test names. Their sentences name object 0 in
the records: not told. Scores on them come from the benchmark's server, so a part of train is held
out as `dev`: the same videos as of `youtube_vos`.

The split `a2r` holds the pairs of a video and a sentence that models trained on A2D are tested on
(3 528): those of train whose object is of a kind that A2D has. How the paper chose them is not
published; the rule here gives its count (inferred), see docs/data.md.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files, youtube_vos
from vseg_jax.input_pipeline.index import Category
from vseg_jax.input_pipeline.video_builder import VideoBuilder

SPLITS = ("train", "valid", "test")
OFFICIAL = {"train": 3471, "valid": 202, "test": 305}  # videos
SENTENCES = 12913  # of train
A2R_PAIRS = 3528
A2R_CATEGORIES = ("person", "dog", "cat", "bird")  # A2D's adult and baby are persons
CATEGORIES = (  # the download numbers none; in public code's classifiers the number is the place
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
    """How Refer-YouTube-VOS is read."""

    dev: int = 100  # train videos that go to the split `dev` instead; 0: none
    seed: int = 0  # which ones, see `files.draw`
    a2r_categories: tuple[str, ...] = A2R_CATEGORIES  # of objects in a2r (inferred); () is no a2r
    a2r_max_words: int = 25  # longer sentences are not in a2r (inferred); 0: no limit


@dataclasses.dataclass(frozen=True)
class Referred:
    """A video, its frames those that the expressions' file lists, and its sentences in order."""

    video: youtube_vos.Video
    frames: tuple[int, ...]
    expressions: tuple[records.Expression, ...]


class Builder(VideoBuilder):
    """Refer-YouTube-VOS records; `options` is an `Options`."""

    name = "refer_youtube_vos"

    def splits(self):
        """Raises a ValueError that lists what is missing before the first record is read."""
        found = read_splits(self.source, self.options)
        if problems := _missing(found) + _miscounted(found, self.options):
            raise ValueError(
                f"Refer-YouTube-VOS in {self.source} is not whole: {'; '.join(problems)}; extract "
                "the archive again"
            )
        return {split: (record(v) for v in videos) for split, videos in found.items()}

    def categories(self):
        return [Category(number, name) for number, name in enumerate(CATEGORIES)]


def verify(
    source: Path, options: Options, official: dict[str, int] = OFFICIAL
) -> list[str]:
    """What is wrong with the download: counts, missing files, files cut off."""
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
        if broken := [p for p in paths if not files.is_whole(p)]:
            problems.append(f"{split}: files cut off or not images: "
                            f"{files.first_names(broken, len(paths))}")
    return problems


def read_splits(source: Path, options: Options) -> dict[str, list[Referred]]:
    """The videos of every split whose expressions are there, in order of their names.

    Raises:
      ValueError: no expressions, a file that cannot be read (names path, video and sentence), more
        held out than there are, a category that there is not.
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
            f"there is no {_json(source, 'train')}, nor one of valid or test: {source} is not the "
            "folder of Refer-YouTube-VOS (the one that holds meta_expressions, train and valid), "
            "or the archive is half-extracted"
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
    made = youtube_vos.record(dataclasses.replace(referred.video, frames=frames))
    return dataclasses.replace(made, expressions=list(referred.expressions))


def _a2r(referred: Referred, options: Options) -> Referred:
    """The video with those sentences alone that are in a2r."""
    kept = (
        e for e in referred.expressions
        if referred.video.objects[e.object_id] in options.a2r_categories
        and (not options.a2r_max_words or len(e.text.split()) <= options.a2r_max_words)
    )
    return dataclasses.replace(referred, expressions=tuple(kept))


def _miscounted(found: dict[str, list[Referred]], options: Options) -> list[str]:
    """What is wrong with the number of sentences, where train has all videos."""
    whole = [*found.get("train", ()), *found.get("dev", ())]
    if len(whole) != OFFICIAL["train"]:
        return []
    counts = [("train", sum(len(v.expressions) for v in whole), SENTENCES)]
    if (options.a2r_categories, options.a2r_max_words) == (A2R_CATEGORIES, 25):
        pairs = sum(len(v.expressions) for v in found.get("a2r", ()))
        counts.append(("a2r", pairs, A2R_PAIRS))
    return [f"{split} has {count} sentences; the official one has {official}"
            for split, count, official in counts if count != official]


def _json(source: Path, split: str) -> Path:
    return source / "meta_expressions" / split / "meta_expressions.json"


def _read(source: Path, split: str) -> list[Referred]:
    path = _json(source, split)
    content = files.read_json(path)
    said = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(said, dict) or not said:
        raise ValueError(f'{path} should hold {{"videos": {{name: {{"expressions": ..., "frames": '
                         "...}}}")
    if split == "train":
        videos = {v.name: v for v in youtube_vos.read_meta(source / "train" / "meta.json")}
        if absent := sorted(said.keys() - videos.keys()):
            raise ValueError(f"{source / 'train' / 'meta.json'} lacks videos that {path} names: "
                             f"{files.first_names(absent, len(said))}")
    else:
        videos = {name: _without_masks(source, split, name) for name in said}
    return [_referred(path, videos[name], said[name], split == "train") for name in sorted(said)]


def _without_masks(source: Path, split: str, name: str) -> youtube_vos.Video:
    folders = [source / place / "JPEGImages" / name for place in dict.fromkeys((split, "valid"))]
    folder = next((f for f in folders if f.is_dir()), folders[0])
    return youtube_vos.Video(name, files.numbered(folder, ".jpg"), {}, {}, {})


def _referred(path: Path, video: youtube_vos.Video, said: Any, told: bool) -> Referred:
    where = f"{path}, video {video.name}"
    try:
        frames = tuple(files.whole_number(f, where, "a frame") for f in said["frames"])
        named = sorted((files.whole_number(key, where, "an expression's key"), value)
                       for key, value in said["expressions"].items())
        expressions = tuple(
            _expression(value, video.objects if told else None, f"{where}, expression {key}")
            for key, value in named
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f'{where} should be {{"expressions": {{"0": {{"exp": ..., "obj_id": ...}}'
                         f'}}, "frames": [...]}} (obj_id in train alone); {error!r}') from error
    if not told and [key for key, _ in named] != list(range(len(named))):
        raise ValueError(f"{where}: the expressions' keys should be 0 to {len(named) - 1}, got "
                         f"{[key for key, _ in named]}; answers are handed in by them")
    return Referred(video, frames, expressions)


def _expression(
    value: dict[str, Any], objects: dict[int, str] | None, where: str
) -> records.Expression:
    text = files.sentence(value["exp"], where)
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
            problems.append(f"{split}: missing frames that the expressions' file lists: "
                            f"{files.first_names(lost)}")
    return problems
