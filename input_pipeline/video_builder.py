"""The base class of builders, which writes records as a TFDS dataset with an index."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tqdm import tqdm

from vseg_jax.atomic import write_text
from vseg_jax.input_pipeline.index import Category, entry_line, index_name, write_categories
from vseg_jax.input_pipeline.records import FEATURES, Record
from vseg_jax.input_pipeline.unread import Encoded, KeptRecords, Unread, encoded

RECORDS_PER_SHARD = 256
SKIPPED = "skipped.json"  # of a dataset: the faulty videos that were left out


def lists_to_tuples(options: Any) -> None:
    """Turns the lists that config files have in place of a frozen dataclass's tuples into these."""
    for field in dataclasses.fields(options):
        if isinstance(field.default, tuple):
            object.__setattr__(options, field.name, tuple(getattr(options, field.name)))


class VideoBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base class of all builders: a subclass sets `name` and implements `splits`.

    `Builder(source, prepared, options, variant).build()` atomically writes
    `<prepared>/<name>/<variant>/<version>/`, with the records in the order in which they are
    listed. Records are written one by one, so that memory holds one at a time (TFDS' own writer
    first sorts a split and spills through TensorFlow beyond 1 GB).

    A build that stops leaves `<version>.partial/` with the `Unread` records that it has made, and
    the next one goes on from there; see `unread.py`.

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
        folder = Path(self.data_dir)  # another one while TFDS writes
        self._kept = KeptRecords(folder.with_name(f"{folder.name}.partial"), self.source)
        self._listed: dict[str, Iterable[Record] | list[Unread]] = {}
        self._named: Sequence[Category] = ()
        self._faults: dict[tuple[str, int], str] = {}

    def splits(self) -> dict[str, Iterable[Record] | list[Unread]]:
        """Returns the records of every split, generated lazily, or a list of unread ones.

        Only unread ones are kept when a build stops, can be left out where they are faulty, and
        can be made by several processes.

        Raises:
          ValueError: the source is incomplete; raised before the first record is read.
        """
        raise NotImplementedError

    def categories(self) -> Sequence[Category]:
        """Returns the categories with the ids of the annotation files; () if there are none."""
        return ()

    def conclude(self, split: str, notes: Sequence[Any]) -> None:
        """Reports the notes of a split's records, in their order; see `Unread`."""

    def build(self, *, skip_faulty: bool = False) -> Path:
        """Builds the dataset unless it exists; returns its folder.

        If several processes build the same dataset, one does it and the others wait. A build that
        is refused, or that fails at its first record, leaves no folders behind.

        Args:
          skip_faulty: whether to leave out unread records that cannot be made. The dataset's file
            `skipped.json` lists them: [{"split", "number" (from 1), "fault"}, ...].

        Raises:
          ValueError: the source is incomplete, a record is faulty, or a split has none that is not.
        """
        folder = Path(self.data_dir)
        with _parents_of(folder):
            lock = os.open(folder.parent, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)  # released when its process dies
                if not folder.exists():
                    self._build(skip_faulty)
            finally:
                os.close(lock)
        return folder

    def keep(self, part: int, parts: int, *, skip_faulty: bool = False) -> tuple[int, int]:
        """Makes every `parts`-th unread record and keeps it for a later `build`.

        Several processes can make the parts at the same time, on machines that share `prepared`.

        Args:
          part: which of the parts to make, from 1.
          parts: number of parts.
          skip_faulty: whether to go on after a faulty record; a later `build` meets it again.

        Returns:
          The number of records of this part that are kept, and of those that are faulty.

        Raises:
          ValueError: the source is incomplete, or a record is faulty.
        """
        with _parents_of(Path(self.data_dir)):
            videos = _unread(self.splits())[part - 1::parts]
            faulty = len(self._make(videos, skip_faulty))
            return len(videos) - faulty, faulty

    def _build(self, skip_faulty: bool) -> None:
        folder, self._listed = Path(self.data_dir), self.splits()
        self._named = self.categories()   # may refuse the source, too
        for stopped in folder.parent.glob(f"incomplete.*_{folder.name}"):   # while TFDS wrote
            shutil.rmtree(stopped)
        self._faults = self._make(_unread(self._listed), skip_faulty)
        with tempfile.TemporaryDirectory() as downloads:  # required by TFDS, stays empty
            self.download_and_prepare(download_dir=downloads, file_format="array_record")
        shutil.rmtree(self._kept.folder, ignore_errors=True)

    def _make(self, videos: list[tuple[str, int, Unread]], skip_faulty: bool
              ) -> dict[tuple[str, int], str]:
        """Makes the records that are not kept yet; returns {(split, number from 1): fault}."""
        faults: dict[tuple[str, int], str] = {}
        for count, (split, number, video) in enumerate(
                tqdm(videos, desc=f"{self.name}: reading", unit=" videos")):
            try:
                if not self._kept.has(video):
                    self._kept.make(video, f"{self.name} {split}")
            except ValueError as error:
                if not skip_faulty:
                    raise ValueError(f"{error}{self._remedy(count)}") from error
                faults[split, number] = str(error)
        return faults

    def _create_builder_config(self, builder_config: Any, version: Any) -> Any:
        return builder_config  # TFDS would warn about a config that the class does not list

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=FEATURES, disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> Any:
        raise NotImplementedError("records are written by _generate_splits")

    def _generate_examples(self) -> Any:
        raise NotImplementedError("records are written by _generate_splits")

    def _remedy(self, count: int) -> str:
        if not count:
            return ""
        return (f". The {count} videos before it are kept in {self._kept.folder}: the same command "
                "resumes after them; `vseg data prepare --skip_faulty` leaves faulty videos out")

    def _generate_splits(
        self, dl_manager: Any, download_config: Any
    ) -> list[tfds.core.SplitInfo]:
        del dl_manager, download_config
        if self._named:
            write_categories(Path(self.data_dir), self._named)
        if self._faults:
            self._report_faults()
        return [self._write_split(name, records) for name, records in self._listed.items()]

    def _report_faults(self) -> None:
        rows = [{"split": split, "number": number, "fault": fault}
                for (split, number), fault in self._faults.items()]
        write_text(Path(self.data_dir) / SKIPPED,
                   json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        print(f"warning: {self.name}: {len(rows)} of {len(_unread(self._listed))} videos are left "
              f"out, listed in {SKIPPED}; the first: {rows[0]['fault']}", flush=True)

    def _write_split(
        self, split: str, records: Iterable[Record] | list[Unread]
    ) -> tfds.core.SplitInfo:
        folder = Path(self.data_dir)  # the incomplete folder while TFDS builds
        template = tfds.core.ShardedFileTemplate(
            data_dir=self.data_dir, dataset_name=self.name, split=split,
            filetype_suffix="array_record", template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
        )
        lengths, size, writer, seen, notes = [], 0, None, set(), []
        with open(folder / index_name(split), "w", encoding="utf-8") as index:
            for one in self._encoded(split, records):
                video_id = one.entry.video_id
                if video_id in seen:
                    raise ValueError(f"{self.name} {split}: two videos are called {video_id}")
                seen.add(video_id)
                if writer is None or lengths[-1] == RECORDS_PER_SHARD:
                    if writer:
                        writer.close()
                    path = template.sharded_filepath(shard_index=len(lengths), num_shards=None)
                    writer = array_record_module.ArrayRecordWriter(os.fspath(path), "group_size:1")
                    lengths.append(0)
                writer.write(one.data)
                lengths[-1] += 1
                size += len(one.data)
                notes += [] if one.note is None else [one.note]
                index.write(entry_line(one.entry) + "\n")
        if writer is None:
            every = [fault for (of, _), fault in self._faults.items() if of == split]
            raise ValueError(f"{self.name} {split}: " + (
                f"all {len(every)} videos are faulty, the first: {every[0]}" if every else
                f"no video was found in {self.source}"))
        writer.close()
        self.conclude(split, notes)
        return tfds.core.SplitInfo(
            name=split, shard_lengths=lengths, num_bytes=size, filename_template=template
        )

    def _encoded(self, split: str, records: Iterable[Record] | list[Unread]) -> Iterator[Encoded]:
        where = f"{self.name} {split}"
        for number, one in enumerate(tqdm(records, desc=where, unit=" videos"), 1):
            if isinstance(one, Record):
                yield encoded(one, where)
            elif (split, number) not in self._faults:
                yield self._kept.make(one, where)


def _unread(splits: dict[str, Iterable[Record] | list[Unread]]) -> list[tuple[str, int, Unread]]:
    """Returns (split, number from 1, record) of the unread records of all splits."""
    return [(split, number, video) for split, videos in splits.items() if isinstance(videos, list)
            for number, video in enumerate(videos, 1) if isinstance(video, Unread)]


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
