"""The sections of a config that describe data: plain frozen dataclasses."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
    """A dataset, and which of its samples are used."""

    name: str  # a key of vseg_jax.input_pipeline.builders.BUILDERS
    split: str
    source: str = ""  # folder of the official download; "" for synthetic datasets
    prepared: str = "data"  # folder of all prepared datasets
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # of its builder
    styles: tuple[str, ...] = ()  # only expressions of these styles; () takes all
    categories: tuple[str, ...] = ()  # only expressions for such objects; () takes all
    weight: float = 1.0  # share of the samples when datasets are mixed
    frames: int = 0  # annotated frames per expression, evenly spread; 0 takes all
    shuffle_expressions: bool = False  # each sample gets the expression of another object, of its
    # clip, or of another video if no clip of the dataset has two named objects
    samples: str = ""  # list of the samples that are taken, in place of `frames`: a file in the
    # form of ACGA's, CSTM's and MMVT's test.txt (input_pipeline/sample_lists.py); "" takes all


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """The frames of a sample, and their geometry and color.

    Frame i of a sample is frame `target_frame + (i - target) * stride`, clipped to the video.
    """

    length: int = 8  # frames
    stride: int = 2
    stride_max: int = 0  # in training each step is drawn from stride..stride_max; 0: always stride
    annotated: bool = False  # steps count only annotated frames, for sparse annotations
    target: int = 4  # index of the annotated frame in the clip
    height: int = 320
    width: int = 320
    # Both paddings keep the aspect ratio: pad below and right, pad_centered on both sides.
    resize: Literal["stretch", "pad", "pad_centered"] = "stretch"
    # Of frames: area averages where they shrink, else it is bilinear; bicubic is Pillow's filter.
    interpolation: Literal["area", "bicubic"] = "area"
    # Of masks: void is not trained on, background is, as in MMVT's public code.
    padding: Literal["void", "background"] = "void"
    crop: float = 1.0  # smallest side of the random training crop, as a share of the frame's side
    shrink: float = 1.0  # smallest size of a resized training crop, as a share of the input, whose
    # rest is padding; with `crop`, training at several scales
    flip: float = 0.0  # probability of a mirrored training clip; swaps "left" and "right"
    # Strength of brightness, contrast and saturation jitter in training: of all three, or of each.
    color: float | tuple[float, float, float] = 0.0

    def __post_init__(self):
        if isinstance(self.color, list):  # as config files hold tuples
            object.__setattr__(self, "color", tuple(self.color))
        _check(self.length >= 1, "length", self.length, "at least 1")
        _check(self.stride >= 1, "stride", self.stride, "at least 1")
        _check(self.stride_max == 0 or self.stride_max >= self.stride, "stride_max",
               self.stride_max, f"0, or at least stride ({self.stride})")
        _check(0 <= self.target < self.length, "target", self.target, "an index into the clip")
        _check(self.height >= 1 and self.width >= 1, "height and width",
               (self.height, self.width), "at least 1")
        _check(0 < self.crop <= 1, "crop", self.crop, "in (0, 1]")
        _check(0 < self.shrink <= 1, "shrink", self.shrink, "in (0, 1]")
        _check(0 <= self.flip <= 1, "flip", self.flip, "a probability")
        strengths = self.color if isinstance(self.color, tuple) else (self.color,)
        _check(all(0 <= s < 1 for s in strengths), "color", self.color, "in [0, 1)")


@dataclasses.dataclass(frozen=True)
class PropagationConfig:
    """Training clips of mask propagation.

    Of `ClipConfig` only height and width are used. "Public" refers to the training code of STM by
    SwiftNet's authors, github.com/haochenheheda/Training-Code-of-STM at 9c21201, which according to
    SwiftNet's README trained it.
    """

    length: int = 3  # annotated frames per clip (public: the same)
    final_length: int = 0  # frames of the clips from step `final_from` on; 0: always `length`
    final_from: int = 0  # the program is compiled a second time there (public: clips never grow)
    objects: int = 5  # slots (public: the same), for objects drawn from the first frame
    skip_start: int = 0  # most frames left out between two frames of a clip (public: the same)
    skip_max: int = 25  # final value of skip_start (public: the same)
    skip_every: int = 3000  # training clips, over the whole batch, after which it grows by 1
    # (public: the same; its iterations are single clips, of which four make a step)
    stills: float = 0.0  # share of clips made from one frame of a video; those of images always
    # are (public: all clips of stage 1, on COCO)
    unpasted: float = 0.5  # share of these that show their own objects alone (public); the others
    # get one to three objects of other videos
    smallest: float = 350 / 384**2  # share of the input that an object of a still covers in the
    # first frame of a clip, or it is background (public: 350 pixels of 384 x 384)
    rotate: float = 30.0  # degrees; this and the next three in half of the frames each (public)
    shear: float = 15.0  # degrees (public)
    translate: float = 15 / 480  # share of the frame's sides (public: 15 pixels at 480p)
    scale: tuple[float, float] = (0.8, 1.2)  # of each axis (public)
    zoom: tuple[float, float] = (1.0, 1.375)  # of the frame that just covers the input (public:
    # a short side of 480 times 0.8 to 1.1, of which 384 are cut)
    stills_zoom: tuple[float, float] = (1.25, 1.25)  # of clips of stills (public: 384 of 480)
    flip: float = 0.5  # probability of a mirrored clip (public)
    color: float = 0.0  # strength of brightness, contrast and saturation jitter (public: none)

    def __post_init__(self):
        _check(self.length >= 2, "length", self.length, "at least 2: the first frame is the prompt")
        _check(self.final_length == 0 or self.final_length >= 2, "final_length", self.final_length,
               "0, or at least 2")
        _check(self.final_from >= 0, "final_from", self.final_from, "a step, from 0")
        _check(1 <= self.objects < 255, "objects", self.objects, "in 1..254, the ids of a mask")
        _check(0 <= self.skip_start <= self.skip_max, "skip_start", self.skip_start,
               f"in 0..skip_max ({self.skip_max})")
        _check(self.skip_every >= 1, "skip_every", self.skip_every, "at least 1")
        for name in ("stills", "unpasted", "smallest"):
            _check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a share, in 0..1")
        _check(0 <= self.rotate <= 180, "rotate", self.rotate, "in 0..180 degrees")
        _check(0 <= self.shear < 90, "shear", self.shear, "in 0..90 degrees")
        _check(0 <= self.translate < 1, "translate", self.translate, "in [0, 1)")
        _check(0 < self.scale[0] <= self.scale[1], "scale", self.scale, "(lowest, highest) above 0")
        for name in ("zoom", "stills_zoom"):
            low, high = getattr(self, name)
            _check(1 <= low <= high, name, (low, high), "(lowest, highest) from 1")
        _check(0 <= self.flip <= 1, "flip", self.flip, "a probability")
        _check(0 <= self.color < 1, "color", self.color, "in [0, 1)")


@dataclasses.dataclass(frozen=True)
class InstanceConfig:
    """Clips of video instance segmentation: a target frame and the frames before it.

    Of `ClipConfig` height, width, resize, crop, shrink, flip and color are used.
    """

    references: int = 1  # frames before the target frame, delta (paper: 0 to 5, best 1)
    objects: int = 10  # slots of ground-truth objects; a sample leaves out objects beyond them
    categories: tuple[str, ...] = ()  # names of the classes, in order; () takes the dataset's
    uses_audio: bool = False  # samples contain the audio of their frames
    gap: tuple[int, int] = (1, 1)  # smallest and largest step from each frame of a training clip to
    # the next, in frames; evaluation always takes adjacent ones (paper: as at test time, inferred)

    def __post_init__(self):
        object.__setattr__(self, "categories", tuple(self.categories))  # config files hold lists
        _check(self.references >= 0, "references", self.references, "at least 0")
        _check(1 <= self.objects < 255, "objects", self.objects, "in 1..254, the ids of a mask")
        object.__setattr__(self, "gap", tuple(self.gap))
        _check(len(self.gap) == 2 and 1 <= self.gap[0] <= self.gap[1], "gap", self.gap,
               "(lowest, highest) from 1")
        _check(len(set(self.categories)) == len(self.categories), "categories", self.categories,
               "distinct names")


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """How expressions become tokens."""

    tokenizer: str = "words"  # "words", or the folder of a Hugging Face tokenizer, which may be
    #                           one of an installed package: "package:all-minilm-l6-v2"
    length: int = 20  # tokens; longer expressions are cut, with a warning
    # With a Hugging Face tokenizer: words are neither split nor lower-cased, and those that its
    # vocabulary lacks become unknown, as in MMVT's public code.
    whole_words: bool = False

    def __post_init__(self):
        _check(self.length >= 1, "length", self.length, "at least 1")
        _check(not (self.whole_words and self.tokenizer == "words"), "whole_words",
               self.whole_words, "False with the tokenizer 'words', which never splits words")


def _check(good: bool, key: str, value: Any, wanted: str) -> None:
    if not good:
        raise ValueError(f"{key} is {value!r}; it must be {wanted}")
