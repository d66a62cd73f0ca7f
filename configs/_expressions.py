"""What qvim, cvls and mmvt share in their configs, so that they are compared on the same data."""

from ml_collections import ConfigDict

from vseg_jax.config import section
from vseg_jax.configs._common import link
from vseg_jax.input_pipeline.settings import DatasetConfig, TextConfig
from vseg_jax.settings import EvaluationConfig
from vseg_jax.training.settings import TrainConfig

SYNTHETIC = {
    "height": 48, "width": 48, "length": 8, "train": 3000, "test": 200, "flow": False,
    "audio": False, "splits": ("source_train", "source_test", "target_test"), "actors": (2, 3),
    "scale": 1.2, "differs": (5.0, 3.0, 1.0, 1.0, 1.0), "seed": 0,
}

# Two domains for domain generalization: backgrounds of several kinds, and expressions of two
# templates, in the source; other backgrounds, colored light, more objects, and expressions in other
# styles but without new words in the target. Objects differ in color or shape.
DOMAINS = {
    "differs": (3.0, 1.0, 0.0, 0.0, 0.0), "varied": True, "light": 0.5, "crowd": (4, 5),
    "backgrounds": ("gradient", "stripes", "tiles", "blobs"),
    "new_backgrounds": ("clutter", "patchwork"),
    "shifts": ("background", "light", "style", "crowd"),
}


def davis(frozen: str) -> ConfigDict:
    """Returns a config of DAVIS 2016 with expressions.

    Args:
      frozen: pattern of the parameters that are not trained, in addition to BERT's.
    """
    config = ConfigDict()
    config.data = section(
        DatasetConfig, name="davis", split="train", source="data/DAVIS", styles=("plain",),
        options={"year": 2016, "queries": "data/davis_queries.json"},
    )
    config.text = section(TextConfig, tokenizer="data/minilm", length=24)
    config.train = section(
        TrainConfig, steps=400, batch_size=4, optimizer="adamw", weight_decay=1e-3,
        learning_rate=1e-3, schedule="cosine", warmup=50, clip_norm=1.0,
        groups=((frozen, 0.0), ("^text/bert/", 0.0)), log_every=20, checkpoint_every=200,
    )
    val = {"name": "davis", "split": "val"}
    config.evaluation = section(EvaluationConfig, batch_size=4, datasets={
        "val_plain": DatasetConfig(styles=("plain",), **val),
        "val_free": DatasetConfig(styles=("free",), **val),
    })
    link(config.data, config.evaluation.datasets.values(), "source", "options")
    config.workers = 0
    return config


def synthetic() -> ConfigDict:
    """Returns a config of `moving_shapes` with two or three actors in a clip.

    Scored on `source`, on `target`, and on `source` with shuffled expressions.
    """
    config = ConfigDict()
    config.data = section(
        DatasetConfig, name="moving_shapes", split="source_train", options=SYNTHETIC
    )
    config.text = section(TextConfig, length=12)
    config.train = section(
        TrainConfig, steps=5500, batch_size=8, learning_rate=3e-3, beta2=0.98, schedule="cosine",
        warmup=50, optimizer="adamw", weight_decay=1e-4, clip_norm=1.0, log_every=50,
        checkpoint_every=1500,
    )
    test = {"name": "moving_shapes", "frames": 1}
    config.evaluation = section(EvaluationConfig, batch_size=32, overlay_clips=2, datasets={
        "source": DatasetConfig(split="source_test", **test),
        "target": DatasetConfig(split="target_test", **test),
        "source_shuffled_expressions": DatasetConfig(
            split="source_test", shuffle_expressions=True, **test
        ),
    })
    link(config.data, config.evaluation.datasets.values(), "options")
    config.workers = 0
    return config
