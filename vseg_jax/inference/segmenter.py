"""Segments videos: a video and a query, a mask or no prompt in; masks at the video's size out.

    segmenter = vseg_jax.load("runs/quickstart")
    for segmentation in segmenter.segment("clip.mp4", query="a dog running"):
        segmentation.frame, segmentation.masks, segmentation.scores

Live, frame by frame (a model that looks ahead predicts `segmenter.model.delay` frames late):

    session = segmenter.start(frame, query="a dog running")
    segmentation = session.step(next_frame)   # of an earlier frame, or None
    rest = session.finish()

With a model that takes mask prompts, the first frame's index mask (uint8 [H, W], 0 is background)
names the objects, and later masks add more and correct those that are there:

    session = segmenter.start(frame, mask=mask)
    segmentation = session.step(next_frame)   # segmentation.index has the ids of the mask
    segmentation = session.step(another_frame, mask=mask_of_a_new_object)

A model that finds objects by itself takes no prompt. Its segmentations have each object's category
and identity. A model that uses audio takes that of the video, or live that since the last frame:

    for segmentation in segmenter.segment("video.mp4"):
        segmentation.ids, segmentation.categories, segmentation.scores
    session = segmenter.start(frame, audio=samples)
    segmentation = session.step(next_frame, audio=samples)
    session.summary()   # category and score of each identity

Many videos advance together, in one program (`jax.vmap` of the model's `step`):

    session = segmenter.start_many([video[0] for video in videos])      # queries or masks: as many
    segmentations = session.step([video[1] for video in videos])        # one per video
    session.step([videos[0][2], None])    # the second one ends; `session.join` starts another there

A session can be saved, and continued in another process:

    session.save("session.npz")
    session = segmenter.restore("session.npz")
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from vseg_jax.inference import restore as checkpoint
from vseg_jax.inference.engine import Engine, FlowFunction, Images, Masks
from vseg_jax.inference.predictions import Predictions
from vseg_jax.inference.prompts import streams_of
from vseg_jax.inference.session import Session
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import Tokenizer
from vseg_jax.input_pipeline.transforms import Geometry
from vseg_jax.media.audio import audio_of_video
from vseg_jax.media.excerpt import Excerpt
from vseg_jax.media.images import open_video
from vseg_jax.media.video import Video
from vseg_jax.models.base import Model, Variables


class Segmenter:
    """Segments videos with one model; `load` makes one from a checkpoint.

    Models that take a query, and those that find objects by themselves, see frames resized on the
    host to the size of their clips: programs are compiled once for a number of streams, whatever
    the videos' sizes. Models that take mask prompts see frames at their own size, or scaled to
    `short_side`: programs are compiled once per size.

    Attributes:
      engine: the model with its variables and everything else that it needs.
      trained_flow: of `load`: how the optical flow of the model's training was computed, as in
        `flow.json` of a prepared dataset; {} where this is not known.
    """

    trained_flow: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self, model: Model, variables: Variables, tokenizer: Tokenizer | None = None,
        clip: ClipConfig | None = None, protocol: str = "legacy", short_side: int = 0,
        flow: FlowFunction | None = None, categories: Sequence[str] = (),
    ) -> None:
        """Puts the variables on the device.

        Args:
          model: what the variables belong to.
          variables: of the model.
          tokenizer: for models that take a query.
          clip: for models that take a query, and those that find objects.
          protocol: for models that take a query: how probabilities become masks, see
            `Segmentation`.
          short_side: for models that take mask prompts: the frame's shorter side in the model, in
            pixels; 0 keeps the frame's size.
          flow: for models that read optical flow: a function of uint8 RGB frames [B, H, W, 3],
            twice, that returns the flow [B, H, W, 2] from the first to the second, for example
            `vseg_jax.tools.flow_estimators.raft_estimator(weights).pairs`. None is OpenCV's DIS. It
            is best to use what the model was trained with.
          categories: for models that find objects: the names of the classes.

        Raises:
          ValueError: the model does not take one of the settings.
        """
        self.engine = Engine(model, variables, tokenizer=tokenizer, clip=clip, protocol=protocol,
                             short_side=short_side, flow=flow, categories=categories)
        self._task = streams_of(model)
        self._task.check_engine(self.engine)

    @property
    def model(self) -> Model:
        """The model."""
        return self.engine.model

    @property
    def variables(self) -> Variables:
        """The model's variables, on the device."""
        return self.engine.variables

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of the classes, for models that find objects; else ()."""
        return self.engine.categories

    @property
    def uses_audio(self) -> bool:
        """Whether the model takes the video's audio."""
        return self.engine.uses_audio

    def geometry(self, height: int, width: int) -> Geometry:
        """Returns how a frame of a video becomes the model's input."""
        return self._task.geometry(self.engine, height, width)

    def check_prompt(self, query: Any, mask: Any) -> None:
        """Raises ValueError if a query and a mask, or None, are not the prompt that it takes."""
        self._task.check_prompt(query, mask)
        if query is not None and not isinstance(query, str):
            raise ValueError(f"the query is {query!r}; give one referring expression, a text")

    def segment(
        self, video: str | os.PathLike | np.ndarray | Iterable[np.ndarray],
        query: str | None = None, *, mask: np.ndarray | None = None,
        masks: Mapping[int, np.ndarray] | None = None,
        objects: Mapping[int, Collection[int]] | None = None,
        audio: Iterable[np.ndarray] | None = None, both_directions: bool = False,
        session: str | os.PathLike | None = None,
    ) -> Predictions:
        """Yields the segmentation of every frame of a video, in order, as soon as it is computed.

        Memory does not grow with the video: frames are read one by one, and only as many are kept
        as the model looks ahead.

        Args:
          video: a file, a folder of images, uint8 RGB frames [T, H, W, 3], or any iterable of
            frames [H, W, 3], such as a part of a video (`vseg_jax.media.open_source`).
          query: a referring expression that names the object; one that is too long is cut, with a
            warning.
          mask: the first frame's index mask, for models that take mask prompts.
          masks: further ones by frame number, for objects that enter later or are corrected (see
            `Session.step`); may hold frame 0 in place of `mask`. Frames before the first mask have
            no object.
          objects: by frame number, the ids of the objects that the mask of the frame speaks for, by
            default all that have a pixel in it; see `Session.step`. An object may also be said to
            be absent from frames before its first mask, for `both_directions`.
          audio: for models that use audio: of each frame the samples since the previous one, float
            [n] in [-1, 1], mono, 16 kHz (see `vseg_jax.media.split_by_frame`). The default for a
            file is its own audio track. Without any audio the model gets silence, with a warning.
          both_directions: for models that take mask prompts: also follow objects backward in time,
            so that they are found in the frames before their first masks, too. These frames are
            first segmented in reverse order, and kept in a temporary file (TMPDIR) until the end of
            the iteration, or `Predictions.close`.
          session: file that `Session.save` wrote (see `Predictions.rest`): the segmentations are
            those after the frames that this session has seen, whose masks are not used again.

        Raises:
          ValueError: the file or folder does not exist, the video has no frame, the query is empty,
            or a mask or its objects cannot be used; while iterating: a frame is not an image or
            changes size.
        """
        return self._predictions(video, query, _by_number(mask, masks), objects, audio,
                                 both_directions, session)

    def _predictions(
        self, video: Any, query: str | None, masks: dict[int, np.ndarray],
        objects: Mapping[int, Collection[int]] | None, audio: Iterable[np.ndarray] | None,
        both_directions: bool, session: str | os.PathLike | None = None,
    ) -> Predictions:
        """Returns what `segment` does, or with a saved session the segmentations after it."""
        self.check_prompt(query, masks or None)
        if both_directions and not masks:
            raise ValueError("both_directions is for models that take mask prompts")
        if isinstance(video, (str, os.PathLike)):
            video = open_video(video)
        if not isinstance(video, Iterable):
            raise ValueError(f"the video is of type {type(video).__name__}; it must be a path, "
                             "uint8 frames [T, H, W, 3] or an iterable of frames, such as "
                             "vseg_jax.media.Camera(0)")

        def start(frame: np.ndarray, mask: np.ndarray | None, audio: Any, number: int,
                  direction: int) -> Session:
            return self._start(frame, query, mask, audio, number=number, direction=direction,
                               warn_of_gaps=False)

        return Predictions(start, iter(video), masks, objects or {}, self._audio(video, audio),
                           both_directions=both_directions,
                           session=None if session is None else self.restore(session),
                           capacity=self.model.config.objects if masks else 0)

    def _audio(self, video: Any, audio: Iterable[np.ndarray] | None) -> Iterator[Any]:
        """Returns the audio of each frame, None where there is none, without end."""
        if audio is None and self.uses_audio:
            file = video.whole if isinstance(video, Excerpt) else video
            if isinstance(file, Video):
                audio = audio_of_video(video)
            else:
                warnings.warn("no audio was given; the model gets silence", stacklevel=3)
        return itertools.chain(audio or (), itertools.repeat(None))

    def start(self, frame: np.ndarray, query: str | None = None,
              mask: np.ndarray | None = None, audio: np.ndarray | None = None) -> Session:
        """Returns a session that has seen the first frame of a stream.

        Args:
          frame: uint8 RGB [H, W, 3].
          query: the referring expression that names the object, for models that take a query.
          mask: the frame's index mask [H, W], for models that take mask prompts: 0 is background,
            ids are 1 to 254.
          audio: the frame's audio, for models that use it; see `Session.step`.

        Raises:
          ValueError: the frame or the prompt cannot be used.
        """
        return self._start(frame, query, mask, audio)

    def _start(self, frame: np.ndarray, query: str | None, mask: np.ndarray | None, audio: Any,
               **settings: Any) -> Session:
        if isinstance(query, str) and self.engine.tokenizer is not None:
            _warn_unknown(query, self.engine.tokenizer.unknown(query))
        return Session(self.engine, [frame], None if query is None else [query],
                       None if mask is None else [mask], None if audio is None else [audio],
                       single=True, **settings)

    def restore(self, path: str | os.PathLike) -> Session:
        """Returns the session that `Session.save` wrote; its predictions continue bit by bit.

        Raises:
          ValueError: the file is missing, damaged, of another version, or was saved with another
            model: another config, other weights, or another `short_side`.
        """
        return Session.restore(self.engine, path)

    def start_many(self, frames: Images, queries: Sequence[str] | None = None,
                   masks: Masks | None = None, audio: Sequence[Any] | None = None) -> Session:
        """Returns a session of several streams that advance together, in one program.

        The streams may have frames of different sizes, except with models that take mask prompts.
        The session's `step` takes and returns lists. Streams may end earlier than others, and new
        ones take their places; see `Session.step` and `Session.join`.

        Args:
          frames: the first frame of each stream, uint8 RGB [H, W, 3].
          queries: one per stream; see `start`.
          masks: one per stream; None for a stream whose objects all enter later.
          audio: one per stream; None for a stream without audio.

        Raises:
          ValueError: a frame or a prompt cannot be used, or there are not as many of each.
        """
        return Session(self.engine, frames, queries, masks, audio)


