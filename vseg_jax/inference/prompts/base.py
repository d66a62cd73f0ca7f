"""What a session asks of a task; the only interface between sessions and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import jax
import numpy as np

from vseg_jax.inference.engine import Engine, Images, Masks
from vseg_jax.inference.segmentation import Segmentation, Track
from vseg_jax.input_pipeline.transforms import Geometry, plain_geometry

Ids = list[tuple[int, ...]]  # of the prompts' objects, per stream
T = TypeVar("T")


class TaskStreams:
    """The streams of one session as their task sees them: prompts in, segmentations out.

    This base class serves tasks without mask prompts and audio, whose models see all frames at the
    size of their clips.

    Attributes:
      needs: the attributes of `Engine` that the task requires; `restore` reads their files.
      prompt: the argument that starts a stream, "query" or "mask".
      prompt_request: what the model takes, and what to give, for errors.
      engine: the model and what belongs to it.
      geometries: per stream, how its frames become the model's input.
      ids: per stream, the ids of the objects in its prompts so far; () where prompts have no ids.
        Replaced and never modified, because frames in flight keep the ids of their time.
      per_stream: the attributes that are lists with an item for each stream.
      warn_of_gaps: whether to warn if the ids in the prompts so far have gaps.
    """

    needs: ClassVar[tuple[str, ...]] = ("clip",)
    prompt: ClassVar[str] = ""
    prompt_request: ClassVar[str] = ""
    per_stream: ClassVar[tuple[str, ...]] = ("geometries", "ids")

    def __init__(self, engine: Engine, sizes: Sequence[tuple[int, int]]) -> None:
        self.engine = engine
        self.geometries = [self.geometry(engine, *size) for size in sizes]
        self.ids: Ids = [()] * len(sizes)
        self.warn_of_gaps = True

    @classmethod
    def check_engine(cls, engine: Engine) -> None:
        """Raises ValueError if the engine's settings do not suit the task."""
        if engine.short_side:
            raise ValueError("short_side is for models that take mask prompts; this model sees "
                             "frames at the size of its clips")

    @classmethod
    def check_prompt(cls, query: Any, mask: Any) -> None:
        """Raises ValueError if the prompt is not the kind that the task takes."""
        given = given_names(query, mask)
        if given != cls.prompt:
            raise ValueError(f"this model takes {cls.prompt_request} as {cls.prompt}"
                             + (f", not {given}" if given else ""))

    @classmethod
    def geometry(cls, engine: Engine, height: int, width: int) -> Geometry:
        """Returns how a frame of a video becomes the model's input."""
        return plain_geometry(height, width, required(engine.clip, "clip"))

    def start(
        self, frames: Images, inputs: np.ndarray, queries: Sequence[str] | None,
        masks: Masks | None, audio: Sequence[Any] | None, number: int = 0,
    ) -> tuple[Any, list[Segmentation] | None]:
        """Starts the streams.

        Args:
          frames: the first frames, checked.
          inputs: the same as the model's input.
          queries, masks, audio: the prompts, one per stream; `check_prompt` has accepted them.
          number: of the first frames in their videos, for messages.

        Returns:
          state: of the model, with a leading axis of streams.
          first: the segmentations of the first frames; None if the model predicts them later.

        Raises:
          ValueError: a prompt cannot be used; the message says what is wanted.
        """
        raise NotImplementedError

    def encode(
        self, masks: Masks | None, audio: Sequence[Any] | None, numbers: Sequence[int],
        objects: Sequence[Any] | None = None,
    ) -> dict[str, np.ndarray] | None:
        """Returns what the prompts that come with the frames are for the model.

        Args:
          masks, audio: the prompts, one per stream; None for streams without.
          numbers: of the streams' frames, for messages.
          objects: the ids that each mask speaks for, see `Session.step`.

        Raises:
          ValueError: the model does not take such prompts, or one cannot be used. The streams are
            then as before.
        """
        if masks is not None and any(mask is not None for mask in masks):
            self.check_prompt(None, masks)
        if self.prompt != "mask" and any(x is not None for x in objects or ()):
            raise ValueError("objects are those of a mask prompt, which this model does not take")
        if audio is not None and any(samples is not None for samples in audio):
            raise ValueError("this model does not use audio; leave `audio` out")
        return None

    def fit(self, state: Any, prompts: Any) -> Any:
        """Returns the state with room for what `encode` returned."""
        return state

    def remove(self, state: Any, ids: Any, stream: int) -> Any:
        """Returns the state of the model without these objects of a stream.

        Raises:
          ValueError: the stream has no such object, or the model finds objects by itself.
        """
        raise ValueError("remove() is for models that take mask prompts")

    def decode(self, output: Any, frames: Images, ids: Ids) -> list[Segmentation]:
        """Returns the segmentations that a model's output means, one per stream.

        Args:
          output: on the host.
          frames: the frames that it is for.
          ids: the attribute `ids` at the time when these frames were sent to the model.
        """
        raise NotImplementedError

    def end(self, state: Any, places: Sequence[int]) -> None:
        """Notes that the streams in these places have ended; their states mean nothing any more."""

    def another(self, sizes: Sequence[tuple[int, int]]) -> Any:
        """Returns streams that these can `adopt`, for frames of other sizes."""
        return type(self)(self.engine, sizes)

    def adopt(self, state: Any, others: Any, theirs: Any, places: Sequence[int]) -> Any:
        """Takes over streams of other `TaskStreams` in some places.

        Args:
          state: of the model for these streams; donated.
          others: as many streams, from `another`.
          theirs: the state for those.
          places: of the streams to take over.

        Returns:
          The state for all streams.
        """
        for name in self.per_stream:
            ours, new = getattr(self, name), getattr(others, name)
            setattr(self, name, [new[k] if k in places else item for k, item in enumerate(ours)])
        return self.engine.select(np.isin(np.arange(len(self.ids)), places), theirs, state)

    def saved(self) -> dict[str, Any]:
        """Returns what the streams know besides the model's state, as values for JSON."""
        return {"ids": [list(ids) for ids in self.ids]}

    def restore(self, saved: dict[str, Any]) -> None:
        """Takes over what `saved` returned."""
        self.ids = [tuple(ids) for ids in saved["ids"]]

    def prompt_shapes(self) -> Any:
        """Returns the shapes of the prompts that start all streams."""
        raise NotImplementedError

    def state_shapes(self) -> Any:
        """Returns the shapes of the model's state for all streams."""
        return jax.eval_shape(self.engine.start, self.input_shape(), self.prompt_shapes())

    def input_shape(self) -> jax.ShapeDtypeStruct:
        """Returns the shape of the model's input for all streams."""
        return self.engine.input_shape(len(self.geometries), self.geometries[0].size)

    def summary(self, state: Any) -> list[list[Track]]:
        """Returns the model's conclusions about each object over all frames, per stream.

        Raises:
          ValueError: the task has no summary.
        """
        raise ValueError("summary() is only available for models that find objects by themselves; "
                         "the objects of this model are given by its prompts")


def required(value: T | None, name: str) -> T:
    """Returns the value; raises ValueError if the engine lacks it."""
    if value is None:
        raise ValueError(f"this model needs a {name}; give it to Segmenter, or use vseg_jax.load")
    return value


def given_names(query: Any, mask: Any) -> str:
    """Returns which of the two prompts are given: "query and mask", "query", "mask" or ""."""
    return " and ".join(
        name for name, value in (("query", query), ("mask", mask)) if value is not None)
