"""The benchmarks' metrics in NumPy; three of them are commands that score saved predictions.

| module | benchmarks | command |
|---|---|---|
| `a2d` | A2D-Sentences, J-HMDB-Sentences | `vseg metrics a2d` |
| `davis` | DAVIS, (Refer-)YouTube-VOS, OVIS | `vseg metrics davis` |
| `youtube_vis` | YouTube-VIS, OVIS | `vseg metrics youtube_vis` |
| `identities` | identities of tracks: ours, on top of `youtube_vis` | |
"""

__all__ = ["a2d", "davis", "identities", "jf", "youtube_vis"]
