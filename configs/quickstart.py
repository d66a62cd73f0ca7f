"""The quickstart: a small but complete qvim on made videos, two domains.

    python -m vseg_jax.main --config configs/quickstart.py --workdir runs/quickstart

4 min 24 s on two CPU cores: mean IoU 0.632 on `source`, 0.163 there with sentences
exchanged, 0.125 on `target`. Two or three actors and single frames: it reads colour, size and
some shape and texture, no motion; see docs/results.md.
"""

from ml_collections import ConfigDict

from input_pipeline.settings import ClipConfig, DatasetConfig, TextConfig
from vseg_jax.config import section
from vseg_jax.models.qvim import QvimConfig
from vseg_jax.settings import EvaluationConfig
from vseg_jax.training.settings import TrainConfig

MADE = {"height": 48, "width": 48, "length": 8, "train": 3000, "test": 200, "flow": False,
        "sound": False, "splits": ("source_train", "source_test", "target_test"), "actors": (2, 3),
        "scale": 1.2, "differs": (5.0, 3.0, 1.0, 1.0, 1.0), "seed": 0}


def get_config() -> ConfigDict:
    """Trains on `source`, scores on `source`, `target`, and `source` with exchanged sentences."""
    config = ConfigDict()
    config.system = "qvim"
    config.data = section(
        DatasetConfig, name="moving_shapes", split="source_train", options=MADE
    )
    config.clip = section(ClipConfig, length=1, stride=1, target=0, height=48, width=48)
    config.text = section(TextConfig, length=12)
    config.workers = 0
    config.train = section(
        TrainConfig, steps=5500, batch_size=8, learning_rate=3e-3, beta2=0.98, schedule="cosine",
        warmup=50, optimiser="adamw", weight_decay=1e-4, clip_norm=1.0, log_every=50,
        checkpoint_every=1500,
    )
    config.model = section(
        QvimConfig, backbone="resnet18", resnet_width=16, text="words", word_width=64,
        vocabulary=256, max_words=12, channels=32, decoder_channels=(16, 24, 32, 32, 32),
        sa_kv_max=4, queue=1024, contrast_weight=0.1,
        const_from_start=False, qfa_start=0.5, qfa_beta_max=0.05, gt_soft=True, pos_weight=2.0,
    )
    config.model.total_steps = config.train.get_ref("steps")
    for key in ("length", "stride", "target"):
        config.model[f"clip_{key}"] = config.clip.get_ref(key)
    test = {"name": "moving_shapes", "frames": 1}
    config.evaluation = section(EvaluationConfig, batch_size=32, film=2, datasets={
        "source": DatasetConfig(split="source_test", **test),
        "target": DatasetConfig(split="target_test", **test),
        "source_shuffled_sentences": DatasetConfig(
            split="source_test", shuffle_sentences=True, **test
        ),
    })
    for dataset in config.evaluation.datasets.values():
        dataset.options = config.data.options
        dataset.prepared = config.data.get_ref("prepared")
    return config
