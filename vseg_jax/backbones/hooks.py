"""Changes of the features inside a backbone, at places that the backbone names."""

from __future__ import annotations

from collections.abc import Callable

import jax

Change = Callable[[str, jax.Array], jax.Array]
"""(place, the features there) -> the features that the backbone continues with."""


def unchanged(place: str, x: jax.Array) -> jax.Array:
    """Returns the features as they are."""
    del place
    return x


def within(parent: str, change: Change) -> Change:
    """Returns `change` for a part of a backbone: it names the place P of the part "parent_P"."""
    return lambda place, x: change(f"{parent}_{place}", x)
