"""Referring segmentation that generalizes to unseen domains (docs/papers/qvim.md)."""

from vseg_jax.models.qvim.config import ComparedConfig, QvimConfig
from vseg_jax.models.qvim.config import QvimConfig as Config
from vseg_jax.models.qvim.model import Qvim
from vseg_jax.models.qvim.model import Qvim as Model

__all__ = ["ComparedConfig", "Config", "Model", "Qvim", "QvimConfig"]
