"""The user's face: a video and a sentence in, masks at the video's own size out.

    segmenter = vseg_jax.load("runs/quickstart")
    for answer in segmenter.segment("clip.mp4", query="a dog running"):
        answer.frame, answer.masks, answer.scores

Live, frame by frame (a clip model answers `segmenter.model.delay` frames late):

    session = segmenter.start(frame, query="a dog running")
    answer = session.step(next_frame)       # of an earlier frame, or None
    rest = session.finish()
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, UInt8

from input_pipeline.settings import ClipConfig
from input_pipeline.text import Tokenizer
from input_pipeline.transforms import Geometry, plain_geometry
from vseg_jax.inference import checkpoint
from vseg_jax.inference.geometry import sigmoid, to_original
from vseg_jax.inference.video import Video
from vseg_jax.metrics.a2d import foreground
from vseg_jax.models.base import Model, Prediction, Variables


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """The answer for one frame.

    Attributes:
      frame: its number, from 0.
      image: the frame.
      probability: of each of N objects, in [0, 1], at the frame's size.
      scores: confidence in each object, in [0, 1].
      protocol: how probabilities become masks: "legacy" takes those above half the frame's peak,
        "coco" those above one half (see `vseg_jax.metrics.a2d`).
    """

    frame: int
    image: UInt8[np.ndarray, "H W 3"]
    probability: Float[np.ndarray, "N H W"]
    scores: Float[np.ndarray, " N"]
    protocol: str = "legacy"

    @property
    def masks(self) -> Bool[np.ndarray, "N H W"]:
        """Where each object is; objects may overlap."""
        return foreground(self.probability, self.protocol)

    @property
    def index(self) -> UInt8[np.ndarray, "H W"]:
        """0 background, object i as i + 1; where objects overlap, the most probable one."""
        weighed = np.where(self.masks, self.probability, 0)
        found = weighed.argmax(axis=0) + 1
        return np.where(weighed.max(axis=0) > 0, found, 0).astype(np.uint8)


class Segmenter:
    """A model, its variables and what turns videos and sentences into its input.

    Programs are compiled once for a number of streams, whatever the videos' sizes: frames are
    resized on the host to the model's input size.
    """

    def __init__(self, model: Model, variables: Variables, tokenizer: Tokenizer, clip: ClipConfig,
                 protocol: str = "legacy"):
        self.model = model
        self.variables = jax.device_put(variables)
        self.tokenizer = tokenizer
        self.clip = clip
        self.protocol = protocol

    def segment(
        self, video: str | os.PathLike | np.ndarray | Iterable[np.ndarray], query: str
    ) -> Iterator[Segmentation]:
        """Answers for every frame of a video, in order, as they are made.

        Memory does not grow with the video: frames are taken one by one, and only those of the
        model's delay are kept.

        Args:
          video: a file, uint8 RGB frames [T, H, W, 3], or anything that gives frames [H, W, 3].
          query: which object; a sentence that is too long is cut, with a warning.

        Raises:
          ValueError: no such file, no frame, an empty sentence; while iterating: a frame that is no
            image or of another size.
        """
        frames = iter(Video(video) if isinstance(video, (str, os.PathLike)) else video)
        first = next(frames, None)
        if first is None:
            raise ValueError("the video has no frame; give at least one")
        return self._run(self.start(first, query), frames)

    def _run(self, session: Session, frames: Iterator[np.ndarray]) -> Iterator[Segmentation]:
        waiting: collections.deque = collections.deque()
        if session.first is not None:
            yield session.first
        for frame in frames:
            waiting.append(session.push([frame]))
            if len(waiting) > 1:   # the host resizes one answer while the device makes the next
                yield from (a for a in session.collect(waiting.popleft()) if a)
        for outputs in waiting:
            yield from (a for a in session.collect(outputs) if a)
        yield from session.finish()

    def start(self, frame: np.ndarray, query: str) -> Session:
        """Begins a stream with its first frame (uint8 RGB [H, W, 3])."""
        return Session(self, [frame], [query], single=True)

    def start_many(self, frames: Sequence[np.ndarray], queries: Sequence[str]) -> Session:
        """Begins several streams that advance together, one program for all of them.

        Their videos may have different sizes. `step` then takes a list and gives a list.
        """
        return Session(self, frames, queries, single=False)


def load(path: str | Path) -> Segmenter:
    """The segmenter of a training's working directory, or of a folder that `export` wrote.

    Raises:
      ValueError: the folder is missing, lacks something, or is of another model.
    """
    r = checkpoint.restore(path)
    protocol = r.about["config"].get("evaluation", {}).get("protocol", "legacy")
    return Segmenter(r.model, r.variables, r.tokenizer, r.clip, protocol)


class Session:
    """Streams that advance together; made by `Segmenter.start` and `Segmenter.start_many`.

    `step` and `finish` are for users; `push` and `collect` are the halves of `step`, for those who
    want the device busy while the host works.

    Attributes:
      first: the answer for the first frame where the model answers without delay (a list for
        several streams), else None: `step` gives it.
    """

    def __init__(self, segmenter: Segmenter, frames: Sequence[np.ndarray], queries: Sequence[str],
                 single: bool):
        if len(frames) != len(queries) or not len(frames):
            raise ValueError(f"{len(frames)} first frames and {len(queries)} queries; give as many "
                             "of each, and at least one")
        self._segmenter = segmenter
        self._single = single
        self._count = 1
        self._finished = False
        self._geometry: list[Geometry] = []
        for frame in frames:
            _check_frame(frame, None, 0)
            self._geometry.append(plain_geometry(*frame.shape[:2], segmenter.clip))
        self._images = collections.deque([list(frames)])   # of frames that are not answered yet
        prompts = [dict(zip(("tokens", "tokens_valid"), segmenter.tokenizer.encode(query),
                            strict=True)) for query in queries]
        self._last = self._resized(frames)
        self._state = _start(segmenter.model, segmenter.variables, self._last,
                             jax.tree.map(lambda *x: np.stack(x), *prompts))
        self.first = self._answer_first() if segmenter.model.delay == 0 else None

    def step(self, frame: Any) -> Any:
        """Takes the next frame (of each stream) and gives the answer that is due.

        Args:
          frame: uint8 RGB [H, W, 3]; a list of them for several streams.

        Returns:
          A `Segmentation` of an earlier frame, or None while none is due; a list for several
          streams.

        Raises:
          ValueError: a frame that is no image or not of the first one's size; `finish` was called.
        """
        answers = self.collect(self.push([frame] if self._single else frame))
        return answers[0] if self._single else answers

    def finish(self) -> list[Any]:
        """Ends the streams and gives the answers that are still due, in order.

        The last frame stands in for those that the model would still have looked at, as in its
        training clips.
        """
        answers = []
        if not self._finished:
            for _ in range(self._segmenter.model.delay):
                answers.append(self.collect(self._advance(self._last)))
            self._finished = True
        answers = [a for a in answers if a[0] is not None]
        return [a[0] for a in answers] if self._single else answers

    def push(self, frames: Sequence[np.ndarray]) -> Prediction:
        """Sends the streams' next frames to the device and does not wait for the answer."""
        if self._finished:
            raise ValueError("this session is finished; start a new one")
        if len(frames) != len(self._geometry):
            raise ValueError(f"{len(frames)} frames for {len(self._geometry)} streams")
        for frame, geometry in zip(frames, self._geometry, strict=True):
            _check_frame(frame, geometry.crop[2:], self._count)
        self._count += 1
        self._images.append(list(frames))
        self._last = self._resized(frames)
        return self._advance(self._last)

    def collect(self, prediction: Prediction) -> list[Segmentation | None]:
        """The answers of what `push` returned, at the frames' own sizes; oldest first."""
        numbers = np.asarray(prediction.frame)
        if numbers[0] < 0:
            return [None] * len(numbers)
        logits, scores = np.asarray(prediction.logits), np.asarray(prediction.scores)
        images = self._images.popleft()
        return [
            Segmentation(
                int(number), image,
                np.stack([sigmoid(to_original(m, geometry.affine, image.shape[:2])) for m in maps]),
                score, self._segmenter.protocol,
            )
            for number, image, geometry, maps, score in zip(
                numbers, images, self._geometry, logits.astype(np.float32),
                scores.astype(np.float32), strict=True)
        ]

    def _answer_first(self) -> Any:
        # A step that sees the first frame again, from a copy of the state, which is then dropped.
        _, prediction = _step(self._segmenter.model, self._segmenter.variables,
                              jax.tree.map(jnp.copy, self._state), self._last)
        answers = self.collect(prediction.replace(frame=jnp.zeros_like(prediction.frame)))
        return answers[0] if self._single else answers

    def _advance(self, frames: np.ndarray) -> Prediction:
        self._state, prediction = _step(
            self._segmenter.model, self._segmenter.variables, self._state, frames)
        return prediction

    def _resized(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([g.frame(f) for g, f in zip(self._geometry, frames, strict=True)])


@functools.partial(jax.jit, static_argnums=0)
def _start(model: Model, variables: Variables, frames: jax.Array, prompts: Any) -> Any:
    return jax.vmap(model.start, in_axes=(None, 0, 0))(variables, frames, prompts)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _step(
    model: Model, variables: Variables, states: Any, frames: jax.Array
) -> tuple[Any, Prediction]:
    return jax.vmap(model.step, in_axes=(None, 0, 0))(variables, states, frames)


def _check_frame(frame: Any, size: tuple[int, int] | None, number: int) -> None:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 \
            or frame.shape[2] != 3 or 0 in frame.shape:
        got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame)
        raise ValueError(f"frame {number} is {got}; frames are uint8 arrays [H, W, 3], RGB")
    if size is not None and frame.shape[:2] != size:
        raise ValueError(
            f"frame {number} is {frame.shape[1]} x {frame.shape[0]}, those before it are "
            f"{size[1]} x {size[0]}; start a new session where the size changes"
        )
