"""Runs an exported stream: needs jax and numpy, and no code of the model.

    stream = Stream("exported/stream")
    state = stream.start(frame, tokens=tokens, tokens_valid=tokens_valid)
    state, answer = stream.step(state, frame)      # {"logits", "scores", "frame"}

Frames are uint8 RGB of `stream.description["frame"]`; the first answers of a model with a delay
have a negative `frame`. The state is a flat list of arrays, described in `stream.json`: it can be
kept, sent, and given to `step` elsewhere. This file may be copied out of the library.

A folder holds `stream.json` (names, shapes and dtypes of all that goes in and out), `start.bin` and
`step.bin` (StableHLO, made by jax.export) and `variables.npz` (what they read of the model).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

VERSION = 1


class Stream:
    """The two programs of a folder; stateless, so one may serve any number of streams.

    Attributes:
      description: what `stream.json` says: `frame`, [shape, dtype]; `prompt`, `state` and
        `prediction`, lists of {"name", "shape", "dtype"}; `delay`, frames that an answer is late.
    """

    def __init__(self, folder: str | os.PathLike):
        folder = Path(folder)
        try:
            self.description = json.loads((folder / "stream.json").read_text())
            programs = {name: (folder / f"{name}.bin").read_bytes() for name in ("start", "step")}
            with np.load(folder / "variables.npz") as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder} is no exported stream ({error}); it must hold stream.json, "
                             "start.bin, step.bin and variables.npz") from error
        if self.description.get("version") != VERSION:
            raise ValueError(f"{folder} has version {self.description.get('version')}, this code "
                             f"reads {VERSION}; export the model again")
        self._programs, self._variables = {}, {}
        for name, data in programs.items():
            self._programs[name] = jax.jit(jax.export.deserialize(bytearray(data)).call)
            self._variables[name] = [
                jax.device_put(arrays[key].view(np.dtype(dtype)))
                for key, dtype in self.description["variables"][name]
            ]

    def start(self, frame: Any, **prompt: Any) -> list[jax.Array]:
        """The state after the first frame; `prompt` has the entries that `stream.json` lists."""
        wanted = [entry["name"] for entry in self.description["prompt"]]
        if sorted(prompt) != sorted(wanted):
            raise ValueError(f"the prompt has {sorted(prompt)}; it must have {sorted(wanted)}")
        inputs = [self._checked(prompt[entry["name"]], entry)
                  for entry in self.description["prompt"]]
        return list(self._programs["start"](self._variables["start"], self._frame(frame), inputs))

    def step(self, state: list[Any], frame: Any) -> tuple[list[jax.Array], dict[str, jax.Array]]:
        """The next state, and the answer: `logits` [N, H, W], `scores` [N], `frame` []."""
        entries = self.description["state"]
        if len(state) != len(entries):
            raise ValueError(f"the state has {len(state)} arrays; it must have {len(entries)}")
        state = [self._checked(a, entry) for a, entry in zip(state, entries, strict=True)]
        state, answer = self._programs["step"](self._variables["step"], state, self._frame(frame))
        names = [entry["name"] for entry in self.description["prediction"]]
        return list(state), dict(zip(names, answer, strict=True))

    def _frame(self, frame: Any) -> Any:
        return self._checked(frame, {"name": "frame", **self.description["frame"]})

    @staticmethod
    def _checked(array: Any, entry: dict[str, Any]) -> Any:
        shape, dtype = list(np.shape(array)), str(getattr(array, "dtype", type(array)))
        if (shape, dtype) != (entry["shape"], entry["dtype"]):
            raise ValueError(f"{entry['name']} is {dtype} {shape}; it must be {entry['dtype']} "
                             f"{entry['shape']}")
        return array
