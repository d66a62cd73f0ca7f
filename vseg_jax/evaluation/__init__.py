"""Evaluation of models on datasets, by the protocols of the field: one module per protocol.

| module | task | scores |
|---|---|---|
| `frames` | referring segmentation, frame by frame | `vseg_jax.metrics.a2d` |
| `expressions` | referring segmentation, whole videos | `vseg_jax.metrics.davis` |
| `propagation` | mask propagation | `vseg_jax.metrics.davis` |
| `instances` | video instance segmentation | `vseg_jax.metrics.youtube_vis`, `identities` |

Each has `evaluate`, and each of those over whole videos `predict_videos` for test sets, whose
ground truth is not public. `showcase` draws predictions as a video; `runner` holds what they share.
"""

__all__ = ["expressions", "frames", "instances", "propagation", "showcase"]
