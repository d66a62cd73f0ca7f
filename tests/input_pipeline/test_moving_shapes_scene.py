"""Content of made clips: twins, motions that can be attributes apart, places."""

import numpy as np
import pytest

from vseg_jax.input_pipeline.builders.moving_shapes.scene import ATTRIBUTES, Appearance, draw_scene

SETTINGS = dict(height=64, width=64, length=16, actors=(2, 5), differs=(1, 1, 1, 1, 1), drift=0.1)


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(np.random.default_rng(i), **SETTINGS) for i in range(300)]


def test_the_seed_decides(scenes):
    again = draw_scene(np.random.default_rng(7), **SETTINGS)
    assert again.appearances == scenes[7].appearances and again.order == scenes[7].order
    np.testing.assert_array_equal(again.paths[0].center, scenes[7].paths[0].center)


def test_distractors_differ_in_one_attribute_and_all_actors_differ(scenes):
    for scene in scenes:
        assert 2 <= len(scene.appearances) <= 5
        assert max(scene.distractors) >= 0
        for i, one in enumerate(scene.appearances):
            if scene.distractors[i] >= 0:
                assert one.differs(scene.appearances[scene.distractors[i]]) == [scene.differs_in(i)]
            assert all(one.differs(other) for j, other in enumerate(scene.appearances) if j != i)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_weights_select_the_attribute_in_which_distractors_differ(attribute):
    weights = tuple(float(a == attribute) for a in ATTRIBUTES)
    for i in range(20):
        scene = draw_scene(np.random.default_rng(i), **SETTINGS | {"differs": weights})
        attributes = {scene.differs_in(a) for a in range(len(scene.appearances))} - {""}
        assert attributes == {attribute}


def test_all_attributes_are_drawn_about_as_often(scenes):
    attributes = [scene.differs_in(a) for scene in scenes for a in range(len(scene.appearances))]
    for attribute in ATTRIBUTES:
        assert attributes.count(attribute) > 0.1 * len(attributes)


def test_a_plain_disc_does_not_rotate_and_a_changing_size_is_empty():
    turning = Appearance("red", "circle", "small", "plain", "rotating")
    assert not turning.can_be_seen()
    assert Appearance("red", "circle", "small", "striped", "rotating").can_be_seen()
    assert not Appearance("red", "star", "small", "plain", "growing").can_be_seen()
    growing = Appearance("red", "star", "", "plain", "growing")
    assert growing.differs(Appearance("red", "star", "small", "plain", "left")) == ["motion"]


def _seen_motion(path, drift) -> str:
    """Names a motion from the path alone, by rules that know nothing of how it was made."""
    center = path.center - drift * np.arange(len(path.angle))[:, None]
    way = np.abs(np.diff(center, axis=0)).sum(axis=0)
    net = center[-1] - center[0]
    if path.radius[-1] > 1.6 * path.radius[0]:
        return "growing"
    if path.radius[0] > 1.6 * path.radius[-1]:
        return "shrinking"
    if way.sum() < 1e-9:
        return "rotating" if abs(path.angle[-1] - path.angle[0]) > 2 else "still"
    for axis, names in ((0, ("left", "right")), (1, ("up", "down"))):
        if abs(net[axis]) > 0.35 * 64 and abs(net[axis]) > 0.99 * way.sum():
            return names[int(net[axis] > 0)]
    return "circling" if way[0] > 0.5 * way[1] else "bouncing"


def test_motions_can_be_recognized_from_the_paths(scenes):
    for scene in scenes:
        for appearance, path in zip(scene.appearances, scene.paths, strict=True):
            assert _seen_motion(path, scene.drift) == appearance.motion


def test_small_and_large_are_far_apart_and_a_clip_scale_keeps_their_ratio(scenes):
    radii = {"small": [], "large": []}
    for scene in scenes:
        for appearance, path in zip(scene.appearances, scene.paths, strict=True):
            if appearance.size:
                radii[appearance.size].append(path.radius[0])
    assert min(radii["large"]) > 1.4 * max(radii["small"])
    one, two = (draw_scene(np.random.default_rng(3), **SETTINGS, scale=s) for s in (1.0, 1.2))
    assert one.appearances == two.appearances
    np.testing.assert_allclose(two.paths[0].radius, 1.2 * one.paths[0].radius)


def test_centers_stay_in_the_frame_of_any_format():
    for height, width in ((40, 96), (96, 40)):
        for i in range(30):
            scene = draw_scene(np.random.default_rng(i),
                               **SETTINGS | {"height": height, "width": width})
            for path in scene.paths:
                assert (path.center > 0).all() and (path.center < [width, height]).all()


def test_one_frame_is_a_clip():
    scene = draw_scene(np.random.default_rng(0), **SETTINGS | {"length": 1})
    assert scene.paths[0].center.shape == (1, 2)
