"""Video instance segmentation: the model finds the objects; audio may come with the frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vseg_jax.inference.engine import Engine, Images, Masks
from vseg_jax.inference.geometry import all_to_original, sigmoid
from vseg_jax.inference.prompts.base import Ids, TaskStreams, given_names
from vseg_jax.inference.segmentation import INSTANCES, Segmentation, Track
from vseg_jax.media.audio import AudioStream, check_samples
from vseg_jax.tasks.vis import PATCH, Instances


class InstanceStreams(TaskStreams):
    """Streams of a model that finds, classifies and tracks objects by itself."""

    needs = ("clip", "categories")
    per_stream = ("geometries", "ids", "_audio", "_tracks")

    def __init__(self, engine: Engine, sizes: Sequence[tuple[int, int]]) -> None:
        super().__init__(engine, sizes)
        self._audio = [AudioStream() for _ in sizes]
        self._tracks: list[list[Track] | None] = [None] * len(sizes)   # of streams that have ended

    @classmethod
    def check_engine(cls, engine: Engine) -> None:
        """Raises ValueError if the engine's settings do not suit the task."""
        super().check_engine(engine)
        wanted = engine.model.config.categories
        if len(engine.categories) != wanted:
            raise ValueError(f"{len(engine.categories)} category names for a model of {wanted} "
                             "categories; name each of them")

    @classmethod
    def check_prompt(cls, query: Any, mask: Any) -> None:
        """Raises ValueError if there is a query or a mask."""
        if given := given_names(query, mask):
            raise ValueError("this model finds the objects of its categories by itself: leave out "
                             f"{given}")

    def start(
        self, frames: Images, inputs: np.ndarray, queries: Sequence[str] | None,
        masks: Masks | None, audio: Sequence[Any] | None, number: int = 0,
    ) -> tuple[Any, list[Segmentation] | None]:
        """Starts the streams with the predictions for their first frames."""
        prompts = self.encode(None, audio, [number] * len(frames))
        state, output = self.engine.first_step(inputs, prompts)
        return state, self.decode(jax.device_get(output), frames, self.ids)

    def encode(
        self, masks: Masks | None, audio: Sequence[Any] | None, numbers: Sequence[int],
        objects: Sequence[Any] | None = None,
    ) -> dict[str, np.ndarray] | None:
        """Returns the log-mel patches that end with the frames; None for models without audio."""
        if not self.engine.uses_audio:
            return super().encode(masks, audio, numbers, objects)
        super().encode(masks, None, numbers, objects)
        audio = [None] * len(self._audio) if audio is None else audio
        samples = [check_samples(one, n) for one, n in zip(audio, numbers, strict=True)]
        pushed = [stream.push(one) for stream, one in zip(self._audio, samples, strict=True)]
        patches, valid = (np.stack(arrays) for arrays in zip(*pushed, strict=True))
        return {"audio": patches, "audio_valid": valid}

    def decode(self, output: Instances, frames: Images, ids: Ids) -> list[Segmentation]:
        """Returns the segmentations; identities count from 1, empty slots are left out."""
        names, segmentations = self.engine.categories, []
        for k, (image, geometry) in enumerate(zip(frames, self.geometries, strict=True)):
            found = np.flatnonzero(output.identities[k] >= 0)
            identities = tuple((output.identities[k][found] + 1).tolist())
            probability = sigmoid(all_to_original(
                output.logits[k][found], geometry.affine, image.shape[:2]))
            classes = output.probabilities[k][found, :-1].argmax(-1)
            segmentations.append(Segmentation(
                int(output.frame[k]), image, probability,
                output.scores[k][found].astype(np.float32), INSTANCES, identities,
                tuple(names[c] for c in classes), self.engine.model.config.mask_threshold))
        return segmentations

    def end(self, state: Any, places: Sequence[int]) -> None:
        """Keeps what is known about the streams' objects: their states advance further."""
        if places:
            found = self.summary(state)
            self._tracks = [found[k] if k in places else kept
                            for k, kept in enumerate(self._tracks)]

    def saved(self) -> dict[str, Any]:
        """Returns the recent audio and the tracks of streams that have ended, too."""
        tracks = [None if of_stream is None else [dataclasses.astuple(t) for t in of_stream]
                  for of_stream in self._tracks]
        return {**super().saved(), "audio": [s.recent.tolist() for s in self._audio],
                "tracks": tracks}

    def restore(self, saved: dict[str, Any]) -> None:
        """Takes over what `saved` returned."""
        super().restore(saved)
        self._audio = [AudioStream(samples) for samples in saved["audio"]]
        self._tracks = [None if rows is None else [Track(*row) for row in rows]
                        for rows in saved["tracks"]]

    def prompt_shapes(self) -> dict[str, jax.ShapeDtypeStruct] | None:
        """Returns the shapes of the audio, None for models without; see the base class."""
        if not self.engine.uses_audio:
            return None
        count = len(self.ids)
        return {"audio": jax.ShapeDtypeStruct((count, *PATCH), np.float32),
                "audio_valid": jax.ShapeDtypeStruct((count,), np.bool_)}

    def state_shapes(self) -> Any:
        """Returns the shapes of the model's state for all streams."""
        return jax.eval_shape(self.engine.first_step, self.input_shape(), self.prompt_shapes())[0]

    def summary(self, state: Any) -> list[list[Track]]:
        """Returns category and score of each identity, in order of the ids, per stream."""
        found = jax.device_get(self.engine.summary(state))
        tracks = [
            sorted((Track(int(i) + 1, self.engine.categories[int(c)], float(score), int(n))
                    for i, c, score, n in zip(*of_stream, strict=True) if i >= 0),
                   key=lambda track: track.id)
            for of_stream in zip(found.identity, found.category, found.score, found.frames,
                                 strict=True)
        ]
        return [now if kept is None else kept
                for now, kept in zip(tracks, self._tracks, strict=True)]
