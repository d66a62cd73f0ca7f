"""Streams that advance frame by frame, one or several together, and their segmentations."""

from __future__ import annotations

import collections
import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vseg_jax.inference.engine import Engine, Images, Masks, Outputs
from vseg_jax.inference.prompts import streams_of
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.media.video import size_text


class Session:
    """Streams that advance together; made by `Segmenter.start` and `Segmenter.start_many`.

    `step` and `finish` are all that most users need. `push` and `collect` are the two halves of
    `step`, for callers that keep the device busy while the host works.

    Attributes:
      first: the segmentation of the first frame if the model predicts without delay (a list for
        several streams), else None: `step` returns it later. For mask prompts, it is the prompt.
      adaptation: the report of a model that adapts itself to the first frame, each array with a
        leading axis of streams; None for other models.
    """

    def __init__(
        self, engine: Engine, frames: Images, queries: Sequence[str] | None = None,
        masks: Masks | None = None, audio: Sequence[Any] | None = None, *, single: bool = False,
        number: int = 0,
    ) -> None:
        """Starts the streams with their first frames and prompts, one per stream.

        Args:
          engine: the model, with what belongs to it.
          frames: see `Segmenter.start_many`.
          queries: see `Segmenter.start_many`.
          masks: see `Segmenter.start_many`.
          audio: see `Segmenter.start_many`.
          single: whether the session takes and returns single items in place of lists of one.
          number: of the first frames, where these are not the first ones of their videos.
        """
        if not len(frames):
            raise ValueError("0 first frames; give at least one stream")
        task = streams_of(engine.model)
        task.check_engine(engine)
        task.check_prompt(queries, masks)
        for frame in frames:
            check_frame(frame, None, number)
        self._engine = engine
        self._single = single
        self._start, self._count = number, number + 1   # numbers of the first and next frames
        self._finished = False
        self._last = list(frames)
        self._waiting: collections.deque = collections.deque()   # frames in flight, and their ids
        self._streams = task(engine, [frame.shape[:2] for frame in frames])
        self._geometries = self._streams.geometries
        sizes = sorted({g.size for g in self._geometries})
        if len(sizes) > 1:
            raise ValueError(f"videos of {len(sizes)} sizes ({', '.join(map(size_text, sizes))}) "
                             "in one session; start a session for each size")
        self._state, first = self._streams.start(
            frames, engine.inputs(frames, self._geometries), queries, masks, audio)
        if first is not None:
            first = [dataclasses.replace(s, frame=s.frame + number) for s in first]
        else:
            self._waiting.append((self._last, self._streams.ids))
        self.first: Any = first[0] if first and single else first
        self.adaptation = _adaptation_report(self._state)

    def step(self, frame: Any, mask: Any = None, flow: Any = None, audio: Any = None,
             objects: Any = None) -> Any:
        """Takes the next frame (of each stream) and returns the segmentation that is due.

        Args:
          frame: uint8 RGB [H, W, 3]; a list of them for several streams.
          mask: for models that take mask prompts: an index mask [H, W] of objects that enter with
            this frame or are corrected. It is the whole truth about the objects that it names: they
            lose the pixels that they do not have in it. Other objects only lose the pixels that
            these take. A list for several streams, None for those without.
          flow: for models that read optical flow: [H, W, 2], from the previous frame to this one (a
            list for several streams). The segmenter computes it if it is left out.
          audio: for models that use audio: the samples since the previous frame, float [n] in
            [-1, 1], mono, 16 kHz, of any length (a list for several streams, None for those
            without). A frame without samples counts as silent.
          objects: the ids of the objects that the mask speaks for, by default all that have a pixel
            in it. One without a pixel is not in this frame; the pixels of ids that are not listed
            are ignored. A list of them for several streams, None for those without.

        Returns:
          A `Segmentation`, for models with a delay of an earlier frame, or None while none is due;
          a list for several streams.

        Raises:
          ValueError: a frame, mask, flow field or audio array of the wrong type or size, or one
            that the model does not take; more objects than the model has slots; `finish` was
            called before. The message says what is wanted.
        """
        if self._single:
            one = [None if x is None else [x] for x in (mask, flow, audio, objects)]
            return self.collect(self.push([frame], *one))[0]
        return self.collect(self.push(frame, mask, flow, audio, objects))

    def remove(self, ids: int | Sequence[int], stream: int = 0) -> None:
        """Removes objects; from the next frame on they are background.

        Their slots are free for other objects, and their ids may enter again. An object that has
        only left the picture need not be removed; it is found again when it comes back.

        Args:
          ids: of the object or the objects.
          stream: the number of the stream that has them.

        Raises:
          ValueError: the stream has no such object, or the model does not take mask prompts.
        """
        ids = list(ids) if isinstance(ids, Sequence) else [ids]
        self._state = self._streams.remove(self._state, ids, stream)

    def finish(self) -> list[Any]:
        """Ends the streams and returns the segmentations that are still due, in order.

        Models that look ahead see the last frame again in place of the frames that never come, as
        in the clips that they were trained with.
        """
        rest = []
        if not self._finished:
            rest = [self.collect(self._advance(self._last))
                    for _ in range(self._engine.model.delay)]
            self._finished = True
        rest = [segmentations for segmentations in rest if segmentations[0] is not None]
        return [segmentations[0] for segmentations in rest] if self._single else rest

    def push(
        self, frames: Images, masks: Masks | None = None, flow: Images | None = None,
        audio: Sequence[Any] | None = None, objects: Sequence[Any] | None = None,
    ) -> Outputs:
        """Sends the streams' next frames to the device and does not wait for the prediction.

        The arguments are those of `step`, always as lists with one item per stream.

        Returns:
          What `collect` takes.
        """
        if self._finished:
            raise ValueError("this session is finished; start a new one")
        for given, name in ((frames, "frames"), (masks, "masks"), (flow, "flow fields"),
                            (audio, "audio arrays"), (objects, "lists of objects")):
            if given is not None and len(given) != len(self._geometries):
                raise ValueError(f"{len(given)} {name} for {len(self._geometries)} streams")
        for frame, geometry in zip(frames, self._geometries, strict=True):
            check_frame(frame, geometry.crop[2:], self._count)
        if flow is not None:
            self._check_flow(flow)
        prompts = self._streams.encode(masks, audio, self._count, objects)
        self._state = self._streams.fit(self._state, prompts)
        if flow is None and self._engine.flow is not None:
            flow = [self._engine.flow(before[None], now[None])[0]
                    for before, now in zip(self._last, frames, strict=True)]
        self._last = list(frames)
        self._count += 1
        self._waiting.append((self._last, self._streams.ids))
        return self._advance(frames, flow, prompts)

    def collect(self, output: Outputs) -> list[Segmentation | None]:
        """Returns the segmentations of what `push` returned, at the frames' own sizes.

        Call it once for each `push`, oldest first; None where the model has not predicted yet.
        """
        numbers = np.asarray(output.frame)
        if numbers[0] < 0:
            return [None] * len(numbers)
        output = dataclasses.replace(jax.device_get(output), frame=numbers + self._start)
        return [*self._streams.decode(output, *self._waiting.popleft())]

    def summary(self) -> list[Any]:
        """Returns a `Track` for each object that the model has found, in order of their ids.

        For several streams it is a list per stream. In a long video only the objects seen last are
        included, as many as the model's state has room for.

        Raises:
          ValueError: the model does not find objects by itself.
        """
        tracks = self._streams.summary(self._state)
        return tracks[0] if self._single else tracks

    def _advance(
        self, frames: Images, flow: Images | None = None, prompts: Any = None
    ) -> Outputs:
        inputs = self._engine.inputs(frames, self._geometries, flow)
        self._state, output = self._engine.step(self._state, inputs, prompts)
        return output

    def _check_flow(self, flow: Images) -> None:
        if self._engine.flow is None:
            raise ValueError("this model reads no optical flow; leave `flow` out")
        for field, geometry in zip(flow, self._geometries, strict=True):
            if np.shape(field) != (*geometry.crop[2:], 2):
                raise ValueError(f"flow to frame {self._count} has shape {np.shape(field)}; it "
                                 "must be [H, W, 2] at the frame's size, "
                                 f"{size_text(geometry.crop[2:])}")


def _adaptation_report(state: Any) -> Any:
    """Returns the state's report on its adaptation, if any; warns of streams where it collapsed."""
    report = jax.device_get(getattr(state, "adaptation", None))
    if report is not None and report.collapsed.any():
        streams = ", ".join(map(str, np.flatnonzero(report.collapsed)))
        warnings.warn(f"the adaptation to the first frame collapsed (stream {streams}); the model "
                      "continues with its trained weights", stacklevel=2)
    return report


def check_frame(frame: Any, size: tuple[int, int] | None, number: int) -> None:
    """Raises ValueError unless frame `number` is an image, of `size` (height, width) if given."""
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 \
            or frame.shape[2] != 3 or 0 in frame.shape:
        got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame)
        raise ValueError(f"frame {number} is {got}; frames are uint8 arrays [H, W, 3], RGB")
    if size is not None and frame.shape[:2] != size:
        raise ValueError(
            f"frame {number} is {size_text(frame.shape)}, those before it are {size_text(size)}; "
            "start a new session where the size changes"
        )
