"""Draws docs/datasets/refer_stills.png: clips of `refer_stills`, made from drawn stills.

    python docs/refer_stills_picture.py

The stills are frames of `moving_shapes`, whose shapes are the categories, so that the picture shows
no photograph of anyone.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from vseg_jax.input_pipeline.builders import moving_shapes
from vseg_jax.input_pipeline.builders.refer_stills import Generator, Options
from vseg_jax.input_pipeline.builders.refer_stills.stock import read_stock

STILLS, CLIPS = 60, 4
OUTPUT = Path(__file__).parent / "datasets" / "refer_stills.png"
SHOWN = ((230, 30, 60), (30, 120, 250))   # of the outlines of the two objects whose words are shown


def write_stills(folder: Path) -> None:
    """Writes drawn stills in the layout of the dataset `stills`."""
    options = moving_shapes.Options(height=192, width=288, length=2, flow=False, audio=False,
                                    scale=1.6, actors=(2, 3), backgrounds=moving_shapes.BACKGROUNDS)
    categories = {}
    for number in range(STILLS):
        record = moving_shapes.make_record(options, "source_train", number)
        for kind, data, suffix in (("images", record.frames[0], ".jpg"),
                                   ("masks", record.masks[0], ".png")):
            path = folder / kind / f"{number:03d}{suffix}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        shown = set(np.unique(cv2.imdecode(np.frombuffer(record.masks[0], np.uint8), 0)))
        categories[f"{number:03d}"] = {str(o.id): o.category for o in record.objects
                                       if o.id in shown}
    (folder / "categories.json").write_text(json.dumps(categories))


def draw(generator: Generator, number: int) -> np.ndarray:
    """Returns first and last frame of a clip, above the expressions of two of its objects."""
    clip, expressions = generator.clip(number)
    ids = sorted({e.object_id for e in expressions})[:len(SHOWN)]
    frames = []
    for t in (0, -1):
        frame = clip.frames[t].copy()
        for object_id, color in zip(ids, SHOWN, strict=True):
            alone = (clip.masks[t] == object_id).astype(np.uint8)
            outline = cv2.findContours(alone, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
            cv2.drawContours(frame, outline, -1, color, 2)
        frames.append(frame)
    text = np.full((2 * 4 * 18 + 12, 2 * frames[0].shape[1], 3), 255, np.uint8)
    lines = [(f"{e.style}: {e.text}", color) for object_id, color in zip(ids, SHOWN, strict=True)
             for e in expressions if e.object_id == object_id]
    for k, (line, color) in enumerate(lines):
        cv2.putText(text, line, (6, 18 * (k + 1)), cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, 1,
                    cv2.LINE_AA)
    return np.vstack([np.hstack(frames), text])


def main() -> None:
    """Writes the picture."""
    with tempfile.TemporaryDirectory() as folder:
        write_stills(Path(folder))
        generator = Generator(Options(), "train", read_stock(Path(folder), ()))
        clips = [draw(generator, number) for number in range(CLIPS)]
    rows = [np.hstack(clips[k:k + 2]) for k in range(0, CLIPS, 2)]
    Image.fromarray(np.vstack(rows)).quantize(128).save(OUTPUT, optimize=True)


if __name__ == "__main__":
    main()
