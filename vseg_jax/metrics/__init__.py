"""The benchmarks' metrics in NumPy; three of them are commands that score saved predictions.

| module | benchmarks | command |
|---|---|---|
| `a2d` | A2D-Sentences, J-HMDB-Sentences | `python -m vseg_jax.metrics.a2d` |
| `davis` | DAVIS, (Refer-)YouTube-VOS, OVIS | `python -m vseg_jax.metrics.davis` |
| `youtube_vis` | YouTube-VIS, OVIS | `python -m vseg_jax.metrics.youtube_vis` |
| `identities` | identities of tracks: ours, on top of `youtube_vis` | |
"""

__all__ = ["a2d", "davis", "identities", "jf", "youtube_vis"]
