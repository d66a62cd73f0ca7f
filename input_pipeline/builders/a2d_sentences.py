"""A2D-Sentences (Gavrilyuk et al. 2018) over the videos of A2D (Xu et al. 2015).

Layout (Release may also lie in `A2D_main_1_0/`, the other three in `text_annotations/`, and the
folders of the .h5 in another folder of the archive's name):

    Release/videoset.csv                    9 columns, no header
    Release/clips320H/<video>.mp4           also found as CLIPS320
    a2d_annotation.txt                      video_id,instance_id,query
    a2d_missed_videos.txt                   videos without expressions
    a2d_annotation_with_instances/<video>/<%05d>.h5     frames counted from 1

A record holds a complete clip, re-encoded as JPEG; three to five of its frames are annotated.
Object ids are the instance ids plus one, categories are the actor-action labels ("adult-run").

Known errors of the official files and their treatment: the instance id "1 (copy)" is left out; of
an instance that an .h5 names twice (EadxBPmQvtg/00025) the first mask is used; masks beyond the
number of instances (95Nq6fQoP2o/00032, I0MlLHTWCro/00020, IRrbHQjE4LQ/00016) are ignored; where
objects overlap, the smaller one gets the pixel, because an index mask holds one object per pixel.
Masks that do not fit their clip, in size or frame number, are an error or, by the option `misfits`,
fitted or left out.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from vseg_jax import urls
from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import a2d_files, files
from vseg_jax.input_pipeline.unread import Unread
from vseg_jax.input_pipeline.video_builder import VideoBuilder

COLUMNS = ("vid", "label", "start", "end", "height", "width", "frames", "annotated", "subset")
SUBSETS = {"0": "train", "1": "test"}
ACTORS = ("adult", "baby", "ball", "bird", "car", "cat", "dog")
ACTIONS = ("climb", "crawl", "eat", "fly", "jump", "roll", "run", "walk", "none")
CLIPS = ("clips320H", "CLIPS320")
INSTANCES = "a2d_annotation_with_instances"


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of A2D-Sentences."""

    exclude: tuple[str, ...] = ()  # videos to leave out; some public loaders drop e7Kjy13woXg
    # Masks of another size than the clip, and of frames two or more beyond its end (one beyond
    # always annotates the last frame, because decoders differ by a frame). "fit" resizes the mask
    # to the nearest pixels, and takes the last frame; "skip" leaves the frame without a mask. Both
    # list the frames.
    misfits: Literal["stop", "fit", "skip"] = "stop"


@dataclasses.dataclass(frozen=True)
class Official:
    """Counts of the official files; train and test without the missed videos."""

    videos: int = 3782
    queries: int = 6655
    missed: int = 28
    train: int = 3017
    test: int = 737


@dataclasses.dataclass(frozen=True)
class Listing:
    """The content of the text files, and the folders of clips and masks."""

    videos: dict[str, str]  # video -> split, of all of videoset.csv
    queries: dict[str, list[tuple[int, str]]]  # video -> (instance, expression)
    rows: int  # of a2d_annotation.txt
    missed: frozenset[str]
    clips: Path
    instances: Path

    def used(self, split: str) -> list[str]:
        """Returns the videos of a split that are not missed, in the order of videoset.csv."""
        return [v for v, s in self.videos.items() if s == split and v not in self.missed]


