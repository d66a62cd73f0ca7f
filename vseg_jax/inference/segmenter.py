"""The user's face: a video, and a sentence, a mask or nothing, in; masks at the video's size out.

    segmenter = vseg_jax.load("runs/quickstart")
    for answer in segmenter.segment("clip.mp4", query="a dog running"):
        answer.frame, answer.masks, answer.scores

Live, frame by frame (a clip model answers `segmenter.model.delay` frames late):

    session = segmenter.start(frame, query="a dog running")
    answer = session.step(next_frame)       # of an earlier frame, or None
    rest = session.finish()

With a model that follows masks, the first frame's index mask (uint8 [H, W], 0 background) names the
objects, and later masks add more:

    session = segmenter.start(frame, mask=mask)
    answer = session.step(next_frame)               # answer.index has the mask's ids
    answer = session.step(another, mask=newcomer)

A model that finds objects by itself takes no prompt. Its answers name each object's category and
identity, and one that hears takes the sound of the video, or live that since the last frame:

    for answer in segmenter.segment("video.mp4"):
        answer.ids, answer.categories, answer.scores
    session = segmenter.start(frame, audio=samples)
    answer = session.step(next_frame, audio=samples)
    session.summary()                               # category and score of each identity

Many videos of one model advance together, in one program (`jax.vmap` of its `step`):

    session = segmenter.start_many([video[0] for video in videos])   # masks or queries: one a video
    answers = session.step([video[1] for video in videos])           # one a video
"""

from __future__ import annotations

import collections
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vseg_jax.inference import restore as checkpoint
from vseg_jax.inference.prompts import masks as user_masks
from vseg_jax.inference.segmentation import EXCLUSIVE, INSTANCES, Segmentation, Track
from vseg_jax.inference.session import Images, Session
from vseg_jax.input_pipeline.flow import dis_flows
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import Tokenizer
from vseg_jax.input_pipeline.transforms import Geometry, plain_geometry
from vseg_jax.media import audio as media_audio
from vseg_jax.media.video import Video
from vseg_jax.models.base import Model, Variables, reads_flow

