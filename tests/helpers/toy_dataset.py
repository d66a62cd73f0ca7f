"""A tiny synthetic dataset of moving rectangles with expressions, for tests of many packages."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vseg_jax.input_pipeline.records import (
    Expression,
    Object,
    Record,
    encode_image,
    encode_mask,
)
from vseg_jax.input_pipeline.video_builder import VideoBuilder

COLORS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


def toy_record(number: int, colors: tuple[str, ...] = ("red", "green"), length: int = 6,
               size: tuple[int, int] = (24, 32), annotate_every: int = 2) -> Record:
    """Returns a video of 6x6 rectangles, one per color, which move right and left in turn."""
    height, width = size
    frames, masks = [], []
    for t in range(length):
        rgb = np.full((height, width, 3), 90, np.uint8)
        rgb[..., 0] += np.arange(width, dtype=np.uint8)[None]  # so that flips and crops show
        mask = np.zeros((height, width), np.uint8)
        for k, color in enumerate(colors):
            top, left = 1 + 8 * k, (2 + t if k % 2 == 0 else width - 8 - t)
            rgb[top:top + 6, left:left + 6] = COLORS[color]
            mask[top:top + 6, left:left + 6] = k + 1
        frames.append(encode_image(rgb))
        masks.append(encode_mask(mask) if t % annotate_every == 0 else b"")
    sides = ("left", "right")
    return Record(
        video_id=f"toy-{number}", frames=frames, masks=masks, height=height, width=width, fps=10.0,
        objects=[Object(k + 1, "box") for k in range(len(colors))],
        expressions=[
            Expression(f"the {color} box that starts on the {sides[k % 2]}", k + 1, "plain",
                       differs_in="color" if len(colors) > 1 else "")
            for k, color in enumerate(colors)
        ],
    )


class ToyBuilder(VideoBuilder):
    """Three short training clips and one for validation."""

    name = "toy"

    def splits(self):
        train = (
            toy_record(i, colors)
            for i, colors in enumerate([("red", "green"), ("blue", "red", "green"), ("blue",)])
        )
        return {"train": train, "valid": iter([toy_record(9, ("green", "blue"))])}


def build_toy(folder: Path) -> Path:
    """Builds the toy dataset below `folder`; returns the dataset's folder."""
    return ToyBuilder(source="", prepared=folder).build()
