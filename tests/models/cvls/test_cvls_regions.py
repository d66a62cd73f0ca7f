import jax
import jax.numpy as jnp
import numpy as np
import pytest
from archives import A2D_SIZE, a2d
from tiny_models import quick_jit

from vseg_jax import config
from vseg_jax.input_pipeline.builders import prepare
from vseg_jax.input_pipeline.records import open_dataset
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import WordTokenizer
from vseg_jax.models.cvls.regions import Regions, frame_masks, hard_regions, pool, regions

# One frame; the referent is 2, and 9 is an id above the limit.
INDEX = np.uint8([[2, 2, 1, 1], [2, 0, 255, 1], [9, 9, 0, 0], [9, 0, 0, 255]])


REGIONS = quick_jit(regions, static_argnums=(1, 2))


def batch_of(*frames, object_id=2, annotated=None, valid=True):
    return {
        "masks": jnp.asarray(np.stack(frames))[None],
        "masks_valid": jnp.asarray([annotated or [True] * len(frames)]),
        "object_id": jnp.asarray([object_id]),
        "valid": jnp.asarray([valid]),
    }


def test_frame_masks_by_hand():
    mask, weight = frame_masks(batch_of(INDEX, INDEX, annotated=[True, False]))
    np.testing.assert_array_equal(mask[0, 0], INDEX == 2)
    np.testing.assert_array_equal(weight[0, 0], INDEX != 255)
    np.testing.assert_array_equal((mask[0, 1], weight[0, 1]), 0)


def test_regions_by_hand():
    found = REGIONS(batch_of(INDEX), (2, 2), 3)
    assert found.cover.shape == (1, 1, 5, 2, 2)
    referent, background, first, second, third = found.cover[0, 0]
    np.testing.assert_array_equal(referent, [[0.75, 0], [0, 0]])
    np.testing.assert_array_equal(background, [[0.25, 0], [0.25, 0.75]])
    np.testing.assert_array_equal(first, [[0, 0.75], [0, 0]])
    np.testing.assert_array_equal(second, 0)  # the referent is not a negative of itself
    np.testing.assert_array_equal(third, 0)
    np.testing.assert_array_equal(found.truth[0, 0], [[0.75, 0], [0, 0]])


def test_a_referent_with_an_id_above_the_limit_is_still_one():
    found = REGIONS(batch_of(INDEX, object_id=9), (2, 2), 1)
    np.testing.assert_array_equal(found.cover[0, 0, 0], [[0, 0], [0.75, 0]])


def test_void_leaves_no_trace_in_the_truth():
    frame = np.where(INDEX == 1, 255, INDEX).astype(np.uint8)
    found = REGIONS(batch_of(frame, object_id=2), (1, 1), 1)
    np.testing.assert_allclose(found.truth[0, 0], 3 / 11)  # of 16 pixels 5 are void


@pytest.mark.parametrize("absent", [{"annotated": [False]}, {"valid": False}])
def test_frames_without_annotation_and_invalid_samples_are_in_no_region(absent):
    found = REGIONS(batch_of(INDEX, **absent), (2, 2), 3)
    np.testing.assert_array_equal(found.cover, 0)
    np.testing.assert_array_equal(found.truth, 0)


def test_pool_is_the_mean_over_the_mask():
    features = jnp.arange(8.0).reshape(1, 1, 2, 2, 2)
    each = [[1.0, 0], [1, 0]], [[0, 0.5], [0, 1]], [[0, 0], [0, 0]], [[0, 0.25], [0, 0]]
    cover = jnp.asarray([[each]])
    wanted = [[2, 3], [(1 + 6) / 1.5, (1.5 + 7) / 1.5], [0, 0], [2, 3]]
    np.testing.assert_allclose(pool(features, cover)[0, 0], wanted, rtol=1e-6)


HARD = quick_jit(hard_regions, static_argnames=("share", "wrong_only"))


def logit(p):
    return jnp.asarray(np.log(p) - np.log1p(-p), jnp.float32)


def hard(cover, truth, probability, share=0.25, wrong_only=False):
    found = Regions(jnp.asarray(cover, jnp.float32)[None, None],
                    jnp.asarray(truth, jnp.float32)[None, None])
    logits = logit(np.asarray(probability))[None, None]
    return HARD(found, logits, share=share, wrong_only=wrong_only)[0, 0]


