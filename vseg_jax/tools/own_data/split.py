"""Which annotated frames are trained on, and which are held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from vseg_jax.input_pipeline.builders.files import first_names
from vseg_jax.tools.own_data.assemble import Labeled
from vseg_jax.tools.own_data.videos import name_of

TRAIN, VAL = "train", "val"
FEWEST = 3  # annotated frames of a part: a first-frame mask, and two frames to train on or to score
_END = "-end"  # what is added to the name of a video's held-out end


@dataclasses.dataclass(frozen=True)
class Part:
    """A sequence of the dataset: a video, or its beginning or end.

    Attributes:
      name: of the sequence.
      split: `TRAIN` or `VAL`.
      video: of its frames.
      annotated: numbers of its annotated frames, in order; the first shows an object. It begins and
        ends with them.
    """

    name: str
    split: str
    video: Labeled
    annotated: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The objects that its frames show."""
        return tuple(sorted({i for t in self.annotated for i in self.video.seen[t]}))


def split(
    videos: Sequence[Labeled], val: Sequence[str] = (), share: float = 0.0
) -> list[Part]:
    """Returns the sequences of both splits.

    Args:
      videos: each shows an object.
      val: names of the videos that are held out.
      share: of the annotated frames of every video, at its end, that is held out.

    Raises:
      ValueError: there is no such video, nothing is left for training, or a part has too few
        annotated frames.
    """
    names = [video.source.name for video in videos]
    val = [name_of(name) for name in val]
    if val and share:
        raise ValueError("--val names the videos that are held out, --val_share the end of every "
                         "video; give one of them")
    if not 0 <= share < 1:
        raise ValueError(f"--val_share is {share}; it must be a share of the annotated frames, "
                         "such as 0.3")
    if lost := [name for name in val if name not in names]:
        raise ValueError(f"--val names {', '.join(lost)}, but the annotated videos are "
                         f"{first_names(names)}")
    parts = []
    for video in videos:
        frames, name = list(video.annotations), video.source.name
        if not share:
            parts.append(_part(name, VAL if name in val else TRAIN, video, frames))
            continue
        first = len(frames) - round(share * len(frames))
        parts += [_part(name, TRAIN, video, frames[:first]),
                  _part(name + _END, VAL, video, frames[first:])]
    if not any(part.split == TRAIN for part in parts):
        raise ValueError("--val names all videos; leave some to train on")
    if share and (clash := {p.name for p in parts if p.split == VAL}.intersection(names)):
        raise ValueError(f"a video is called {min(clash)}, as the end of another would be; rename "
                         "it")
    return parts


def _part(name: str, split_name: str, video: Labeled, frames: Sequence[int]) -> Part:
    """Returns a part without the annotated frames before its first object."""
    shown = [k for k, t in enumerate(frames) if video.seen[t]]
    kept = tuple(frames[shown[0]:]) if shown else ()
    if len(kept) < FEWEST:
        raise ValueError(f"{name} has {len(kept)} annotated frames for {split_name}, counted from "
                         f"the first that shows an object; it needs at least {FEWEST}: annotate "
                         "more frames, or change --val and --val_share")
    return Part(name, split_name, video, kept)
