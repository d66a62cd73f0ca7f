"""Draws the moving picture of sentences: `python docs/sentence_picture.py DAVIS [MODEL]`.

`DAVIS` is the folder of DAVIS 2016 in its official layout; the model is `qvim-lite0` by default. It
sees each frame by itself; nothing follows its masks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from follow_picture import FRAMES, SIZE, STEP, save

import vseg_jax
from vseg_jax.media import overlay

QUERIES = {
    "dog": "the dog", "cows": "a cow", "horsejump-high": "a person riding a horse",
    "car-shadow": "a car", "parkour": "a man running", "blackswan": "a black swan",
}
FILE = Path(__file__).with_name("sentence.webp")


def pictures(segmenter: vseg_jax.Segmenter, davis: Path, name: str) -> Iterator[np.ndarray]:
    """Yields every second frame of a sequence, small, with the predicted mask."""
    query = QUERIES[name]
    for prediction in segmenter.segment(davis / "JPEGImages/480p" / name, query=query):
        if prediction.frame % STEP == 0:
            index = cv2.resize(prediction.index, SIZE, interpolation=cv2.INTER_NEAREST)
            yield overlay.draw(cv2.resize(prediction.image, SIZE, interpolation=cv2.INTER_AREA),
                               index, query)


def main(davis: str, model: str = "qvim-lite0") -> None:
    """Writes `sentence.webp`."""
    segmenter = vseg_jax.load(model)
    save([list(pictures(segmenter, Path(davis), name))[: FRAMES // STEP] for name in QUERIES], FILE)


if __name__ == "__main__":
    main(*sys.argv[1:])
