"""Training: settings, state, optimizer, step, sharding, checkpoints, reports and the loop."""

from vseg_jax.training.loop import NonFiniteLoss, Trained, train
from vseg_jax.training.settings import TrainConfig

__all__ = ["NonFiniteLoss", "TrainConfig", "Trained", "train"]
