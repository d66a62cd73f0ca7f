"""Studies: many runs in one table, rows of settings by seeds.

A study file has `get_study(variant) -> StudyConfig` (`vseg_jax.settings`); `load` reads it, `run`
trains what is missing, `cost` counts parameters and operations instead. A study with an `endpoint`
ends in a verdict (`endpoint.py`).
"""

from vseg_jax.experiment.study.runs import cost, load, run
from vseg_jax.experiment.study.table import COSTS, collect, cost_table, score_table

__all__ = ["COSTS", "collect", "cost", "cost_table", "load", "run", "score_table"]
