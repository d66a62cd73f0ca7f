"""Every number and switch of rcf; section and table numbers are those of the paper.

"MaskFormer" marks what the paper leaves to the network it says it resembles (Section X), "inferred"
what neither says (docs/papers/rcf.md).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from vseg_jax.backbones.resnet import BLOCKS

STRIDE = 32  # of the map that is fused; pictures are padded to multiples of it


@dataclasses.dataclass(frozen=True)
class RcfConfig:
    """Config of online video instance segmentation by robust context fusion."""

    categories: int = 40      # YouTube-VIS; AVIS has 20

    # Backbone (Section IV-A, Table I).
    backbone: Literal["resnet", "swin"] = "resnet"
    depth: int = 101          # of the ResNet: 50 or 101 in the paper
    width: int = 64           # channels of its stem; fewer for small models
    backbone_norm: Literal["frozen", "batch"] = "frozen"  # MaskFormer; "batch" from scratch
    swin: Literal["tiny", "small", "base", "large"] = "base"
    window: int = 12          # of the Swin; 7 for weights of pictures of 224 pixels
    drop_path: float = 0.3    # of the Swin in training; MaskFormer
    backbone_weights: str = ""  # torchvision's ResNet or a public Swin, which `pretrained` reads

    # Robust context fusion (Section III-B1).
    references: int = 1       # delta, preceding frames (Table III: 0 ... 5)
    fusion: Literal["reference_token", "full_enc", "full_dec"] = "reference_token"  # Table IV
    token_size: int = 4       # K * K tokens of all references together (Table V: 1, 4, 16, 64)
    ref_pool: Literal["avg", "dwconv"] = "avg"  # phi, "a pooling or depth-wise conv layer"; which
    #                           of them the tables use is inferred
    ref_weight: bool = True   # W (Table VIII)
    ref_weight_act: Literal["sigmoid", "none"] = "sigmoid"  # of W; inferred, Eq. 2 prints none
    positions: Literal["each_layer", "once"] = "each_layer"  # "once" adds the position code to the
    #                           tokens, Eq. 1 and 2 as printed; MaskFormer gives it to each layer
    channels: int = 256       # C', of every token; MaskFormer
    heads: int = 8            # Section IV-B1
    hidden: int = 2048        # of the layers' perceptrons; MaskFormer
    encoder_layers: int = 6   # MaskFormer
    dropout: float = 0.1      # MaskFormer, but for the attention's own weights, which drop nothing

    # Decoders (Section III-B2).
    queries: int = 10         # N, instance slots (Table VI: 10, 15, 20, 25)
    decoder_layers: int = 6   # MaskFormer
    mask_channels: int = 256  # C_o; MaskFormer

    # Sound (Section III-C).
    audio: bool = False
    vggish_weights: str = ""  # which `pretrained` reads
    vggish_frozen: bool = True  # inferred from "pre-trained"
    vggish_width: int = 64    # channels of its first convolution; fewer for small models
    audio_features: int = 4096  # C_a, of what VGGish says of a frame's sound
    audio_hidden: int = 512   # of the bi-LSTM, a direction

    # Objective (Section III-B3).
    eos_coef: float = 0.1     # weight of "no object"; MaskFormer. 1 is Eq. 4 as printed
    aux_loss: bool = True     # a loss on every decoder layer; MaskFormer
    order_supervision: bool = False  # one assignment for all frames of a clip (Table VII)

    # Answers and identities (Sections III-B4, IV-A).
    fire: float = 0.4         # class probability from which a slot is an answer
    mask_threshold: float = 0.5
    iou_override: bool = True  # slots that overlap in adjacent frames share their identity
    override_iou: float = 0.5  # by more than this
    tracks: int = 64          # identities whose sums a stream keeps; the longest unseen makes room
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; parameters are float32

    @property
    def side(self) -> int:
        """K."""
        return math.isqrt(self.token_size)

    def __post_init__(self):
        if self.depth not in BLOCKS:
            known = ", ".join(map(str, BLOCKS))
            raise ValueError(f"depth is {self.depth}; it must be one of {known}")
        if not 0 <= self.references <= 5:
            raise ValueError(f"references is {self.references}; it must be from 0 to 5")
        if self.token_size < 1 or self.side**2 != self.token_size:
            raise ValueError(
                f"token_size is {self.token_size}; K x K tokens are 1, 4, 9, 16 and so on"
            )
        for name in ("categories", "width", "window", "channels", "heads", "hidden",
                     "encoder_layers", "decoder_layers", "queries", "mask_channels",
                     "vggish_width", "audio_features", "audio_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.channels % 8 or self.channels % self.heads:
            raise ValueError(
                f"channels is {self.channels}; it must be a multiple of 8, for position codes and "
                f"group norms, and of heads ({self.heads})"
            )
        for name in ("dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1)")
        for name in ("fire", "mask_threshold", "override_iou"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in (0, 1)")
        if self.eos_coef < 0:
            raise ValueError(f"eos_coef is {self.eos_coef}; it must not be negative")
        if self.tracks < 2 * self.queries:
            raise ValueError(
                f"tracks is {self.tracks}; {self.queries} slots need at least {2 * self.queries}, "
                "those of a frame and as many new ones"
            )
        if self.order_supervision and not self.references:
            raise ValueError(
                "order_supervision compares the frames of a clip; it needs references of at least 1"
            )
