"""What each task's batches, prompts and predictions look like, whichever model serves it."""

from __future__ import annotations

import jax

# Named means as (sum, count) pairs: they stay exact over padding, micro-batches and several hosts.
Means = dict[str, tuple[jax.Array, jax.Array]]

__all__ = ["Means"]
