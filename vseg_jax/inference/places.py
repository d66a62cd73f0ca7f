"""The places of a session: which streams they hold, and which frames wait for a segmentation."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vseg_jax.media.video import size_text

Frame = np.ndarray
Ids = tuple[int, ...]


@dataclasses.dataclass
class Stream:
    """How far a stream is.

    Attributes:
      first: number of its first frame.
      next: number of its next frame; a stream may go backward in its video.
      ended: steps since its last frame; 0 while frames come.
      waiting: its frames without a segmentation so far, with the ids of the prompts at their time.
    """

    first: int
    next: int
    ended: int = 0
    waiting: collections.deque[tuple[Frame, Ids]] = dataclasses.field(
        default_factory=collections.deque)


class Places:
    """A fixed number of places; each holds a stream or is free.

    After its last frame, a stream of a model with a delay sees it again until all of its frames
    have a segmentation. Then its place is free, and the model's input there does not matter.

    Attributes:
      delay: frames by which the model's predictions are late.
      direction: what is added to the number of a frame for that of the next one: 1, or -1 for
        streams that go backward in their videos.
      streams: per place; None where it is free.
      last: per place the last frame that the model has seen.
    """

    def __init__(self, count: int, delay: int, direction: int = 1) -> None:
        self.delay, self.direction = delay, direction
        self.streams: list[Stream | None] = [None] * count
        self.last: list[Frame] = [np.zeros((0, 0, 3), np.uint8)] * count
        # For each push that is not collected: the streams that it has a prediction for.
        self._pushed: collections.deque[list[Stream | None]] = collections.deque()

    def __len__(self) -> int:
        return len(self.streams)

    @property
    def numbers(self) -> list[int]:
        """The number of each stream's next frame; 0 in free places."""
        return [0 if stream is None else stream.next for stream in self.streams]

    def start(self, place: int, frame: Frame, ids: Ids, number: int, *, waits: bool) -> None:
        """Puts a stream into a place; `waits` if its first frame has no segmentation yet."""
        stream = Stream(number, number + self.direction)
        if waits:
            stream.waiting.append((frame, ids))
        self.streams[place], self.last[place] = stream, frame

    def check_next(self, frames: Sequence[Any] | np.ndarray, sizes: Sequence[tuple[int, int]],
                   *prompts: Any) -> None:
        """Raises ValueError if a stream cannot take its next frame, or what comes with it.

        Args:
          frames: one per place, None where there is none.
          sizes: (height, width) of each stream's frames.
          prompts: masks, audio and such, one per place, or None.
        """
        for k, (frame, stream) in enumerate(zip(frames, self.streams, strict=True)):
            if frame is not None:
                if stream is None or stream.ended:
                    raise ValueError(f"stream {k} has ended; `join` starts another one there")
                check_frame(frame, sizes[k], stream.next)
            elif any(items is not None and items[k] is not None for items in prompts):
                raise ValueError(f"stream {k} gets no frame; leave out its mask, flow and audio")

    def check_free(self, places: Sequence[int]) -> None:
        """Raises ValueError unless streams can join in these places."""
        if not places:
            raise ValueError("no frame was given; give the first frame of each stream that joins")
        for k in places:
            if self.streams[k] is not None:
                raise ValueError(f"stream {k} has not ended; give None as its frame in `step`, "
                                 "until its last segmentation has come")

    def check_running(self, place: int) -> None:
        """Raises ValueError unless there is such a place, and its stream has not ended."""
        if not 0 <= place < len(self):
            raise ValueError(f"there is no stream {place}; the session has {len(self)}, numbered "
                             "from 0")
        stream = self.streams[place]
        if stream is None or stream.ended:
            raise ValueError(f"stream {place} has ended; `join` starts another one there")

    def ending(self, frames: Sequence[Any] | np.ndarray) -> list[int]:
        """Returns the places whose streams have frames no longer."""
        return [k for k, (frame, stream) in enumerate(zip(frames, self.streams, strict=True))
                if frame is None and stream is not None and not stream.ended]

    def check_collected(self) -> None:
        """Raises ValueError if there are pushes that have not been collected."""
        if self._pushed:
            raise ValueError(f"{len(self._pushed)} outputs of `push` have not been collected; call "
                             "`collect` for each of them first")

    def push(self, frames: Sequence[Any] | np.ndarray, ids: Sequence[Ids]) -> list[Frame]:
        """Notes that the streams get their next frames, and returns what the model sees."""
        pushed: list[Stream | None] = []
        for k, (frame, stream) in enumerate(zip(frames, self.streams, strict=True)):
            if stream is not None and frame is not None:
                stream.waiting.append((frame, ids[k]))
                stream.next += self.direction
                self.last[k] = frame
            elif stream is not None:
                stream.ended += 1
                if stream.ended >= self.delay:
                    self.streams[k] = None
                if stream.ended > self.delay:   # a model without delay
                    stream = None
            pushed.append(stream)
        self._pushed.append(pushed)
        return list(self.last)

    def collect(
        self, numbers: Sequence[int]
    ) -> tuple[list[bool], list[int], list[Frame], list[Ids]]:
        """Returns what the oldest push that has not been collected predicts.

        Args:
          numbers: of the predicted frames, counted by the model from 0; negative where it has no
            prediction yet.

        Returns:
          due: whether a place has a prediction.
          numbers: of the frames in their videos.
          frames: that are predicted; any frame where none is.
          ids: of the prompts at their time.
        """
        streams = self._pushed.popleft()
        due = [s is not None and n >= 0 for s, n in zip(streams, numbers, strict=True)]
        firsts = [0 if s is None else s.first for s in streams]
        parts: list[tuple[Frame, Ids]] = [
            stream.waiting.popleft() if stream is not None and now else (frame, ())
            for stream, now, frame in zip(streams, due, self.last, strict=True)]
        return (due, [f + self.direction * int(n) for n, f in zip(numbers, firsts, strict=True)],
                [frame for frame, _ in parts], [ids for _, ids in parts])

    def saved(self) -> tuple[list[Any], dict[str, np.ndarray]]:
        """Returns the streams as JSON values, and their frames by name."""
        arrays = {f"last/{k}": frame for k, frame in enumerate(self.last)}
        rows: list[Any] = []
        for k, stream in enumerate(self.streams):
            if stream is None:
                rows.append(None)
                continue
            rows.append({"first": stream.first, "next": stream.next, "ended": stream.ended,
                         "waiting": [list(ids) for _, ids in stream.waiting]})
            arrays |= {f"waiting/{k}/{i}": frame for i, (frame, _) in enumerate(stream.waiting)}
        return rows, arrays

    def restore(self, rows: Sequence[Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Takes over what `saved` returned."""
        for k, row in enumerate(rows):
            self.last[k] = arrays[f"last/{k}"]
            if row is not None:
                waiting = [(arrays[f"waiting/{k}/{i}"], tuple(ids))
                           for i, ids in enumerate(row["waiting"])]
                self.streams[k] = Stream(row["first"], row["next"], row["ended"],
                                         collections.deque(waiting))


def check_counts(streams: int, **given: Any) -> None:
    """Raises ValueError unless there is one item per stream, or None for all of them."""
    for name, items in given.items():
        if items is not None and len(items) != streams:
            raise ValueError(f"{len(items)} {name.replace('_', ' ')} for {streams} "
                             f"stream{'s' * (streams != 1)}; give one per stream")


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
