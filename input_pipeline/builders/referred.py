"""The expressions of Refer-YouTube-VOS, and the objects that they name.

`meta_expressions/<split>/meta_expressions.json` lists the frames and expressions of a split. In
train each expression has the `obj_id` of its object. In valid and test it usually has none; the
file `meta_expressions_valid.json` of the authors' repository has the object of each.
"""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files, youtube_vos


@dataclasses.dataclass(frozen=True)
class Referred:
    """A video with the frames that the file of expressions lists, and its expressions in order.

    `all_known` is whether a meta.json lists all objects of the masks; otherwise the masks tell.
    """

    video: youtube_vos.Video
    frames: tuple[int, ...]
    expressions: tuple[records.Expression, ...]
    all_known: bool = False

    @property
    def named(self) -> bool:
        """Whether it is known which objects the expressions name."""
        ids = [e.object_id for e in self.expressions]
        return bool(ids) and records.UNKNOWN_OBJECT not in ids


def expressions_path(source: Path, split: str) -> Path:
    """Returns the place of a split's file of expressions."""
    return source / "meta_expressions" / split / "meta_expressions.json"


def read(source: Path, split: str, objects: Path | None = None) -> list[Referred]:
    """Returns the videos of a split in order of their names.

    Without `train/meta.json` the objects of train have no category. The masks of valid and test
    are those in `Annotations`, and are used if all expressions of a video have an object.

    Args:
      source: folder of the download.
      split: train, valid or test.
      objects: the authors' file of the objects of valid and test, if there is one.

    Raises:
      ValueError: a file cannot be read or has another form (names path, video and expression).
    """
    path = expressions_path(source, split)
    listed = _videos(path, '{"expressions": ..., "frames": ...}')
    meta = source / "train" / "meta.json" if split == "train" else objects
    known, texts = {}, {}
    if meta and (meta.is_file() or meta == objects):
        known = {v.name: v for v in youtube_vos.read_meta(meta)}
        if absent := sorted(listed.keys() - known.keys()):
            raise ValueError(f"{meta} lacks videos that {path} names: "
                             f"{files.first_names(absent, len(listed))}")
    if objects and split != "train":
        texts = _texts(objects)
    videos = []
    for name in sorted(listed):
        video = known.get(name, youtube_vos.Video(name, {}, {}, {}, {}))
        if split != "train" or not known:
            video = dataclasses.replace(
                video, frames=files.numbered(_folder(source, split, "JPEGImages", name),
                                             *files.FRAMES),
                masks=files.numbered(_folder(source, split, "Annotations", name), ".png"))
        videos.append(_referred(path, video, listed[name], split == "train", texts.get(name)))
    return videos


def record(referred: Referred) -> records.Record:
    """Reads one video."""
    video = referred.video
    frames = {n: p for n, p in video.frames.items() if n in referred.frames}
    objects = video.objects
    if not referred.all_known:
        seen = {int(value) for n in frames.keys() & video.masks.keys()
                for value in np.unique(files.read_mask(video.masks[n]))}
        objects = {**dict.fromkeys(seen - {0, VOID}, ""), **objects}
    record = youtube_vos.record(dataclasses.replace(video, frames=frames, objects=objects))
    return dataclasses.replace(record, expressions=list(referred.expressions))


def missing(split: str, videos: list[Referred]) -> list[str]:
    """Returns the problems of frames and masks that are listed and do not exist."""
    problems = youtube_vos.missing(split, [
        v.video if v.all_known else dataclasses.replace(v.video, shown={}) for v in videos])
    lost = [f"{v.video.name}/{n:05d}.jpg" for v in videos if v.video.frames
            for n in v.frames if n not in v.video.frames]
    if lost:
        problems.append(f"{split}: missing frames that the file of expressions lists: "
                        f"{files.first_names(lost)}")
    lost = []
    masked = any(v.video.masks for v in videos)  # those of test are not published
    for v in videos if masked or split != "test" else ():
        if v.named and v.video.frames and not v.all_known:
            shown = {n for numbers in v.video.shown.values() for n in numbers} or set(v.frames)
            lost += [f"{v.video.name}/{n:05d}.png"
                     for n in sorted(shown.intersection(v.frames) - v.video.masks.keys())]
    if lost:
        first = "" if split == "train" else "; YouTube-VOS has only the first mask of each object"
        problems.append(f"{split}: missing masks: {files.first_names(lost)}{first}")
    return problems