class Builder(VideoBuilder):
    """Builds A2D-Sentences; `options` is an `Options`."""

    name = "a2d_sentences"

    def splits(self) -> dict[str, list[Unread]]:
        """Returns the records of every split; see `VideoBuilder.splits`."""
        listing = read_listing(self.source)
        excluded = set(self.options.exclude)
        if unknown := sorted(excluded - set(listing.videos)):
            raise ValueError(f"option 'exclude' names videos that videoset.csv lacks: {unknown}")
        found = {
            split: [v for v in listing.used(split) if v not in excluded]
            for split in SUBSETS.values()
        }
        problems = _missing(listing, [v for videos in found.values() for v in videos])
        if len(listing.videos) == Official.videos:   # otherwise a subset, or your own data
            problems += _miscounted(listing, Official())
        if problems:
            raise ValueError(
                f"A2D-Sentences in {self.source} is incomplete: {'; '.join(problems)}; extract "
                f"the archives again, see {urls.DATASETS}a2d_sentences"
            )
        if self.options.misfits == "stop":  # before clips are decoded, which takes long
            videos = [v for split in found.values() for v in split]
            if problems := find_misfits(listing, videos):
                raise ValueError(f"A2D-Sentences in {self.source} has {problems[0]}")
        misfits = self.options.misfits
        return {split: [
            Unread(_noted, listing, video, misfits, depends_on=(
                video, misfits, listing.queries.get(video, []), listing.clips / f"{video}.mp4",
                listing.instances / video))
            for video in videos] for split, videos in found.items()}

    def conclude(self, split: str, notes: Sequence[dict[str, Any]]) -> None:
        """Prints in how many frames objects overlap, and the masks that do not fit their clips."""
        overlapping, annotated = (sum(n[key] for n in notes) for key in ("overlaps", "annotated"))
        if overlapping:
            print(f"a2d_sentences: objects overlap in {overlapping} of {annotated} annotated "
                  "frames; the smaller one gets the pixels", flush=True)
        done = {"fit": "fitted", "skip": "left out"}.get(self.options.misfits)
        for fault in (fault for note in notes for fault in note["misfits"]):
            print(f"warning: a2d_sentences: a mask is {done}: {fault}", flush=True)


def verify(source: Path, options: Options, official: Official | None = None) -> list[str]:
    """Returns the problems of a download: counts, missing files, truncated files."""
    official = official or Official()
    try:
        listing = read_listing(source)
    except ValueError as error:
        return [str(error)]
    problems = _miscounted(listing, official)
    used = [v for s in SUBSETS.values() for v in listing.used(s) if v not in options.exclude]
    if silent := [v for v in used if v not in listing.queries]:
        problems.append(f"videos without a query that a2d_missed_videos.txt does not list: "
                        f"{files.first_names(silent, len(used))}")
    problems += _missing(listing, used)
    clips = [p for v in used if (p := listing.clips / f"{v}.mp4").is_file()]
    notes = [p for v in used for p in files.numbered(listing.instances / v, ".h5").values()]
    for paths in (clips, notes):
        problems += files.broken(paths)
    return problems + (find_misfits(listing, used) if options.misfits == "stop" else [])


def read_listing(source: Path) -> Listing:
    """Reads the text files.

    Raises:
      ValueError: a file or folder is missing, a row cannot be read (path and line).
    """
    videos = {}
    release = source / "A2D_main_1_0" / "Release"  # of the archive's name
    release = release if release.is_dir() else source / "Release"
    for where, row in files.read_rows(release / "videoset.csv", COLUMNS, header=False):
        if row["subset"] not in SUBSETS:
            raise ValueError(f"{where}: the last column should be 0 (train) or 1 (test), "
                             f"got '{row['subset']}'")
        videos[row["vid"]] = SUBSETS[row["subset"]]
    queries: dict[str, list[tuple[int, str]]] = {}
    rows = 0
    columns = ("video_id", "instance_id", "query")
    for where, row in files.read_rows(_find(source, "a2d_annotation.txt"), columns, header=True):
        rows += 1
        if row["video_id"] not in videos:
            raise ValueError(f"{where}: there is no video '{row['video_id']}' in videoset.csv")
        if row["instance_id"] == "1 (copy)":
            continue
        number = files.whole_number(row["instance_id"], where, "instance_id")
        text = files.tidy(row["query"], where)
        queries.setdefault(row["video_id"], []).append((number, text))
    path = _find(source, "a2d_missed_videos.txt")
    missed = {row["vid"] for _, row in files.read_rows(path, ("vid",), header=False)}
    clips = [release / name for name in CLIPS]
    instances = _find(source, INSTANCES)
    if (instances / INSTANCES).is_dir():  # extracted into a folder of the archive's name
        instances /= INSTANCES
    return Listing(
        videos, queries, rows, frozenset(missed),
        clips=next((c for c in clips if c.is_dir()), clips[0]), instances=instances,
    )


def _find(source: Path, name: str) -> Path:
    places = [source / name, source / "text_annotations" / name]
    for place in places:
        if place.exists():
            return place
    raise ValueError(f"neither {places[0]} nor {places[1]} exists: download {name} from the "
                     f"A2D-Sentences page, see {urls.DATASETS}a2d_sentences")


