"""Optical flow without a network (OpenCV's DIS), and flow fields as color images."""

from __future__ import annotations

import functools

import cv2
import numpy as np

_SMALLEST = 16  # DIS works on patches of 8 pixels of a halved image


def dis_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the flow float32 [H, W, 2] (u right, v down, pixels) between two uint8 RGB frames.

    Source: Kroeger et al., Fast Optical Flow using Dense Inverse Search, as in OpenCV (medium).

    Raises:
      ValueError: the frames differ in size or are not uint8.
    """
    if first.shape != second.shape or first.dtype != np.uint8 or second.dtype != np.uint8:
        raise ValueError(f"flow needs two uint8 frames of one size, got {first.dtype} "
                         f"{first.shape} and {second.dtype} {second.shape}")
    height, width = first.shape[:2]
    below, right = max(0, _SMALLEST - height), max(0, _SMALLEST - width)
    gray = [
        cv2.copyMakeBorder(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), 0, below, 0, right,
                           cv2.BORDER_REPLICATE)
        for f in (first, second)
    ]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return dis.calc(gray[0], gray[1], None)[:height, :width]


def dis_flows(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns `dis_flow` of each pair: flow [B, H, W, 2] of frames [B, H, W, 3]."""
    return np.stack([dis_flow(*pair) for pair in zip(first, second, strict=True)])


def flow_to_image(flow: np.ndarray) -> np.ndarray:
    """Returns flow [H, W, 2] as a uint8 [H, W, 3] RGB image on Middlebury's color wheel.

    The hue is the direction; white is no motion (or NaN), full color is the longest vector.
    Source: Baker et al., A Database and Evaluation Methodology for Optical Flow; same numbers as
    RAFT's flow_viz.flow_to_image.
    """
    flow = np.nan_to_num(np.asarray(flow, np.float64))
    flow = flow / (np.hypot(flow[..., 0], flow[..., 1]).max(initial=0.0) + 1e-5)
    radius = np.hypot(flow[..., 0], flow[..., 1])[..., None]
    wheel = _color_wheel()
    place = (np.arctan2(-flow[..., 1], -flow[..., 0]) / np.pi + 1) / 2 * (len(wheel) - 1)
    low = np.floor(place).astype(int)
    share = (place - low)[..., None]
    color = (1 - share) * wheel[low] + share * wheel[(low + 1) % len(wheel)]
    return np.floor(255 * (1 - radius * (1 - color))).astype(np.uint8)


@functools.cache
def _color_wheel() -> np.ndarray:
    """Returns [55, 3] RGB in [0, 1]: six arcs, in each of which one channel rises or falls."""
    arcs = [  # steps, fixed color, the channel that changes, whether it rises
        (15, (1, 0, 0), 1, True),   # red to yellow
        (6, (0, 1, 0), 0, False),   # yellow to green
        (4, (0, 1, 0), 2, True),    # green to cyan
        (11, (0, 0, 1), 1, False),  # cyan to blue
        (13, (0, 0, 1), 0, True),   # blue to magenta
        (6, (1, 0, 0), 2, False),   # magenta to red
    ]
    rows = []
    for steps, fixed, channel, rises in arcs:
        arc = np.tile(np.array(fixed, np.float64), (steps, 1))
        ramp = np.floor(255 * np.arange(steps) / steps) / 255
        arc[:, channel] = ramp if rises else 1 - ramp
        rows.append(arc)
    return np.concatenate(rows)
