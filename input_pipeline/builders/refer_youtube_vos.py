"""Refer-YouTube-VOS (Seo et al. 2020, URVOS): YouTube-VOS with referring expressions.

Layout: `train/{JPEGImages,Annotations}` and `train/meta.json` as in YouTube-VOS 2019, the frames of
valid and test, and `meta_expressions/<split>/meta_expressions.json`:
{"videos": {video: {"expressions": {"0": {"exp": text, "obj_id": "1"}}, "frames": ["00000", ...]}}}.
The file of valid also lists the videos of test, which are those in the file of test. Files and
frames of test are no longer published: without the file, test has the videos without frames.

Only train has the object that an expression names; in valid and test it is `UNKNOWN_OBJECT` unless
the option `objects` names the authors' list, with which the masks in `valid/Annotations` are read.
A part of train is held out as `dev`: the same videos as in `youtube_vos`.

The split `a2r` has the 3,528 pairs of video and expression on which models trained on A2D are
tested: those of train whose object has a category of A2D. The paper does not publish how it chose
them; the rule here gives the same number (inferred, see the page of the dataset).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vseg_jax.input_pipeline.builders import files, referred, youtube_vos
from vseg_jax.input_pipeline.builders.referred import Referred, expressions_path
from vseg_jax.input_pipeline.index import Category
from vseg_jax.input_pipeline.unread import Unread
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

    splits: tuple[str, ...] = SPLITS  # of the download; one alone needs no files of the others
    objects: str = ""  # the authors' meta_expressions_valid.json: the objects that the expressions
    #                    of valid and test name; with it valid has masks
    dev: int = 100  # train videos moved to the split `dev`; 0: none
    seed: int = 0  # selects them, see `files.draw`
    a2r_categories: tuple[str, ...] = A2R_CATEGORIES  # of a2r (inferred); (): no a2r
    a2r_max_words: int = 25  # longer expressions are not in a2r (inferred); 0: no limit


@dataclasses.dataclass(frozen=True)
class Found:
    """What a download holds.

    Attributes:
      splits: the videos of each split, in order of their names.
      left_out: what is not in `splits` and why, one line each.
      problems: counts that cannot be those of a complete download.
    """

    splits: dict[str, list[Referred]]
    left_out: list[str]
    problems: list[str]


class Builder(VideoBuilder):
    """Builds Refer-YouTube-VOS; `options` is an `Options`."""

    name = "refer_youtube_vos"

    def splits(self) -> dict[str, list[Unread]]:
        """Returns the records of every split; see `VideoBuilder.splits`."""
        found = find(self.source, self.options)
        problems = found.problems + _missing(found.splits) + _miscounted(found.splits, self.options)
        if problems:
            raise ValueError(
                f"Refer-YouTube-VOS in {self.source} is incomplete: {'; '.join(problems)}; extract "
                "the archive again, or build only some splits, for example with the option "
                "splits=valid"
            )
        for line in found.left_out:
            print(f"warning: refer_youtube_vos: {line}", flush=True)
        return {split: [Unread(referred.record, v) for v in videos]
                for split, videos in found.splits.items()}

    def categories(self) -> Sequence[Category]:
        """Returns the categories, numbered from 0."""
        return [Category(number, name) for number, name in enumerate(CATEGORIES)]


def verify(
    source: Path, options: Options, official: dict[str, int] = OFFICIAL
) -> list[str]:
    """Returns the problems of a download: counts, missing files, truncated files."""
    try:
        whole = find(source, dataclasses.replace(options, dev=0))
    except ValueError as error:
        return [str(error)]
    found = whole.splits
    problems = whole.problems + _miscounted(found, options)
    for split in options.splits:
        if split not in found and split != "test":  # test is not published any more
            problems.append(f"there is no {expressions_path(Path(), split)}")
        elif split in found and len(found[split]) != official[split]:
            problems.append(f"{split} has {len(found[split])} videos; the official one has "
                            f"{official[split]}")
    strange = {c for v in found.get("train", ()) if v.all_known for c in v.video.objects.values()}
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
    """Returns the videos of every split that has expressions; see `find`."""
    return find(source, options).splits


def find(source: Path, options: Options) -> Found:
    """Returns the videos of every split that has expressions, and what is left out.

    Raises:
      ValueError: no expressions, a file that cannot be read (names path, video and expression), not
        enough videos to hold out, or an unknown category or split.
    """
    if strange := set(options.a2r_categories).difference(CATEGORIES):
        raise ValueError(f"a2r_categories names {', '.join(sorted(strange))}; the categories are "
                         f"{', '.join(CATEGORIES)} (cars are sedans)")
    if not options.splits or not set(options.splits) <= set(SPLITS):
        raise ValueError(f"the option 'splits' is {','.join(options.splits)!r}; it takes some of "
                         f"{', '.join(SPLITS)}")
    objects = Path(options.objects) if options.objects else None
    read = {split: referred.read(source, split, objects) for split in SPLITS
            if expressions_path(source, split).is_file()
            # test is read for valid too, to know which videos are test's
            and (split in options.splits or (split == "test" and "valid" in options.splits))}
    if not set(read).intersection(options.splits):
        raise ValueError(
            f"there is no {expressions_path(source, options.splits[0])}, and none of the other "
            f"splits: {source} is not the folder of Refer-YouTube-VOS (the one that holds "
            "meta_expressions, train and valid), or the archive is extracted only in part"
        )
    found = Found({s: v for s, v in read.items() if s in options.splits}, [], [])
    if "valid" in found.splits:
        _without_test(source, found, read.get("test"))
    if "test" in found.splits and len(found.splits) > 1 and not _with_frames(found.splits["test"]):
        count = len(found.splits.pop("test"))
        found.left_out.append(f"test: none of its {count} videos has frames")
    for split in ("valid", "test"):
        masks = source / split / "Annotations"
        videos = found.splits.get(split, ())
        if videos and masks.is_dir() and not any(v.named for v in videos):
            found.left_out.append(f"masks in {masks}: which objects the expressions name is not "
                                  "known; the option 'objects' takes the authors' file of them")
    if "train" in found.splits:
        _divide_train(source, found, options)
    return found


def _with_frames(videos: Sequence[Referred]) -> list[Referred]:
    return [v for v in videos if v.video.frames]


def _without_test(source: Path, found: Found, test: list[Referred] | None) -> None:
    """Removes the videos of test from valid."""
    listed = found.splits["valid"]
    if test is not None:
        tested = {v.video.name for v in test}
        found.splits["valid"] = [v for v in listed if v.video.name not in tested]
        return
    kept = _with_frames(listed)
    if not kept or len(kept) == len(listed):
        return
    if len(listed) in (OFFICIAL["valid"], OFFICIAL["valid"] + OFFICIAL["test"]) \
            and len(kept) != OFFICIAL["valid"]:
        found.problems.append(f"{len(kept)} videos of valid have frames; the official one has "
                              f"{OFFICIAL['valid']}")
    found.splits["valid"] = kept
    found.left_out.append(
        f"valid: {len(listed) - len(kept)} of {len(listed)} videos have no frames; they are taken "
        f"for those of test, as there is no {expressions_path(source, 'test')}")


def _divide_train(source: Path, found: Found, options: Options) -> None:
    """Adds a2r, and moves the held-out videos of train to dev."""
    train = found.splits["train"]
    if options.a2r_categories and not any(v.all_known for v in train):
        found.left_out.append(f"a2r: there is no {source / 'train' / 'meta.json'} with the "
                              "categories of the objects; it is in train.zip of YouTube-VOS 2019")
    elif pairs := [p for v in train if (p := _a2r(v, options)).expressions]:
        found.splits["a2r"] = pairs
    if options.dev:
        held = youtube_vos.held_out([v.video.name for v in train], options.dev, options.seed)
        found.splits["dev"] = [v for v in train if v.video.name in held]
        found.splits["train"] = [v for v in train if v.video.name not in held]


def _a2r(video: Referred, options: Options) -> Referred:
    """Returns the video with only the expressions that are in a2r."""
    kept = (
        e for e in video.expressions
        if video.video.objects[e.object_id] in options.a2r_categories
        and (not options.a2r_max_words or len(e.text.split()) <= options.a2r_max_words)
    )
    return dataclasses.replace(video, expressions=tuple(kept))


def _miscounted(found: dict[str, list[Referred]], options: Options) -> list[str]:
    """Returns the problems with the number of expressions, if train has all videos."""
    whole = [*found.get("train", ()), *found.get("dev", ())]
    if len(whole) != OFFICIAL["train"]:
        return []
    counts = [("train", sum(len(v.expressions) for v in whole), EXPRESSIONS)]
    default = (options.a2r_categories, options.a2r_max_words) == (A2R_CATEGORIES, 25)
    if default and any(v.all_known for v in whole):
        pairs = sum(len(v.expressions) for v in found.get("a2r", ()))
        counts.append(("a2r", pairs, A2R_PAIRS))
    return [f"{split} has {count} expressions; the official one has {official}"
            for split, count, official in counts if count != official]


def _missing(found: dict[str, list[Referred]]) -> list[str]:
    return [problem for split, videos in found.items() if split != "a2r"  # which is of train
            for problem in referred.missing(split, videos)]
