"""Streams that advance frame by frame, one or several together, and what they answer."""

from __future__ import annotations

import collections
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.inference.geometry import sigmoid, to_original
from vseg_jax.inference.prompts import masks as user_masks
from vseg_jax.inference.segmentation import EXCLUSIVE, INSTANCES, PixelValues, Segmentation, Track
from vseg_jax.input_pipeline.flow import flow_to_image
from vseg_jax.input_pipeline.transforms import Geometry
from vseg_jax.media import audio as media_audio
from vseg_jax.models.base import Model, Prediction, Variables
from vseg_jax.tasks.vis import Instances
from vseg_jax.tasks.vos import SlotMasks

if TYPE_CHECKING:
    from vseg_jax.inference.segmenter import Segmenter

Images = Sequence[np.ndarray] | np.ndarray   # one a stream
Outputs = Prediction | SlotMasks | Instances             # what the model says of a frame of each


class Session:
    """Streams that advance together; made by `Segmenter.start` and `Segmenter.start_many`.

    `step` and `finish` are for users; `push` and `collect` are the halves of `step`, for those who
    want the device busy while the host works.

    Attributes:
      first: the answer for the first frame where the model answers without delay (a list for
        several streams), else None: `step` gives it. Of given masks, it is those masks.
      adaptation: what a model that adapts itself to the first frame reports of it, each array with
        a leading axis of streams; else None.
    """

    def __init__(self, segmenter: Segmenter, frames: Images, queries: Sequence[str] | None,
                 masks: Images | None, single: bool, audio: Sequence[Any] | None = None):
        finds = segmenter.model.task == "vis"
        prompts = frames if finds else queries if masks is None else masks
        if prompts is None or len(frames) != len(prompts) or not len(frames):
            what = "frames" if finds else "queries" if masks is None else "masks"
            raise ValueError(f"{len(frames)} first frames and {len(prompts or ())} {what}; give as "
                             "many of each, and at least one")
        self._segmenter = segmenter
        self._single = single
        self._count = 1
        self._finished = False
        for frame in frames:
            _check_frame(frame, None, 0)
        self._geometry = [segmenter.geometry(*frame.shape[:2]) for frame in frames]
        sizes = sorted({g.size for g in self._geometry})
        if len(sizes) > 1:
            raise ValueError(f"videos of {len(sizes)} sizes ({', '.join(map(_size, sizes))}) in "
                             "one session; start a session for each size")
        self._ids: list[tuple[int, ...]] = [()] * len(frames)
        self._waiting: collections.deque = collections.deque()   # frames and ids, not answered yet
        self._last = list(frames)
        self._audio_streams = [media_audio.AudioStream() for _ in frames]
        self.first = self.adaptation = None
        heard = self._hear(audio, 0)
        if finds:
            self._values = [PixelValues() for _ in frames]
            self._first_step(frames, heard)
            return
        inputs = self._sentences(queries) if masks is None else self._masks(masks, 0)
        self._state = _start(
            segmenter.model, segmenter.variables, self._inputs(frames), inputs)
        self.adaptation = _report(self._state)
        if masks is not None:
            predictions = [self._given(*of) for of in zip(frames, masks, self._ids, strict=True)]
            self.first = predictions[0] if single else predictions
        else:
            self._waiting.append((list(frames), self._ids))
            if segmenter.model.delay == 0:
                self.first = self._prediction_first()

    def _first_step(self, frames: Images, heard: dict[str, np.ndarray] | None) -> None:
        self._waiting.append((list(frames), self._ids))
        self._state, prediction = _first_step(self._segmenter.model, self._segmenter.variables,
                                         self._inputs(frames), heard)
        predictions = self.collect(prediction)
        self.first = predictions[0] if self._single else predictions

    def step(self, frame: Any, mask: Any = None, flow: Any = None, audio: Any = None) -> Any:
        """Takes the next frame (of each stream) and gives the answer that is due.

        Args:
          frame: uint8 RGB [H, W, 3]; a list of them for several streams.
          mask: objects that enter with this frame, or are corrected: an index mask [H, W]. A list
            for several streams, None for those without. Elsewhere the model's own answer stands.
          flow: for a model that reads it, flow [H, W, 2] from the frame before to this one (a list
            for several streams); where it is not given, the segmenter computes it.
          audio: for a model that hears, the sound since the frame before: float [n] in [-1, 1],
            mono, 16 kHz, of any length (a list for several streams, None for those without); a
            frame without is one of which nothing can be heard.

        Returns:
          A `Segmentation`, of an earlier frame for a model with a delay, or None while none is due;
          a list for several streams.

        Raises:
          ValueError: a frame that is no image or not of the first one's size; a mask that is none,
            has more objects than the model takes, or is given to a model of sentences; `finish`
            was called; flow of another size, or for a model that reads none; sound that is none,
            or for a model that does not hear.
        """
        if self._single:
            one = [None if x is None else [x] for x in (mask, flow, audio)]
            return self.collect(self.push([frame], *one))[0]
        return self.collect(self.push(frame, mask, flow, audio))

    def finish(self) -> list[Any]:
        """Ends the streams and gives the answers that are still due, in order.

        The last frame stands in for those that the model would still have looked at, as in its
        training clips.
        """
        predictions = []
        if not self._finished:
            for _ in range(self._segmenter.model.delay):
                predictions.append(self.collect(self._advance(self._last)))
            self._finished = True
        predictions = [a for a in predictions if a[0] is not None]
        return [a[0] for a in predictions] if self._single else predictions

    def push(self, frames: Images, masks: Sequence[Any] | np.ndarray | None = None,
             flow: Images | None = None, audio: Sequence[Any] | None = None) -> Outputs:
        """Sends the streams' next frames to the device and does not wait for the answer."""
        if self._finished:
            raise ValueError("this session is finished; start a new one")
        for given, what in ((frames, "frames"), (masks, "masks"), (flow, "flow fields"),
                            (audio, "sounds")):
            if given is not None and len(given) != len(self._geometry):
                raise ValueError(f"{len(given)} {what} for {len(self._geometry)} streams")
        for frame, geometry in zip(frames, self._geometry, strict=True):
            _check_frame(frame, geometry.crop[2:], self._count)
        some = masks is not None and any(mask is not None for mask in masks)
        prompts = self._masks(masks, self._count) if some else self._hear(audio, self._count)
        if flow is not None:
            self._check_flow(flow)
        elif self._segmenter.flow:
            flow = [self._segmenter.flow(a[None], b[None])[0]
                    for a, b in zip(self._last, frames, strict=True)]
        self._last = list(frames)
        self._count += 1
        self._waiting.append((list(frames), self._ids))
        return self._advance(frames, flow, prompts)

    def collect(self, prediction: Outputs) -> list[Segmentation | None]:
        """The answers of what `push` returned, at the frames' own sizes; oldest first."""
        numbers = np.asarray(prediction.frame)
        if numbers[0] < 0:
            return [None] * len(numbers)
        slots = isinstance(prediction, SlotMasks)
        maps = np.asarray(prediction.probability if slots else prediction.logits)
        scores = np.asarray(prediction.scores)
        images, ids = self._waiting.popleft()
        if self._segmenter.model.task == "vis":
            return self._instances(jax.device_get(prediction), images)
        return [self._prediction(*of)
                for of in zip(numbers, images, ids, self._geometry, maps, scores, strict=True)]

    def _prediction(self, number: Any, image: np.ndarray, ids: tuple[int, ...], geometry: Geometry,
                maps: np.ndarray, scores: np.ndarray) -> Segmentation:
        size, protocol = image.shape[:2], self._segmenter.protocol
        count = len(ids) or len(scores)   # slots without an object are left out
        maps = maps[:count].astype(np.float32)
        if protocol == EXCLUSIVE:   # so that resized probabilities still have a sum of 1
            maps = [to_original(m, geometry.affine, size) for m in maps]
        else:
            maps = [sigmoid(to_original(m, geometry.affine, size)) for m in maps]
        return Segmentation(int(number), image, np.stack(maps), scores[:count].astype(np.float32),
                            protocol, ids)

    def _instances(self, prediction: Instances, images: list[np.ndarray]) -> list[Segmentation]:
        names, predictions = self._segmenter.categories, []
        for k, (image, geometry) in enumerate(zip(images, self._geometry, strict=True)):
            found = np.flatnonzero(prediction.identities[k] >= 0)
            ids = tuple((prediction.identities[k][found] + 1).tolist())
            probability = np.zeros((len(ids), *image.shape[:2]), np.float32)
            for out, logits in zip(probability, prediction.logits[k][found], strict=True):
                out[:] = sigmoid(to_original(logits.astype(np.float32), geometry.affine, out.shape))
            classes = prediction.probabilities[k][found, :-1].argmax(-1)
            predictions.append(Segmentation(
                int(prediction.frame[k]), image, probability,
                prediction.scores[k][found].astype(np.float32), INSTANCES, ids,
                tuple(names[c] for c in classes), self._values[k].assign(ids),
                self._segmenter.threshold))
        return predictions

    def summary(self) -> list[Any]:
        """What a model that finds objects says of each over all frames so far: `Track`s in order of
        their ids (a list of them for each of several streams).

        Of a long video they are the objects seen last, as many as the model's state has room for.

        Raises:
          ValueError: a model that is told its objects.
        """
        if self._segmenter.model.task != "vis":
            raise ValueError("this model is told its objects and finds none; it has no summary")
        found = jax.device_get(_summary(self._segmenter.model, self._state))
        tracks = [
            sorted((Track(int(i) + 1, self._segmenter.categories[int(c)], float(score), int(n))
                    for i, c, score, n in zip(*of_stream, strict=True) if i >= 0),
                   key=lambda track: track.id)
            for of_stream in zip(found.identity, found.category, found.score, found.frames,
                                 strict=True)
        ]
        return tracks[0] if self._single else tracks

    def _given(self, image: np.ndarray, mask: Any, ids: tuple[int, ...]) -> Segmentation:
        probability = np.asarray(mask) == np.array(ids)[:, None, None]
        return Segmentation(0, image, probability.astype(np.float32),
                            np.ones(len(ids), np.float32), self._segmenter.protocol, ids)

    def _prediction_first(self) -> Any:
        # A step that sees the first frame again, from a copy of the state, which is then dropped.
        _, prediction = _step(self._segmenter.model, self._segmenter.variables,
                              jax.tree.map(jnp.copy, self._state),
                              self._inputs(self._last), None)
        predictions = self.collect(prediction.replace(frame=jnp.zeros_like(prediction.frame)))
        return predictions[0] if self._single else predictions

    def _advance(
        self, frames: Images, flow: Images | None = None, prompts: Any = None
    ) -> Outputs:
        self._state, prediction = _step(
            self._segmenter.model, self._segmenter.variables, self._state,
            self._inputs(frames, flow), prompts)
        return prediction

    def _inputs(self, frames: Images, flow: Images | None = None) -> np.ndarray:
        """Frames at the model's size, with the pictures of the flow where it reads them; of no
        motion where none is given."""
        images = np.stack([g.frame(f) for g, f in zip(self._geometry, frames, strict=True)])
        if not self._segmenter.flow:
            return images
        if flow is None:
            flow = [np.zeros((*g.crop[2:], 2), np.float32) for g in self._geometry]
        pictures = [g.frame(flow_to_image(f)) for g, f in zip(self._geometry, flow, strict=True)]
        return np.concatenate([images, np.stack(pictures)], axis=-1)

    def _check_flow(self, flow: Images) -> None:
        if not self._segmenter.flow:
            raise ValueError("this model reads no optical flow; leave `flow` out")
        for field, geometry in zip(flow, self._geometry, strict=True):
            if np.shape(field) != (*geometry.crop[2:], 2):
                raise ValueError(f"flow to frame {self._count} has shape {np.shape(field)}; it is "
                                 f"[H, W, 2] at the frame's size, {_size(geometry.crop[2:])}")

    def _hear(self, audio: Sequence[Any] | None, frame: int) -> dict[str, np.ndarray] | None:
        """The streams' sound as the model takes it."""
        if not self._segmenter.uses_audio:
            if audio is not None and any(samples is not None for samples in audio):
                raise ValueError("this model does not hear; leave `audio` out")
            return None
        given = audio if audio is not None else [None] * len(self._geometry)
        if len(given) != len(self._geometry):
            raise ValueError(f"{len(given)} sounds for {len(self._geometry)} streams")
        samples = [media_audio.check_samples(one, frame) for one in given]
        heard = [audio_stream.push(one) for audio_stream, one in zip(self._audio_streams, samples, strict=True)]
        return {name: np.stack(arrays) for name, arrays
                in zip(("audio", "audio_valid"), zip(*heard, strict=True), strict=True)}

    def _sentences(self, queries: Sequence[str]) -> dict[str, np.ndarray]:
        encoded = [self._segmenter.tokenizer.encode(query) for query in queries]
        return {name: np.stack(arrays) for name, arrays
                in zip(("tokens", "tokens_valid"), zip(*encoded, strict=True), strict=True)}

    def _masks(self, masks: Sequence[Any] | np.ndarray, frame: int) -> dict[str, np.ndarray]:
        """The streams' prompts; those without a mask get one that says nothing."""
        self._segmenter.check_prompt(None, masks)
        known, out = [], []
        for mask, geometry, ids in zip(masks, self._geometry, self._ids, strict=True):
            if mask is not None:
                mask = user_masks.checked(mask, geometry.crop[2:], frame)
                ids = user_masks.enter(ids, mask, self._segmenter.model.config.objects)
                small = user_masks.to_slots(geometry.mask(mask), ids)
                lost = set(user_masks.object_ids(mask)) - {
                    ids[slot - 1] for slot in user_masks.object_ids(small)}
                if lost:
                    raise ValueError(f"nothing is left of object {min(lost)} of the mask of frame "
                                     f"{frame} at {_size(geometry.size)}; raise short_side")
            known.append(ids)
            out.append(np.zeros(geometry.size, np.uint8) if mask is None else small)
        self._ids = known
        return {"mask": np.stack(out)}


