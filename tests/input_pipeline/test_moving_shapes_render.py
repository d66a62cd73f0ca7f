"""Drawing: exact masks, soft edges, depth, flow against finite differences and warped frames."""

import cv2
import numpy as np
import pytest

from vseg_jax.input_pipeline.builders.moving_shapes.paths import Path
from vseg_jax.input_pipeline.builders.moving_shapes.render import (
    RGB,
    render,
    screen_from_shape,
)
from vseg_jax.input_pipeline.builders.moving_shapes.scene import (
    SHAPES,
    Appearance,
    Scene,
    draw_scene,
)
from vseg_jax.input_pipeline.builders.moving_shapes.shapes import shape_distance
from vseg_jax.input_pipeline.builders.moving_shapes.style import Style, draw_style

SIZE = 64


def flat_style(gray: float = 200.0, margin: int = 8) -> Style:
    side = SIZE + 2 * margin
    return Style(np.full((side, side, 3), gray, np.float32), margin,
                 np.ones((SIZE, SIZE, 3), np.float32), (0.0, 0.0, 0.0), 0.0, 0.0)


def scene_of(*actors: tuple[Appearance, Path], drift=(0.0, 0.0)) -> Scene:
    appearances, paths = zip(*actors, strict=True)
    order, distractors = tuple(range(len(actors))), (-1,) * len(actors)
    return Scene(appearances, paths, order, np.array(drift), distractors)


def path(center, angle=(0.0, 0.0), radius=(12.0, 12.0)) -> Path:
    return Path(np.array(center, float), np.array(angle, float), np.array(radius, float))


def appearance(shape: str, color: str = "red", texture: str = "plain") -> Appearance:
    return Appearance(color, shape, "small", texture, "still")


def pixel_centers() -> np.ndarray:
    axis = np.arange(SIZE) + 0.5
    return np.stack(np.meshgrid(axis, axis), -1)


def draw(scene: Scene, style: Style | None = None):
    return render(scene, style or flat_style(), np.random.default_rng(0))


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_cover_pixels_whose_center_is_inside(shape):
    where = path([[31.3, 30.2], [33.0, 30.0]], angle=(0.4, 0.5), radius=(14.0, 15.0))
    masks = draw(scene_of((appearance(shape), where))).masks
    for t in range(2):
        to_shape = np.linalg.inv(screen_from_shape(where)[t])
        own = pixel_centers() @ to_shape[:2, :2].T + to_shape[:2, 2]
        distance = shape_distance(shape, own) * where.radius[t]
        clear = np.abs(distance) > 0.25  # pixels; nearer the edge the table's corners are rounded
        np.testing.assert_array_equal(masks[t][clear] == 1, distance[clear] < 0)
        assert (masks[t] == 1).sum() > 0.25 * where.radius[t] ** 2


def test_area_and_coverage_of_a_disc_by_hand():
    where = path([[32.25, 32.5]], angle=[0.0], radius=[20.0])
    result = draw(scene_of((appearance("circle"), where)))
    assert abs((result.masks[0] == 1).sum() - np.pi * 19**2) < 12  # the disc's radius is 0.95
    green = result.frames[0][32, :, 1].astype(float)
    assert green[5] == 200 and tuple(result.frames[0][32, 32]) == RGB["red"]
    # in this row the disc begins at x = 13.25: three quarters of pixel 13 are covered, by a rim
    # that is 0.45 * (1 - 0.25 / 2.4) darker than red, whose green is 45
    rim = 45 * (1 - 0.45 * (1 - 0.25 / 2.4))
    np.testing.assert_allclose(green[12:14], [200, 0.25 * 200 + 0.75 * rim], atol=4)


def test_the_nearer_actor_hides_the_farther_one():
    one, two = path([[28.0, 32.0]], [0.0], [12.0]), path([[36.0, 32.0]], [0.0], [12.0])
    scene = scene_of((appearance("square"), one), (appearance("square", "blue"), two))
    for order, expected in (((0, 1), 2), ((1, 0), 1)):
        result = draw(Scene(scene.appearances, scene.paths, order, scene.drift, scene.distractors))
        assert result.masks[0, 32, 32] == expected
        color = RGB["blue" if expected == 2 else "red"]
        assert tuple(result.frames[0, 32, 32]) == color
        assert result.masks[0, 32, 20] == 1 and result.masks[0, 32, 44] == 2


