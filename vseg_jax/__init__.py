"""Video segmentation in JAX, prompted by a referring expression, a first-frame mask, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vseg_jax.inference import Segmentation, Segmenter, Session, Track, load

__all__ = ["Segmentation", "Segmenter", "Session", "Track", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # `import vseg_jax` alone stays quick and imports no jax: workers of the input pipeline do it.
    if name in __all__:
        from vseg_jax import inference

        return getattr(inference, name)
    raise AttributeError(f"module 'vseg_jax' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
