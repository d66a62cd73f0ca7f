"""Writes youtube_vis.npz: scores of synthetic data by the official evaluation of YouTube-VIS.

    python tests/goldens/youtube_vis.py --references FOLDER

FOLDER/cocoapi is a working copy of youtubevos/cocoapi at f3f9948a1f749fb95797f31a9616872811eea559.
Its Python files are imported as they are, with the masks of the installed pycocotools (2.0.11).
They need `np.float` and pass numbers of samples as floats, which NumPy 2 refuses, so a replacement
for `np` accepts both; `unicode`, which Python 3 lacks, is `str`.
Truth and predictions (seed 0) are stored with the scores as JSON, so that the test does not depend
on a generator.
"""

import argparse
import contextlib
import importlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import json_cases
import numpy as np

KEYS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR1": 6, "AR10": 7}
CATEGORIES = (1, 3, 7, 9)
SIZE = (300, 420)


def box(top: float, left: float, height: float, width: float) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8, order="F")
    top, left = max(0, round(top)), max(0, round(left))
    mask[top:top + max(1, round(height)), left:left + max(1, round(width))] = 1
    return mask


def code(mask: np.ndarray, text: bool) -> dict:
    """Encodes a mask as pycocotools' text, or as a list of runs."""
    if text:
        from pycocotools import mask as coco

        rle = coco.encode(mask)
        return {"size": list(rle["size"]), "counts": rle["counts"].decode()}
    return json_cases.run_lengths(mask)


