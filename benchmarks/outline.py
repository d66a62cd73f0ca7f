"""How good the masks of the page's clicks and boxes are: `python benchmarks/outline.py DAVIS`.

`DAVIS` is the folder of DAVIS 2016 in its official layout. In the first frame of each sequence of
val, the box is that of the true mask, and the click is where the true mask is widest.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from vseg_jax.demo.outline import outline


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the intersection over union of two masks."""
    return float((one & other).sum() / (one | other).sum())


def main(davis: str) -> None:
    """Prints the IoU of each sequence, and the mean."""
    lines = (Path(davis) / "ImageSets/480p/val.txt").read_text().splitlines()
    names = sorted({line.split("/")[3] for line in lines if line})
    scores = []
    for name in names:
        frame = cv2.imread(f"{davis}/JPEGImages/480p/{name}/00000.jpg", cv2.IMREAD_COLOR_RGB)
        truth = cv2.imread(f"{davis}/Annotations/480p/{name}/00000.png", cv2.IMREAD_GRAYSCALE)
        if frame is None or truth is None:
            print(f"{name:20} is not there")
            continue
        mask = truth > 0
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        scores.append((iou(outline(frame, box=(x, y, x + width, y + height)), mask),
                       iou(outline(frame, inside=[(int(column), int(row))]), mask)))
        print(f"{name:20} box {scores[-1][0]:.3f} click {scores[-1][1]:.3f}")
    box, click = np.mean(scores, axis=0)
    print(f"{len(scores)} sequences      box {box:.3f} click {click:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