def test_flow_by_hand():
    still = path([[10.0, 50.0], [10.0, 50.0]], radius=(6.0, 6.0))
    turns = path([[40.0, 30.0], [42.0, 29.0]], angle=(0.0, np.pi / 2), radius=(10.0, 20.0))
    circle = appearance("circle")
    flow = draw(scene_of((circle, turns), (circle, still), drift=(0.5, -0.25))).flow
    assert flow.shape == (1, SIZE, SIZE, 2) and flow.dtype == np.float32
    np.testing.assert_allclose(flow[0, 0, 0], [0.5, -0.25])  # the background goes with the camera
    np.testing.assert_allclose(flow[0, 50, 10], [0, 0], atol=1e-5)
    # the pixel center (45.5, 30.5) lies (5.5, 0.5) from the center; a quarter turn (x, y) ->
    # (-y, x), twice as far: (-1, 11) from the new center, which is (41, 40)
    np.testing.assert_allclose(flow[0, 30, 45], [41 - 45.5, 40 - 30.5], atol=1e-4)


def test_flow_leads_to_the_same_material_point():
    for seed in range(12):
        scene = draw_scene(np.random.default_rng(seed), height=SIZE, width=SIZE, length=8,
                           actors=(3, 4), differs=(1,) * 5, drift=0.1)
        result = draw(scene)
        for t in range(7):
            there = pixel_centers() + result.flow[t]
            for i, where in enumerate(scene.paths):
                inside = result.masks[t] == i + 1
                back = [np.linalg.inv(screen_from_shape(where)[s]) for s in (t, t + 1)]
                own = [p[inside] @ m[:2, :2].T + m[:2, 2]
                       for p, m in zip((pixel_centers(), there), back, strict=True)]
                np.testing.assert_allclose(own[0], own[1], atol=1e-4)
            ground = result.masks[t] == 0
            np.testing.assert_allclose(result.flow[t][ground], np.broadcast_to(
                scene.drift, (ground.sum(), 2)), atol=1e-6)


def test_the_next_frame_warped_back_is_this_frame():
    """Photometric check of a textured, turning, growing actor over a drifting background."""
    drift = (0.8, -0.6)
    style = draw_style(np.random.default_rng(1), SIZE, SIZE, 8.0, (), ("clutter",))
    style = Style(cv2.GaussianBlur(style.canvas, (0, 0), 2), style.margin, style.gain,
                  (0.0, 0.0, 0.0), 0.0, 0.0)
    where = path([[30.0, 30.0], [32.5, 31.0]], angle=(0.1, 0.3), radius=(20.0, 22.0))
    result = draw(scene_of((appearance("heart", texture="dotted"), where), drift=drift), style)
    points = (pixel_centers() - 0.5 + result.flow[0]).astype(np.float32)
    back = cv2.remap(result.frames[1].astype(np.float32), points[..., 0], points[..., 1],
                     cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    error = np.abs(back - result.frames[0]).mean(-1)
    still = np.abs(result.frames[1].astype(float) - result.frames[0]).mean(-1)
    core = cv2.erode((result.masks[0] == 1).astype(np.uint8), np.ones((3, 3))) > 0
    ground = cv2.dilate((result.masks.max(0) > 0).astype(np.uint8), np.ones((5, 5))) == 0
    ground[:2], ground[-2:], ground[:, :2], ground[:, -2:] = False, False, False, False
    assert error[core].mean() < 0.35 * still[core].mean()
    assert error[ground].mean() < 0.7 and error[ground].mean() < 0.35 * still[ground].mean()


def test_rotation_is_visible_inside_the_mask():
    for shape, texture in (("circle", "striped"), ("ring", "dotted"), ("square", "plain")):
        where = path([[32.0, 32.0]] * 2, angle=(0.0, 0.25), radius=(11.0, 11.0))
        frames = draw(scene_of((appearance(shape, texture=texture), where))).frames.astype(float)
        assert (np.abs(frames[1] - frames[0]).max(-1) > 25).sum() > 20


def test_each_shift_changes_its_own_part_of_the_style():
    plain = draw_style(np.random.default_rng(5), SIZE, SIZE, 4.0, ())
    parts = {"background": "canvas", "light": "gain", "noise": "noise"}
    for shift in parts:
        kinds = ("clutter",) if shift == "background" else ("pale",)
        style = draw_style(np.random.default_rng(5), SIZE, SIZE, 4.0, (shift,), kinds)
        for other, part in parts.items():
            same = np.array_equal(getattr(style, part), getattr(plain, part))
            assert same == (other != shift)
    assert plain.noise == plain.blur == 0


def test_an_actor_outside_the_frame_is_allowed():
    where = path([[-60.0, -60.0], [32.0, 70.0]])
    masks = draw(scene_of((appearance("star"), where))).masks
    assert not masks[0].any() and masks[1].any()
