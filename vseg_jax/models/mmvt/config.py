"""All settings of mmvt; the numbers are those of its public code (docs/papers/mmvt.md).

"Summary" marks what only a summary of the paper says, "inferred" what neither says.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from vseg_jax.backbones.resnet import BLOCKS
from vseg_jax.layers.window import Window
from vseg_jax.text.bert import BertConfig

STRIDE = 16  # of the coarsest maps; the sides of frames are multiples of it
LEVELS = (16, 8, 4)  # strides of the three fusion levels, coarse to fine


def _bert() -> BertConfig:
    return BertConfig(pooler=False)  # [CLS] itself is read


@dataclasses.dataclass(frozen=True)
class MmvtConfig:
    """Config of the multi-modal video transformer."""

    # Clip: must match what the input pipeline cuts; only streaming reads these. The public code
    # orders a clip [before, after, target], which is equivalent: the network ignores the order.
    clip_length: int = 3
    clip_stride: int = 1    # in its test; in training it draws 1 to 5 for each side
    clip_target: int = 1    # position of the predicted frame in the clip

    # The steps of the ablation: B has all four off; +M, +T, +L, +A turn them on one by one.
    motion: bool = True       # M: the second stream, over pictures of the optical flow
    transformer: bool = True  # T; off: the query is concatenated to the coarsest map (inferred)
    staged: bool = False      # the summary's transformer: an encoder of all modalities, a temporal
    #                           encoder of both streams, a decoder; off: the public code's, whose
    #                           layers attend in turn within frames and in time (frames alone)
    lgff: Literal["official", "dynamic_filter", "none"] = "official"  # L, language-guided feature
    #                           fusion; dynamic_filter is the summary's; none: a plain decoder
    align: Literal["official", "cosine_kl", "none"] = "official"  # A, the alignment losses;
    #                           cosine_kl is the summary's
    coarse_mask: bool = False  # the summary's first stage, refined by all later ones

    # The two visual streams.
    depth: int = 101         # of the ResNet over frames; the summary uses 50 for both
    flow_depth: int = 34     # of the ResNet over flow pictures
    width: int = 64          # channels of both stems; fewer for small models
    backbone_norm: Literal["batch", "frozen"] = "batch"
    backbone_weights: str = ""  # torchvision's ResNet for frames, which `pretrained` reads
    flow_weights: str = ""      # the same for flow pictures (also from ImageNet)
    network_weights: str = ""   # a whole network of the public code instead
    aspp_rates: tuple[int, ...] = (3, 5, 7)  # dilations of the pyramid pooling
    aspp_dropout: float = 0.5

    # Text encoder.
    text: Literal["bert", "words"] = "bert"  # words: an embedding and a GRU, whose last state
    #                          replaces [CLS]; this library's addition
    bert: BertConfig = dataclasses.field(default_factory=_bert)
    bert_weights: str = ""   # Hugging Face folder that `pretrained` reads
    vocabulary: int = 2048   # of `words`: number of word ids, with padding
    word_width: int = 300    # of `words`; inferred
    sentence: Literal["last", "mean"] = "last"  # of `words`: the GRU's last state, in which later
    #                          words count more, or the mean of its states, in which only the last
    #                          word counts less than the others
    sentence_norm: Literal["shared", "own"] = "shared"  # [CLS] or `sentence` shares the batch norm
    #                          of words and padding, as in the public code, or has a layer norm

    # Transformer and decoder.
    channels: int = 256      # of every token, and of the decoder
    layers: int = 4          # of the transformer; if it is staged, of each of its three parts
    heads: int = 4           # the summary uses 8
    head_width: int = 64
    hidden: int = 128        # of the layers' MLPs
    dropout: float = 0.1     # in the MLPs
    filter_size: int = 3     # side of the dynamic filters (summary)
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; parameters are float32

    # Alignment losses; training only.
    align_channels: int = 128
    align_limit: float = 1 - 1e-4  # cosines are clipped to +- this before tan(pi / 2 cos); the
    #                          public code does not clip
    align_chunk: int = 256   # rows of the frame-by-flow map in memory at once
    align_weight: float = 1.0

    # Mistakes of the public code; turn both on to run its checkpoint as it was trained.
    bug_compat_mask: bool = False  # padding is not masked: its scores are 0, not -inf
    bug_compat_gate: bool = False  # the gate of the flow is computed from the frame's features

    @property
    def window(self) -> Window:
        """The clip of a prediction; with flow it is known one frame later."""
        return Window(self.clip_length, self.clip_stride, self.clip_target, ahead=int(self.motion))

    def __post_init__(self):
        _ = self.window  # checks clip_target
        for name in ("depth", "flow_depth"):
            if getattr(self, name) not in BLOCKS:
                known = ", ".join(map(str, BLOCKS))
                raise ValueError(f"{name} is {getattr(self, name)}; it must be one of {known}")
        for name in ("clip_stride", "width", "channels", "layers", "heads", "head_width", "hidden",
                     "word_width", "align_channels", "align_chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("dropout", "aspp_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1)")
        if not 0 < self.align_limit < 1:
            raise ValueError(
                f"align_limit is {self.align_limit}; it must be in (0, 1): at 1 a logit is infinite"
            )
        if self.filter_size % 2 == 0:
            raise ValueError(f"filter_size is {self.filter_size}; filters have an odd side")
        if self.staged and not self.transformer:
            raise ValueError("staged=True is a kind of transformer, but transformer is False")
        if self.sentence == "mean" and self.text != "words":
            raise ValueError("sentence='mean' is for text='words'; BERT's sentence is [CLS]")
        parts = self.backbone_weights or self.flow_weights or self.bert_weights
        if self.network_weights and parts:
            raise ValueError(
                "network_weights is given together with weights of parts; a whole network includes "
                "them, so leave the others empty"
            )
