"""Video segmentation in JAX: a sentence, a first mask or nothing at all names the object."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vseg_jax.inference.segmenter import load

__all__ = ["load"]
__version__ = "0.1.0"


def __getattr__(name: str):
    # Importing the package alone costs nothing: jax comes with what is asked for.
    if name == "load":
        from vseg_jax.inference.segmenter import load

        return load
    raise AttributeError(f"module 'vseg_jax' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
