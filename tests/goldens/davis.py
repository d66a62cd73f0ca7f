"""Writes davis.npz: scores of synthetic sequences by the official evaluation of DAVIS 2017.

    python tests/goldens/davis.py --references FOLDER

FOLDER/davis2017-evaluation is a working copy of davisvideochallenge/davis2017-evaluation at
ac7c43fca936f9722837b7fbd337d284ba37004b, which runs as it is (NumPy 2.4, scikit-image 0.26). The
masks (seed 0) are stored with the scores, so that the test does not depend on a generator.
"""

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

KEYS = ("mean", "recall", "decay")


def discs(frames: int, objects: int, size=(20, 26), seed=0) -> np.ndarray:
    """Returns uint8 index masks [T, H, W] of discs that move, objects 1 to `objects`."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size[0], :size[1]]
    start = generator.uniform(3, 17, (objects, 2))
    speed, radius = generator.normal(0, 0.3, (objects, 2)), generator.uniform(2, 6, objects)
    masks = np.zeros((frames, *size), np.uint8)
    for t in range(frames):
        center = start + 3 * np.sin(speed * (t % 40))
        for k in range(objects):
            masks[t][np.hypot(y - center[k, 0], x - center[k, 1]) < radius[k]] = k + 1
    return masks


def degraded(masks: np.ndarray, seed: int) -> np.ndarray:
    """Returns predictions that get worse over time: shifted by up to 3 pixels, with specks."""
    generator = np.random.default_rng(seed)
    out = np.empty_like(masks)
    for t, mask in enumerate(masks):
        reach = 1 + 3 * t // len(masks)
        shift = generator.integers(-reach, reach + 1, 2)
        out[t] = np.roll(mask, shift, (0, 1))
        specks = generator.random(mask.shape) < 0.01 * reach
        out[t][specks] = generator.integers(0, masks.max() + 1, int(specks.sum()))
    return out


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns sequence -> (truth, prediction), uint8 [T, H, W] index masks."""
    sequences = {}
    truth = discs(5, 2, seed=1)
    sequences["five_frames"] = truth, degraded(truth, 1)
    truth = discs(300, 2, size=(14, 18), seed=2)
    sequences["three_hundred_frames"] = truth, degraded(truth, 2)
    truth = discs(259, 1, size=(12, 12), seed=9)   # 257 frames count: the first to overflow
    sequences["just_beyond_eight_bits"] = truth, degraded(truth, 9)
    truth = discs(9, 2, seed=3)
    sequences["empty_predictions"] = truth, np.zeros_like(truth)
    truth = discs(12, 2, seed=4)
    prediction = degraded(truth, 4)
    truth[5:][truth[5:] == 2] = 0
    sequences["vanishing"] = truth, prediction
    truth = discs(12, 2, seed=5)
    truth[5:][truth[5:] == 1] = 0
    prediction = degraded(truth, 5)
    prediction[7:] = 0
    sequences["both_empty"] = truth, prediction
    truth = discs(8, 3, seed=6)
    prediction = degraded(truth, 6)
    prediction[prediction == 3] = 0
    sequences["missing_object"] = truth, prediction
    truth = discs(8, 3, seed=7)
    truth[0][truth[0] == 2] = 0   # not in the first frame, but counted: 3 is
    sequences["ids_with_a_gap"] = truth, degraded(truth, 7)
    truth = discs(8, 2, seed=8)
    prediction = degraded(truth, 8)
    truth[:, 8:13, 8:20] = 255
    prediction[0], prediction[-1] = 7, 9   # frames that are not read
    sequences["void"] = truth, prediction
    generator = np.random.default_rng(10)
    noise = generator.integers(0, 3, (2, 6, 11, 7), np.uint8)
    noise[0, 0, 0, 0] = 2
    sequences["noise"] = noise[0], noise[1]
    return sequences


def official(references: Path) -> Callable[[dict], dict[str, dict[str, np.ndarray]]]:
    """Returns cases -> {"J" or "F": {sequence: [objects, 3] mean, recall, decay}}."""
    sys.path.insert(0, str(references / "davis2017-evaluation"))
    from davis2017.evaluation import DAVISEvaluation

    def evaluate(sequences: dict) -> dict[str, dict[str, np.ndarray]]:
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            for name, pair in sequences.items():
                for folder, masks in zip(("Annotations/480p", "results"), pair, strict=True):
                    (root / folder / name).mkdir(parents=True)
                    for t, mask in enumerate(masks):
                        Image.fromarray(mask).save(root / folder / name / f"{t:05d}.png")
                (root / "JPEGImages/480p" / name).mkdir(parents=True)
                for t in range(len(pair[0])):   # only listed, never read
                    (root / "JPEGImages/480p" / name / f"{t:05d}.jpg").touch()
            (root / "ImageSets/2017").mkdir(parents=True)
            (root / "ImageSets/2017/val.txt").write_text("\n".join(sequences))
            with contextlib.redirect_stderr(io.StringIO()):
                result = DAVISEvaluation(root, "semi-supervised", "val").evaluate(root / "results")
        scores = {}
        for letter in "JF":
            rows = np.stack([result[letter][key] for key in "MRD"], axis=-1)
            names = [name.rpartition("_")[0] for name in result[letter]["M_per_object"]]
            scores[letter] = {name: rows[[n == name for n in names]] for name in sequences}
        return scores

    return evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--references", type=Path, required=True)
    sequences = cases()
    scores = official(parser.parse_args().references)(sequences)
    arrays = {}
    for name, (truth, prediction) in sequences.items():
        arrays |= {f"{name}/truth": truth, f"{name}/prediction": prediction,
                   f"{name}/J": scores["J"][name], f"{name}/F": scores["F"][name]}
    path = Path(__file__).with_suffix(".npz")
    np.savez_compressed(path, **arrays)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
