"""The record format that all datasets share, and how prepared datasets are opened.

A dataset on disk consists of ArrayRecord shards (see `video_builder`) and one JSON line per record
(`index-<split>.jsonl`), which suffices to list and filter samples without decoding a pixel. Images,
masks, flow and audio stay encoded in the record; samplers decode only what they use.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from grain.sources import ArrayRecordDataSource

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.codecs import (
    SAMPLE_RATE,
    check_size,
    decode_audio,
    decode_flow,
    decode_image,
    decode_mask,
    encode_audio,
    encode_flow,
    encode_image,
    encode_mask,
)
from vseg_jax.input_pipeline.index import (
    Category,
    Expression,
    IndexedObject,
    IndexEntry,
    Object,
    index_name,
    read_categories,
    read_index,
)

_INFO = "dataset_info.json"   # of TFDS, written last

__all__ = [  # with the encodings, which are part of the format
    "SAMPLE_RATE", "UNKNOWN_OBJECT", "Dataset", "Expression", "IndexEntry", "IndexedObject",
    "Object", "Record", "built_folder", "check_size", "decode_audio", "decode_flow", "decode_image",
    "decode_mask", "encode_audio", "encode_flow", "encode_image", "encode_mask", "from_example",
    "index_entry", "index_name", "open_dataset", "to_example",
]

FLOW_NOTE = "flow.json"  # in a dataset's folder: how `vseg flow` computed the flow
UNKNOWN_OBJECT = 0  # object id of expressions of test sets that do not publish it


@dataclasses.dataclass
class Record:
    """One video.

    Attributes:
      video_id: unique in its split.
      frames: encoded images (JPEG or PNG), all `height` x `width`.
      masks: index PNGs (8-bit gray: 0 background, object ids from 1, 255 void), b"" for frames
        without annotation; as many as frames.
      height: of the frames, pixels.
      width: of the frames, pixels.
      fps: frames per second; 0 if it is unknown.
      objects: the objects that the masks and expressions may name.
      expressions: the referring expressions.
      flow: KITTI 16-bit PNGs of the flow from frame t to t+1 (the last is b""), or empty.
      audio: WAV, PCM 16 bit, mono, 16 kHz, or b"".
    """

    video_id: str
    frames: list[bytes]
    masks: list[bytes]
    height: int
    width: int
    fps: float = 0.0
    objects: list[Object] = dataclasses.field(default_factory=list)
    expressions: list[Expression] = dataclasses.field(default_factory=list)
    flow: list[bytes] = dataclasses.field(default_factory=list)
    audio: bytes = b""


# --- records as TFDS examples -----------------------------------------------------------------

_BYTES = tfds.features.Tensor(shape=(), dtype=np.object_)

FEATURES = tfds.features.FeaturesDict({
    "video_id": tfds.features.Text(),
    "frames": tfds.features.Sequence(_BYTES),
    "masks": tfds.features.Sequence(_BYTES),
    "flow": tfds.features.Sequence(_BYTES),
    "audio": _BYTES,
    "height": np.int64,
    "width": np.int64,
    "fps": np.float32,
    "objects": {
        "id": tfds.features.Sequence(np.int64),
        "category": tfds.features.Sequence(tfds.features.Text()),
    },
    "expressions": {
        "text": tfds.features.Sequence(tfds.features.Text()),
        "object_id": tfds.features.Sequence(np.int64),
        "style": tfds.features.Sequence(tfds.features.Text()),
        "differs_in": tfds.features.Sequence(tfds.features.Text()),
    },
})


def to_example(record: Record) -> dict[str, Any]:
    """Returns the record as the nested dict that `FEATURES` encodes."""
    example = dataclasses.asdict(record)
    example["objects"] = _columns(record.objects, Object)
    example["expressions"] = _columns(record.expressions, Expression)
    return example


def from_example(example: dict[str, Any]) -> Record:
    """Returns the record of an example from `FEATURES.deserialize_example_np`."""
    return Record(
        video_id=example["video_id"].decode(),
        frames=list(example["frames"]),
        masks=list(example["masks"]),
        height=int(example["height"]),
        width=int(example["width"]),
        fps=float(example["fps"]),
        objects=_rows(example["objects"], Object),
        expressions=_rows(example["expressions"], Expression),
        flow=list(example["flow"]),
        audio=example["audio"],
    )


def _columns(rows: list[Any], cls: type) -> dict[str, list[Any]]:
    return {f.name: [getattr(row, f.name) for row in rows] for f in dataclasses.fields(cls)}


def _rows(columns: dict[str, Any], cls: type) -> list[Any]:
    names = [f.name for f in dataclasses.fields(cls)]
    return [
        cls(**{
            name: value.decode() if isinstance(value, bytes) else int(value)
            for name, value in zip(names, row, strict=True)
        })
        for row in zip(*(columns[name] for name in names), strict=True)
    ]


# --- the index ---------------------------------------------------------------------------------


def index_entry(record: Record, where: str) -> IndexEntry:
    """Checks a record and returns its line of the index.

    Raises:
      ValueError: a mask cannot be decoded, has another size or contains an id that is not an
        object's, an expression names an unknown object, or lists differ in length; names `where`
        and the video.
    """
    where = f"{where} video {record.video_id}"
    if not record.frames or len(record.masks) != len(record.frames):
        raise ValueError(
            f"{where} has {len(record.frames)} frames and {len(record.masks)} masks; there must be "
            "as many masks (b'' if not annotated) and at least one frame"
        )
    if record.flow and len(record.flow) != len(record.frames):
        raise ValueError(
            f"{where} has {len(record.flow)} flow fields for {len(record.frames)} frames"
        )
    visible: dict[int, list[int]] = {o.id: [] for o in record.objects}
    if len(visible) != len(record.objects) or not all(0 < i < VOID for i in visible):
        raise ValueError(f"{where}: object ids must differ and lie in 1..254: {sorted(visible)}")
    annotated = [t for t, mask in enumerate(record.masks) if mask]
    for t in annotated:
        mask = decode_mask(record.masks[t], f"{where} frame {t}")
        check_size(mask, (record.height, record.width), f"the mask of {where} frame {t}")
        for value in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)):
            if value in (0, VOID):
                continue
            if value not in visible:
                raise ValueError(f"{where} frame {t}: mask value {value} is not an object's id")
            visible[value].append(t)
    for expression in record.expressions:
        if expression.object_id not in (UNKNOWN_OBJECT, *visible):
            raise ValueError(f"{where}: '{expression.text}' names object {expression.object_id}, "
                             f"but the objects are {sorted(visible)}")
    objects = (IndexedObject(o.id, o.category, tuple(visible[o.id])) for o in record.objects)
    return IndexEntry(
        video_id=record.video_id, length=len(record.frames), height=record.height,
        width=record.width, annotated=tuple(annotated), objects=tuple(objects),
        expressions=tuple(record.expressions),
    )


# --- opening ----------------------------------------------------------------------------------


class Dataset:
    """Random access to the records of one split; can be pickled for loader workers.

    Attributes:
      name: the dataset's name and split, for messages.
      index: one `IndexEntry` per record.
      categories: those of the annotation file, in order of their ids; () if there are none.
      flow: how `vseg flow` computed the optical flow; {} where it did not.
    """

    def __init__(self, name: str, index: list[IndexEntry], paths: list[str],
                 categories: tuple[Category, ...] = (), flow: Mapping[str, Any] | None = None):
        self.name = name
        self.index = index
        self.categories = categories
        self.flow = dict(flow or {})
        self._source = ArrayRecordDataSource(paths)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Record:
        try:
            return from_example(FEATURES.deserialize_example_np(self._source[int(i)]))
        except RuntimeError as error:  # raised by the reader for a damaged shard
            raise ValueError(
                f"record {int(i)} of {self.name} cannot be read ({str(error)[:120]}); remove the "
                "prepared dataset's folder and prepare it again"
            ) from error

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))


def built_folder(prepared_dir: str | Path) -> Path:
    """Returns the folder of a built dataset; `prepared_dir` itself if it holds none.

    Args:
      prepared_dir: the folder, or one above it: <prepared>/<dataset>/<variant>/<version>.

    Raises:
      ValueError: it holds several datasets; the message lists them.
    """
    folder = Path(prepared_dir)
    for depth in range(4):
        found = sorted(info.parent for info in folder.glob("*/" * depth + _INFO)
                       if "incomplete" not in info.parent.name)
        if len(found) > 1:
            raise ValueError(f"{folder} holds {len(found)} datasets: "
                             f"{', '.join(map(str, found[:10]))}; name one of these folders")
        if found:
            return found[0]
    return folder


def open_dataset(prepared_dir: str | Path, split: str) -> Dataset:
    """Opens one split of a built dataset.

    Args:
      prepared_dir: the folder that `VideoBuilder.build` returned, or one above it that holds no
        other dataset.
      split: its name.

    Raises:
      ValueError: the dataset is missing or half-built (with the command that builds it), or has
        no such split.
    """
    folder = built_folder(prepared_dir)
    remedy = "build it with: vseg data prepare NAME --source DIR --prepared DIR"
    if not (folder / _INFO).is_file():
        near = sorted(folder.parent.iterdir()) if folder.parent.is_dir() else []
        left = [path for path in near if "incomplete" in path.name or path.suffix == ".partial"]
        state = f"half-built (left over: {left[0]})" if left else "not built"
        raise ValueError(f"the dataset in {folder} is {state}; {remedy}")
    info = json.loads((folder / _INFO).read_text(encoding="utf-8"))
    lengths = {s["name"]: [int(n) for n in s["shardLengths"]] for s in info.get("splits", [])}
    if split not in lengths:
        raise ValueError(f"{folder} has no split '{split}', it has: {', '.join(sorted(lengths))}")
    paths = sorted(folder.glob(f"*-{split}.array_record-*"))
    index_path = folder / index_name(split)
    index = read_index(index_path) if index_path.is_file() else []
    if len(paths) != len(lengths[split]) or len(index) != sum(lengths[split]):
        raise ValueError(
            f"the dataset in {folder} is half-built: split '{split}' should have "
            f"{len(lengths[split])} shards and {sum(lengths[split])} videos, but there are "
            f"{len(paths)} shards and {len(index)} lines in {index_path.name}; remove the folder "
            f"and {remedy}"
        )
    note = folder / FLOW_NOTE
    flow = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else None
    return Dataset(f"{info['name']} {split}", index, [os.fspath(p) for p in paths],
                   read_categories(folder), flow)
