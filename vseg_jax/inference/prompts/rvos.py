"""Referring segmentation: a query, which is a referring expression, names the object."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.inference.engine import Images, Masks
from vseg_jax.inference.geometry import all_to_original, sigmoid
from vseg_jax.inference.prompts.base import Ids, TaskStreams, required
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.models.base import Prediction


class QueryStreams(TaskStreams):
    """Streams of a model that segments the object that a query names."""

    needs = ("clip", "tokenizer")
    prompt = "query"
    prompt_request = "a query: give a referring expression that names the object"

    def start(
        self, frames: Images, inputs: np.ndarray, queries: Sequence[str] | None,
        masks: Masks | None, audio: Sequence[Any] | None, number: int = 0,
    ) -> tuple[Any, list[Segmentation] | None]:
        """Starts the streams; see the base class."""
        assert queries is not None   # see check_prompt
        self.encode(None, audio, [number] * len(frames))
        tokenizer: Any = required(self.engine.tokenizer, "tokenizer")
        encoded = [tokenizer.encode(q) for q in queries]
        tokens, valid = (np.stack(arrays) for arrays in zip(*encoded, strict=True))
        state = self.engine.start(inputs, {"tokens": tokens, "tokens_valid": valid})
        if self.engine.model.delay:
            return state, None
        # A step predicts its own frame: show the first one again, to a copy of the state.
        _, output = self.engine.step(jax.tree.map(jnp.copy, state), inputs)
        output = dataclasses.replace(jax.device_get(output), frame=np.zeros(len(frames), np.int32))
        return state, self.decode(output, frames, self.ids)

    def prompt_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes of the tokens; see the base class."""
        tokenizer: Any = required(self.engine.tokenizer, "tokenizer")
        shape = (len(self.ids), tokenizer.length)
        return {"tokens": jax.ShapeDtypeStruct(shape, np.int32),
                "tokens_valid": jax.ShapeDtypeStruct(shape, np.bool_)}

    def decode(self, output: Prediction, frames: Images, ids: Ids) -> list[Segmentation]:
        """Returns the segmentations; see the base class."""
        return [
            Segmentation(
                int(number), image,
                sigmoid(all_to_original(logits, geometry.affine, image.shape[:2])),
                scores.astype(np.float32), self.engine.protocol)
            for number, image, geometry, logits, scores in zip(
                output.frame, frames, self.geometries, output.logits, output.scores, strict=True)
        ]
