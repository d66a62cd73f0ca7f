"""Experiments: what the modes of the command line do with a config.

The only package that knows both training and inference. `build` joins a config to a model and a
task, `modes` has the modes, `imports` takes public weights, `study` runs many configs; `base` holds
what the tasks have in common, and `rvos`, `vos` and `vis` what is particular to one of them.
"""

from vseg_jax.experiment.build import batch_shapes, build_model, describe, read
from vseg_jax.experiment.imports import import_weights
from vseg_jax.experiment.modes import (
    dry_run,
    evaluate,
    export,
    predict,
    run_study,
    study_cost,
    train,
)
from vseg_jax.training.runtime import initialize_distributed

__all__ = [
    "batch_shapes", "build_model", "describe", "dry_run", "evaluate", "export", "import_weights",
    "initialize_distributed", "predict", "read", "run_study", "study_cost", "train",
]
