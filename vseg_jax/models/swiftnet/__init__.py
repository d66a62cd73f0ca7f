"""Mask propagation with first-frame adaptation, on STM or SwiftNet (docs/papers/swiftnet.md)."""

from vseg_jax.models.swiftnet.config import SwiftnetConfig
from vseg_jax.models.swiftnet.config import SwiftnetConfig as Config
from vseg_jax.models.swiftnet.model import Swiftnet
from vseg_jax.models.swiftnet.model import Swiftnet as Model

__all__ = ["Config", "Model", "Swiftnet", "SwiftnetConfig"]