def _miscounted(listing: Listing, official: Official) -> list[str]:
    counts = {
        "rows in videoset.csv": (len(listing.videos), official.videos),
        "queries in a2d_annotation.txt": (listing.rows, official.queries),
        "videos in a2d_missed_videos.txt": (len(listing.missed), official.missed),
        "train videos that are not missed": (len(listing.used("train")), official.train),
        "test videos that are not missed": (len(listing.used("test")), official.test),
    }
    return [f"{got} {what}; the official files have {wanted}"
            for what, (got, wanted) in counts.items() if got != wanted]


def _missing(listing: Listing, videos: list[str]) -> list[str]:
    problems = []
    if lost := [v for v in videos if not (listing.clips / f"{v}.mp4").is_file()]:
        problems.append(f"clips missing in {listing.clips}: "
                        f"{files.first_names(lost, len(videos))}")
    if lost := [v for v in videos if not files.numbered(listing.instances / v, ".h5")]:
        problems.append(f"videos without masks in {listing.instances}: "
                        f"{files.first_names(lost, len(videos))}")
    return problems


def find_misfits(listing: Listing, videos: list[str]) -> list[str]:
    """Returns a problem that lists the masks that do not fit their clips; [] if all fit.

    Reads only the headers of the files. Files that cannot be read are no misfits.
    """
    faults: list[str] = []
    count = 0
    for video in videos:
        clip = listing.clips / f"{video}.mp4"
        notes = files.numbered(listing.instances / video, ".h5")
        count += len(notes)
        if header := a2d_files.clip_header(clip):
            faults += [fault for number, path in notes.items()
                       if (size := a2d_files.mask_size(path))
                       and (fault := a2d_files.misfit(path, number, size, clip, *header))]
    if not faults:
        return []
    return [f"masks that do not fit their clips: {files.first_names(faults, count)}; the option "
            "misfits=fit fits them, misfits=skip leaves them out"]


def _noted(listing: Listing, video: str, misfits: str) -> tuple[records.Record, dict[str, Any]]:
    """Reads one video, with a note for `Builder.conclude`."""
    record, overlaps, misfitting = read_video(listing, video, misfits)
    annotated = sum(1 for mask in record.masks if mask)
    return record, {"overlaps": overlaps, "annotated": annotated, "misfits": misfitting}


def read_video(
    listing: Listing, video: str, misfits: str = "stop"
) -> tuple[records.Record, int, list[str]]:
    """Reads one video.

    Returns:
      Its record, in how many annotated frames objects overlap, and which masks do not fit the clip.

    Raises:
      ValueError: a clip or an .h5 that cannot be read; a mask that does not fit, if `misfits` is
        "stop".
    """
    clip = listing.clips / f"{video}.mp4"
    frames, size, fps = a2d_files.read_clip(clip)
    masks = [b""] * len(frames)
    labels: dict[int, collections.Counter] = {n: collections.Counter()
                                              for n, _ in listing.queries.get(video, [])}
    overlaps, faults = 0, []
    for number, path in files.numbered(listing.instances / video, ".h5").items():
        instances = a2d_files.read_annotation(path)
        shape = instances[0].mask.shape if instances else size
        if fault := a2d_files.misfit(path, number, shape, clip, size, len(frames)):
            if misfits == "stop":
                raise ValueError(f"{fault}; download it again, or set the option misfits")
            faults.append(fault)
            if misfits == "skip":
                continue
        found = [(i.number + 1, a2d_files.fit(i.mask, size)) for i in instances]
        for instance in instances:
            labels.setdefault(instance.number, collections.Counter())[instance.label] += 1
        index = files.paint(found, size)
        overlaps += sum(int(mask.sum()) for _, mask in found) > int((index > 0).sum())
        position = min(max(number, 1), len(frames)) - 1
        masks[position] = masks[position] or records.encode_mask(index)  # keep an exact match
    objects = [records.Object(n + 1, category(seen)) for n, seen in sorted(labels.items())]
    expressions = [records.Expression(t, n + 1) for n, t in listing.queries.get(video, [])]
    return records.Record(
        video_id=video, frames=frames, masks=masks, height=size[0], width=size[1], fps=fps,
        objects=objects, expressions=expressions,
    ), overlaps, faults


def category(labels: collections.Counter) -> str:
    """Returns the name of the most frequent label, as "adult-run"; "" if there is none."""
    if not labels:
        return ""
    label = labels.most_common(1)[0][0]
    actor, action = divmod(label, 10)
    if 1 <= actor <= len(ACTORS) and 1 <= action <= len(ACTIONS):
        return f"{ACTORS[actor - 1]}-{ACTIONS[action - 1]}"
    return f"label-{label}"
