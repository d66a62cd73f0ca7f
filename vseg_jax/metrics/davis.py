"""Region similarity J and boundary accuracy F of DAVIS, and of the benchmarks that use them.

J is the intersection over union of an object's pixels in one frame and F the harmonic mean of
precision and recall of its outline; both are 1 where ground truth and prediction are empty. An
object gets their mean over frames, their recall (the share of frames above one half) and their
decay (the mean of the first quarter of the frames minus that of the last). The result is the mean
over the objects of all sequences; J&F is the mean of J and F.

| protocol | objects | frames that count |
|---|---|---|
| `davis` | ids 1 to the largest one in the first ground-truth mask | all but the first and last |
| `youtube_vos` (inferred) | each from the frame in which it enters | those after that frame |
| `ovis` | those of the first frame, each predicted by itself | all but the first |
| `expressions` (Refer-YouTube-VOS) | one, with the id 1 | all |

Void (255) in the ground truth is background, as in the official code of the semi-supervised task.
Checked against davisvideochallenge/davis2017-evaluation ac7c43f.

The command scores index PNGs `DIR/<sequence>/<frame>.png` that have the same names in both folders.
0 is background and ids begin at 1; a gray mask with the values 0 and 255 alone holds one object, as
in DAVIS 2016:

    vseg metrics davis --truth DIR --predictions DIR [--sequences val.txt]
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from vseg_jax.arguments import Parser
from vseg_jax.index_masks import VOID
from vseg_jax.metrics.command import print_scores
from vseg_jax.metrics.jf import score
from vseg_jax.text_files import read_text

BINS = 4   # of the decay: quarters of the frames


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Which of an object's frames count, and whether objects may enter after the first frame."""

    first: bool
    last: bool
    entering: bool = False


PROTOCOLS = {
    "davis": Protocol(first=False, last=False),
    "youtube_vos": Protocol(first=False, last=True, entering=True),
    "ovis": Protocol(first=False, last=True),
    "expressions": Protocol(first=True, last=True),
}


# --- statistics -------------------------------------------------------------------------------


def statistics(
    values: Float[np.ndarray, "frames"], official_overflow: bool = False
) -> dict[str, float]:
    """Returns mean, recall and decay over an object's frames.

    Args:
      values: J or F of each frame, at least one.
      official_overflow: whether to reproduce an error of the official code, which stores the
        borders of the quarters in 8 bits. With more than 256 counted frames its quarters start too
        early, and its decay is NaN where a quarter has no frame left.
    """
    borders = np.round(np.linspace(1, len(values), BINS + 1) + 1e-10).astype(int) - 1
    if official_overflow:
        borders %= 256
    # A quarter includes both of its borders.
    first, last = values[borders[0]:borders[1] + 1], values[borders[-2]:borders[-1] + 1]
    decay = first.mean() - last.mean() if first.size and last.size else math.nan
    return {"mean": float(values.mean()), "recall": float((values > 0.5).mean()),
            "decay": float(decay)}


@dataclasses.dataclass
class _Video:
    """What was added of one sequence.

    Attributes:
      rows: (J, F) of each frame of each object.
      frames: number of frames added.
      extra: frame -> largest predicted id, where it is above all ids of the ground truth.
    """

    rows: dict[int, list[tuple[float, float]]] = dataclasses.field(default_factory=dict)
    frames: int = 0
    extra: dict[int, int] = dataclasses.field(default_factory=dict)


