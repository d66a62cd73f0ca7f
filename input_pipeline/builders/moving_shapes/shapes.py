"""Shapes and textures as signed distances, in units of a shape's radius; x right, y down."""

from __future__ import annotations

import functools

import numpy as np

SAMPLES = 160  # along a side of a table
REACH = 1.45  # a table covers [-REACH, REACH]^2 radii


@functools.cache
def table_of(shape: str, texture: str) -> np.ndarray:
    """Returns float32 [SAMPLES, SAMPLES, 2]: distance to the shape's edge, and to its pattern."""
    axis = np.linspace(-REACH, REACH, SAMPLES)
    points = np.stack(np.meshgrid(axis, axis), -1)
    return np.stack([shape_distance(shape, points), _pattern(texture, points)], -1).astype(
        np.float32)


def shape_distance(shape: str, points: np.ndarray) -> np.ndarray:
    """Returns the signed distance, negative inside, of points [..., 2] to a shape of radius 1."""
    r = np.linalg.norm(points, axis=-1)
    if shape == "circle":
        return r - 0.95
    if shape == "ring":
        return np.abs(r - 0.73) - 0.25
    return _polygon_distance(_corners(shape), points)


def _corners(shape: str) -> np.ndarray:
    """Returns the corners [n, 2] of a shape of radius about 1."""
    if shape == "square":
        return 0.84 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    if shape == "triangle":
        turn = 2 * np.pi * np.arange(3) / 3
        return 1.15 * np.stack([np.sin(turn), -np.cos(turn) + 0.15], -1)
    if shape == "star":
        turn = 2 * np.pi * np.arange(10) / 10
        far = np.where(np.arange(10) % 2, 0.52, 1.15)
        return far[:, None] * np.stack([np.sin(turn), -np.cos(turn)], -1)
    if shape == "cross":
        a, b = 0.34, 1.0
        quarter = np.array([[-a, -b], [a, -b], [a, -a]])
        turns = [np.linalg.matrix_power([[0, 1], [-1, 0]], n) for n in range(4)]
        return np.concatenate([quarter @ turn for turn in turns])
    if shape == "crescent":  # a disc minus a disc of radius 0.74, 0.5 away
        bite, away = 0.74, 0.5
        outer = np.arccos((1 - bite**2 + away**2) / (2 * away))
        inner = np.arccos((1 - bite**2 - away**2) / (2 * away * bite))
        out, back = np.linspace(outer, 2 * np.pi - outer, 48), np.linspace(
            2 * np.pi - inner, inner, 32)[1:-1]
        arcs = np.concatenate([np.stack([np.cos(out), np.sin(out)], -1), np.stack(
            [bite * np.cos(back) + away, bite * np.sin(back)], -1)])
        c, s = np.cos(-0.25), np.sin(-0.25)
        return arcs @ np.array([[c, s], [-s, c]])
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)  # heart
    x = 16 * np.sin(turn) ** 3
    y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))
    return np.stack([x, y - 1.5], -1) / 16


def _polygon_distance(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    nearest = np.full(points.shape[:-1], np.inf)
    inside = np.zeros(points.shape[:-1], bool)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        edge, rest = b - a, points - a
        along = np.clip(rest @ edge / (edge @ edge), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(rest - along[..., None] * edge, axis=-1))
        if a[1] != b[1]:
            spans = (a[1] > points[..., 1]) != (b[1] > points[..., 1])
            crossing = a[0] + (points[..., 1] - a[1]) / (b[1] - a[1]) * (b[0] - a[0])
            inside ^= spans & (points[..., 0] < crossing)
    return np.where(inside, -nearest, nearest)


def _pattern(texture: str, points: np.ndarray) -> np.ndarray:
    """Returns the signed distance, negative inside, to the part in a texture's second color."""
    x, y = points[..., 0], points[..., 1]
    if texture == "striped":
        period = 0.62
        u = (x + y) / np.sqrt(2)
        return np.abs((u + 0.25 * period) % period - period / 2) - period / 4
    if texture == "dotted":
        period = 0.64
        u, v = ((c + 0.5 * period) % period - period / 2 for c in (x + 0.1, y))
        return np.hypot(u, v) - 0.19
    if texture == "checkered":
        period = 1.0
        u, v = (np.abs((c + 0.25 * period) % period - period / 2) - period / 4 for c in (x, y))
        return np.where(u * v > 0, 1, -1) * np.minimum(np.abs(u), np.abs(v))
    return np.ones_like(x)
