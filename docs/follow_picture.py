"""Draws the moving picture of the README: `python docs/follow_picture.py DAVIS [MODEL]`.

`DAVIS` is the folder of DAVIS 2016 in its official layout; the model is `swiftnet-lite0` by
default. Each sequence is followed from the true mask of its first frame.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import vseg_jax
from vseg_jax.media import overlay

SEQUENCES = ("car-roundabout", "horsejump-high", "parkour", "breakdance", "scooter-black",
             "bmx-trees")
COLUMNS, SIZE = 3, (280, 158)   # of the grid; width and height of a frame, pixels
FRAMES, STEP, SECONDS = 66, 2, 0.1
FILE = Path(__file__).with_name("follow.webp")


def pictures(segmenter: vseg_jax.Segmenter, davis: Path, name: str) -> Iterator[np.ndarray]:
    """Yields every second frame of a sequence, small, with the predicted mask."""
    folder = davis / "JPEGImages/480p" / name
    truth = cv2.imread(str(davis / "Annotations/480p" / name / "00000.png"), cv2.IMREAD_GRAYSCALE)
    first = (truth > 0).astype(np.uint8)
    for prediction in segmenter.segment(folder, mask=first):
        if prediction.frame % STEP == 0:
            yield overlay.fit(overlay.draw(prediction.image, prediction.index), SIZE)


def save(films: Sequence[Sequence[np.ndarray]], file: Path) -> None:
    """Writes films side by side as a moving picture; shorter ones stop at their last frame."""
    grids = []
    for number in range(FRAMES // STEP):
        frames = [film[min(number, len(film) - 1)] for film in films]
        rows = [np.hstack(frames[i:i + COLUMNS]) for i in range(0, len(frames), COLUMNS)]
        grids.append(Image.fromarray(np.vstack(rows)))
    grids[0].save(file, save_all=True, append_images=grids[1:], duration=round(1000 * SECONDS),
                  loop=0, quality=55, method=6)


def main(davis: str, model: str = "swiftnet-lite0") -> None:
    """Writes `follow.webp`."""
    segmenter = vseg_jax.load(model)
    save([list(pictures(segmenter, Path(davis), name))[: FRAMES // STEP] for name in SEQUENCES],
         FILE)


if __name__ == "__main__":
    main(*sys.argv[1:])
