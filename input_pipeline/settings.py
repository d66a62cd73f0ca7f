"""What a config says of its data: plain frozen dataclasses."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
    """Which samples of which dataset."""

    name: str  # a key of input_pipeline.builders.BUILDERS
    split: str
    source: str = ""  # folder of the official download; "" for datasets that are made
    prepared: str = "data"  # folder that built datasets go to
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the builder
    styles: tuple[str, ...] = ()  # only sentences of these styles; () takes all
    categories: tuple[str, ...] = ()  # only sentences that name such objects; () takes all
    frames: int = 0  # annotated frames taken of each sentence, evenly spread; 0 takes all
    shuffle_sentences: bool = False  # each sample gets the sentence of another object of its clip


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """Which frames a sample takes, and the geometry and colour they get.

    Frame i is frame `target_frame + (i - target) * stride` of the video, clipped to the video.
    """

    length: int = 8  # frames
    stride: int = 2
    target: int = 4  # place of the annotated frame in the clip
    height: int = 320
    width: int = 320
    resize: Literal["stretch", "pad"] = "stretch"  # pad keeps the aspect ratio, bottom and right
    crop: float = 1.0  # smallest side of the random training crop, as a share of the frame's side
    flip: float = 0.0  # probability of a mirrored training clip; "left" and "right" change places
    color: float = 0.0  # strength of brightness, contrast and saturation jitter in training

    def __post_init__(self):
        _check(self.length >= 1, "length", self.length, "at least 1")
        _check(self.stride >= 1, "stride", self.stride, "at least 1")
        _check(0 <= self.target < self.length, "target", self.target, "a place in the clip")
        _check(self.height >= 1 and self.width >= 1, "height and width",
               (self.height, self.width), "at least 1")
        _check(0 < self.crop <= 1, "crop", self.crop, "in (0, 1]")
        _check(0 <= self.flip <= 1, "flip", self.flip, "a probability")
        _check(0 <= self.color < 1, "color", self.color, "in [0, 1)")


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """How sentences become tokens."""

    tokenizer: str = "words"  # "words", or the folder of a Hugging Face tokenizer
    length: int = 20  # tokens; longer sentences are cut, with a warning

    def __post_init__(self):
        _check(self.length >= 1, "length", self.length, "at least 1")


def _check(good: bool, key: str, value: Any, wanted: str) -> None:
    if not good:
        raise ValueError(f"{key} is {value!r}, it must be {wanted}")