@functools.partial(jax.jit, static_argnums=0)
def _start(model: Model, variables: Variables, frames: jax.Array, prompts: Any) -> Any:
    return over_streams(model.start)(variables, frames, prompts)


@functools.partial(jax.jit, static_argnums=0)
def _first_step(
    model: Model, variables: Variables, frames: jax.Array, prompts: Any
) -> tuple[Any, Outputs]:
    """`_start` of a model that answers for the first frame without a prompt, with that answer."""
    inputs = (frames,) if prompts is None else (frames, prompts)
    return over_streams(model.first_step)(variables, *inputs)


@functools.partial(jax.jit, static_argnums=0)
def _summary(model: Model, states: Any) -> Any:
    return jax.vmap(model.summary)(states)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _step(
    model: Model, variables: Variables, states: Any, frames: jax.Array, prompts: Any
) -> tuple[Any, Outputs]:
    """Two programs at most: with prompts, and without."""
    inputs = (states, frames) if prompts is None else (states, frames, prompts)
    return over_streams(model.step)(variables, *inputs)


def over_streams(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(variables, *inputs)` for inputs with a leading axis of streams.

    One stream alone is not vmapped: a condition is then a choice, and not both sides computed.
    """
    def of_all(variables: Variables, *inputs: Any) -> Any:
        if jax.tree.leaves(inputs)[0].shape[0] != 1:
            return jax.vmap(function, in_axes=(None, *(0 for _ in inputs)))(variables, *inputs)
        outputs = function(variables, *jax.tree.map(lambda x: x[0], inputs))
        return jax.tree.map(lambda x: x[None], outputs)

    return of_all


def _report(state: Any) -> Any:
    """The state's report on the adaptation, with a warning where it came to nothing."""
    report = jax.device_get(getattr(state, "adaptation", None))
    if report is not None and report.collapsed.any():
        streams = ", ".join(map(str, np.flatnonzero(report.collapsed)))
        warnings.warn(f"the adaptation to the first frame collapsed (stream {streams}); the model "
                      "goes on as it was trained", stacklevel=2)
    return report


def _check_frame(frame: Any, size: tuple[int, int] | None, number: int) -> None:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 \
            or frame.shape[2] != 3 or 0 in frame.shape:
        got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame)
        raise ValueError(f"frame {number} is {got}; frames are uint8 arrays [H, W, 3], RGB")
    if size is not None and frame.shape[:2] != size:
        raise ValueError(
            f"frame {number} is {_size(frame.shape)}, those before it are {_size(size)}; start a "
            "new session where the size changes"
        )


def _size(size: Sequence[int]) -> str:
    return f"{size[1]} x {size[0]}"