class SyntheticSet:
    """A synthetic data set: `truth` and `predictions` in the official formats."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.truth = {"info": {}, "videos": [], "annotations": [],
                     "categories": [{"id": c, "name": f"category {c}"} for c in CATEGORIES]}
        self.predictions = []

    def video(self, length: int) -> int:
        number = 11 + 7 * len(self.truth["videos"]) % 40
        self.truth["videos"].append({
            "id": number, "height": SIZE[0], "width": SIZE[1], "length": length,
            "file_names": [f"v{number}/{t:05d}.jpg" for t in range(length)]})
        return number

    def track(self, length: int, side: float) -> np.ndarray:
        """Returns [T, 4] boxes that move."""
        start = self.rng.uniform(0, [SIZE[0] - side / 2, SIZE[1] - side / 2])
        way = self.rng.normal(0, 6, (length, 2)).cumsum(0)
        return np.concatenate([start + way, np.full((length, 2), side)], 1)

    def true(self, video: int, boxes: np.ndarray, category: int, missing: float = 0.0,
             crowd: bool = False, text: bool = False) -> None:
        masks = [None if self.rng.random() < missing else box(*b) for b in boxes]
        self.truth["annotations"].append({
            "id": len(self.truth["annotations"]) + 1, "video_id": video, "category_id": category,
            "iscrowd": int(crowd), "height": SIZE[0], "width": SIZE[1],
            "segmentations": [m if m is None else code(m, text) for m in masks],
            "areas": [m if m is None else int(m.sum()) for m in masks],
            "bboxes": [None] * len(masks)})

    def prediction(self, video: int, boxes: np.ndarray, category: int, score: float,
               missing: float = 0.0, shift: float = 0.0) -> None:
        moved = boxes + self.rng.normal(0, shift, boxes.shape) * [1, 1, 0.5, 0.5]
        self.predictions.append({
            "video_id": video, "category_id": category, "score": float(score),
            "segmentations": [None if self.rng.random() < missing else code(box(*b), True)
                              for b in moved]})


def draw_set(
    seed: int, videos: int = 6, missing: float = 0.0, crowds: float = 0.0, digits: int = 6,
    sides: tuple[float, float] = (60, 200), extra: int = 3,
) -> tuple[dict, list]:
    """Draws a set with correct, shifted, duplicate and false predictions, and rounded scores."""
    m = SyntheticSet(seed)
    for k in range(videos):
        length = int(m.rng.integers(2, 6))
        video = m.video(length)
        for _ in range(int(m.rng.integers(0 if k else 1, 4))):
            category = int(m.rng.choice(CATEGORIES[:3]))
            boxes = m.track(length, m.rng.uniform(*sides))
            m.true(video, boxes, category, missing, m.rng.random() < crowds, bool(k % 2))
            for _ in range(int(m.rng.integers(1, 3))):
                wrong = m.rng.random() < 0.15
                m.prediction(video, boxes, int(m.rng.choice(CATEGORIES)) if wrong else category,
                         round(m.rng.random(), digits), missing, shift=m.rng.uniform(0, 12))
        for _ in range(int(m.rng.integers(0, extra + 1))):
            m.prediction(video, m.track(length, m.rng.uniform(*sides)),
                         int(m.rng.choice(CATEGORIES)), round(m.rng.random(), digits), missing)
    return m.truth, m.predictions


def cases() -> dict[str, tuple[dict, list]]:
    found = {
        "plain": draw_set(1), "missing_frames": draw_set(2, missing=0.4),
        "crowds": draw_set(3, crowds=0.4),
        "ties": draw_set(4, digits=1, extra=6), "tie_of_all": draw_set(5, digits=0),
        "small": draw_set(6, sides=(4, 100)), "sizes": draw_set(7, sides=(100, 290)),
        "all_at_once": draw_set(8, videos=10, missing=0.2, crowds=0.2, digits=1, sides=(40, 290)),
    }
    m = SyntheticSet(9)   # areas at the limits of the ranges
    for side in (128, 256, 127, 129, 255, 257):
        video = m.video(2)
        boxes = np.array([[10, 10, side, side]] * 2, float)
        m.true(video, boxes, 1)
        m.prediction(video, boxes, 1, m.rng.random())
        m.prediction(video, boxes + np.array([20, 0, 0, 0]), 1, m.rng.random())
    found["borders"] = m.truth, m.predictions
    # Videos without objects, without predictions, without both; objects without any mask.
    m = SyntheticSet(10)
    for true, ours in ((0, 2), (2, 0), (0, 0), (1, 1)):
        video = m.video(3)
        for _ in range(true):
            m.true(video, m.track(3, 90), 3)
        for _ in range(ours):
            m.prediction(video, m.track(3, 90), 3, m.rng.random())
    m.true(video, m.track(3, 50), 3, missing=1.1)
    m.prediction(video, m.track(3, 50), 3, 0.9, missing=1.1)
    found["empty_videos"] = m.truth, m.predictions
    m = SyntheticSet(11)   # more predictions than count, and equal overlaps
    video = m.video(2)
    boxes = [m.track(2, 40) for _ in range(15)]
    for b in boxes:
        m.true(video, b, 7)
        m.true(video, b, 7)
    for k in range(120):
        m.prediction(video, boxes[k % 15], 7, round(m.rng.random(), 1), shift=1.0 * (k % 4))
    found["many"] = m.truth, m.predictions
    return found


def official(references: Path) -> Callable[[dict, list], dict[str, float]]:
    """Returns (truth, predictions) -> scores; -1 where there is no object."""
    package = ModuleType("official_youtube_vis")
    package.__path__ = [str(references / "cocoapi" / "PythonAPI" / "pycocotools")]
    sys.modules[package.__name__] = package
    ytvos, evaluation = (importlib.import_module(f"{package.__name__}.{name}")
                         for name in ("ytvos", "ytvoseval"))

    evaluation.np, ytvos.unicode = json_cases.NumpyWithOldNames(), str

    def evaluate(truth: dict, predictions: list) -> dict[str, float]:
        with contextlib.redirect_stdout(io.StringIO()):
            dataset = ytvos.YTVOS()
            dataset.dataset = json.loads(json.dumps(truth))
            dataset.createIndex()
            results = dataset.loadRes(json.loads(json.dumps(predictions)))
            run = evaluation.YTVOSeval(dataset, results)
            run.evaluate()
            run.accumulate()
            run.summarize()
        return {key: float(run.stats[place]) for key, place in KEYS.items()}

    return evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--references", type=Path, required=True)
    evaluate = official(parser.parse_args().references)
    json_cases.write(__file__, {
        name: {"truth": truth, "predictions": predictions, "scores": evaluate(truth, predictions)}
        for name, (truth, predictions) in cases().items()})


if __name__ == "__main__":
    main()
