"""Every number and switch of mask propagation; section numbers are those of the paper.

"STM" and "SwiftNet" name the public code of the two networks (docs/papers/swiftnet.md); "inferred"
marks what neither the paper nor that code says.
"""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class SwiftnetConfig:
    """Config of the mask propagation with first-frame adaptation."""

    # Network (Section 3.1).
    network: Literal["stm", "swiftnet"] = "swiftnet"
    backbone: Literal["resnet", "efficientnet_lite0"] = "resnet"  # the second, for small machines,
    #                                     with swiftnet only (inferred)
    depth: int = 50                     # of the ResNet: 50 (STM, the paper's SwiftNet) or 18
    width: int = 64                     # channels of its stem; fewer for small models
    key_channels: int | None = None     # None: an eighth of the map's channels C (Section 3.1)
    value_channels: int | None = None   # None: half of C (Section 3.1)
    mdim: int | None = None             # channels of the decoder; None: C / 4, which is STM's 256
    #                                     and SwiftNet's 64 (depth 18); for depth 50 inferred
    dropout: float = 0.5                # in SwiftNet's ASPP, training only
    objects: int = 10                   # N, slots of a stream; DAVIS 2017 has at most 10 objects.
    #                                     Training takes as many as its batches have.
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation and of the memory;
    #                                     parameters and probabilities are float32
    matched_start: float = 0.0          # above 0: both key convolutions begin equal, this times as
    #                                     large (see start.py; inferred); 0: each on its own
    backbone_weights: str = ""          # torchvision's ResNet or a public EfficientNet-Lite0, which
    #                                     `pretrained` reads
    network_weights: str = ""           # a whole network of the public code, the same

    # Memory (Section 2.1; Table 1 has it static and updated).
    memory_update: bool = True          # off: the first frame only, not even the previous one
    trigger: Literal["every_k", "vat"] = "every_k"  # when a frame stays: every k-th as in both
    #                                     public codes, or by SwiftNet's variation-aware trigger
    every: int = 5                      # k
    vat_frame: float = 1.0              # a pixel varies if its gray level, 0 ... 255, moved by more
    vat_pixels: int = 200               # pixels that vary before a frame stays; numbers inferred
    share: float | None = None          # of a frame's pixels that stay, the least similar ones;
    #                                     None: SwiftNet's 0.1, STM's 1
    capacity: int = 20                  # frames that stay, beside the first and the previous one;
    #                                     the oldest makes room. The public codes keep all: 20 last
    #                                     for DAVIS' longest video (104 frames)

    # First-frame adaptation (Sections 3.2, 3.3, 4.1).
    adaptation_steps: int = 0           # Section 4.1: 50; 0 is the paper's "without adaptation"
    adaptation_rate: float = 1.0        # Section 4.1; plain gradient descent is inferred
    reduction: Literal["mean_i", "sum"] = "mean_i"  # over query pixels i. Eq. 3 prints the sum,
    #                                     which at rate 1 collapses in one step; mean_i is inferred
    affinity_scale: Literal["backbone", "none"] = "backbone"  # 1 / sqrt(channels), with which the
    #                                     keys were trained, or Eq. 1 as printed
    mask_down: Literal["area", "bilinear"] = "area"  # "mask values are floats" (Section 3.3); how
    #                                     the mask is made small is inferred

    def __post_init__(self):
        if self.depth not in (18, 50):
            raise ValueError(f"depth is {self.depth}; it must be 18 or 50")
        if self.network == "stm" and self.backbone != "resnet":
            raise ValueError(
                f"backbone is {self.backbone}; stm's second encoder is a ResNet, so give resnet, "
                "or take network=swiftnet"
            )
        for name in ("width", "objects", "every", "capacity"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("key_channels", "value_channels", "mdim"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; give at least 1, or None for the paper's"
                )
        if self.objects > 254:
            raise ValueError(f"objects is {self.objects}; index masks have room for 254")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1)")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(
                f"share is {self.share}; give a part of a frame, in (0, 1], or None for the paper's"
            )
        for name in ("matched_start", "vat_frame", "vat_pixels", "adaptation_steps",
                     "adaptation_rate"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if self.backbone_weights and self.network_weights:
            raise ValueError(
                "backbone_weights and network_weights are both given; a whole network brings its "
                "own backbone, so leave one empty"
            )

    def kept(self, places: int) -> int:
        """How many of a frame's `places` stay in the memory; as SwiftNet rounds it."""
        share = self.share or (0.1 if self.network == "swiftnet" else 1.0)
        return places - int(places * (1 - share))
