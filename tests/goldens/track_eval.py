"""Writes track_eval.npz: scores of synthetic tracks by TrackEval.

    python tests/goldens/track_eval.py --references FOLDER

FOLDER/TrackEval is a working copy of JonathonLuiten/TrackEval at
12c8791b303e0a0b50f753af204249e622d0281a. Its metrics HOTA, CLEAR and Identity are imported as they
are; they need `np.float` and `np.int`, which NumPy 2 lacks, so a replacement for `np` has them. The
IoUs that they get are computed here from unpacked masks. Truth and predictions (seeds 1 to 5) are
stored with the scores as JSON, so that the test does not depend on a generator. HOTA, DetA and AssA
are the means over the thresholds, as in TrackEval's tables.
"""

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType

import json_cases
import numpy as np

SIZE = (24, 40)


class Masks(dict):
    """Masks of one object or track by frame."""

    def rows(self, frames: int) -> dict:
        return {"segmentations": [json_cases.run_lengths(self[t]) if t in self else None
                                  for t in range(frames)]}


def box(top: float, left: float, side: int) -> np.ndarray:
    mask = np.zeros(SIZE, int)
    top, left = max(0, round(top)), max(0, round(left))
    mask[top:top + side, left:left + side] = 1
    return mask


def draw(
    seed: int, videos: int = 4, gaps: float = 0.1, cuts: float = 0.0, copies: float = 0.0,
    empty: bool = False,
) -> list[tuple[list[Masks], list[Masks], int]]:
    """Draws videos: boxes that move, and tracks of them that shift, miss frames and change.

    Args:
      seed: of the draw.
      videos: their number.
      gaps: share of frames that an object or a track lacks.
      cuts: probability, in each frame, that two tracks are exchanged.
      copies: probability that an object has a second track.
      empty: whether some videos have no objects or no tracks.
    """
    random = np.random.default_rng(seed)
    found = []
    for number in range(videos):
        frames, objects, tracks = int(random.integers(4, 12)), [], []
        for _ in range(int(random.integers(1, 5))):
            side = int(random.integers(4, 12))
            way = random.uniform(0, (20, 34)) + random.normal(0, 1.5, (frames, 2)).cumsum(0)
            here = random.random(frames) >= gaps
            objects.append(Masks({t: box(*way[t], side) for t in range(frames) if here[t]}))
            for _ in range(1 + (random.random() < copies)):
                off = way + random.normal(0, 1.2, (frames, 2))
                here = random.random(frames) >= gaps
                tracks.append(Masks({t: box(*off[t], side) for t in range(frames) if here[t]}))
        for t in range(frames):
            if random.random() < cuts and len(tracks) > 1:
                one, other = random.choice(len(tracks), 2, replace=False)
                for later in range(t, frames):
                    a, b = tracks[one].pop(later, None), tracks[other].pop(later, None)
                    tracks[one] |= {} if b is None else {later: b}
                    tracks[other] |= {} if a is None else {later: a}
        if empty and number % 4 == 1:
            objects = []
        if empty and number % 4 == 2:
            tracks = []
        objects, tracks = ([row for row in rows if row] for rows in (objects, tracks))
        found.append((objects, tracks, frames))
    return found


CASES = {
    "plain": draw(1), "fragments": draw(2, cuts=0.4), "duplicates": draw(3, copies=0.7, cuts=0.2),
    "gaps": draw(4, gaps=0.5, cuts=0.2), "empty": draw(5, videos=8, gaps=0.6, empty=True),
}


def track_eval_data(objects: list[Masks], tracks: list[Masks], frames: int) -> dict:
    """Returns one sequence in the form that TrackEval's metrics take."""
    data = {"gt_ids": [], "tracker_ids": [], "similarity_scores": [], "num_timesteps": frames,
            "num_gt_ids": len(objects), "num_tracker_ids": len(tracks)}
    for t in range(frames):
        ours, theirs = ([k for k, row in enumerate(rows) if t in row and row[t].any()]
                        for rows in (objects, tracks))
        data["gt_ids"].append(np.array(ours, int))
        data["tracker_ids"].append(np.array(theirs, int))
        data["similarity_scores"].append(np.array([
            [(objects[a][t] & tracks[b][t]).sum() / (objects[a][t] | tracks[b][t]).sum()
             for b in theirs] for a in ours]).reshape(len(ours), len(theirs)))
    for kind in ("gt", "tracker"):
        data[f"num_{kind}_dets"] = sum(len(ids) for ids in data[f"{kind}_ids"])
    return data


def track_eval(references: Path):
    """Returns the metrics HOTA, CLEAR and Identity of TrackEval."""
    root = references / "TrackEval" / "trackeval"
    for name, path in (("trackeval", root), ("trackeval.metrics", root / "metrics")):
        package = ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package
    sys.modules["trackeval"].utils = importlib.import_module("trackeval.utils")

    found = []
    for file, name in (("hota", "HOTA"), ("clear", "CLEAR"), ("identity", "Identity")):
        module = importlib.import_module(f"trackeval.metrics.{file}")
        module.np = json_cases.NumpyWithOldNames()
        found.append(getattr(module, name)(*([] if name == "HOTA" else [{"PRINT_CONFIG": False}])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--references", type=Path, required=True)
    metrics = track_eval(parser.parse_args().references)
    cases = {}
    for name, videos in CASES.items():
        data = [track_eval_data(*video) for video in videos]
        hota, clear, identity = (
            metric.combine_sequences({str(k): metric.eval_sequence(d) for k, d in enumerate(data)})
            for metric in metrics)
        scores = {
            **{key: float(np.mean(hota[key])) for key in ("HOTA", "DetA", "AssA")},
            "IDF1": float(identity["IDF1"]), "track_recall": float(clear["CLR_Re"]),
            "identity_switches": int(clear["IDSW"]),
        }
        rows = [{"truth": [o.rows(frames) for o in objects],
                 "predictions": [p.rows(frames) for p in tracks]}
                for objects, tracks, frames in videos]
        cases[name] = {"size": SIZE, "videos": rows, "scores": scores}
    json_cases.write(__file__, cases)


if __name__ == "__main__":
    main()