REFERENT = np.float32([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
PROBABILITY = [[0.9, 0.2, 0.8, 0.7], [0.6, 0.95, 0.1, 0.5], [0.3, 0.05, 0.6, 0.9]]


def test_one_to_three_keeps_the_worst_quarter_of_each_region():
    kept = hard([REFERENT, 1 - REFERENT], REFERENT, PROBABILITY)
    # Of 8 pixels the 2 least believed in; of 4 background pixels the one most believed in.
    np.testing.assert_array_equal(kept[0], [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(kept[1], [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize(("share", "count"), [(1 / 3, 3), (0.2, 2), (0.8, 7), (1.0, 8), (0.01, 1)])
def test_the_share_decides_how_many(share, count):
    kept = hard([REFERENT], REFERENT, PROBABILITY, share)
    assert kept.sum() == count  # ceil(share * 8)
    lowest = np.sort(np.array(PROBABILITY)[REFERENT == 1])[count - 1]
    np.testing.assert_array_equal(kept[0] == 1, (np.array(PROBABILITY) <= lowest) & (REFERENT == 1))


def test_equal_pixels_do_not_enlarge_the_selection():
    kept = hard([REFERENT], REFERENT, np.full((3, 4), 0.5))
    np.testing.assert_array_equal(kept[0], [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_partly_covered_cells_weigh_as_much_as_is_covered():
    cover = [[[1.0, 0.5], [0.25, 0.25]]]  # an area of 2: at 1:1 one cell stays
    truth = [[1.0, 0.5], [0.25, 0.25]]
    kept = hard(cover, truth, [[0.7, 0.99], [0.99, 0.99]], share=0.5)
    # D M is 0.3, 0.245, 0.185, 0.185
    np.testing.assert_array_equal(kept[0], [[1, 0], [0, 0]])
    kept = hard(cover, truth, [[0.9, 0.99], [0.99, 0.99]], share=0.5)
    np.testing.assert_array_equal(kept[0], [[0, 0.5], [0, 0]])


def test_an_empty_region_stays_empty_and_a_small_one_keeps_a_pixel():
    small = np.zeros((3, 4), np.float32)
    small[2, 3] = 1
    kept = hard([small, 0 * small], 0 * small, PROBABILITY)
    np.testing.assert_array_equal(kept[0], small)
    np.testing.assert_array_equal(kept[1], 0)


def test_only_wrong_pixels_if_configured():
    kept = hard([REFERENT, 1 - REFERENT], REFERENT, PROBABILITY, share=0.8, wrong_only=True)
    np.testing.assert_array_equal(kept[0], [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(kept[1], [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]])


def test_the_decoder_gets_no_gradient_from_being_selected():
    found = Regions(jnp.asarray(REFERENT)[None, None, None], jnp.asarray(REFERENT)[None, None])
    features = jax.random.normal(jax.random.key(0), (1, 1, 3, 4, 2))

    def pooled(logits):
        kept = hard_regions(found, logits, 0.25, wrong_only=False)
        return pool(features, kept).sum()

    logits = logit(np.asarray(PROBABILITY))[None, None]
    np.testing.assert_array_equal(quick_jit(jax.grad(pooled))(logits), 0)


def test_a_clip_of_a2d_pools_each_annotated_frame_once(tmp_path):
    """The video has two annotated frames, of two objects and of one; the clip has five places."""
    dataset = open_dataset(prepare("a2d_sentences", a2d(tmp_path / "a2d"), tmp_path / "p"), "train")
    settings = config.load("cvls:a2d").clip
    settings.height, settings.width = A2D_SIZE
    samples = ReferringSamples(dataset, config.parse(ClipConfig, settings),
                               WordTokenizer.from_texts(["a dog"], 4), train=False)
    for i, frames in ((0, [0, 0, 0, 1, 1]), (1, [0, 0, 1, 1, 1])):  # the dog in either frame
        sample = samples[i]
        reds = sample["frames"][..., 0].mean((1, 2))
        np.testing.assert_array_equal(reds > 100, np.array(frames) == 1)
        batch = {name: jnp.asarray(sample[name])[None]
                 for name in ("masks", "masks_valid", "object_id", "valid")}
        cover = regions(batch, A2D_SIZE, 3).cover[0]
        present = (cover.sum((-2, -1)) > 0).sum(0)
        assert present.tolist() == [2, 2, 0, 0, 1]  # the dog, the background, the adult (id 3)
        np.testing.assert_array_equal(cover[:, 0].sum((-2, -1)) > 0, sample["masks_valid"])
        assert sample["masks_valid"][2]  # the target
