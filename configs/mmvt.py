"""mmvt, the multi-modal video transformer: appearance, motion, language.

Variants:
  a2d     The public code's recipe: A2D-Sentences, scored on its test set and, without training on
          it, on J-HMDB-Sentences. 320x320, ResNet-101 and ResNet-34, BERT-base, RAFT's flow.

              vseg train --config mmvt:a2d --workdir runs/mmvt_a2d \\
                --config.data.source=/data/A2D \\
                --config.model.backbone_weights=/weights/resnet101.pth \\
                --config.model.flow_weights=/weights/resnet34.pth \\
                --config.model.bert_weights=/weights/bert-base-uncased \\
                --config.text.tokenizer=/weights/bert-base-uncased

          The paper's numbers, from memory and unverified: A2D 41.9 mAP, 55.8 mean IoU; J-HMDB
          38.6 and 61.3. We have not trained it yet. `vseg dry_run` reports the cost of a step.

          The prepared data must contain flow: `vseg flow` makes a copy with flow, and
          `--config.data.prepared` names that copy.

  public  The same with every setting of the public checkpoint: its mistakes, its tokens, its
          padding, resizing and color jitter.

              vseg import --config mmvt:public --weights mmvt.pth --output mmvt \\
                --config.text.tokenizer=/weights/bert-base-uncased
              vseg predict --model mmvt --video clip.mp4 --query "a dog running" \\
                --raft raft-sintel.pth --output masks

  davis   Real but small enough for a CPU: 10 training sequences of DAVIS 2016 with one
          expression each, a frozen ResNet-50 and a frozen MiniLM, ResNet-18 for the flow, which
          must be in the prepared data as above. The documentation lists the results.

              vseg train --config mmvt:davis --workdir runs/mmvt_davis \\
                --config.data.source=/data/DAVIS --config.data.options.queries=/data/queries.json \\
                --config.data.prepared=data-dis --config.train.steps=200 \\
                --config.model.backbone_weights=/weights/resnet50.pth \\
                --config.model.bert_weights=/weights/minilm --config.text.tokenizer=/weights/minilm

  shapes  Synthetic videos, small streams from scratch; minutes on a CPU. Without the motion stream:
          `--config.model.motion=False`.

              vseg train --config mmvt:shapes --workdir runs/mmvt_shapes

The steps of the ablation and the variants that the paper's summary suggests are keys of the model;
the page of the paper lists them.
"""

from ml_collections import ConfigDict

from vseg_jax.config import section
from vseg_jax.configs import _expressions
from vseg_jax.configs._common import finish, link, variant_of
from vseg_jax.input_pipeline.settings import ClipConfig, DatasetConfig, TextConfig
from vseg_jax.models.mmvt import MmvtConfig
from vseg_jax.settings import EvaluationConfig
from vseg_jax.text.bert import BertConfig
from vseg_jax.training.settings import TrainConfig


def get_config(variant: str = "a2d") -> ConfigDict:
    """Returns the config of a variant; raises ValueError where there is none of that name."""
    return finish(variant_of(VARIANTS, variant, "mmvt"), "mmvt")


def _a2d() -> ConfigDict:
    config = ConfigDict()
    config.data = section(DatasetConfig, name="a2d_sentences", split="train", source="data/A2D")
    config.clip = section(
        ClipConfig, length=3, stride=1, stride_max=5, target=1, height=320, width=320,
        resize="pad", color=0.1,
    )
    config.text = section(TextConfig, tokenizer="bert-base-uncased", length=20)
    config.model = section(MmvtConfig)
    config.train = section(
        TrainConfig, steps=30_000, batch_size=8, learning_rate=2e-5, schedule="steps",
        milestones=(25_000, 28_000), groups=(("^text/bert/embeddings/", 0.0),),
    )
    config.evaluation = section(EvaluationConfig, batch_size=8, datasets={
        "a2d_test": DatasetConfig(name="a2d_sentences", split="test"),
        "jhmdb": DatasetConfig(name="jhmdb_sentences", split="test", source="data/JHMDB"),
    })
    link(config.data, [config.evaluation.datasets.a2d_test], "source")
    config.workers = 8
    return config


def _public() -> ConfigDict:
    config = _a2d()
    config.clip = section(ClipConfig, **{
        **config.clip, "resize": "pad_centered", "interpolation": "bicubic",
        "padding": "background", "color": (0.1, 0.05, 0.05),
    })
    config.text.whole_words = True
    config.model.update(bug_compat_mask=True, bug_compat_gate=True)
    return config


def _davis() -> ConfigDict:
    config = _expressions.davis(frozen="^vision/")
    config.clip = section(
        ClipConfig, length=3, stride=1, target=1, height=192, width=320, crop=0.6, flip=0.5,
        color=0.3,
    )
    minilm = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
        pooler=False,
    )
    config.model = section(
        MmvtConfig, depth=50, flow_depth=18, backbone_norm="frozen", bert=minilm, channels=64,
        head_width=16, hidden=64, align_channels=32, layers=2,
    )
    return config


def _shapes() -> ConfigDict:
    config = _expressions.synthetic()
    config.data.options.flow = True
    config.clip = section(ClipConfig, length=3, stride=1, target=1, height=48, width=48)
    config.model = section(
        MmvtConfig, depth=18, flow_depth=18, width=8, text="words", vocabulary=256, word_width=64,
        channels=32, layers=2, head_width=8, hidden=32, align_channels=16, dropout=0.0,
        aspp_dropout=0.0,
    )
    config.train.update(steps=3000, learning_rate=2e-3, checkpoint_every=1000)
    return config


VARIANTS = {"a2d": _a2d, "public": _public, "davis": _davis, "shapes": _shapes}
