"""The base class of builders, which writes records as a TFDS dataset with an index."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tqdm import tqdm

from vseg_jax.input_pipeline.index import Category, index_name, write_categories
from vseg_jax.input_pipeline.records import FEATURES, Record, index_entry, to_example

RECORDS_PER_SHARD = 256


def lists_to_tuples(options: Any) -> None:
    """Turns the lists that config files have in place of a frozen dataclass's tuples into these."""
    for field in dataclasses.fields(options):
        if isinstance(field.default, tuple):
            object.__setattr__(options, field.name, tuple(getattr(options, field.name)))


class VideoBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base class of all builders: a subclass sets `name` and implements `splits`.

    `Builder(source, prepared, options, variant).build()` atomically writes
    `<prepared>/<name>/<variant>/<version>/`, with the records in the order in which they are
    yielded. Records are written one by one, so that memory holds one at a time (TFDS' own writer
    first sorts a split and spills through TensorFlow beyond 1 GB).

    Args:
      source: folder of the official download.
      prepared: folder that holds all prepared datasets.
      options: the builder's `Options`.
      variant: name of the folder for these options.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init_subclass__(cls, **kwargs: Any):
        # TFDS' registry, which is not used here, allows each name once per process.
        super().__init_subclass__(skip_registration=True, **kwargs)

    def __init__(self, source: str | Path, prepared: str | Path, options: Any = None,
                 variant: str = "default"):
        self.source = Path(source)
        self.options = options
        config = tfds.core.BuilderConfig(name=variant, version=self.VERSION)
        super().__init__(data_dir=os.fspath(prepared), config=config)

    def splits(self) -> dict[str, Iterable[Record]]:
        """Returns the records of every split, generated lazily.

        Raises:
          ValueError: the source is incomplete; raised before the first record is read.
        """
        raise NotImplementedError

    def categories(self) -> Sequence[Category]:
        """Returns the categories with the ids of the annotation files; () if there are none."""
        return ()

    def build(self) -> Path:
        """Builds the dataset unless it exists; returns its folder.

        If several processes build the same dataset, one does it and the others wait. A build that
        fails leaves no folders behind.
        """
        folder = Path(self.data_dir)
        with _parents_of(folder):
            lock = os.open(folder.parent, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)  # released when its process dies
                with tempfile.TemporaryDirectory() as downloads:  # required by TFDS, stays empty
                    self.download_and_prepare(download_dir=downloads, file_format="array_record")
            finally:
                os.close(lock)
        return folder

    def _create_builder_config(self, builder_config: Any, version: Any) -> Any:
        return builder_config  # TFDS would warn about a config that the class does not list

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=FEATURES, disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> Any:
        raise NotImplementedError("records are written by _generate_splits")

    def _generate_examples(self) -> Any:
        raise NotImplementedError("records are written by _generate_splits")

    def _generate_splits(
        self, dl_manager: Any, download_config: Any
    ) -> list[tfds.core.SplitInfo]:
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


@contextlib.contextmanager
def _parents_of(folder: Path) -> Iterator[None]:
    """Creates the folders above `folder`; an error removes the created ones that are empty."""
    created = [parent for parent in folder.parents if not parent.exists()]  # innermost first
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty: another process uses it
            for parent in created:
                parent.rmdir()
        raise
