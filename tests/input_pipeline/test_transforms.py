import numpy as np
import pytest
from PIL import Image

from vseg_jax.inference.geometry import to_original
from vseg_jax.input_pipeline.clips import clip_frames
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.transforms import (
    Geometry,
    apply_color,
    plain_geometry,
    random_color,
    random_geometry,
)


def config(**values):
    return ClipConfig(**({"length": 3, "target": 1, "height": 20, "width": 20} | values))


def test_clip_frames_repeat_the_ends():
    np.testing.assert_array_equal(clip_frames(3, 20, 8, 2, 4), [0, 0, 0, 1, 3, 5, 7, 9])
    np.testing.assert_array_equal(clip_frames(18, 20, 4, 1, 1), [17, 18, 19, 19])
    np.testing.assert_array_equal(clip_frames(0, 1, 3, 2, 1), [0, 0, 0])
    np.testing.assert_array_equal(clip_frames(9, 20, 4, np.array([1, 5, 3]), 1), [8, 9, 14, 17])


def test_padding_keeps_the_aspect_ratio_and_is_void():
    geometry = plain_geometry(20, 40, config(height=32, width=32, resize="pad"))
    frame = geometry.frame(np.full((20, 40, 3), 90, np.uint8))
    mask = geometry.mask(np.ones((20, 40), np.uint8))
    assert frame.shape == (32, 32, 3) and mask.shape == (32, 32)
    assert (frame[:16] == 90).all() and (frame[16:] == 0).all()
    assert (mask[:16] == 1).all() and (mask[16:] == 255).all()
    np.testing.assert_allclose(geometry.affine, [0.8, 0.8, 0, 0], rtol=1e-6)


def test_centered_padding():
    """The odd row of padding lies below, as in mmvt's public code."""
    geometry = plain_geometry(20, 40, config(height=33, width=32, resize="pad_centered"))
    frame = geometry.frame(np.full((20, 40, 3), 90, np.uint8))
    mask = geometry.mask(np.ones((20, 40), np.uint8))
    assert (frame[8:24] == 90).all() and not frame[:8].any() and not frame[24:].any()
    assert (mask[8:24] == 1).all() and (mask[:8] == 255).all() and (mask[24:] == 255).all()
    np.testing.assert_allclose(geometry.affine, [0.8, 0.8, 8, 0], rtol=1e-6)
    logits = np.full((33, 32), -9, np.float32)
    logits[8:24] = np.float32(np.arange(16))[:, None]
    inside = to_original(logits, geometry.affine, (20, 40))
    assert inside.shape == (20, 40) and inside.min() == 0 and inside.max() == 15


def test_padding_is_background_where_asked():
    geometry = plain_geometry(20, 40, config(height=32, width=32, resize="pad",
                                             padding="background"))
    mask = geometry.mask(np.ones((20, 40), np.uint8))
    assert (mask[:16] == 1).all() and not mask[16:].any()


def test_centered_padding_of_a_mirrored_crop():
    geometry = random_geometry(20, 10, config(height=32, width=32, resize="pad_centered", flip=1.0),
                               np.random.default_rng(0))
    mask = np.zeros((20, 10), np.uint8)
    mask[:, :5] = 1
    assert geometry.corner == (0, 8)
    columns = np.nonzero((geometry.mask(mask) == 1).all(0))[0]
    assert (columns.min(), columns.max()) == (16, 23)   # 8 to 23 without the mirroring
    np.testing.assert_allclose(geometry.affine, [1.6, -1.6, 0, 24], rtol=1e-6)


