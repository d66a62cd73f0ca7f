"""Multi-modal video transformer of appearance, motion and language (docs/papers/mmvt.md)."""

from vseg_jax.models.mmvt.config import MmvtConfig
from vseg_jax.models.mmvt.config import MmvtConfig as Config
from vseg_jax.models.mmvt.model import Mmvt
from vseg_jax.models.mmvt.model import Mmvt as Model

__all__ = ["Config", "Mmvt", "MmvtConfig", "Model"]
