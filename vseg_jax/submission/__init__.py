"""Submissions to the benchmarks' servers: written from a model's predictions, and checked.

| kind | files | frames |
|---|---|---|
| `davis` | `<sequence>/<frame>.png` | all of `JPEGImages/480p`, of the split's sequences |
| `youtube_vos` | `Annotations/<video>/<frame>.png` | all of `JPEGImages` (every fifth) |
| `refer_youtube_vos` | `Annotations/<video>/<expression>/<frame>.png` | those listed in its file |
| `youtube_vis`, `ovis` | `results.json` | all |

The PNGs have the size and the names of the frames. They are index masks with the ids of the
download's masks; those of `refer_youtube_vos` are gray, 255 on the object of the expression and 0
elsewhere. `vseg submission --help` lists the commands.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vseg_jax.submission.base import Format
from vseg_jax.submission.index_pngs import DAVIS, REFER_YOUTUBE_VOS, YOUTUBE_VOS
from vseg_jax.submission.results_json import OVIS, YOUTUBE_VIS

__all__ = ["FORMATS", "Format", "check", "find", "wanted", "write"]

FORMATS: dict[str, Format] = {
    "davis": DAVIS, "youtube_vos": YOUTUBE_VOS, "refer_youtube_vos": REFER_YOUTUBE_VOS,
    "youtube_vis": YOUTUBE_VIS, "ovis": OVIS,
}


def find(kind: str) -> Format:
    """Returns the format of a benchmark.

    Raises:
      ValueError: there is no such kind of submission.
    """
    if kind not in FORMATS:
        raise ValueError(f"there is no kind {kind!r} of submission; known are {', '.join(FORMATS)}")
    return FORMATS[kind]


def wanted(kind: str, source: str | Path, split: str = "") -> Any:
    """Returns what the server expects; see `Format.wanted`."""
    return find(kind).wanted(source, split)


def check(kind: str, source: str | Path, submission: str | Path, split: str = "") -> list[str]:
    """Returns every problem of a submission; see `Format.check`."""
    return find(kind).check(source, submission, split)


def write(kind: str, source: str | Path, predictions: Iterable[tuple[str, Any]],
          output: str | Path, split: str = "") -> Path:
    """Writes and checks a submission and returns the path of its zip; see `Format.write`."""
    return find(kind).write(source, predictions, output, split)
