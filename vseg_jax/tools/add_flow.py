"""Adds optical flow to a prepared dataset: by RAFT with public weights, or by OpenCV's DIS.

    vseg flow --prepared data/davis/default/1.0.0 --weights raft-small.pth

writes a copy of the dataset, with the flow from every frame to the next in its records, to
data-raft-small/davis/default/1.0.0. A config uses it with `prepared="data-raft-small"`; the
original is not changed. `flow.json` in the copy records how the flow was computed. The copy is
written atomically. The command is resumable: the flow of finished videos is kept next to the copy,
one file per video, and running the same command again continues from there.

`--around N` computes only the flow of annotated frames and of their N neighbors on either side,
which is all that a clip around an annotated frame needs. Datasets with few annotated frames, as
A2D-Sentences, stay small that way; the flow of all its frames takes about 160 GB.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from vseg_jax.arguments import Parser
from vseg_jax.atomic import atomic_file
from vseg_jax.input_pipeline.records import (
    FLOW_NOTE,
    Dataset,
    Record,
    built_folder,
    decode_image,
    encode_flow,
    open_dataset,
)
from vseg_jax.input_pipeline.video_builder import VideoBuilder
from vseg_jax.tools.flow_estimators import Estimator, dis_estimator, raft_estimator


def add_flow(
    folder: str | Path, estimator: Estimator, output: str | Path | None = None, *,
    around: int | None = None, batch: int = 4, progress: bool = True,
) -> Path:
    """Copies a prepared dataset and adds optical flow; see the module's docstring.

    Args:
      folder: of the dataset: <prepared>/<name>/<variant>/<version>.
      estimator: its flow replaces any that the records already hold.
      output: the copy's <prepared>; None for "<prepared>-<method>" next to the original.
      around: computes only the flow of frames at most this far from an annotated one; None: of all.
      batch: pairs of frames per call of the estimator.
      progress: whether to show progress bars.

    Returns:
      The copy's folder.

    Raises:
      ValueError: the dataset is missing or half-built, a frame cannot be decoded, or the output
        holds flow that was computed in another way.
    """
    folder = built_folder(folder).resolve()
    splits = {name: open_dataset(folder, name) for name in _splits(folder)}
    prepared, (name, variant, version) = folder.parents[2], folder.parts[-3:]
    tfds.core.Version(version)  # raises a ValueError now rather than after hours of work
    if output is None:
        output = prepared.with_name(f"{prepared.name}-{estimator.provenance['method']}")
    target = Path(output).resolve() / name / variant / version
    if target == folder:
        raise ValueError(f"the copy with flow would overwrite {folder}; name another --output")
    note = {**estimator.provenance, "dataset": str(folder)}
    if around is not None:
        note["around"] = around
    parts = target.with_name(f"{version}.incomplete_flow")
    if target.exists():
        _check_note(target, note)
        return target
    if (parts / FLOW_NOTE).is_file():
        _check_note(parts, note)
    else:
        parts.mkdir(parents=True, exist_ok=True)
        text = json.dumps(note, indent=1) + "\n"
        _write(parts / FLOW_NOTE, lambda file: file.write(text.encode()))
    for split, dataset in splits.items():
        _compute(dataset, split, parts, estimator, around, batch, progress)
    _copy(splits, parts, Path(output).resolve(), (name, variant, version))
    shutil.rmtree(parts)
    return target


def _compute(
    dataset: Dataset, split: str, parts: Path, estimator: Estimator, around: int | None,
    batch: int, progress: bool,
) -> None:
    """Writes the flow of each video that has no file in `parts` yet."""
    numbers = tqdm(range(len(dataset)), desc=f"flow of {dataset.name}", unit=" videos",
                   disable=not progress)
    for number in numbers:
        part = _part(parts, split, number)
        if not part.exists():
            record = dataset[number]
            where = f"{dataset.name} video {record.video_id}"
            flow = _flow(record, _wanted(record, around), estimator, batch, where)
            _write(part, functools.partial(_savez, [np.frombuffer(f, np.uint8) for f in flow]))


def _wanted(record: Record, around: int | None) -> list[int]:
    """Returns the frames whose flow to the next is computed."""
    frames = range(len(record.frames) - 1)
    if around is None:
        return list(frames)
    annotated = [t for t, mask in enumerate(record.masks) if mask]
    return [t for t in frames if any(abs(t - a) <= around for a in annotated)]


def _flow(
    record: Record, wanted: list[int], estimator: Estimator, batch: int, where: str
) -> list[bytes]:
    """Returns the content of `Record.flow`: the flow of the wanted frames, b"" of the others."""
    flow = [b""] * len(record.frames)
    for start in range(0, len(wanted), batch):
        chosen = wanted[start : start + batch]
        images = {t: decode_image(record.frames[t], f"{where} frame {t}")
                  for t in sorted({*chosen, *(t + 1 for t in chosen)})}
        # Padded to a fixed length, so that the estimator is compiled once.
        padded = chosen + chosen[-1:] * (batch - len(chosen))
        found = estimator.pairs(np.stack([images[t] for t in padded]),
                                np.stack([images[t + 1] for t in padded]))
        for t, field in zip(chosen, found, strict=False):
            flow[t] = encode_flow(field)
    return flow


def _copy(
    splits: dict[str, Dataset], parts: Path, output: Path, place: tuple[str, str, str]
) -> None:
    """Builds the copy like any dataset, which is atomic."""

    class Copy(VideoBuilder):
        name = place[0]
        VERSION = tfds.core.Version(place[2])

        def splits(self) -> dict[str, Iterator[Record]]:
            return {split: _records(dataset, parts, split) for split, dataset in splits.items()}

        def _generate_splits(self, dl_manager, download_config):
            shutil.copyfile(parts / FLOW_NOTE, Path(self.data_dir) / FLOW_NOTE)
            return super()._generate_splits(dl_manager, download_config)

    Copy(source="", prepared=output, variant=place[1]).build()


def _records(dataset: Dataset, parts: Path, split: str) -> Iterator[Record]:
    for number, record in enumerate(dataset):
        yield dataclasses.replace(record, flow=_load(_part(parts, split, number)))


def _splits(folder: Path) -> list[str]:
    info = folder / "dataset_info.json"
    if not info.is_file():
        open_dataset(folder, "")  # raises an error that says how to build the dataset
    return [s["name"] for s in json.loads(info.read_text(encoding="utf-8")).get("splits", [])]


def _check_note(folder: Path, wanted: dict[str, Any]) -> None:
    path = folder / FLOW_NOTE
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else f"no {FLOW_NOTE}"
    if found != wanted:
        raise ValueError(f"{folder} holds {found}, but the flow would be computed with {wanted}; "
                         "name another --output, or remove this folder")


def _part(parts: Path, split: str, number: int) -> Path:
    return parts / f"{split}-{number:06d}.npz"


def _savez(flow: list[np.ndarray], file: BinaryIO) -> None:
    np.savez(file, *flow)


def _load(path: Path) -> list[bytes]:
    with np.load(path) as arrays:
        return [arrays[f"arr_{t}"].tobytes() for t in range(len(arrays.files))]


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        write(file)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 2 for user errors."""
    parser = Parser(prog="vseg flow", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepared", required=True, help="folder of one prepared dataset")
    parser.add_argument("--weights", help="RAFT's public weights; without them the flow is by DIS")
    parser.add_argument("--iterations", type=int, default=12, help="of RAFT")
    parser.add_argument("--output", help="the copy's folder of prepared datasets")
    parser.add_argument("--around", type=int, metavar="N",
                        help="only for annotated frames and N neighbors on either side; N must "
                             "reach as far as the clips do (clip.length, clip.stride_max)")
    parser.add_argument("--batch", type=int, default=4,
                        help="pairs of frames at once; each needs 0.2 GB at 480p, 1 GB at 720p")
    given = parser.parse_args(arguments)
    try:
        if given.batch < 1:
            raise ValueError(f"--batch is {given.batch}; it must be at least 1")
        if given.around is not None and given.around < 0:
            raise ValueError(f"--around is {given.around}; it must be at least 0")
        estimator = (raft_estimator(given.weights, given.iterations) if given.weights
                     else dis_estimator())
        print(add_flow(given.prepared, estimator, given.output, around=given.around,
                       batch=given.batch))
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
