"""Draws a moving picture of found objects: `python docs/instances_picture.py MODEL VIDEO ... FILE`.

`MODEL` is what `vseg_jax.load` takes, of a model without prompts, such as a run of `rcf:real`; a
video is a file or a folder of frames, such as a sequence of DAVIS, and `FILE` ends in ".webp".
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from follow_picture import FRAMES, SIZE, STEP, save

import vseg_jax
from vseg_jax.inference.predict import instance_labels
from vseg_jax.media import overlay
from vseg_jax.media.images import open_video


def pictures(segmenter: vseg_jax.Segmenter, video: str) -> Iterator[np.ndarray]:
    """Yields every second frame of a video, small, with the objects found and their names."""
    # Frames are made small first, so that the names can be read.
    frames = (overlay.fit(frame, SIZE) for frame in open_video(video))
    for prediction in segmenter.segment(frames):
        if prediction.frame % STEP == 0:
            yield overlay.draw(
                prediction.image, prediction.index, labels=instance_labels(prediction))


def main(model: str, *names: str) -> None:
    """Writes the picture; see the module."""
    segmenter = vseg_jax.load(model)
    *videos, file = names
    save([list(islice(pictures(segmenter, video), FRAMES // STEP)) for video in videos],
         Path(file))


if __name__ == "__main__":
    main(*sys.argv[1:])
