"""Datasets of videos whose frames show their masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from toy_dataset import ToyBuilder

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.records import Dataset, encode_image, encode_mask, open_dataset


def one_video(folder: Path, record: records.Record, **others: records.Record) -> Dataset:
    """A dataset of the given records, under a name of its own."""
    found = [record, *others.values()]

    class Builder(ToyBuilder):
        name = "synthetic"

        def splits(self):
            return {"train": iter(found)}

    return open_dataset(Builder(source="", prepared=folder).build(), "train")


def painted(masks: list[np.ndarray], ids: tuple[int, ...], name: str = "painted",
            red: int = 50) -> records.Record:
    """A record whose frames show their masks: red is `red` times the id."""
    frames = [np.repeat((red * m)[..., None], 3, axis=2) * np.uint8([1, 0, 0]) for m in masks]
    return records.Record(
        video_id=name, frames=[encode_image(f) for f in frames],
        masks=[encode_mask(m) for m in masks], height=masks[0].shape[0],
        width=masks[0].shape[1], objects=[records.Object(i) for i in ids],
    )