class DavisMetric:
    """Collects frames and scores them; stores J and F of each object and frame, no pixels.

    Args:
      protocol: a key of `PROTOCOLS`.
      official_overflow: see `statistics`.
      skip_absent: whether frames without an object in the ground truth do not count for it, in
        place of J = 1 where the prediction is empty too. For `ovis`, whose paper says neither.
    """

    def __init__(self, protocol: str = "davis", *, official_overflow: bool = False,
                 skip_absent: bool = False) -> None:
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol is {protocol!r}; it must be one of {', '.join(PROTOCOLS)}")
        self.protocol = protocol
        self.official_overflow = official_overflow
        self.skip_absent = skip_absent
        self._videos: dict[str, _Video] = {}

    @property
    def margins(self) -> tuple[int, int]:
        """How many of an object's first and last frames do not count."""
        rule = PROTOCOLS[self.protocol]
        return int(not rule.first), int(not rule.last)

    def add(
        self,
        sequence: str,
        prediction: UInt8[np.ndarray, "..."],
        truth: UInt8[np.ndarray, "..."],
    ) -> None:
        """Adds the next frame or the next T frames of a sequence, in order of time.

        Frames that do not count (such as the first) must be added too: they define which objects
        exist and where the sequence ends.

        Args:
          sequence: name of the sequence.
          prediction: index mask [H, W] or [T, H, W]; an object that it lacks counts as empty.
          truth: ground-truth index mask of the same shape; 255 is background.

        Raises:
          ValueError: the shapes differ or are not those of frames.
        """
        if prediction.shape != truth.shape or prediction.ndim not in (2, 3):
            raise ValueError(
                f"{sequence}: the prediction has shape {prediction.shape} and its ground truth "
                f"{truth.shape}; both must be [H, W] or [T, H, W] at the ground truth's size"
            )
        if prediction.ndim == 3:
            for pair in zip(prediction, truth, strict=True):
                self.add(sequence, *pair)
            return
        video = self._videos.setdefault(sequence, _Video())
        if VOID in (known := _ids(truth)):
            truth, known = np.where(truth == VOID, np.uint8(0), truth), known - {VOID}
        if self.protocol == "expressions":
            known = {1}
        elif self.protocol == "davis":
            known = set(range(1, max(known, default=0) + 1))
        if video.frames == 0 or PROTOCOLS[self.protocol].entering:
            for number in sorted(known - video.rows.keys()):
                video.rows[number] = []
        if (largest := int(prediction.max(initial=0))) > max(video.rows, default=0):
            video.extra[video.frames] = largest
        for number in video.rows:
            self.add_object(sequence, number, prediction == number, truth == number)
        video.frames += 1

    def add_object(
        self,
        sequence: str,
        number: int,
        prediction: Bool[np.ndarray, "H W"],
        truth: Bool[np.ndarray, "H W"],
    ) -> None:
        """Adds the next frame of one object, where objects are predicted separately.

        Args:
          sequence: name of the sequence.
          number: id of the object.
          prediction: its predicted mask.
          truth: its ground-truth mask.
        """
        rows = self._videos.setdefault(sequence, _Video()).rows.setdefault(number, [])
        if not (self.skip_absent and rows and not truth.any()):
            rows.append(score(prediction, truth))

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """All that was added, ready for JSON; `add_rows` is the inverse."""
        return {name: dataclasses.asdict(video) for name, video in self._videos.items()}

    def add_rows(self, rows: dict[str, dict[str, Any]]) -> None:
        """Adds the sequences of another metric's `rows`."""
        for name, video in rows.items():
            if name in self._videos:
                raise ValueError(f"the sequence {name} was added already")
            self._videos[name] = _Video(
                {int(k): [(j, f) for j, f in v] for k, v in video["rows"].items()},
                video["frames"], {int(k): v for k, v in video["extra"].items()},
            )

    def result(self) -> dict[str, Any]:
        """Returns all scores, as fractions.

        Returns:
          `J&F`; `J` and `F`, each {"mean", "recall", "decay"}; `objects`, the number of objects;
          and `sequences`: {name: {id: {"J&F", "J", "F", "frames"}}} (ids are strings, as in JSON).

        Raises:
          ValueError: there is no object, no frame of a sequence counts, or a prediction has an id
            above all ids of the ground truth (the official tool fails there too).
        """
        sequences = {name: self._sequence(name, video) for name, video in self._videos.items()}
        objects = [o for found in sequences.values() for o in found.values()]
        if not objects:
            raise ValueError("there is no object to score; add sequences with objects in their "
                             "ground truth")
        result: dict[str, Any] = {
            letter: {key: float(np.mean([o[letter][key] for o in objects]))
                     for key in ("mean", "recall", "decay")}
            for letter in "JF"
        }
        both = (result["J"]["mean"] + result["F"]["mean"]) / 2
        return {"J&F": both, **result, "objects": len(objects), "sequences": sequences}

    def _sequence(self, name: str, video: _Video) -> dict[str, dict[str, Any]]:
        start, end = self.margins
        for frame, number in video.extra.items():
            if start <= frame < video.frames - end:
                raise ValueError(
                    f"{name}, frame {frame} (from 0): the prediction has the id {number}, the "
                    f"ground truth no id above {max(video.rows, default=0)}; predict only the "
                    "objects of the first-frame mask, with its ids"
                )
        found = {}
        for number, rows in sorted(video.rows.items()):
            values = np.array(rows[start:len(rows) - end], np.float64).reshape(-1, 2)
            if not len(values):
                if self.skip_absent or PROTOCOLS[self.protocol].entering:
                    continue   # an object that never appears again
                raise ValueError(f"{name}: no frame counts, it has {len(rows)} and the protocol "
                                 f"{self.protocol!r} leaves out the first"
                                 f"{' and the last' if end else ''}; score longer sequences")
            j, f = (statistics(column, self.official_overflow) for column in values.T)
            found[str(number)] = {"J&F": (j["mean"] + f["mean"]) / 2, "J": j, "F": f,
                                  "frames": len(values)}
        return found


