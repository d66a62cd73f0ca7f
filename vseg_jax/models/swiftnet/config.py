"""Configuration of mask propagation; section numbers are those of the paper.

"STM" and "SwiftNet" refer to the public code of the two networks (docs/papers/swiftnet.md);
"inferred" marks values that neither the paper nor that code specifies.
"""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class SwiftnetConfig:
    """Config of mask propagation with first-frame adaptation."""

    # Network (Section 3.1).
    network: Literal["stm", "swiftnet"] = "swiftnet"
    backbone: Literal["resnet", "efficientnet_lite0"] = "resnet"  # the latter, for small machines,
    #                                     with swiftnet only (inferred)
    depth: int = 50                     # of the ResNet: 50 (STM, the paper's SwiftNet) or 18
    width: int = 64                     # channels of its stem; fewer for small models
    key_channels: int | None = None     # None: an eighth of the channels C of r4 (Section 3.1)
    value_channels: int | None = None   # None: half of C (Section 3.1)
    mdim: int | None = None             # channels of the decoder; None: C / 4, which is STM's 256
    #                                     and SwiftNet's 64 (depth 18); inferred for depth 50
    dropout: float = 0.5                # in SwiftNet's ASPP, training only
    objects: int = 10                   # the most objects of a stream; DAVIS 2017 has at most 10.
    #                                     A session has slots for those that it was given, training
    #                                     for those of its batches.
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation and of the memory;
    #                                     parameters and probabilities are float32
    tied_key_gain: float = 0.0          # above 0: both key convolutions start equal, scaled by this
    #                                     (init.py; inferred); 0: each starts on its own
    cut_gradient: bool = True           # no gradient flows through the predictions that enter the
    #                                     memory in training, as in the public code of stage 2;
    #                                     in that of stage 1 it does
    backbone_weights: str = ""          # file of torchvision's ResNet or of a public
    #                                     EfficientNet-Lite0, read by `pretrained`; the latter also
    #                                     "package:efficientnet-lite0" (vseg_jax/packages.py)
    network_weights: str = ""           # the same for a whole network of the public code

    # Memory (Section 2.1; Table 1 compares a static and an updated one).
    memory_update: bool = True          # False: the first frame only, not even the previous one
    trigger: Literal["every_k", "vat"] = "every_k"  # when a frame is kept: every k-th as in both
    #                                     public codes, or by SwiftNet's variation-aware trigger
    every: int = 5                      # k
    vat_frame: float = 1.0              # a pixel varies if its gray level, 0 ... 255, changes by
    #                                     more than this
    vat_pixels: int = 200               # pixels that vary before a frame is kept; both inferred
    share: float | None = None          # share of a frame's pixels that is kept, the least similar
    #                                     ones; None: SwiftNet's 0.1, STM's 1
    capacity: int = 20                  # frames kept in addition to the first and the previous one;
    #                                     the oldest is evicted. The public codes keep all: 20 are
    #                                     enough for DAVIS' longest video (104 frames)
    corrections: int = 4                # later frames with a mask prompt that are kept whole for
    #                                     each object, with a static memory, too; the oldest is
    #                                     evicted, the first frame never (ours)
    min_confidence: float = 0.0         # a predicted frame is remembered only for objects of at
    #                                     least this score: the mean probability of the pixels that
    #                                     an object wins, 0 if there are none. 0 remembers every
    #                                     frame, as the paper does (ours)
    top_k: int | None = None            # a pixel reads only this many best places of the memory
    #                                     (STCN, XMem), when predicting; None: all, as the paper

    # First-frame adaptation (Sections 3.2, 3.3, 4.1).
    adaptation_steps: int = 0           # Section 4.1: 50; 0 is the paper's "without adaptation"
    adaptation_rate: float = 1.0        # Section 4.1; plain gradient descent is inferred
    reduction: Literal["mean_i", "sum", "object"] = "mean_i"  # over query pixels i. Eq. 3 prints
    #                                     the sum, which collapses in one step at rate 1; mean_i is
    #                                     inferred; "object" is the mean of L_obj over the
    #                                     background and of L_bg over the object, so that the step
    #                                     does not shrink with a small object (ours)
    affinity_scale: Literal["backbone", "none"] = "backbone"  # 1 / sqrt(channels), with which the
    #                                     keys were trained, or Eq. 1 as printed
    adaptation_copies: int = 0          # the query is this many turned, scaled and recolored copies
    #                                     of the first frame (copies.py; ours); 0: the frame itself,
    #                                     as in the paper

    def __post_init__(self):
        if self.depth not in (18, 50):
            raise ValueError(f"depth is {self.depth}; it must be 18 or 50")
        if self.network == "stm" and self.backbone != "resnet":
            raise ValueError(
                f"backbone is {self.backbone}, but the memory encoder of stm is a ResNet; use "
                "backbone=resnet, or network=swiftnet"
            )
        for name in ("width", "objects", "every", "capacity", "corrections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("key_channels", "value_channels", "mdim", "top_k"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must be at least 1, or None for the "
                    "paper's value"
                )
        if self.objects > 254:
            raise ValueError(f"objects is {self.objects}; index masks have room for 254")
        for name in ("dropout", "min_confidence"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1)")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(
                f"share is {self.share}; it must be in (0, 1], or None for the network's default"
            )
        for name in ("tied_key_gain", "vat_frame", "vat_pixels", "adaptation_steps",
                     "adaptation_rate", "adaptation_copies"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if self.backbone_weights and self.network_weights:
            raise ValueError(
                "backbone_weights and network_weights are both set; the weights of a network "
                "include its backbone, so leave one of them empty"
            )

    def kept(self, places: int) -> int:
        """Returns how many of a frame's `places` stay in the memory, rounded as SwiftNet does."""
        share = self.share or (0.1 if self.network == "swiftnet" else 1.0)
        return places - int(places * (1 - share))
