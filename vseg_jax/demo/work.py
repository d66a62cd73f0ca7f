"""The work of one user on one clip: objects, prompts, masks and corrections, without a page."""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from vseg_jax.demo.clip import Clip, frames_from
from vseg_jax.demo.outline import Number, Point, outline
from vseg_jax.demo.prompts import Mask, Prompt, Prompts
from vseg_jax.index_masks import LARGEST
from vseg_jax.inference import Segmentation, Segmenter, Session
from vseg_jax.inference.prompts import streams_of
from vseg_jax.inference.segmentation import EXCLUSIVE
from vseg_jax.input_pipeline.codecs import decode_mask, encode_mask

EVERY = 16   # frames between two saved sessions
_NAME = 40   # characters


@dataclasses.dataclass(frozen=True)
class _Result:
    """The prediction for a frame: its index mask as PNG, and the scores of its objects."""

    index: bytes
    scores: dict[int, float]


class Work:
    """One user's objects, prompts and masks of one clip.

    `run` segments the frames whose masks do not follow from the prompts (any more). It begins at
    the last saved session before the first of them. Prompts may change while it runs, in another
    thread; it then ends.

    Attributes:
      clip: the frames.
      kind: the prompt that the model takes: "mask", "query", or "" for none.
      query: the referring expression, for a model that takes one.
      names: of the objects, by id.
      categories: of the objects, by id, for models that find objects by themselves.
      prompts: the masks that the user has given.
      valid: number of frames, from the first one on, whose masks follow from the prompts.
      folder: for the user's files; deleted by `close`.
    """

    def __init__(self, segmenter: Segmenter, clip: Clip,
                 folder: str | Path | None = None) -> None:
        """Begins the work.

        Args:
          segmenter: the model to use.
          clip: the frames.
          folder: where to make the folder for the user's files; by default that of the system.
        """
        self.clip = clip
        self.kind = streams_of(segmenter.model).prompt
        self.query = ""
        self.names: dict[int, str] = {}
        self.categories: dict[int, str] = {}
        self.prompts = Prompts(clip.size)
        self.valid = 0
        self._segmenter = segmenter
        self._both_directions = False
        self._results: list[_Result | None] = [None] * len(clip)
        self._removed: set[int] = set()   # of the objects that the model finds by itself
        self._changes = 0
        self._lock = threading.Lock()   # of `valid`, the results and the sessions
        self._sessions: dict[int, Path] = {}   # by the number of the next frame
        self._temporary = tempfile.TemporaryDirectory(prefix="work-", dir=folder)
        self.folder = Path(self._temporary.name)

    def close(self) -> None:
        """Ends a run that is going on, and deletes the user's files."""
        self._change(0)
        self._temporary.cleanup()

    def add(self, name: str = "") -> int:
        """Adds an object without a mask and returns its id.

        Raises:
          ValueError: the model finds objects by itself, or follows no more than there are.
        """
        if self.kind != "mask":
            raise ValueError("this model finds its objects by itself; none can be added")
        most = min(self._segmenter.model.config.objects, LARGEST)
        if len(self.names) >= most:
            raise ValueError(f"the model follows up to {most} objects; remove one first")
        number = next(i for i in range(1, LARGEST + 1) if i not in self.names)
        self.names[number] = _checked_name(name or f"object {number}")
        return number

    def rename(self, number: int, name: str) -> None:
        """Gives an object another name.

        Raises:
          ValueError: there is no such object, or the name is empty.
        """
        self._check(0, number)
        self.names[number] = _checked_name(name)

    def remove(self, number: int) -> None:
        """Removes an object and its masks from all frames; the masks of the others stay.

        Raises:
          ValueError: there is no such object.
        """
        self._check(0, number)
        first = min(self.prompts.frames(number), default=len(self.clip))
        self.prompts.remove(number)
        del self.names[number]
        with self._lock:
            self._changes += 1
            self._results = [result and _without(result, number) for result in self._results]
            if self.kind == "mask":
                self._forget(first)
            else:
                self._removed.add(number)

    def click(self, frame: int, number: int, at: Point, inside: bool = True) -> None:
        """Makes an object's mask from the clicks in a frame so far and another one.

        A mask that the object has without clicks, for example the model's, is refined by them.

        Args:
          frame: number of the frame.
          number: id of the object.
          at: x and y in pixels.
          inside: whether the click is on the object, not beside it.

        Raises:
          ValueError: there is no such frame, object or place, or the first click is beside the
            object.
        """
        self._check_prompt(frame, number, at)
        before = self.prompts.get(frame, number)
        if before is None or not (before.inside or before.outside):
            mask = self.mask(frame, number)
            before = Prompt(mask, mask if mask.any() else None)
        on, beside = before.inside, before.outside
        on, beside = ((*on, at), beside) if inside else (on, (*beside, at))
        if not on and before.start is None:
            raise ValueError("begin with a click on the object; clicks beside it take away from "
                             "its mask")
        mask = outline(self.clip[frame], start=before.start, inside=on, outside=beside)
        self._set(frame, number, Prompt(mask, before.start, on, beside))

    def box(self, frame: int, number: int, corner: Point, opposite: Point) -> None:
        """Makes the mask of an object from a box around it.

        Args:
          frame: number of the frame.
          number: id of the object.
          corner: x and y of a corner, in pixels.
          opposite: of the opposite corner.

        Raises:
          ValueError: there is no such frame, object or place, or the box is too small.
        """
        self._check_prompt(frame, number, corner, opposite)
        (left, right), (top, bottom) = (sorted(pair) for pair in zip(corner, opposite, strict=True))
        self._set(frame, number,
                  Prompt(outline(self.clip[frame], box=(left, top, right, bottom))))

    def paint(self, frame: int, number: int, stroke: Sequence[Point], radius: Number,
              inside: bool = True) -> None:
        """Adds the pixels under a stroke to an object's mask in a frame, or takes them away.

        Args:
          frame: number of the frame.
          number: id of the object.
          stroke: x and y of at least one point, in pixels.
          radius: of the brush, in pixels.
          inside: whether to add the pixels.

        Raises:
          ValueError: there is no such frame, object or place, or the stroke has no point.
        """
        self._check_prompt(frame, number, *stroke)
        if not stroke:
            raise ValueError("the stroke has no point")
        drawn = np.zeros(self.clip.size, np.uint8)
        points = np.rint(np.array(stroke)).astype(np.int32)
        for start, end in zip(points[:-1].tolist(), points[1:].tolist(), strict=True):
            cv2.line(drawn, start, end, 1, max(1, round(2 * radius)))
        for point in points.tolist():
            cv2.circle(drawn, point, max(0, round(radius)), 1, -1)
        mask = self.mask(frame, number)
        self._set(frame, number, Prompt(mask | (drawn > 0) if inside else mask & (drawn == 0)))

    def absent(self, frame: int, number: int) -> None:
        """Says that an object is not in a frame.

        Raises:
          ValueError: there is no such frame or object.
        """
        self._check_prompt(frame, number)
        self._set(frame, number, Prompt(np.zeros(self.clip.size, bool)))

    def undo(self) -> int:
        """Takes back the last change of a mask and returns the number of its frame.

        Raises:
          ValueError: there is nothing to take back.
        """
        frame = self.prompts.undo()
        self._change(frame)
        return frame

    def ask(self, query: str) -> None:
        """Sets the referring expression of a model that takes one."""
        if query.strip() != self.query:
            self.query = query.strip()
            self.names.clear()
            self._removed.clear()
            self._change(0)

    def follow_back(self, both_directions: bool) -> None:
        """Sets whether objects are also followed to the frames before their first prompts."""
        if both_directions != self._both_directions:
            self._both_directions = both_directions
            self._change(0)

    def run(self) -> Iterator[int]:
        """Segments the frames whose masks are not valid, and yields their numbers, in order.

        What is done stays if the iteration is given up.

        Raises:
          ValueError: there is no prompt, or the model cannot use one.
        """
        masks, objects = self.prompts.for_model()
        if self.kind == "mask" and not masks:
            raise ValueError("no object has a mask yet: click on one, draw a box or paint")
        if self.kind == "query" and not self.query:
            raise ValueError("there is no sentence yet; write one, like 'the red circle'")
        if self.valid == len(self.clip):
            return
        with self._lock:
            changes = self._changes
            begin = max((n for n in self._sessions if n <= self.valid), default=0)
        if self._both_directions:
            begin = 0
        predictions = self._segmenter.segment(
            frames_from(self.clip, begin), query=self.query or None, masks=masks or None,
            objects=objects or None, audio=self.clip.audio,
            both_directions=self._both_directions and self.kind == "mask",
            session=self._sessions.get(begin))
        try:
            for found in predictions:
                if not self._keep(found, changes):
                    return
                if (found.frame + 1) % EVERY == 0 and not self._both_directions:
                    predictions.rest(lambda session: self._save(session, changes))
                yield found.frame
        finally:
            predictions.close()

    def stop(self) -> None:
        """Ends a run that is going on, in another thread; what is done stays."""
        with self._lock:
            self._changes += 1

    def mask(self, frame: int, number: int) -> Mask:
        """Returns the mask of an object in a frame as it is now."""
        return self.index(frame) == number

    def index(self, frame: int) -> UInt8[np.ndarray, "H W"]:
        """Returns the index mask of a frame as it is now; prompts lie over predictions."""
        result = self._results[frame]
        index = (np.zeros(self.clip.size, np.uint8) if result is None
                 else decode_mask(result.index, f"frame {frame}"))
        return self.prompts.drawn_over(index, frame)

    def segmentation(self, frame: int) -> Segmentation:
        """Returns the objects of a frame as they are now; probabilities are 0 and 1."""
        index, result = self.index(frame), self._results[frame]
        scores = {**(result.scores if result else {}),
                  **dict.fromkeys(self.prompts.objects(frame), 1.0)}
        ids = tuple(sorted(scores))
        masks = index == np.array(ids, np.uint8)[:, None, None]
        return Segmentation(
            frame, self.clip[frame], masks.astype(np.float32),
            np.array([scores[i] for i in ids], np.float32), EXCLUSIVE, ids,
            tuple(self.categories[i] for i in ids) if self.categories else ())

    def _set(self, frame: int, number: int, prompt: Prompt) -> None:
        self.prompts.set(frame, number, prompt)
        self._change(frame)

    def _change(self, frame: int) -> None:
        """Notes that the masks from a frame on do not follow from the prompts any more."""
        with self._lock:
            self._changes += 1
            self.valid = 0 if self._both_directions else min(self.valid, frame)
            self._forget(frame)

    def _forget(self, frame: int) -> None:
        """Deletes the sessions that have seen a frame."""
        for number in [n for n in self._sessions if n > frame]:
            self._sessions.pop(number).unlink(missing_ok=True)

    def _keep(self, found: Segmentation, changes: int) -> bool:
        """Keeps the prediction for a frame; returns False if the prompts have changed since."""
        scores = {value: float(score) for value, score
                  in zip(found.values, found.scores, strict=True) if value}
        categories = dict(zip(found.values, found.categories, strict=False))
        result = _Result(encode_mask(found.index), scores)
        with self._lock:
            if changes != self._changes:
                return False
            for number in scores:
                if number in self._removed:
                    result = _without(result, number)
                elif number not in self.names:
                    self.names[number] = _checked_name(
                        f"{categories[number]} {number}" if categories else self.query)
            self.categories.update(categories)
            self._results[found.frame] = result
            self.valid = found.frame + 1
        return True

    def _save(self, session: Session | None, changes: int) -> bool:
        """Saves a session, if the prompts are still those of its frames."""
        with self._lock:
            if session is not None and changes == self._changes:
                path = self.folder / f"session-{session.next_frame}.npz"
                session.save(path)
                self._sessions[session.next_frame] = path
        return False

    def _check_prompt(self, frame: int, number: int, *points: Point) -> None:
        if self.kind != "mask":
            raise ValueError("this model takes no mask: it finds its objects by itself")
        self._check(frame, number)
        height, width = self.clip.size
        if not all(0 <= x <= width and 0 <= y <= height for x, y in points):
            raise ValueError("that place is outside of the picture")

    def _check(self, frame: int, number: int) -> None:
        if not 0 <= frame < len(self.clip):
            raise ValueError(f"there is no frame {frame}; the clip has {len(self.clip)}")
        if number not in self.names:
            raise ValueError("choose an object first, or add one")


def _without(result: _Result, number: int) -> _Result:
    index = decode_mask(result.index, "a result")
    return _Result(encode_mask(np.where(index == number, np.uint8(0), index)),
                   {i: score for i, score in result.scores.items() if i != number})


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if not name:
        raise ValueError("the name is empty")
    return name[:_NAME]
