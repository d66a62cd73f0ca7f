"""All settings of qvim; section and equation numbers are those of the paper.

"Inferred" marks what the paper does not say. Scales are numbered from the largest map (1) to the
smallest (5), as in the paper's Figure 3.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from vseg_jax.layers.window import Window
from vseg_jax.text.bert import BertConfig

SCALES = 5  # the stages of I3D (Section 4.4: K = 1 ... 5)


@dataclasses.dataclass(frozen=True)
class ComparedConfig:
    """One of the methods that the paper compares itself with (Section 4.2), and where it acts.

    A method acts on visual features, on the word features of the expression, or on both (A.2).
    Where exactly the paper put them is inferred; numbers are those of each method's paper or public
    code unless another source is given.
    """

    method: Literal["none", "sfa", "adain", "mixstyle", "dsu", "in", "irw", "isw"] = "none"
    #                            in, irw, isw: RobustNet's plain instance normalization,
    #                            instance-relaxed and instance-selective whitening
    place: Literal["interaction", "backbone"] = "interaction"  # of visual features: the maps that
    #                            the interaction reads at `scales`; or the places in the backbone of
    #                            the method's own paper (encoders.PLACES), which later layers see
    scales: tuple[int, ...] = (1,)  # of words, and of visual features at the interaction; inferred:
    #                            where QFA acts
    modality: Literal["visual", "text", "both"] = "visual"  # A.2: the paper's comparison is visual
    prob: float = 0.5            # share of steps that SFA (inferred), AdaIN (inferred), MixStyle
    #                              and DSU perturb; each scale and modality draws independently
    sfa_noise: float = 1.0       # standard deviation of SFA's two noises; inferred
    sfa_start: int = 500         # first step with SFA; inferred
    mixstyle_alpha: float = 0.1  # of MixStyle's Beta(alpha, alpha)
    whitening_weight: float = 0.6  # of the losses of irw and isw
    irw_relax: float = 2.0       # the margin is the number of covariances divided by this; 0: none
    isw_start: float = 0.1       # fraction of the training after which ISW measures covariances and
    #                              then whitens; inferred from 5 epochs of about 50
    isw_images: int = 500        # clips per mask, measured with and without a change of color
    isw_trials: int = 10         # number of masks that are intersected
    isw_clusters: int = 3        # of the variances; the lowest cluster is not whitened

    def __post_init__(self):
        wrong = [k for k in self.scales if not 1 <= k <= SCALES]
        if wrong or (not self.scales and self.method != "none"):
            raise ValueError(
                f"compared.scales is {self.scales}; name scales from 1 (largest map) to {SCALES}, "
                "or set compared.method='none'"
            )
        if self.method == "isw" and self.modality != "visual":
            raise ValueError(
                f"compared.modality is {self.modality!r}, but isw compares a picture with a copy "
                "in other colors, and there is no such copy of text; use 'visual', or irw"
            )
        if self.place == "backbone" and not self.visual:
            raise ValueError(
                "compared.place is 'backbone', where only visual features are, but "
                "compared.modality is 'text'; use 'interaction', or another modality"
            )
        for name in ("isw_images", "isw_trials", "isw_clusters"):
            if getattr(self, name) < 1:
                raise ValueError(f"compared.{name} is {getattr(self, name)}; it is at least 1")

    @property
    def visual(self) -> bool:
        """Whether the method acts on the visual features."""
        return self.modality != "text"

    @property
    def in_backbone(self) -> bool:
        """Whether the method acts inside the backbone."""
        return self.method != "none" and self.visual and self.place == "backbone"

    @property
    def at_interaction(self) -> bool:
        """Whether the method acts on the visual features that the interactions read."""
        return self.method != "none" and self.visual and self.place == "interaction"

    @property
    def text(self) -> bool:
        """Whether the method acts on the word features."""
        return self.modality != "visual"

    @property
    def perturbs(self) -> bool:
        """Whether features are changed at random, in training only."""
        return self.method in ("sfa", "adain", "mixstyle", "dsu")

    @property
    def normalizes(self) -> bool:
        """Whether features are instance-normalized, also at inference."""
        return self.method in ("in", "irw", "isw")

    @property
    def whitens(self) -> bool:
        """Whether there is a loss on covariances."""
        return self.method in ("irw", "isw")


@dataclasses.dataclass(frozen=True)
class QvimConfig:
    """Config of the referring segmenter with cross-modal domain generalization."""

    # Clip: must match what the input pipeline cuts; only streaming reads these.
    clip_length: int = 8    # frames; the predecessor CSTM takes every 2nd of 16
    clip_stride: int = 2    # inferred, from CSTM
    clip_target: int = 4    # position of the predicted frame in the clip; inferred, from CSTM

    # Visual encoder (Section 3.2).
    backbone: Literal["i3d", "resnet18", "resnet34", "resnet50", "resnet101",
                      "efficientnet_lite0"] = "i3d"  # all but i3d see each frame alone and are this
    #                                         library's addition; the last is for small machines
    i3d_width: float = 1.0                    # multiplies every channel number of I3D
    resnet_width: int = 64                    # channels of the ResNet's stem
    i3d_eps: float = 1e-3                     # of its normalization: 1e-3 with DeepMind's weights,
    #                                         1e-5 in the predecessors' code
    backbone_norm: Literal["batch", "frozen"] = "batch"  # inferred; frozen keeps loaded statistics
    backbone_weights: str = ""                # checkpoint file that `pretrained` reads, or
    #                                         "package:efficientnet-lite0" (vseg_jax/packages.py)
    temporal_pool: Literal["mean", "middle"] = "mean"  # Section 3.2; middle: the target's slice
    qvim_feedback: bool = False               # adds each QVIM's output back into the backbone, as
    #                                         CSTM does; inferred
    # Text encoder (Section 3.2, A.2).
    text: Literal["bert", "words"] = "bert"   # words: a learned embedding, this library's addition
    bert: BertConfig = dataclasses.field(default_factory=BertConfig)
    bert_weights: str = ""                    # Hugging Face folder that `pretrained` reads, or
    #                                         "package:all-minilm-l6-v2" (vseg_jax/packages.py)
    vocabulary: int = 2048                    # of `words`: number of word ids, with padding
    word_width: int = 300                     # of `words`; inferred

    # Query-vision interaction module (Section 3.2).
    channels: int = 256                       # C; inferred, from CSTM
    sa_kv_max: int | None = 20                # self-attention keys are pooled to at most this side;
    #                                         None: exact, chunk by chunk; inferred
    sa_chunk: int = 1024                      # query pixels at once where sa_kv_max is None
    att_norm: Literal["softmax", "linear"] = "softmax"  # pooling scores: softmax(<v,q>/sqrt(C)), or
    #                                         the printed fraction over relu(<v,q>); inferred
    qgap: bool = True                         # ablation "w/o QGAP" of Table 2
    highlight: Literal["mean", "peak"] = "mean"  # of QGAP: 1 + A, where the mean or the peak of A
    #                                         is 1; only the second is bounded (by 2); inferred
    cross_attention: bool = True              # ablation "w/o crossatt" of Table 2
    ca_w: Literal["bilinear", "words"] = "bilinear"  # where W of Eq. 7 stands: V W Q^T, or on the
    #                                         scores of the L words; inferred
    max_words: int = 20                       # L (A.2); sizes W where ca_w is "words"

    # Decoder (Section 3.2).
    decoder_channels: tuple[int, ...] = (256,) * SCALES  # of scales 1 ... 5; inferred, from CSTM
    align_corners: bool = True                # of the decoder's upsampling; inferred, from CSTM
    response_pool: bool = False               # the response heads read averages over 3x3 cells;
    #                                         inferred
    fuse: Literal["finest", "conv"] = "finest"  # the prediction: the map of scale 1, or a
    #                                         convolution over the maps of all scales as in ACGA;
    #                                         inferred
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; parameters are float32

    # Query-guided feature augmentation (Section 3.3); training only.
    qfa_scales: tuple[int, ...] = (1,)        # Section 4.4; () is "w/o QFA"
    qfa_foreground: bool = True               # Table 3: the bool matrix B
    qfa_augment_matrix: bool = True           # Table 3: M_aug
    qfa_keep: Literal["mask", "scores"] = "mask"  # R_f V of Eq. 5: the features V, or V times the
    #                                         scores A that R_f literally holds; inferred
    qfa_schedule: Literal["progressive", "constant", "from_start"] = "progressive"  # Figure 3c.
    #                                         constant: beta_max from qfa_start on; from_start:
    #                                         beta_max from the first step
    qfa_start: float = 0.2                    # fraction of the training before QFA; inferred
    qfa_beta_min: float = 0.0                 # inferred
    qfa_beta_max: float = 1.0                 # inferred; 1: the weight of a uniform map
    qfa_prob: float = 1.0                     # share of samples augmented from then on; inferred
    qfa_detach_aux: bool = True               # no gradient into the other video; inferred
    total_steps: int = 10_000                 # length of the training, for the schedule of beta

    # AdaIN on the attention map (Section 3.4); training only.
    am_adain_scales: tuple[int, ...] = (4,)   # Section 4.4; () is "w/o AM-AdaIN"
    am_adain_alpha_max: float = 0.5           # alpha ~ U(0, 0.5), one per sample (inferred)
    am_adain_eps: float = 1e-5                # of Eq. 8; value inferred
    am_adain_detach: bool = True              # no gradient into the other sample; inferred

    # A compared method (Section 4.2); the paper compares it without QFA, AM-AdaIN and L_const.
    compared: ComparedConfig = dataclasses.field(default_factory=ComparedConfig)

    # Constraint on augmented data (Section 3.3, Eq. 6); numbers follow MoCo, inferred.
    contrast: bool = True                     # ablation "w/o L_const" of Table 2
    contrast_weight: float = 1.0              # Section 3.5: L = L_seg + L_const
    contrast_dim: int = 128
    contrast_temperature: float = 0.07        # tau
    queue: int = 1024                         # negatives, at least the batch size; at 8 a step, the
    #                                         oldest is 128 steps old (MoCo's: 256)
    momentum: float = 0.999
    pos_key: Literal["both", "momentum", "batch", "online"] = "both"  # inferred. momentum: literal
    #                                         MoCo, no gradient reaches the visual branch; batch:
    #                                         online keys against those of the batch's other videos;
    #                                         both: half of each; online: online key, momentum
    #                                         negatives, which can be told apart without the video
    const_from_start: bool = True             # off: the loss starts at qfa_start, for every
    #                                         qfa_schedule
    mask_same_video: bool = True              # queue entries of the sample's own video do not count

    # Losses on the segmentation (Section 3.5) and on the pooling weights (not in the paper).
    pos_weight: float = 1.0                   # of foreground pixels; the predecessors use 1.5
    pointing_weight: float = 0.0              # of the loss that makes a^k point at the object: the
    #                                         losses of the paper leave its sign open; 0: the paper
    gt_soft: bool = False                     # targets of coarse scales: area averages, or their
    #                                         threshold at 0.5; inferred

    @property
    def window(self) -> Window:
        """The clip of a prediction."""
        return Window(self.clip_length, self.clip_stride, self.clip_target)

    def __post_init__(self):
        _ = self.window  # checks clip_target
        for name in ("qfa_scales", "am_adain_scales"):
            wrong = [k for k in getattr(self, name) if not 1 <= k <= SCALES]
            if wrong:
                raise ValueError(f"{name} has {wrong}; scales are 1 (largest map) ... {SCALES}")
        if len(self.decoder_channels) != SCALES:
            raise ValueError(
                f"decoder_channels has {len(self.decoder_channels)} widths; give {SCALES}, one per "
                "scale from the largest map to the smallest"
            )
        if not 0 <= self.qfa_start < 1:
            raise ValueError(
                f"qfa_start is {self.qfa_start}; it is a share of the training, in [0, 1)"
            )
        if self.total_steps < 1:
            raise ValueError(f"total_steps is {self.total_steps}; give the length of the training")
        if self.qvim_feedback and self.compared.method == "isw":
            raise ValueError(
                "isw measures the backbone's maps alone, which qvim_feedback changes; turn one off"
            )
        if self.compared.in_backbone and self.backbone == "efficientnet_lite0":
            raise ValueError(
                "compared.place is 'backbone', which needs a ResNet or I3D, got the backbone "
                "'efficientnet_lite0'; use compared.place='interaction'"
            )
        if self.qvim_feedback and self.backbone != "i3d":
            raise ValueError(
                f"qvim_feedback needs backbone 'i3d', got {self.backbone!r}; turn one of them off"
            )

    @property
    def contrast_scale(self) -> int:
        """The scale whose pooled features are the keys of L_const: where QFA acts (else 1)."""
        return min(self.qfa_scales, default=1)
