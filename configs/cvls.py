"""cvls, contrastive video-language segmentation.

Variants:
  a2d     The paper's setting: trained on A2D-Sentences, scored on its test set and, without
          training on it, on J-HMDB-Sentences. 320x320, ResNet-50, words learned from scratch.

              vseg train --config cvls:a2d --workdir runs/cvls_a2d \\
                --config.data.source=/data/A2D --config.model.backbone_weights=/weights/resnet50.pth

          The paper reports 40.8 mAP, 68.3 overall and 57.1 mean IoU on A2D. We have not trained it.

  davis   Real but small enough for a CPU: 10 training sequences of DAVIS 2016 with one
          expression each, a frozen ResNet-50. The documentation lists the results.

              vseg train --config cvls:davis --workdir runs/cvls_davis \\
                --config.data.source=/data/DAVIS --config.data.options.queries=/data/queries.json \\
                --config.model.backbone_weights=/weights/resnet50.pth

  shapes  Synthetic videos, minutes on a CPU; data and scores as in the quickstart.

              vseg train --config cvls:shapes --workdir runs/cvls_shapes

The ablations are keys of the model; the page of the paper lists them.
"""

from ml_collections import ConfigDict

from vseg_jax.config import section
from vseg_jax.configs import _expressions
from vseg_jax.configs._common import finish, link, variant_of
from vseg_jax.input_pipeline.settings import ClipConfig, DatasetConfig, TextConfig
from vseg_jax.models.cvls import CvlsConfig
from vseg_jax.settings import EvaluationConfig
from vseg_jax.training.settings import TrainConfig


def get_config(variant: str = "a2d") -> ConfigDict:
    """Returns the config of a variant; raises ValueError where there is none of that name."""
    return finish(variant_of(VARIANTS, variant, "cvls"), "cvls")


def _a2d() -> ConfigDict:
    config = ConfigDict()
    config.data = section(DatasetConfig, name="a2d_sentences", split="train", source="data/A2D")
    config.clip = section(  # the pool of instances: the annotated frames, three to five of a video
        ClipConfig, length=5, stride=1, target=2, annotated=True, height=320, width=320,
    )
    config.text = section(TextConfig, tokenizer="words", length=20)
    config.model = section(CvlsConfig)
    epoch = 15_691 // 8  # samples and batch size
    config.train = section(  # all inferred except Adam and the schedule
        TrainConfig, steps=30 * epoch, batch_size=8, learning_rate=1e-4, schedule="plateau",
        window=epoch, patience=2, factor=0.1,
    )
    config.evaluation = section(EvaluationConfig, batch_size=8, datasets={
        "a2d_test": DatasetConfig(name="a2d_sentences", split="test"),
        "jhmdb": DatasetConfig(
            name="jhmdb_sentences", split="test", source="data/JHMDB", frames=3
        ),
    })
    link(config.data, [config.evaluation.datasets.a2d_test], "source")
    config.workers = 8
    return config


def _davis() -> ConfigDict:
    config = _expressions.davis(frozen="^visual/")
    config.clip = section(
        ClipConfig, length=2, stride=8, target=0, height=192, width=320, crop=0.6, flip=0.5,
        color=0.3,
    )
    config.text.tokenizer = "words"
    config.model = section(
        CvlsConfig, backbone_norm="frozen", vocabulary=256, word_width=64, word_init="normal",
        lstm_width=64, channels=64, projection_hidden=128, projection_dim=64,
    )
    config.train.groups = (("^visual/", 0.0),)
    return config


def _shapes() -> ConfigDict:
    config = _expressions.synthetic()
    config.clip = section(ClipConfig, length=2, stride=3, target=0, height=48, width=48)
    config.model = section(
        CvlsConfig, backbone="resnet18", resnet_width=16, vocabulary=256, word_width=64,
        word_init="normal", lstm_width=32, channels=32, max_objects=8, projection_hidden=64,
        projection_dim=32,
    )
    return config


VARIANTS = {"a2d": _a2d, "davis": _davis, "shapes": _shapes}