def _warn_unknown(query: Any, words: Sequence[str]) -> None:
    if words:
        warnings.warn(f"the model has never learned {', '.join(map(repr, words))} in the query "
                      f"{query!r}; such words all mean the same to it", stacklevel=4)


def _by_number(
    mask: np.ndarray | None, masks: Mapping[int, np.ndarray] | None
) -> dict[int, np.ndarray]:
    """Returns all masks by frame number."""
    numbered = dict(masks or {})
    if mask is not None and 0 in numbered:
        raise ValueError("there are two masks for frame 0; give it as `mask` or in `masks`")
    wrong = [n for n in numbered if not isinstance(n, int | np.integer) or n < 0]
    if wrong:
        raise ValueError(f"masks has the frame number {wrong[0]!r}; frames are numbered from 0")
    return numbered if mask is None else {0: mask, **numbered}


def load(path: str | os.PathLike, short_side: int | None = None,
         changes: Mapping[str, Any] | None = None, flow: FlowFunction | None = None) -> Segmenter:
    """Returns the segmenter of a trained model.

    Args:
      path: the working directory of a training run; a folder or `.safetensors` file that `vseg
        export` wrote; the name of a shipped model (`vseg models`); or `hf://OWNER/NAME@REVISION`,
        a repository of the Hugging Face Hub with a file `model.safetensors`.
      short_side: see `Segmenter`; None, for models that take mask prompts, is what the run was
        evaluated at (`evaluation.short_side` of its config).
      changes: keys of the model's config with other values than in training, for example
        {"adaptation_steps": 50}; only keys that do not change the model's arrays.
      flow: see `Segmenter`.

    Raises:
      ValueError: there is no such model, or it lacks something, is damaged or belongs to another
        version of the library.
    """
    restored = checkpoint.restore(path, changes)
    protocol = restored.about["config"].get("evaluation", {}).get("protocol", "legacy")
    loaded = Segmenter(restored.model, restored.variables, restored.tokenizer, restored.clip,
                       protocol, restored.short_side if short_side is None else short_side, flow,
                       restored.categories)
    loaded.trained_flow = restored.about.get("flow", {})
    return loaded
