"""Configuration of rcf; section and table numbers are those of the paper.

"MaskFormer" marks values that the paper leaves open and that are taken from the network it builds
on (Section X); "inferred" marks values that neither specifies (docs/papers/rcf.md).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from vseg_jax.backbones.resnet import BLOCKS

STRIDE = 32  # frames are padded to multiples of it


@dataclasses.dataclass(frozen=True)
class RcfConfig:
    """Config of online video instance segmentation by robust context fusion."""

    categories: int = 40      # YouTube-VIS; AVIS has 20

    # Backbone (Section IV-A, Table I).
    backbone: Literal["resnet", "swin", "efficientnet_lite0"] = "resnet"  # the last one, for small
    #                           machines, is ours; it ignores depth and width
    depth: int = 101          # of the ResNet: 50 or 101 in the paper
    width: int = 64           # channels of its stem; fewer for small models
    backbone_norm: Literal["frozen", "batch"] = "frozen"  # MaskFormer; "batch" from scratch
    swin: Literal["tiny", "small", "base", "large"] = "base"
    window: int = 12          # of the Swin; 7 for weights trained at 224 pixels
    drop_path: float = 0.3    # of the Swin in training; MaskFormer
    backbone_weights: str = ""  # file of torchvision's ResNet, a public Swin or EfficientNet-Lite0,
    #                           for `pretrained`; also "package:efficientnet-lite0"

    # Robust context fusion (Section III-B1).
    fuse_stride: Literal[16, 32] = 32  # of the fused map; 16, for small frames (ours): a ResNet's
    #                           last stage does not halve its map, and an EfficientNet's last map,
    #                           whose public weights expect that, is enlarged and joined with the
    #                           one at stride 16
    references: int = 1       # delta, number of preceding frames (Table III: 0 ... 5)
    fusion: Literal["reference_token", "full_enc", "full_dec"] = "reference_token"  # Table IV
    separate_encoders: bool = False  # "full_dec": whether each reference has an encoder with
    #                           weights of its own, instead of the target's
    token_size: int = 4       # K * K tokens for all references together (Table V: 1, 4, 16, 64)
    ref_pool: Literal["avg", "dwconv"] = "avg"  # phi, "a pooling or depth-wise conv layer"; which
    #                           one the tables use is inferred
    ref_weight: bool = True   # W (Table VIII)
    ref_weight_act: Literal["sigmoid", "none"] = "sigmoid"  # of W; inferred, Eq. 2 prints none
    positions: Literal["each_layer", "once"] = "each_layer"  # "once" adds position codes to
    #                           tokens as Eq. 1 and 2 print it; MaskFormer adds them in each layer
    channels: int = 256       # C', of all tokens; MaskFormer
    heads: int = 8            # Section IV-B1
    hidden: int = 2048        # of the layers' MLPs; MaskFormer
    encoder_layers: int = 6   # MaskFormer
    dropout: float = 0.1      # MaskFormer, but without dropout on attention weights

    # Decoders (Section III-B2).
    queries: int = 10         # N, instance slots (Table VI: 10, 15, 20, 25)
    decoder_layers: int = 6   # MaskFormer
    mask_channels: int = 256  # C_o; MaskFormer
    pixel_channels: int = 0   # of the FPN, a multiple of 8; 0: C', as in MaskFormer. Most of the
    #                           time of small models is spent here
    coordinates: bool = False  # whether the last convolution of the FPN reads the position codes of
    #                           its cells; ours, as in CondInst: they tell objects apart that look
    #                           alike
    class_pooling: bool = False  # whether the classes of a slot are also read from the mean of S_t
    #                           over its mask; ours: in a short training the decoder's attention
    #                           does not find the object that the mask covers

    # Audio (Section III-C).
    audio: bool = False
    vggish_weights: str = ""  # file for `pretrained`
    vggish_frozen: bool = True  # inferred from "pre-trained"
    vggish_width: int = 64    # channels of its first convolution; fewer for small models
    audio_features: int = 4096  # C_a, of VGGish's output for a frame
    audio_hidden: int = 512   # of the bi-LSTM, per direction

    # Objective (Section III-B3).
    eos_coef: float = 1.0     # weight of "no object"; Eq. 4 prints none. MaskFormer's is 0.1
    aux_loss: bool = True     # whether every decoder layer has a loss; MaskFormer
    order_supervision: bool = False  # one assignment for all frames of a clip (Table VII)

    # Predictions and identities (Sections III-B4, IV-A).
    fire: float = 0.4         # class probability from which a slot has an object
    mask_threshold: float = 0.5
    iou_override: bool = True  # whether a slot takes over the identity of an overlapping mask of
    #                           the preceding frame
    override_iou: float = 0.5  # their IoU must exceed this
    # The next three are ours; the defaults switch them off.
    keep: float = 0.0         # as `fire`, for slots that had an object in the preceding frame; 0:
    #                           the same as `fire`
    duplicate_iou: float = 1.0  # of several slots whose masks' IoU exceeds this, the most probable
    #                           one remains; 1: all do
    override_frames: int = 1  # how many frames ago an overlapping mask may have been seen
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; parameters are float32

    @property
    def side(self) -> int:
        """K, side of the grid of reference tokens."""
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
                     "vggish_width", "audio_features", "audio_hidden", "override_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.channels % 8 or self.channels % self.heads:
            raise ValueError(
                f"channels is {self.channels}; it must be a multiple of 8 (for position codes "
                f"and group norms) and of heads ({self.heads})"
            )
        if self.pixel_channels < 0 or self.pixel_channels % 8:
            raise ValueError(
                f"pixel_channels is {self.pixel_channels}; it must be a multiple of 8 (for group "
                "norms), or 0 for channels"
            )
        for name in ("dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1)")
        for name in ("fire", "mask_threshold", "override_iou"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in (0, 1)")
        if self.eos_coef < 0:
            raise ValueError(f"eos_coef is {self.eos_coef}; it must not be negative")
        if not 0 <= self.keep <= self.fire:
            raise ValueError(f"keep is {self.keep}; it must be in [0, fire ({self.fire})]")
        if not 0 < self.duplicate_iou <= 1:
            raise ValueError(f"duplicate_iou is {self.duplicate_iou}; it must be in (0, 1]")
        if self.separate_encoders and (self.fusion != "full_dec" or not self.references):
            raise ValueError(
                "separate_encoders encodes references for fusion='full_dec'; fusion is "
                f"{self.fusion!r} with references={self.references}"
            )
        if self.fuse_stride == 16 and self.backbone == "swin":
            raise ValueError(
                "fuse_stride=16 needs a ResNet or an EfficientNet; backbone is 'swin': set "
                "fuse_stride=32"
            )
        if self.order_supervision and not self.references:
            raise ValueError(
                "order_supervision compares the frames of a clip; it needs references of at least 1"
            )
