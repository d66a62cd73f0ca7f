"""The files of A2D-Sentences: clips, and the masks of annotated frames."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files

JPEG_QUALITY = 95


@dataclasses.dataclass(frozen=True)
class Instance:
    """One object of an annotated frame: number from 0, mask bool [H, W], label 10*actor+action."""

    number: int
    mask: np.ndarray
    label: int


def read_clip(path: Path) -> tuple[list[bytes], tuple[int, int], float]:
    """Returns a clip's frames as JPEG, their size (height, width), frame rate (0: unknown)."""
    av = files.require("av")
    frames: list[bytes] = []
    size = (0, 0)
    try:
        with av.open(str(path)) as container:
            rate = container.streams.video[0].average_rate
            for frame in container.decode(video=0):
                rgb = frame.to_ndarray(format="rgb24")
                size = rgb.shape[:2]
                frames.append(records.encode_image(rgb, JPEG_QUALITY))
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} cannot be decoded ({error}); download it again") from error
    if not frames:
        raise ValueError(f"{path} has no frames; download it again")
    return frames, size, float(rate or 0)


def clip_header(path: Path) -> tuple[tuple[int, int], int] | None:
    """Returns the size (height, width) and number of frames (0: unknown) that a clip's header
    states; None if it cannot be read."""
    av = files.require("av")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            return (stream.height, stream.width), stream.frames
    except (av.error.FFmpegError, IndexError):
        return None


def read_annotation(path: Path) -> list[Instance]:
    """Returns the instances of an .h5 file, with masks [H, W].

    MATLAB stores columns first, so h5py reads reMask as [n, W, H], or [W, H] if n is 1.
    """
    h5py = files.require("h5py")
    try:
        with h5py.File(path, "r") as file:
            numbers = [int(n) for n in np.asarray(file["instance"]).ravel()]
            masks = np.asarray(file["reMask"])
            labels = np.asarray(file["id"]).ravel() if "id" in file else None
            semantic = np.asarray(file["reS_id"]).T if labels is None else None
    except (OSError, KeyError) as error:
        raise ValueError(f"{path} cannot be read as an A2D-Sentences annotation ({error}); "
                         "extract or download it again") from error
    if masks.ndim == 2:
        masks = masks[np.newaxis]
    if masks.ndim != 3 or len(masks) < len(numbers):
        raise ValueError(f"{path}: reMask has the shape {masks.shape} for {len(numbers)} "
                         "instances; it should be [n, W, H]")
    masks = masks.transpose(0, 2, 1) != 0
    instances: dict[int, Instance] = {}
    for i, number in enumerate(numbers):
        if semantic is not None:
            inside = semantic[masks[i]].astype(int) if masks[i].any() else np.zeros(1, int)
            label = int(np.bincount(inside).argmax())
        else:
            label = int(labels[i]) if i < len(labels) else 0
        instances.setdefault(number, Instance(number, masks[i], label))
    return list(instances.values())


def mask_size(path: Path) -> tuple[int, int] | None:
    """Returns the size (height, width) of an .h5's masks by its header; None if unreadable."""
    try:
        with files.require("h5py").File(path, "r") as file:
            width, height = file["reMask"].shape[-2:]
    except (OSError, KeyError, RuntimeError, ValueError):
        return None
    return height, width


def misfit(
    path: Path, number: int, mask: tuple[int, ...], clip: Path, size: tuple[int, int], frames: int
) -> str:
    """Returns why the masks of frame `number` do not fit their clip; "" if they do.

    One frame beyond the end is no misfit, because decoders differ by a frame.

    Args:
      path: of the masks, for the message.
      number: of their frame, from 1.
      mask: their size (height, width).
      clip: its path, for the message.
      size: of its frames (height, width).
      frames: their number; 0 if it is unknown.
    """
    if number < 1 or 0 < frames < number - 1:
        return f"{path}: the clip {clip} has only {frames} frames"
    if tuple(mask) != tuple(size):
        return (f"{path} is {mask[0]}x{mask[1]} (height x width), but {clip} is "
                f"{size[0]}x{size[1]}")
    return ""


def fit(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a mask bool [h, w] at `size` (height, width), by the nearest pixels."""
    if mask.shape == tuple(size):
        return mask
    return cv2.resize(mask.astype(np.uint8), size[::-1],
                      interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