FlowOf = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Segmenter:
    """A model, its variables and what turns videos and prompts into its input.

    Models of sentences, and those that find objects, see frames resized on the host to the clip's
    size: programs are compiled once for a number of streams, whatever the videos' sizes. Models of
    masks see frames of their own size, or scaled to `short_side`: programs are compiled once for
    each size.

    Args:
      tokenizer, protocol: of a model of sentences.
      clip: of a model of sentences, and of one that finds objects.
      flow: of a model that reads optical flow: uint8 RGB frames [B, H, W, 3] twice to the flow
        [B, H, W, 2] from the first to the second, such as `vseg_jax.tools.add_flow.raft_with(
        weights).pairs`; None is OpenCV's DIS. Best what the model was trained with.
      short_side: of a model of masks: the frame's shorter side inside, in pixels; 0 is its own.
      categories: of a model that finds objects: the names of its classes.
    """

    def __init__(self, model: Model, variables: Variables, tokenizer: Tokenizer | None = None,
                 clip: ClipConfig | None = None, protocol: str = "legacy", short_side: int = 0,
                 flow: FlowOf | None = None, categories: Sequence[str] = ()):
        if model.task == "vis" and len(categories) != model.config.categories:
            raise ValueError(f"{len(categories)} names of categories for a model of "
                             f"{model.config.categories}; name each class")
        if short_side and model.task != "vos":
            raise ValueError("short_side is for models of masks; this one sees its clips' size")
        if short_side < 0:
            raise ValueError(f"short_side is {short_side}; it is a number of pixels, or 0")
        self.model = model
        self.variables = jax.device_put(variables)
        self.tokenizer = tokenizer
        self.clip = clip
        self.protocol = {"vos": EXCLUSIVE, "vis": INSTANCES}.get(model.task, protocol)
        self.short_side = short_side
        self.flow = (flow or dis_flows) if reads_flow(model) else None
        self.categories = tuple(categories)
        self.uses_audio = getattr(model, "uses_audio", False)
        self.threshold = getattr(model.config, "mask_threshold", 0.5)

    def segment(
        self, video: str | os.PathLike | np.ndarray | Iterable[np.ndarray],
        query: str | None = None, *, mask: np.ndarray | None = None,
        masks: Mapping[int, np.ndarray] | None = None, audio: Iterable[np.ndarray] | None = None,
    ) -> Predictions:
        """Answers for every frame of a video, in order, as they are made.

        Memory does not grow with the video: frames are taken one by one, and only those of the
        model's delay are kept.

        Args:
          video: a file, uint8 RGB frames [T, H, W, 3], or anything that gives frames [H, W, 3].
          query: which object; a sentence that is too long is cut, with a warning.
          mask: the first frame's index mask, for models that follow masks.
          masks: more of them by the frame's number, for objects that enter later; may hold frame 0
            in place of `mask`.
          audio: for a model that hears: of each frame the sound since the one before, float [n] in
            [-1, 1], mono, 16 kHz (`vseg_jax.media.audio.split_by_frame` cuts it). Of a file, it is
            the video's own. Without any sound such a model hears silence, with a warning.

        Raises:
          ValueError: no such file, no frame, an empty sentence, a mask that is none; while
            iterating: a frame that is no image or of another size.
        """
        later = dict(masks or {})
        if mask is None:
            mask = later.pop(0, None)
        elif 0 in later:
            raise ValueError("two masks for frame 0; give it as `mask` or in `masks`")
        if mask is None and later:
            raise ValueError(f"the first mask is that of frame {min(later)}; give one for frame 0, "
                             f"or begin the video at frame {min(later)}")
        self.check_prompt(query, mask)
        if isinstance(video, (str, os.PathLike)):
            video = Video(video)
        frames, audio = iter(video), self._audio(video, audio)
        first = next(frames, None)
        if first is None:
            raise ValueError("the video has no frame; give at least one")
        session = self.start(first, query, mask, next(audio))
        for number, entering in later.items():   # now, and not after an hour
            user_masks.checked(entering, first.shape[:2], number)
        return Predictions(session, self._run(session, frames, later, audio))

    def _audio(self, video: Any, audio: Iterable[np.ndarray] | None) -> Iterator[Any]:
        """The sound of each frame, None where there is none; without an end."""
        if audio is None and self.uses_audio:
            if isinstance(video, Video):
                audio = media_audio.audio_of_video(video)
            else:
                warnings.warn("no sound was given; the model hears silence", stacklevel=3)
        return itertools.chain(audio or (), itertools.repeat(None))

    def _run(self, session: Session, frames: Iterator[np.ndarray],
             masks: dict[int, np.ndarray], audio: Iterator[Any]) -> Iterator[Segmentation]:
        waiting: collections.deque = collections.deque()
        if session.first is not None:
            yield session.first
        for number, frame in enumerate(frames, 1):
            mask = masks.pop(number, None)
            waiting.append(session.push([frame], None if mask is None else [mask],
                                        audio=[next(audio)]))
            if len(waiting) > 1:   # the host resizes one answer while the device makes the next
                yield from (a for a in session.collect(waiting.popleft()) if a)
        for outputs in waiting:
            yield from (a for a in session.collect(outputs) if a)
        yield from session.finish()
        if masks:
            warnings.warn(f"masks of frames {', '.join(map(str, sorted(masks)))} were not used: "
                          "the video has no such frames", stacklevel=2)

    def start(self, frame: np.ndarray, query: str | None = None,
              mask: np.ndarray | None = None, audio: np.ndarray | None = None) -> Session:
        """Begins a stream with its first frame (uint8 RGB [H, W, 3]).

        Args:
          query: the sentence that names the object, for models of sentences.
          mask: the frame's index mask [H, W], for models of masks: 0 background, ids from 1 to 254.
          audio: the frame's sound, for models that hear; see `Session.step`.
        """
        self.check_prompt(query, mask)
        return Session(self, [frame], None if query is None else [query],
                       None if mask is None else [mask], single=True,
                       audio=None if audio is None else [audio])

    def start_many(self, frames: Images, queries: Sequence[str] | None = None,
                   masks: Images | None = None, audio: Sequence[Any] | None = None) -> Session:
        """Begins several streams that advance together, one program for all of them.

        Their videos may have different sizes, but not with a model of masks. `step` then takes
        lists and gives a list.
        """
        self.check_prompt(queries, masks)
        return Session(self, frames, queries, masks, single=False, audio=audio)

    def geometry(self, height: int, width: int) -> Geometry:
        """How a frame of a video becomes the model's input."""
        if self.model.task != "vos":
            return plain_geometry(height, width, self.clip)
        scale = self.short_side / min(height, width) if self.short_side else 1.0
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        return Geometry((0, 0, height, width), size, size)

    def check_prompt(self, query: Any, mask: Any) -> None:
        """Raises:
          ValueError: not the prompt, or both, that the model takes.
        """
        names = {"query": query, "mask": mask}
        given = [name for name, value in names.items() if value is not None]
        if self.model.task == "vis":
            if given:
                raise ValueError("this model finds the objects of its categories by itself: leave "
                                 f"out {' and '.join(given)}")
            return
        takes = "mask" if self.model.task == "vos" else "query"
        if given != [takes]:
            what = {"mask": "follows masks: give the first frame's index mask",
                    "query": "answers sentences: give the one that names the object"}[takes]
            raise ValueError(f"this model {what} as {takes}"
                             + (f", not {' and '.join(given)}" if given else ""))


class Predictions(Iterator[Segmentation]):
    """The answers for a video's frames, one after another."""

    def __init__(self, session: Session, predictions: Iterator[Segmentation]):
        self._session = session
        self._predictions = predictions

    def __next__(self) -> Segmentation:
        return next(self._predictions)

    def summary(self) -> list[Track]:
        """At the end of the video, category and score of each object that the model found; see
        `Session.summary`."""
        return self._session.summary()


def load(path: str | Path, short_side: int = 0, changes: Mapping[str, Any] | None = None,
         flow: FlowOf | None = None) -> Segmenter:
    """The segmenter of a training's working directory, or of a folder that `export` wrote.

    Args:
      short_side, flow: see `Segmenter`.
      changes: keys of the model's config, such as {"adaptation_steps": 50}; those that change no
        array.

    Raises:
      ValueError: the folder is missing, lacks something, or is of another model.
    """
    r = checkpoint.restore(path, changes)
    protocol = r.about["config"].get("evaluation", {}).get("protocol", "legacy")
    return Segmenter(r.model, r.variables, r.tokenizer, r.clip, protocol, short_side, flow,
                     r.categories)
