"""How much of a video the page takes."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much of a video the page takes.

    Attributes:
      frames: that are read; the rest of a longer video is left out.
      side: the longer side in pixels; larger videos are scaled down.
      megabytes: of the file; a larger one is refused.
    """

    frames: int = 300
    side: int = 1280
    megabytes: int = 200
