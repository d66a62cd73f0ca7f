"""The user interface: load a model, segment videos, stream frames, write predictions to files."""

from __future__ import annotations

from vseg_jax.inference.engine import Engine
from vseg_jax.inference.finding import find
from vseg_jax.inference.many import predict_videos
from vseg_jax.inference.predict import predict_to_folder
from vseg_jax.inference.predictions import Predictions
from vseg_jax.inference.segmentation import Segmentation, Track
from vseg_jax.inference.segmenter import Segmenter, load
from vseg_jax.inference.session import Session

__all__ = [
    "Engine",
    "Predictions",
    "Segmentation",
    "Segmenter",
    "Session",
    "Track",
    "find",
    "load",
    "predict_to_folder",
    "predict_videos",
]
