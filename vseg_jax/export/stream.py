"""Runs exported streams: needs jax and numpy, and no code of the model.

    stream = Stream("exported/stream")
    state = stream.start(frames, mask=masks)          # or tokens=..., tokens_valid=...
    state, answer = stream.step(state, next_frames)   # {"logits", "scores", "frame"}

    state, answer = stream.first_step(frames)              # a model that finds objects by itself

Any number S of streams advance together: every array has a leading axis for them, [S, H, W, 3]
frames, which are uint8 RGB; one video alone is `frame[None]`. The first answers of a model with a
delay have a negative `frame`. The state is a flat list of arrays, described in `stream.json`: it
can be sent, and given to `step` elsewhere.

A mask [S, H, W] holds the objects' slots: 0 background, 1 to N; `step(state, frames, mask=masks)`
adds or corrects objects, where 0 says nothing.

Of a model that finds objects, `identities` [S, N] are the same number for the same object in all
frames, negative for none, and the last of the `probabilities` [S, N, K + 1] is that of none; the
description's `categories` names the others. One that hears takes `audio`, float32 [S, 96, 64], the
log-mel patches that end with the frames (`input_pipeline/audio.py` of the library makes them), and
`audio_valid`, bool [S], with the first frame, and with each later one that has sound.

A folder holds `stream.json` (names, shapes and dtypes of all that goes in and out), `start.bin` or
`first_step.bin`, `step.bin`, for masks and sound `step_prompt.bin` (StableHLO, made by jax.export), and
`variables.npz` (what they read of the model). This file and such a folder may be copied out of the
library.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

VERSION = 3
STREAMS = "S"   # in `stream.json`, a number that the caller chooses


class Stream:
    """The programs of a folder; stateless, so one may serve any number of streams.

    Attributes:
      description: what `stream.json` says: `frame`, {"shape", "dtype"}; `prompt`, `state` and
        `prediction`, lists of {"name", "shape", "dtype"}; `delay`, frames that an answer is late;
        `categories`, names of the classes.
    """

    def __init__(self, folder: str | os.PathLike):
        folder = Path(folder)
        try:
            self.description = json.loads((folder / "stream.json").read_text())
            programs = {path.stem: path.read_bytes() for path in folder.glob("*.bin")}
            with np.load(folder / "variables.npz") as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder} is no exported stream ({error}); it must hold stream.json, "
                             "start.bin or first_step.bin, step.bin and variables.npz") from error
        if self.description.get("version") != VERSION:
            raise ValueError(f"{folder} has version {self.description.get('version')}, this code "
                             f"reads {VERSION}; export the model again")
        self._programs, self._variables = {}, {}
        for name, variables in self.description["variables"].items():
            if name not in programs:
                raise ValueError(f"{folder} has no {name}.bin; export the model again")
            call = jax.export.deserialize(bytearray(programs[name])).call
            donated = () if name in ("start", "first_step") else (1,)   # a memory changes in place
            self._programs[name] = jax.jit(call, donate_argnums=donated)
            self._variables[name] = [
                jax.device_put(arrays[key].view(np.dtype(dtype))) for key, dtype in variables
            ]

    def start(self, frames: Any, **prompt: Any) -> list[jax.Array]:
        """The state after the first frames; `prompt` has the entries that `stream.json` lists."""
        if "start" not in self._programs:
            return self.first_step(frames, **prompt)[0]
        return list(self._first("start", frames, prompt))

    def first_step(self, frames: Any, **prompt: Any) -> tuple[list[jax.Array], dict[str, jax.Array]]:
        """`start` and the answers for the first frames, of a model that needs no prompt for them.
        """
        if "first_step" not in self._programs:
            raise ValueError("this model is told its objects; use start, and step for the answers")
        state, prediction = self._first("first_step", frames, prompt)
        return list(state), self._named(prediction)

    def step(
        self, state: list[Any], frames: Any, **prompt: Any
    ) -> tuple[list[jax.Array], dict[str, jax.Array]]:
        """The next state, and the answers: `logits` [S, N, H, W], `scores` [S, N], `frame` [S], ...

        `state` is used up, as its memory is written into: take the one that is returned.
        """
        entries = self.description["state"]
        if len(state) != len(entries):
            raise ValueError(f"the state has {len(state)} arrays; it must have {len(entries)}")
        frames = self._checked(frames, {"name": "frame", **self.description["frame"]}, STREAMS)
        count = len(frames)
        state = [self._checked(a, entry, count) for a, entry in zip(state, entries, strict=True)]
        name = "step_prompt" if prompt else "step"
        if name not in self._programs:
            raise ValueError("this model takes a prompt when a stream starts, and no other later")
        inputs = (state, frames, *([self._prompt(prompt, count)] if prompt else []))
        state, prediction = self._programs[name](self._variables[name], *inputs)
        return list(state), self._named(prediction)

    def _first(self, name: str, frames: Any, prompt: dict[str, Any]) -> Any:
        frames = self._checked(frames, {"name": "frame", **self.description["frame"]}, STREAMS)
        return self._programs[name](
            self._variables[name], frames, self._prompt(prompt, len(frames)))

    def _named(self, prediction: list[jax.Array]) -> dict[str, jax.Array]:
        names = [entry["name"] for entry in self.description["prediction"]]
        return dict(zip(names, prediction, strict=True))

    def _prompt(self, prompt: dict[str, Any], count: int) -> list[Any]:
        wanted = [entry["name"] for entry in self.description["prompt"]]
        if sorted(prompt) != sorted(wanted):
            raise ValueError(f"the prompt has {sorted(prompt)}; it must have {sorted(wanted)}")
        return [self._checked(prompt[entry["name"]], entry, count)
                for entry in self.description["prompt"]]

    @staticmethod
    def _checked(array: Any, entry: dict[str, Any], count: int | str) -> Any:
        """The array, if it is as described, of `count` streams; STREAMS is any number."""
        shape, dtype = list(np.shape(array)), str(getattr(array, "dtype", type(array)))
        wanted = [count if n == STREAMS else n for n in entry["shape"]]
        if dtype != entry["dtype"] or len(shape) != len(wanted) or any(
                n not in (STREAMS, given) for n, given in zip(wanted, shape, strict=True)):
            raise ValueError(f"{entry['name']} is {dtype} {shape}; it must be {entry['dtype']} "
                             f"[{', '.join(map(str, wanted))}]")
        return array
