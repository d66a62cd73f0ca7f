"""A video of a red and a blue square on a gray ground, with their masks."""

import numpy as np

from vseg_jax.demo.clip import Clip
from vseg_jax.demo.prompts import Prompt

SIZE, SIDE = (48, 64), 16
COLORS = np.array([(40, 40, 40), (200, 30, 30), (30, 30, 200)], np.uint8)


def squares(number=8):
    """uint8 [T, H, W, 3] and index masks [T, H, W]: both squares move to the right."""
    masks = np.zeros((number, *SIZE), np.uint8)
    for t in range(number):
        masks[t, 4:4 + SIDE, 4 + 3 * t:4 + 3 * t + SIDE] = 1
        masks[t, 26:26 + SIDE, 8 + 3 * t:8 + 3 * t + SIDE] = 2
    return COLORS[masks], masks


def clip_of(frames, fps=10.0):
    clip = Clip("squares.mp4")
    clip.original = frames.shape[1:3]
    for t, frame in enumerate(frames):
        clip.add(frame, t / fps, (t + 1) / fps)
    return clip


def draw(work, frame, number):
    """Gives the true mask of an object as a prompt."""
    work._set(frame, number, Prompt(squares()[1][frame] == number))


def overlap(mask, wanted):
    return (mask & wanted).sum() / (mask | wanted).sum()
