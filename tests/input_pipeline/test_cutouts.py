"""Cut-outs of stills, each with a distractor: what they look like, where they go, exact masks."""

import colorsys

import numpy as np
import pytest
from archives import palette_png
from PIL import Image

from vseg_jax.input_pipeline.builders import cutouts, prepare, verify
from vseg_jax.input_pipeline.records import decode_image, decode_mask, open_dataset

RED, GROUND = (200, 40, 40), 90
OPTIONS = {"objects": ("thing_",), "backgrounds": ("ground_",), "height": 64, "width": 96,
           "length": 5, "videos": 2, "pairs": 1}


@pytest.fixture
def source(tmp_path):
    """A red L with a small green square beside it, a gray object, and a gray background."""
    (tmp_path / "stills/images").mkdir(parents=True)
    masks = {name: np.zeros((40, 60), np.uint8) for name in ("thing_a", "gray_b", "ground_c")}
    masks["thing_a"][5:35, 10:18] = masks["thing_a"][27:35, 10:40] = 3
    masks["thing_a"][5:9, 50:54], masks["thing_a"][0] = 7, 255
    masks["gray_b"][5:35, 10:30] = masks["ground_c"][30:, 40:] = 1
    for name, mask in masks.items():
        image = np.full((40, 60, 3), GROUND, np.uint8)
        image[mask == 3], image[mask == 7] = RED, (40, 200, 40)
        Image.fromarray(image).save(tmp_path / f"stills/images/{name}.png")
        palette_png(tmp_path / f"stills/masks/{name}.png", mask)
    return tmp_path / "stills"


def videos(source, prepared, **changes):
    """[(frames [T, H, W, 3], masks [T, H, W])] of the split."""
    folder = prepare("cutouts", source, prepared, OPTIONS | changes)
    dataset = open_dataset(folder, "test")
    records = [dataset[i] for i in range(len(dataset))]
    assert all([o.id for o in r.objects] == list(range(1, 1 + len(r.objects))) for r in records)
    return [(np.stack([decode_image(f, "") for f in r.frames]),
             np.stack([decode_mask(m, "") for m in r.masks])) for r in records]


def box(mask):
    """(center [2], content of the bounding box) of a mask."""
    y, x = np.nonzero(mask)
    center = np.array([y.min() + y.max() + 1, x.min() + x.max() + 1]) / 2
    return center, mask[y.min():y.max() + 1, x.min():x.max() + 1]


def test_a_cutout_and_its_distractor_change_places(source, tmp_path):
    assert verify("cutouts", source, OPTIONS) == []
    for frames, masks in videos(source, tmp_path / "data"):
        assert frames.shape == (5, 64, 96, 3) and set(np.unique(masks)) == {0, 1, 2}
        assert (frames[masks == 0] == GROUND).all() and (frames[masks > 0] != GROUND).any(-1).all()
        colors = [np.median(frames[0][masks[0] == k], axis=0) for k in (1, 2)]
        np.testing.assert_array_equal(colors[0], RED)
        hue, saturation, value = colorsys.rgb_to_hsv(*(colors[1] / 255))
        assert 60 - 2 <= 360 * min(hue, 1 - hue) <= 180
        assert saturation == pytest.approx(0.8, abs=0.02) and value == pytest.approx(200 / 255)
        (here, one), (there, other) = (box(masks[0] == k) for k in (1, 2))
        for k, goal in ((1, there), (2, here)):
            np.testing.assert_allclose(box(masks[-1] == k)[0], goal, atol=1.6)
        assert np.linalg.norm(here - there) > 30
        height, width = np.minimum(one.shape, other.shape)
        assert 0.35 * 64 - 2 <= max(one.shape) <= 0.5 * 64 + 2
        mirrored = other[:height, ::-1][:, :width]
        assert (one[:height, :width] == mirrored).mean() > 0.9
        assert (one[:height, :width] == mirrored[:, ::-1]).mean() < 0.8


def test_a_video_depends_on_its_number_and_the_seed_alone(source, tmp_path):
    first, second = (masks for _, masks in videos(source, tmp_path / "data"))
    [again] = (masks for _, masks in videos(source, tmp_path / "data", videos=1))
    np.testing.assert_array_equal(again, first)
    assert (first != second).any()
    [(_, masks)] = videos(source, tmp_path / "data", videos=1, pairs=2, seed=1)
    assert set(np.unique(masks[0])) == {0, 1, 2, 3, 4} and (masks != first).any()


def test_what_cannot_be_cut_out_is_named(source, tmp_path):
    with pytest.raises(ValueError, match=r"in a color whose hue can be turned .* option 'objects'"):
        videos(source, tmp_path / "data", objects=("gray_",))
    with pytest.raises(ValueError, match="whose path begins with 'sky_'"):
        videos(source, tmp_path / "data", backgrounds=("sky_",))
    (source / "masks/thing_a.png").unlink()
    assert "images without a mask" in verify("cutouts", source, OPTIONS)[0]
    with pytest.raises(ValueError, match=r"stills .* are incomplete"):
        videos(source, tmp_path / "data")


@pytest.mark.parametrize(("options", "message"), [
    ({"height": 31}, "at least 32x32"), ({"length": 1}, "2 frames long"),
    ({"pairs": 0}, "pairs must lie within 1 to 127"), ({"hue": (90, 60)}, "hue must be"),
])
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        cutouts.Options(**options)
