"""Streams that advance frame by frame, one or several together, and their segmentations."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vseg_jax.inference import saved_session
from vseg_jax.inference.engine import Engine, Images, Masks, Outputs
from vseg_jax.inference.places import Places, check_counts, check_frame
from vseg_jax.inference.prompts import TaskStreams, streams_of
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.input_pipeline.transforms import Geometry
from vseg_jax.media.video import size_text


class Session:
    """Streams that advance together; made by `Segmenter.start` and `Segmenter.start_many`.

    `step` and `finish` are all that most users need. `push` and `collect` are the two halves of
    `step`, for callers that keep the device busy while the host works.

    Attributes:
      first: the segmentation of the first frame if the model predicts without delay (a list for
        several streams), else None: `step` returns it later. For mask prompts, it is the prompt.
        None in a session that was restored.
      adaptation: the report of a model that adapts itself to the first frame, each array with a
        leading axis of streams; None for other models.
    """

    first: Any
    adaptation: Any

    def __init__(
        self, engine: Engine, frames: Images, queries: Sequence[str] | None = None,
        masks: Masks | None = None, audio: Sequence[Any] | None = None, *, single: bool = False,
        number: int = 0, direction: int = 1, warn_of_gaps: bool = True,
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
          direction: -1 if the frames come in reverse order.
          warn_of_gaps: whether to warn if the ids of mask prompts have gaps.
        """
        self._engine = engine
        self._single = single
        self._start(frames, queries, masks, audio, number, direction, warn_of_gaps)

    def _start(
        self, frames: Images, queries: Sequence[str] | None, masks: Masks | None,
        audio: Sequence[Any] | None, number: int = 0, direction: int = 1,
        warn_of_gaps: bool = True, before: TaskStreams | None = None,
    ) -> None:
        """Starts all streams; after an error, those of before are unchanged."""
        if not len(frames):
            raise ValueError("0 first frames; give at least one stream")
        task, count = streams_of(self._engine.model), len(frames)
        task.check_engine(self._engine)
        task.check_prompt(queries, masks)
        check_counts(count, queries=queries, masks=masks, audio_arrays=audio)
        for frame in frames:
            check_frame(frame, None, number)
        sizes = [frame.shape[:2] for frame in frames]
        # After a reset there are as many slots as before, so that nothing compiles again.
        streams = task(self._engine, sizes) if before is None else before.another(sizes)
        streams.warn_of_gaps = warn_of_gaps
        _check_one_size(streams.geometries)
        inputs = self._engine.inputs(frames, streams.geometries)
        self._state, first = streams.start(frames, inputs, queries, masks, audio, number)
        self._streams = streams
        self._places = Places(count, self._engine.model.delay, direction)
        for k in range(count):
            self._places.start(k, frames[k], streams.ids[k], number, waits=first is None)
        self._finished = False
        found = first and [dataclasses.replace(s, frame=number) for s in first]
        self.first = found[0] if found and self._single else found
        self.adaptation = _adaptation_report(self._state, range(count))

    def reset(self, frame: Any, query: Any = None, mask: Any = None, audio: Any = None) -> None:
        """Starts again with a first frame and a prompt, in the programs that are compiled already.

        The arguments are those of `Segmenter.start`, for several streams the lists of
        `Segmenter.start_many`. Only another number of streams, another size of the model's input or
        more slots for objects compile new programs.

        Raises:
          ValueError: the frame or the prompt cannot be used, or what `push` returned has not been
            collected yet; the session is then as before.
        """
        self._places.check_collected()
        if self._single:
            queries, masks, samples = (None if x is None else [x] for x in (query, mask, audio))
            self._start([frame], queries, masks, samples, before=self._streams)
        else:
            self._start(frame, query, mask, audio, before=self._streams)

    def step(self, frame: Any, mask: Any = None, flow: Any = None, audio: Any = None,
             objects: Any = None) -> Any:
        """Takes the next frame (of each stream) and returns the segmentation that is due.

        Args:
          frame: uint8 RGB [H, W, 3]; a list of them for several streams. A stream whose frame is
            None ends; segmentations that are still due come in the next steps (see `join`).
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
            that the model does not take; more objects than the model has slots; the stream or the
            session has ended; what `push` returned has not been collected yet. The message says
            what is wanted.
        """
        self._places.check_collected()
        if self._single:
            check_frame(frame, None, self._places.numbers[0])
            one = [None if x is None else [x] for x in (mask, flow, audio, objects)]
            return self.collect(self.push([frame], *one))[0]
        return self.collect(self.push(frame, mask, flow, audio, objects))

    def remove(self, ids: Any, stream: int = 0) -> None:
        """Removes objects; from the next frame on they are background.

        Their slots are free for other objects, and their ids may enter again. An object that has
        only left the picture need not be removed; it is found again when it comes back.

        Args:
          ids: of the object, or a collection (list, set, array) of those of the objects.
          stream: the number of the stream that has them.

        Raises:
          ValueError: the stream has no such object, or has ended; there is no such stream; the
            session is finished; the model does not take mask prompts.
        """
        self._check_open()
        self._places.check_running(stream)
        self._state = self._streams.remove(self._state, ids, stream)

    def join(
        self, frames: Sequence[Any], queries: Sequence[Any] | None = None,
        masks: Masks | None = None, audio: Sequence[Any] | None = None,
    ) -> list[Segmentation | None]:
        """Starts new streams in the places of those that have ended, in the same programs.

        The start is computed for all places, so it is best if several streams join together.

        Args:
          frames: per place the first frame of its new stream, or None.
          queries, masks, audio: see `Segmenter.start_many`; None in the other places.

        Returns:
          Per place the segmentation of the new stream's first frame; None in the other places, and
          if the model predicts later.

        Raises:
          ValueError: a frame or a prompt cannot be used, or a place is not free. The session is
            then as before.
        """
        self._check_open()
        self._places.check_collected()
        check_counts(len(self._places), first_frames=frames, queries=queries, masks=masks,
                     audio_arrays=audio)
        places = [k for k, frame in enumerate(frames) if frame is not None]
        self._places.check_free(places)
        for k in places:
            check_frame(frames[k], None, 0)
            if queries is not None and queries[k] is None:
                raise ValueError(f"stream {k} joins without a query; give one for each new stream")
        # A program has a fixed number of streams: the other places get copies, which are dropped.
        source = [k if k in places else places[0] for k in range(len(frames))]
        firsts = [frames[k] for k in source]
        queries = None if queries is None else [queries[k] for k in source]
        masks = None if masks is None else [masks[k] for k in source]
        audio = None if audio is None else [audio[k] for k in source]
        self._streams.check_prompt(queries, masks)
        newcomers = self._streams.another([frame.shape[:2] for frame in firsts])
        _check_one_size([*self._streams.geometries, *newcomers.geometries])
        state, first = newcomers.start(
            firsts, self._engine.inputs(firsts, newcomers.geometries), queries, masks, audio)
        self._state = self._streams.adopt(self._state, newcomers, state, places)
        for k in places:
            self._places.start(k, firsts[k], newcomers.ids[k], 0, waits=first is None)
        self.adaptation = _adaptation_report(self._state, places)
        return [first[k] if first and k in places else None for k in range(len(source))]

    def finish(self) -> list[Any]:
        """Ends the streams and returns the segmentations that are still due, in order.

        Models that look ahead see the last frame again in place of the frames that never come, as
        in the clips that they were trained with.

        Raises:
          ValueError: what `push` returned has not been collected yet.
        """
        self._places.check_collected()
        rest = []
        if not self._finished:
            rest = [self.collect(self.push([None] * len(self._places)))
                    for _ in range(self._engine.model.delay)]
            self._finished = True
        rest = [row for row in rest if any(found is not None for found in row)]
        return [row[0] for row in rest] if self._single else rest

    def push(
        self, frames: Sequence[Any] | np.ndarray, masks: Masks | None = None,
        flow: Sequence[Any] | np.ndarray | None = None, audio: Sequence[Any] | None = None,
        objects: Sequence[Any] | None = None,
    ) -> Outputs:
        """Sends the streams' next frames to the device and does not wait for the prediction.

        The arguments are those of `step`, always as lists with one item per stream.

        Returns:
          What `collect` takes.
        """
        self._check_open()
        places, geometries = self._places, self._streams.geometries
        check_counts(len(places), frames=frames, masks=masks, flow_fields=flow,
                     audio_arrays=audio, lists_of_objects=objects)
        places.check_next(frames, [g.crop[2:] for g in geometries], masks, flow, audio, objects)
        if flow is not None:
            self._check_flow(flow)
        prompts = self._streams.encode(masks, audio, places.numbers, objects)
        self._state = self._streams.fit(self._state, prompts)
        self._streams.end(self._state, places.ending(frames))
        fields = self._flow(frames, flow)
        images = places.push(frames, self._streams.ids)
        inputs = self._engine.inputs(images, geometries, fields)
        self._state, output = self._engine.step(self._state, inputs, prompts)
        return output

    def collect(self, output: Outputs) -> list[Segmentation | None]:
        """Returns the segmentations of what `push` returned, at the frames' own sizes.

        Call it once for each `push`, oldest first; None where there is no prediction, because the
        model has not predicted yet or the stream has ended.
        """
        counted = np.asarray(output.frame)
        due, numbers, frames, ids = self._places.collect(counted.tolist())
        if not any(due):
            return [None] * len(due)
        output = dataclasses.replace(jax.device_get(output), frame=np.array(numbers))
        found = self._streams.decode(output, frames, ids)
        return [segmentation if now else None
                for segmentation, now in zip(found, due, strict=True)]

    @property
    def next_frame(self) -> int:
        """The number of the next frame, of the first stream."""
        return self._places.numbers[0]

    def summary(self) -> list[Any]:
        """Returns a `Track` for each object that the model has found, in order of their ids.

        For several streams it is a list per stream. Objects that use the same slot of the model at
        different times of a long video have one id, and share a `Track`.

        Raises:
          ValueError: the model does not find objects by itself.
        """
        tracks = self._streams.summary(self._state)
        return tracks[0] if self._single else tracks

    def save(self, path: str | os.PathLike) -> None:
        """Writes the session into one file, atomically; `Segmenter.restore` continues from it.

        The file, in numpy's format .npz, holds the model's state and ids, and the frames that still
        wait for a segmentation.

        Raises:
          ValueError: what `push` returned has not been collected yet.
        """
        self._places.check_collected()
        streams, arrays = self._places.saved()
        header = {"single": self._single, "finished": self._finished, "streams": streams,
                  "sizes": [list(g.crop[2:]) for g in self._streams.geometries],
                  "task": self._streams.saved()}
        saved_session.write(Path(path), self._engine, header, arrays, self._state)

    @classmethod
    def restore(cls, engine: Engine, path: str | os.PathLike) -> Session:
        """Returns the session that `save` wrote; see `Segmenter.restore`."""
        path = Path(path)
        header, arrays = saved_session.read(path, engine)
        session = cls.__new__(cls)
        try:
            session._engine, session._single = engine, header["single"]
            session._finished = header["finished"]
            session._streams = streams_of(engine.model)(engine, [tuple(s) for s in header["sizes"]])
            session._streams.restore(header["task"])
            session._places = Places(len(header["streams"]), engine.model.delay)
            session._places.restore(header["streams"], arrays)
            session._state = saved_session.state_of(
                path, header, arrays, session._streams.state_shapes())
        except (KeyError, IndexError, TypeError, AttributeError) as error:   # an entry is missing
            raise saved_session.damaged(path, error) from error
        session.first = None
        session.adaptation = _adaptation_report(session._state, ())
        return session

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError("this session is finished; start a new one, or reset it")

    def _flow(
        self, frames: Sequence[Any] | np.ndarray, given: Sequence[Any] | np.ndarray | None
    ) -> list[np.ndarray] | None:
        """Returns the flow to each frame, without motion for those that end; None if not read."""
        if self._engine.flow is None:
            return None
        fields = []
        for k, (frame, before) in enumerate(zip(frames, self._places.last, strict=True)):
            if frame is None:
                fields.append(np.zeros((*before.shape[:2], 2), np.float32))
            elif given is not None and given[k] is not None:
                fields.append(given[k])
            else:
                fields.append(self._engine.flow(before[None], frame[None])[0])
        return fields

    def _check_flow(self, flow: Sequence[Any] | np.ndarray) -> None:
        if self._engine.flow is None:
            raise ValueError("this model reads no optical flow; leave `flow` out")
        for field, number, geometry in zip(
                flow, self._places.numbers, self._streams.geometries, strict=True):
            if field is not None and np.shape(field) != (*geometry.crop[2:], 2):
                raise ValueError(f"flow to frame {number} has shape {np.shape(field)}; it "
                                 "must be [H, W, 2] at the frame's size, "
                                 f"{size_text(geometry.crop[2:])}")


def _check_one_size(geometries: Sequence[Geometry]) -> None:
    sizes = sorted({g.size for g in geometries})
    if len(sizes) > 1:
        raise ValueError(f"videos of {len(sizes)} sizes ({', '.join(map(size_text, sizes))}) "
                         "in one session; start a session for each size")


def _adaptation_report(state: Any, started: Sequence[int]) -> Any:
    """Returns the state's report on its adaptation, if any.

    Warns of those of the streams that have just `started` whose adaptation collapsed.
    """
    report = jax.device_get(getattr(state, "adaptation", None))
    if report is not None and len(started):
        collapsed = [k for k in np.flatnonzero(report.collapsed) if k in started]
        if collapsed:
            warnings.warn("the adaptation to the first frame collapsed (stream "
                          f"{', '.join(map(str, collapsed))}); the model continues with its "
                          "trained weights", stacklevel=2)
    return report
