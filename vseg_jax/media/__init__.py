"""Videos, cameras and audio in, overlay videos and index PNGs out; imports no jax."""

from __future__ import annotations

from vseg_jax.media.audio import AudioStream, audio_of_video, split_by_frame
from vseg_jax.media.camera import Camera
from vseg_jax.media.excerpt import Excerpt, Part, open_source
from vseg_jax.media.images import ImageFolder, open_video
from vseg_jax.media.overlay import draw, palette, save_index
from vseg_jax.media.video import Video, VideoWriter

__all__ = [
    "AudioStream",
    "Camera",
    "Excerpt",
    "ImageFolder",
    "Part",
    "Video",
    "VideoWriter",
    "audio_of_video",
    "draw",
    "open_source",
    "open_video",
    "palette",
    "save_index",
    "split_by_frame",
]
