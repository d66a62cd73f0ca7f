"""Runs exported streams; needs jax and numpy, but no code of the model.

    stream = Stream("exported/stream")
    state = stream.start(frames, mask=masks)          # or tokens=..., tokens_valid=...
    state, prediction = stream.step(state, next_frames)

    state, prediction = stream.first_step(frames)     # a model that finds objects by itself

Any number S of streams advance together: every array has a leading axis for them, and frames are
uint8 RGB, [S, H, W, 3]; a single video is `frame[None]`. The state is a flat list of arrays, which
`stream.json` describes; it can be sent elsewhere and used there.

A prediction is a dict. Its names are the fields of the model's prediction, and `stream.json` lists
them with shapes and dtypes:

- models of expressions: `logits` [S, N, H, W] before the sigmoid, `scores` [S, N], `frame` [S];
- models of masks: `probability` [S, N, H, W], `scores`, `frame`;
- models that find objects by themselves: `logits`, `scores`, `frame`, `probabilities`
  [S, N, K + 1], the last of which is that of "no object", and `identities` [S, N], the same number
  for the same object in all frames (and for objects that use the same slot at different times),
  negative for no object. The description's `categories` names the K classes.

`frame` is the number of the frame that is predicted; it is negative as long as a model with a delay
has no prediction yet.

A mask [S, H, W] holds the objects' slots: 0 background, 1 to N. `step(state, frames, mask=masks)`
adds or corrects objects: those that have a pixel in the mask have exactly these pixels. Others only
lose the pixels that these take.

A model with audio takes `audio`, float32 [S, 96, 64], the log-mel patches that end with the frames
(`input_pipeline/audio.py` of the library computes them), and `audio_valid`, bool [S], with the
first frame and with each later frame that has audio.

A folder holds `stream.json` (names, shapes and dtypes of all inputs and outputs); the StableHLO
programs of jax.export, `start.bin` or `first_step.bin`, `step.bin`, and `step_prompt.bin` for masks
and audio; and `variables.npz`, the variables that they read. This file and such a folder may be
copied out of the library.
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
STREAMS = "S"   # in `stream.json`: a number that the caller chooses


class Stream:
    """The programs of a folder; stateless, so one object can serve any number of streams.

    Attributes:
      description: the content of `stream.json`: `frame`, {"shape", "dtype"}; `prompt`, `state` and
        `prediction`, lists of {"name", "shape", "dtype"}; `delay`, the number of frames by which
        predictions lag behind; `categories`, names of the classes.

    Raises:
      ValueError: the folder is not an exported stream, or one of another version.
    """

    def __init__(self, folder: str | os.PathLike):
        folder = Path(folder)
        try:
            self.description = json.loads((folder / "stream.json").read_text())
            programs = {path.stem: path.read_bytes() for path in folder.glob("*.bin")}
            with np.load(folder / "variables.npz") as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{folder} is not an exported stream ({error}); it must hold stream.json, "
                "start.bin or first_step.bin, step.bin and variables.npz") from error
        if self.description.get("version") != VERSION:
            raise ValueError(
                f"{folder} has version {self.description.get('version')}, but this code reads "
                f"version {VERSION}; export the model again")
        self._programs, self._variables = {}, {}
        for name, variables in self.description["variables"].items():
            if name not in programs:
                raise ValueError(f"{folder} has no {name}.bin; export the model again")
            call = jax.export.deserialize(bytearray(programs[name])).call
            donated = () if name in ("start", "first_step") else (1,)   # update the state in place
            self._programs[name] = jax.jit(call, donate_argnums=donated)
            self._variables[name] = [
                jax.device_put(arrays[key].view(np.dtype(dtype))) for key, dtype in variables
            ]

    def start(self, frames: Any, **prompt: Any) -> list[jax.Array]:
        """Returns the state after the first frames.

        Args:
          frames: uint8 [S, H, W, 3].
          prompt: the entries that `stream.json` lists.

        Raises:
          ValueError: an array has the wrong name, shape or dtype.
        """
        if "start" not in self._programs:
            return self.first_step(frames, **prompt)[0]
        return list(self._first("start", frames, prompt))

    def first_step(
        self, frames: Any, **prompt: Any
    ) -> tuple[list[jax.Array], dict[str, jax.Array]]:
        """Returns the state after the first frames and their prediction.

        Raises:
          ValueError: the model needs a prompt to start, so that it has no prediction for the first
            frames; an array has the wrong name, shape or dtype.
        """
        if "first_step" not in self._programs:
            raise ValueError("this model takes a prompt and does not predict the first frames; use "
                             "start, then step")
        state, prediction = self._first("first_step", frames, prompt)
        return list(state), self._named(prediction)

    def step(
        self, state: list[Any], frames: Any, **prompt: Any
    ) -> tuple[list[jax.Array], dict[str, jax.Array]]:
        """Returns the next state and the prediction.

        `state` is donated, because its memory is updated in place: use the returned one from then
        on.

        Raises:
          ValueError: an array has the wrong name, shape or dtype; the model takes no prompt here.
        """
        entries = self.description["state"]
        if len(state) != len(entries):
            raise ValueError(f"the state has {len(state)} arrays; it must have {len(entries)}")
        frames = self._checked(frames, {"name": "frame", **self.description["frame"]}, STREAMS)
        count = len(frames)
        state = [self._checked(a, entry, count) for a, entry in zip(state, entries, strict=True)]
        name = "step_prompt" if prompt else "step"
        if name not in self._programs:
            raise ValueError("this model takes a prompt only when a stream starts; leave it out")
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
        """Returns the array if it is as described for `count` streams (STREAMS: any number)."""
        shape, dtype = list(np.shape(array)), str(getattr(array, "dtype", type(array)))
        wanted = [count if n == STREAMS else n for n in entry["shape"]]
        if dtype != entry["dtype"] or len(shape) != len(wanted) or any(
                n not in (STREAMS, size) for n, size in zip(wanted, shape, strict=True)):
            raise ValueError(f"{entry['name']} is {dtype} {shape}; it must be {entry['dtype']} "
                             f"[{', '.join(map(str, wanted))}]")
        return array
