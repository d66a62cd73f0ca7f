"""What the scripts that store cases with an official tool's scores have in common."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class NumpyWithOldNames:
    """Stands in for `np` in code that was written for NumPy 1."""

    float, int = float, int

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def linspace(start: float, stop: float, number: float, endpoint: bool = True) -> np.ndarray:
        return np.linspace(start, stop, int(number), endpoint=endpoint)


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Encodes a mask [H, W] as COCO's list of runs: columns, first those of the background."""
    flat = np.concatenate([[0], mask.T.ravel(), [2]])
    return {"size": list(mask.shape),
            "counts": np.diff(np.flatnonzero(flat[1:] != flat[:-1]), prepend=0).tolist()}


def write(script: str, cases: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes cases as JSON into the .npz next to a script, and prints their "scores"."""
    arrays = {}
    for name, case in cases.items():
        print(name, {key: round(value, 3) for key, value in case["scores"].items()})
        arrays[name] = np.frombuffer(json.dumps(case).encode(), np.uint8)
    path = Path(script).with_suffix(".npz")
    np.savez_compressed(path, **arrays)
    print(f"{path}: {path.stat().st_size} bytes")
