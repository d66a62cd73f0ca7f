"""All settings of cvls; section and equation numbers are those of the paper.

"Inferred" marks what the paper does not say, or what the available text has lost.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from vseg_jax.layers.window import Window

LEVELS = 4  # Res2 ... Res5 (Section 4.2)


@dataclasses.dataclass(frozen=True)
class CvlsConfig:
    """Config of the referring segmenter with cross-modal instance contrast."""

    # Clip: must match what the input pipeline cuts; only I3D's streaming reads these. A ResNet
    # reads the predicted frame alone.
    clip_length: int = 1
    clip_stride: int = 1
    clip_target: int = 0  # position of the predicted frame in the clip

    # Visual encoder (Section 3.3).
    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101", "i3d"] = "resnet50"  # the
    #                                   others are this library's addition
    resnet_width: int = 64              # channels of the ResNet's stem
    i3d_width: float = 1.0              # multiplies every channel number of I3D
    i3d_eps: float = 1e-3               # of its normalization, as DeepMind's weights expect
    backbone_norm: Literal["batch", "frozen"] = "batch"  # inferred; frozen keeps loaded statistics
    backbone_weights: str = ""          # checkpoint file that `pretrained` reads
    channels: int = 256                 # C; inferred
    sem: bool = True                    # the spatial encoding module's coordinates (Eq. 9)
    fpn: bool = True                    # the top-down pathway; off: levels are only concatenated
    fpn_upsample: Literal["bilinear", "nearest"] = "bilinear"  # "simple upsampling"; inferred

    # Linguistic encoder (Section 3.3).
    vocabulary: int = 2048              # number of word ids, with padding and unknown
    word_width: int = 1000              # Section 4.2
    word_init: Literal["one_hot", "normal"] = "one_hot"  # of the learned word vectors; Section 4.2
    lstm_width: int = 1000              # per direction; the sentence feature has 2000 (Section 4.2)
    text_attention: Literal["tanh", "linear"] = "tanh"  # scores of Eq. 8: w tanh(W h + b), or W h
    #                                   alone; inferred

    normalize: bool = True              # F at each position, and l, get the same length before they
    #                                   meet; inferred, from the public code of the works that the
    #                                   paper compares with. Off, l hardly matters at the start

    # Language-relevant channel filter (Section 3.2, Eq. 5).
    lcf: bool = True                    # Table 3
    lcf_reduction: int = 1              # of its hidden layer, C / r; inferred

    # Instance-level contrast (Section 3.1, Eq. 1, 2, 4); training only.
    ccl: bool = True                    # Table 3
    lambda_ccl: float = 0.8             # lambda of Eq. 4, the share of L_ccl (Section 4.4,
    #                                   Figure 6b); that L_seg has 1 - lambda is inferred, from
    #                                   Gunel et al. 2020
    tau: float = 0.1                    # temperature; inferred
    max_objects: int = 16               # instances of a clip have the ids 1 ... this; inferred
    projection_hidden: int = 2048       # inferred, from SupCon, whose wording the paper uses
    projection_dim: int = 128           # inferred, from SupCon

    # Relative hard instance construction (Section 3.2, Eq. 6, 7); acts inside the contrast.
    rhic: bool = True                   # Table 3
    rhic_ratio: tuple[int, int] = (1, 3)  # hard to easy pixels of a region (Figure 6a)
    rhic_wrong_only: bool = False       # only hard pixels that are misclassified by over 0.5: the
    #                                   paper's text read literally; inferred

    pos_weight: float = 1.0             # of foreground pixels in Eq. 3
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; parameters are float32

    @property
    def window(self) -> Window:
        """The clip of a prediction; a ResNet reads the predicted frame alone."""
        clip = Window(self.clip_length, self.clip_stride, self.clip_target)
        return clip if self.backbone == "i3d" else Window(length=1, stride=1, target=0)

    def __post_init__(self):
        _ = self.window  # checks clip_target
        if not 0 <= self.lambda_ccl <= 1:
            raise ValueError(f"lambda_ccl is {self.lambda_ccl}; it is a share, in [0, 1]")
        if self.tau <= 0:
            raise ValueError(f"tau is {self.tau}; a temperature is above 0")
        if not 1 <= self.max_objects <= 254:
            raise ValueError(f"max_objects is {self.max_objects}; mask ids are 1 ... 254")
        if self.rhic_ratio[0] <= 0 or self.rhic_ratio[1] < 0:
            raise ValueError(
                f"rhic_ratio is {self.rhic_ratio}; give parts of hard (above 0) and easy pixels, "
                "for example (1, 3)"
            )
        if self.lcf_reduction < 1 or self.lcf_reduction > self.channels:
            raise ValueError(
                f"lcf_reduction is {self.lcf_reduction}; it divides the {self.channels} channels"
            )

    @property
    def hard_share(self) -> float:
        """The share of a region's pixels that RHIC keeps: a quarter at 1:3."""
        hard, easy = self.rhic_ratio
        return hard / (hard + easy)
