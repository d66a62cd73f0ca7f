"""Referring segmentation with cross-modal instance contrast (docs/papers/cvls.md)."""

from vseg_jax.models.cvls.config import CvlsConfig
from vseg_jax.models.cvls.config import CvlsConfig as Config
from vseg_jax.models.cvls.model import Cvls
from vseg_jax.models.cvls.model import Cvls as Model

__all__ = ["Config", "Cvls", "CvlsConfig", "Model"]
