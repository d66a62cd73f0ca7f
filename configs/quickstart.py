"""The quickstart: a small but complete qvim on synthetic videos of two domains.

    vseg train --config quickstart --workdir runs/quickstart

4 min 4 s on two CPU cores. Mean IoU: 0.696 on `source`, 0.100 there with the expressions of other
objects, 0.528 on `target`, where the perfect mask of a random object would give 0.222. The input is
single frames, and distractors differ in color or shape.
"""

from ml_collections import ConfigDict

from vseg_jax.config import section
from vseg_jax.configs import _expressions
from vseg_jax.configs._common import finish
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.models.qvim import QvimConfig


def get_config() -> ConfigDict:
    """Returns the config: trained on `source`, scored as `_expressions.synthetic` says."""
    return finish(sections(), "qvim")


def sections() -> ConfigDict:
    """Returns the config before `finish`, for configs that start from it."""
    config = plain()
    config.data.options.update(_expressions.DOMAINS)
    config.data.options.train = 2000
    config.text.length = 20
    config.train.steps = 4000
    return config


def plain() -> ConfigDict:
    """Returns the same model on the synthetic videos that the other systems are trained on."""
    config = _expressions.synthetic()
    config.clip = section(ClipConfig, length=1, stride=1, target=0, height=48, width=48)
    config.model = section(
        QvimConfig, backbone="resnet18", resnet_width=16, text="words", word_width=64,
        vocabulary=256, channels=32, decoder_channels=(16, 24, 32, 32, 32), sa_kv_max=4,
        queue=128, contrast_weight=0.03, pointing_weight=0.03, qfa_beta_max=0.25, gt_soft=True,
        pos_weight=2.0,
    )
    return config