def test_bicubic_frames_are_those_of_pillow():
    frame = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    geometry = plain_geometry(30, 40, config(interpolation="bicubic", resize="pad_centered"))
    wanted = np.asarray(Image.fromarray(frame).resize((20, 15), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(geometry.frame(frame)[2:17], wanted)
    assert set(np.unique(geometry.mask(np.full((30, 40), 3, np.uint8)))) == {3, 255}


@pytest.mark.parametrize("resize", ["pad", "stretch"])
def test_training_crops_can_be_smaller_than_the_input(resize):
    clip = config(height=32, width=32, resize=resize, shrink=0.5, flip=0.5)
    drawn = [random_geometry(20, 40, clip, np.random.default_rng(k)) for k in range(60)]
    whole = np.array((16, 32) if resize == "pad" else (32, 32))
    shares = np.array([g.inner for g in drawn]) / whole
    assert np.abs(shares[:, 0] - shares[:, 1]).max() <= 1 / 16, "one share for both axes"
    assert 0.5 <= shares.min() < 0.56 and 0.94 < shares.max() <= 1
    for geometry in drawn[:5]:
        assert (geometry.mask(np.ones((20, 40), np.uint8)) == 1).sum() == np.prod(geometry.inner)
    plain = [random_geometry(20, 40, config(height=32, width=32, resize=resize, flip=0.5),
                             np.random.default_rng(k)) for k in range(9)]
    assert all(g.inner == tuple(whole) for g in plain)
    assert [g.flip for g in plain] == [g.flip for g in drawn[:9]]


def test_stretch_scales_each_axis_separately():
    np.testing.assert_allclose(plain_geometry(10, 40, config()).affine, [2, 0.5, 0, 0])


@pytest.mark.parametrize("size", [(40, 60), (48, 60), (40, 71)])
@pytest.mark.parametrize("flip", [False, True])
def test_affine_maps_the_edges(flip, size):
    mask = np.zeros((30, 40), np.uint8)
    mask[6:9, 11:18] = 5  # edges 6, 9 down and 11, 18 across
    geometry = Geometry(crop=(4, 8, 10, 20), size=size, inner=(40, 60), flip=flip)
    scale_y, scale_x, offset_y, offset_x = geometry.affine
    rows, columns = np.nonzero(geometry.mask(mask) == 5)
    across = sorted([11 * scale_x + offset_x, 18 * scale_x + offset_x])
    assert (rows.min(), rows.max() + 1) == (6 * scale_y + offset_y, 9 * scale_y + offset_y)
    assert [columns.min(), columns.max() + 1] == across


def test_masks_keep_their_values_and_stay_on_their_frame():
    ids = np.kron(np.array([[0, 3], [200, 255]], np.uint8), np.ones((8, 8), np.uint8))
    geometry = Geometry(crop=(0, 0, 16, 16), size=(7, 11), inner=(7, 11))
    mask = geometry.mask(ids)
    assert set(np.unique(mask)) == {0, 3, 200, 255}
    frame = geometry.frame(np.repeat(ids[..., None], 3, axis=2))[..., 0]
    clear = (frame == mask)  # everywhere but where the area average mixes two regions
    assert clear[[0, 1, 2, 4, 5, 6]][:, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]].all()


def test_masks_take_the_pixel_under_each_center():
    row = np.arange(9, dtype=np.uint8)[None]
    np.testing.assert_array_equal(Geometry((0, 0, 1, 9), (1, 3), (1, 3)).mask(row), [[1, 4, 7]])


def test_shrinking_averages_areas():
    checkers = np.indices((16, 16)).sum(0) % 2 * 200
    frame = np.repeat(checkers[..., None], 3, axis=2).astype(np.uint8)
    assert (plain_geometry(16, 16, config(height=8, width=8)).frame(frame) == 100).all()


def test_one_pixel_fills_the_input():
    geometry = plain_geometry(1, 1, config())
    assert (geometry.frame(np.full((1, 1, 3), 7, np.uint8)) == 7).all()
    assert (geometry.mask(np.full((1, 1), 3, np.uint8)) == 3).all()
    rng = np.random.default_rng(0)
    assert random_geometry(1, 1, config(crop=0.2), rng).crop == (0, 0, 1, 1)


def test_random_crops_keep_part_of_the_object_and_reach_everywhere():
    rng = np.random.default_rng(0)
    mask = np.zeros((30, 40), bool)
    mask[3, 37] = True
    crops = [random_geometry(30, 40, config(crop=0.3), rng, mask).crop for _ in range(300)]
    for top, left, height, width in crops:
        assert 9 <= height <= 30 and 12 <= width <= 40
        assert top >= 0 and left >= 0 and top + height <= 30 and left + width <= 40
        assert mask[top:top + height, left:left + width].any()
    assert min(c[2] for c in crops) < 12 and max(c[2] for c in crops) > 27
    free = [random_geometry(30, 40, config(crop=0.3), rng) for _ in range(100)]
    assert not all(mask[c[0]:c[0] + c[2], c[1]:c[1] + c[3]].any() for c in (g.crop for g in free))


def test_flips_have_their_probability():
    rng = np.random.default_rng(0)
    flips = [random_geometry(9, 9, config(flip=0.25), rng).flip for _ in range(400)]
    assert 70 < sum(flips) < 130
    assert not any(random_geometry(9, 9, config(), rng).flip for _ in range(20))


def test_color_keeps_gray_and_strength_zero_changes_nothing():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (4, 5, 3), np.uint8)
    np.testing.assert_array_equal(apply_color(rgb, random_color(0.0, rng)), rgb)
    gray = apply_color(np.full((2, 2, 3), 120, np.uint8), random_color(0.5, rng))
    assert np.ptp(gray) <= 1
    changed = apply_color(rgb, random_color(0.5, rng))
    assert changed.dtype == np.uint8 and (changed != rgb).any()


def test_each_kind_of_jitter_has_its_strength():
    gray, red = np.full((1, 1, 3), 100, np.uint8), np.uint8([[[200, 100, 100]]])
    # Contrast is relative to mid-gray, and saturation leaves gray as it is.
    for strengths, changes in (((0.5, 0, 0), (True, True)), ((0, 0, 0.5), (False, True))):
        matrix = random_color(strengths, np.random.default_rng(1))
        assert tuple((apply_color(x, matrix) != x).any() for x in (gray, red)) == changes
    factor = 1 - 0.5 + np.random.default_rng(1).random(3)   # uniform in [0.5, 1.5]
    matrix = random_color((0, 0.5, 0), np.random.default_rng(1))
    wanted = 127.5 + factor[1] * (100 - 127.5)
    np.testing.assert_allclose(matrix @ [100, 100, 100, 1], wanted)
    same = random_color((0.3, 0.3, 0.3), np.random.default_rng(2))
    np.testing.assert_array_equal(random_color(0.3, np.random.default_rng(2)), same)


@pytest.mark.parametrize("bad", [
    {"target": 3}, {"length": 0}, {"stride": 0}, {"crop": 0.0}, {"flip": 1.5}, {"color": 1.0},
    {"color": (0.1, 0.1, 1.0)}, {"height": 0},
])
def test_invalid_settings(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        config(**bad)
