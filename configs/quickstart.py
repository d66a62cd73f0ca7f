"""The quickstart: a small but complete qvim on made videos, two domains.

    python -m vseg_jax.main --config configs/quickstart.py --workdir runs/quickstart

4 min 24 s on two CPU cores: mean IoU 0.632 on `source`, 0.163 there with sentences
exchanged, 0.125 on `target`. Two or three actors and single frames: it reads color, size and
some shape and texture, no motion; see docs/results.md.
"""

from ml_collections import ConfigDict

from vseg_jax.config import section
from vseg_jax.configs import _expressions as _sentences
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.models.qvim import QvimConfig


def get_config() -> ConfigDict:
    """Trains on `source`, scores on `source`, `target`, and `source` with exchanged sentences."""
    config = _sentences.made()
    config.system = "qvim"
    config.clip = section(ClipConfig, length=1, stride=1, target=0, height=48, width=48)
    config.model = section(
        QvimConfig, backbone="resnet18", resnet_width=16, text="words", word_width=64,
        vocabulary=256, max_words=12, channels=32, decoder_channels=(16, 24, 32, 32, 32),
        sa_kv_max=4, queue=1024, contrast_weight=0.1,
        const_from_start=False, qfa_start=0.5, qfa_beta_max=0.05, gt_soft=True, pos_weight=2.0,
    )
    config.model.total_steps = config.train.get_ref("steps")
    for key in ("length", "stride", "target"):
        config.model[f"clip_{key}"] = config.clip.get_ref(key)
    for dataset in config.evaluation.datasets.values():
        dataset.prepared = config.data.get_ref("prepared")
    return config