def _ids(mask: np.ndarray) -> set[int]:
    """Returns the values of an index mask other than 0."""
    counts = cv2.calcHist([mask], [0], None, [256], [0, 256])
    return set(np.flatnonzero(counts).tolist()) - {0}


# --- folders ----------------------------------------------------------------------------------


def score_folders(
    truth: str | Path, predictions: str | Path, *, sequences: Iterable[str] | None = None,
    protocol: str = "davis", official_overflow: bool = False,
) -> dict[str, Any]:
    """Returns the scores of saved masks; see the module's docstring for the layout.

    Args:
      truth: folder of the ground truth. Each of its folders with PNGs is a sequence, also
        `DIR/<video>/<expression>`.
      predictions: folder with the same layout; frames that do not count may be missing.
      sequences: names of the sequences to score; None scores all of `truth`.
      protocol: see `DavisMetric`.
      official_overflow: see `DavisMetric`.

    Raises:
      ValueError: a sequence, frame or file is missing, unreadable or not of the size of its ground
        truth (the message names it); see also `DavisMetric.result`.
    """
    truth, predictions = Path(truth), Path(predictions)
    for folder in (truth, predictions):
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder; it must hold <sequence>/<frame>.png")
    if sequences is None:
        sequences = sorted({path.parent.relative_to(truth).as_posix()
                            for path in truth.rglob("[!.]*.png")} - {"."})
    sequences = list(sequences)
    if not sequences:
        raise ValueError(f"{truth} holds no sequence; it must have {truth}/<sequence>/<frame>.png")
    frames = {name: _frames(truth / name) for name in sequences}
    if absent := [name for name in sequences if not (predictions / name).is_dir()]:
        raise ValueError(f"{predictions} lacks {len(absent)} of {len(sequences)} sequences: "
                         f"{_some(absent)}")
    metric = DavisMetric(protocol, official_overflow=official_overflow)
    start, end = metric.margins
    for name in sequences:
        counted = frames[name][start:len(frames[name]) - end]
        if absent := [p.name for p in counted if not (predictions / name / p.name).is_file()]:
            raise ValueError(f"{predictions / name} lacks {len(absent)} of {len(counted)} frames: "
                             f"{_some(absent)}")
        for number, path in enumerate(frames[name]):
            mask = read_index(path)
            counts = start <= number < len(frames[name]) - end
            metric.add(name, _prediction(predictions / name / path.name, mask, path) if counts
                       else np.zeros_like(mask), mask)
    return metric.result()


def _prediction(path: Path, truth: np.ndarray, truth_path: Path) -> np.ndarray:
    prediction = read_index(path)
    if prediction.shape != truth.shape:
        raise ValueError(
            f"{path} is {prediction.shape[1]} x {prediction.shape[0]}, its ground truth "
            f"{truth_path} is {truth.shape[1]} x {truth.shape[0]}; save predictions at the ground "
            "truth's size"
        )
    return prediction


def _frames(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("[!.]*.png"))   # without the hidden files of macOS
    if not paths:
        raise ValueError(f"the ground truth has no mask in {folder}; it must hold <frame>.png")
    return paths


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def read_index(path: str | Path) -> UInt8[np.ndarray, "H W"]:
    """Returns the mask of an index PNG; a gray one with the values 0 and 255 alone holds object 1.

    Raises:
      ValueError: the file cannot be read, or has colors in place of a palette, or 16 bits.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            mode, mask = image.mode, np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read as a mask: {error}") from None
    if mode not in ("P", "L", "1"):
        raise ValueError(f"{path} has the mode {mode}; index masks must be palette or 8-bit gray "
                         "PNGs (colors lose the ids)")
    mask = mask.astype(np.uint8)
    if mode == "L" and _ids(mask) == {VOID}:
        mask = (mask > 0).astype(np.uint8)
    return mask


def main(arguments: Iterable[str] | None = None) -> int:
    """Runs the command of the module's docstring and returns its exit status."""
    parser = Parser(prog="vseg metrics davis", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", required=True, help="folder of the ground-truth masks")
    parser.add_argument("--predictions", required=True, help="folder of the predicted masks")
    parser.add_argument("--sequences", help="file with the names to score, one per line")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="davis")
    parser.add_argument("--official_overflow", action="store_true",
                        help="compute the decay of more than 256 frames as the official tool does")
    options = parser.parse_args(None if arguments is None else list(arguments))

    def score_saved() -> dict[str, Any]:
        names = read_text(options.sequences).split() if options.sequences else None
        return score_folders(options.truth, options.predictions, sequences=names,
                             protocol=options.protocol,
                             official_overflow=options.official_overflow)

    return print_scores(score_saved)


if __name__ == "__main__":
    sys.exit(main())
