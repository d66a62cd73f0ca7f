"""The one record that every dataset becomes, and how it is stored and opened.

A dataset on disk is what TFDS writes (ArrayRecord shards) and, beside them, one small JSON line a
record (`index-<split>.jsonl`): enough to list and filter samples without decoding a pixel.
Images, masks, flow and sound stay encoded in the record; who samples it decodes what it takes.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from grain.sources import ArrayRecordDataSource
from tqdm import tqdm

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
    write_categories,
)

__all__ = [  # with the encodings, which are part of what a record is
    "SAMPLE_RATE", "UNKNOWN_OBJECT", "Dataset", "Expression", "IndexEntry", "IndexedObject",
    "Object", "Record", "VideoBuilder", "check_size", "decode_audio", "decode_flow", "decode_image",
    "decode_mask", "encode_audio", "encode_flow", "encode_image", "encode_mask", "from_example",
    "index_entry", "index_name", "open_dataset", "to_example",
]

RECORDS_PER_SHARD = 256
UNKNOWN_OBJECT = 0  # object id of a test set's sentences


@dataclasses.dataclass
class Record:
    """One video.

    Attributes:
      video_id: unique in its split.
      frames: encoded images (JPEG or PNG), all `height` x `width`.
      masks: index PNGs (8 bit gray: 0 background, object ids from 1, 255 void), b"" where the
        frame has no annotation; as many as frames.
      objects: the objects that the masks and expressions may name.
      expressions: the sentences.
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
    """The record as the nested dict that `FEATURES` encodes."""
    example = dataclasses.asdict(record)
    example["objects"] = _columns(record.objects, Object)
    example["expressions"] = _columns(record.expressions, Expression)
    return example


def from_example(example: dict[str, Any]) -> Record:
    """The inverse of `to_example`, of what `FEATURES.deserialize_example_np` gives."""
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


# --- building ---------------------------------------------------------------------------------


class VideoBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of all builders: a subclass sets `name` and says in `splits` what records there are.

    `Builder(source, prepared, options, variant).build()` writes
    `<prepared>/<name>/<variant>/<version>/`, whole or not at all, records in the order in which
    they are yielded. Records are written as they come, so memory holds one at a time (TFDS' own
    writer sorts a split first and spills through TensorFlow beyond 1 GB).
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init_subclass__(cls, **kwargs):
        # TFDS' registry allows a name once in a process; nothing here looks builders up in it.
        super().__init_subclass__(skip_registration=True, **kwargs)

    def __init__(self, source: str | Path, prepared: str | Path, options: Any = None,
                 variant: str = "default"):
        self.source = Path(source)
        self.options = options
        config = tfds.core.BuilderConfig(name=variant, version=self.VERSION)
        super().__init__(data_dir=os.fspath(prepared), config=config)

    def splits(self) -> dict[str, Iterable[Record]]:
        """The records of every split, made lazily."""
        raise NotImplementedError

    def categories(self) -> Sequence[Category]:
        """The dataset's categories with the ids of its annotations, or () where it lists none."""
        return ()

    def build(self) -> Path:
        """Builds the dataset unless it is there; returns its folder.

        Of several processes that want it, one builds it and the others wait.
        """
        folder = Path(self.data_dir)
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder.parent, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # who dies lets go of it
            with tempfile.TemporaryDirectory() as downloads:  # TFDS wants one; nothing goes there
                self.download_and_prepare(download_dir=downloads, file_format="array_record")
        finally:
            os.close(lock)
        return folder

    def _create_builder_config(self, builder_config, version):
        return builder_config  # TFDS would warn of one that the class does not list

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=FEATURES, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        raise NotImplementedError("records are written by _generate_splits")

    def _generate_examples(self):
        raise NotImplementedError("records are written by _generate_splits")

    def _generate_splits(self, dl_manager, download_config):
        del dl_manager, download_config
        splits = self.splits()
        if categories := self.categories():
            write_categories(Path(self.data_dir), categories)
        return [self._write_split(name, records) for name, records in splits.items()]

    def _write_split(self, split: str, records: Iterable[Record]) -> tfds.core.SplitInfo:
        folder = Path(self.data_dir)  # the incomplete folder while TFDS builds
        template = tfds.core.ShardedFileTemplate(
            data_dir=self.data_dir, dataset_name=self.name, split=split,
            filetype_suffix="array_record", template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
        )
        serializer = tfds.core.example_serializer.ExampleSerializer(FEATURES.get_serialized_info())
        lengths, size, writer, seen = [], 0, None, set()
        with open(folder / index_name(split), "w", encoding="utf-8") as index:
            for record in tqdm(records, desc=f"{self.name} {split}", unit=" videos"):
                entry = index_entry(record, f"{self.name} {split}")
                if entry.video_id in seen:
                    raise ValueError(f"{self.name} {split}: two videos are called {entry.video_id}")
                seen.add(entry.video_id)
                if writer is None or lengths[-1] == RECORDS_PER_SHARD:
                    if writer:
                        writer.close()
                    path = template.sharded_filepath(shard_index=len(lengths), num_shards=None)
                    writer = array_record_module.ArrayRecordWriter(os.fspath(path), "group_size:1")
                    lengths.append(0)
                data = serializer.serialize_example(FEATURES.encode_example(to_example(record)))
                writer.write(data)
                lengths[-1] += 1
                size += len(data)
                index.write(json.dumps(dataclasses.asdict(entry), ensure_ascii=False) + "\n")
        if writer is None:
            raise ValueError(f"{self.name} {split}: no video was found in {self.source}")
        writer.close()
        return tfds.core.SplitInfo(
            name=split, shard_lengths=lengths, num_bytes=size, filename_template=template
        )


def index_entry(record: Record, where: str) -> IndexEntry:
    """Checks a record and lists what can be seen in it.

    Raises:
      ValueError: a mask that cannot be decoded, has another size or an id that is no object, a
        sentence that names no object, lists of unequal length; names `where` and the video.
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
                raise ValueError(f"{where} frame {t}: mask value {value} is no object's id")
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
      index: one `IndexEntry` a record.
      categories: those of the annotation file, in order of their ids; () where there are none.
    """

    def __init__(self, name: str, index: list[IndexEntry], paths: list[str],
                 categories: tuple[Category, ...] = ()):
        self.name = name
        self.index = index
        self.categories = categories
        self._source = ArrayRecordDataSource(paths)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Record:
        try:
            return from_example(FEATURES.deserialize_example_np(self._source[int(i)]))
        except RuntimeError as error:  # what the reader says of a damaged shard
            raise ValueError(
                f"record {int(i)} of {self.name} cannot be read ({str(error)[:120]}); remove the "
                "prepared dataset's folder and prepare it again"
            ) from error

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))


def open_dataset(prepared_dir: str | Path, split: str) -> Dataset:
    """Opens one split of a built dataset (the folder that `VideoBuilder.build` returned).

    Raises:
      ValueError: the dataset is missing or half-built (with the command that builds it), or has
        no such split.
    """
    folder = Path(prepared_dir)
    remedy = ("build it with: python -m vseg_jax.input_pipeline.builders prepare NAME --source DIR "
              "--prepared DIR")
    if not (folder / "dataset_info.json").is_file():
        left = sorted(folder.parent.glob("*incomplete*")) if folder.parent.is_dir() else []
        state = f"half-built (left over: {left[0]})" if left else "not built"
        raise ValueError(f"the dataset in {folder} is {state}; {remedy}")
    info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
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
    return Dataset(f"{info['name']} {split}", index, [os.fspath(p) for p in paths],
                   read_categories(folder))