def _videos(path: Path, form: str) -> dict[str, Any]:
    content = files.read_json(path)
    listed = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f'{path} should hold {{"videos": {{name: {form}}}}}')
    return listed


def _folder(source: Path, split: str, kind: str, name: str) -> Path:
    """Returns a video's folder; the files of test may be in valid."""
    folders = [source / place / kind / name for place in dict.fromkeys((split, "valid"))]
    if split == "train":
        return folders[0]
    return next((f for f in folders if f.is_dir()), folders[0])


def _texts(path: Path) -> dict[str, dict[str, collections.deque[int]]]:
    """Returns {video: {text: the objects that it names, in order}} of the authors' file."""
    found = {}
    for name, entry in _videos(path, '{"objects": ...}').items():
        where = f"{path}, video {name}"
        texts: dict[str, collections.deque[int]] = collections.defaultdict(collections.deque)
        try:
            for key, value in entry["objects"].items():
                for text in value["expressions"]:
                    texts[files.tidy(text, where)].append(
                        files.whole_number(key, where, "an object's id"))
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f'{where} should be {{"objects": {{id: {{"category": ..., '
                             f'"expressions": [...], "frames": [...]}}}}}}; {error!r}') from error
        found[name] = texts
    return found


def _referred(
    path: Path, video: youtube_vos.Video, entry: Any, train: bool,
    texts: dict[str, collections.deque[int]] | None,
) -> Referred:
    where = f"{path}, video {video.name}"
    try:
        frames = tuple(files.whole_number(f, where, "a frame") for f in entry["frames"])
        listed = sorted((files.whole_number(key, where, "an expression's key"), value)
                        for key, value in entry["expressions"].items())
        expressions = tuple(
            _expression(value, video.objects, train, texts, f"{where}, expression {key}")
            for key, value in listed
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f'{where} should be {{"expressions": {{"0": {{"exp": ..., "obj_id": ...}}'
                         f'}}, "frames": [...]}} (obj_id only in train); {error!r}') from error
    if not train and [key for key, _ in listed] != list(range(len(listed))):
        raise ValueError(f"{where}: the expressions' keys should be 0 to {len(listed) - 1}, got "
                         f"{[key for key, _ in listed]}; predictions are submitted under them")
    referred = Referred(video, frames, expressions, train and bool(video.objects))
    if not train and not referred.named:
        return dataclasses.replace(
            referred, video=dataclasses.replace(video, masks={}, objects={}, shown={}))
    masks = video.masks if train else {n: p for n, p in video.masks.items() if n in frames}
    objects = {**{e.object_id: "" for e in expressions}, **video.objects}
    return dataclasses.replace(
        referred, video=dataclasses.replace(video, masks=masks, objects=objects))


def _expression(
    value: dict[str, Any], known: dict[int, str], train: bool,
    texts: dict[str, collections.deque[int]] | None, where: str,
) -> records.Expression:
    text = files.tidy(value["exp"], where)
    if train or "obj_id" in value:
        object_id = files.whole_number(value["obj_id"], where, "obj_id")
    elif texts is not None:
        if not texts.get(text):
            raise ValueError(f"{where}: '{text}' is not in the file of objects")
        object_id = texts[text].popleft()
    else:
        return records.Expression(text, records.UNKNOWN_OBJECT)
    if known and object_id not in known:
        raise ValueError(f"{where} names the object {object_id}; meta.json has {sorted(known)}")
    return records.Expression(text, object_id)
