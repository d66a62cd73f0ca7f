"""Videos whose masks are not those of frame 0: what comes before them, without and with a pass
backward."""

import numpy as np
import pytest
import standin

from vseg_jax.inference.backward import Spool
from vseg_jax.inference.segmenter import Segmenter

SIZE = (24, 32)


def test_frames_before_the_first_mask_have_no_object(follower, squares):
    frames, truth = squares
    predictions = list(follower.segment(frames, masks={2: truth[2]}))
    assert [p.frame for p in predictions] == list(range(6))
    for t, prediction in enumerate(predictions):
        assert (prediction.image == frames[t]).all()
        assert prediction.ids == ((1, 2) if t >= 2 else ())
        assert (prediction.index == (truth[t] if t >= 2 else 0)).all()
        assert prediction.masks.shape == (len(prediction.ids), *SIZE)
    alone = list(follower.segment(frames[2:], mask=truth[2]))
    for late, single in zip(predictions[2:], alone, strict=True):
        assert (late.probability == single.probability).all(), "the model starts with that frame"
    with pytest.warns(UserWarning, match="masks of frames 9 were not used"):
        assert not any(p.ids for p in follower.segment(frames, masks={9: truth[0]}))


def test_both_directions_fill_the_frames_before_a_mask(follower, squares):
    frames, truth = squares
    predictions = list(follower.segment(iter(frames), masks={3: truth[3]}, both_directions=True))
    assert [p.frame for p in predictions] == list(range(6))
    assert all((p.index == t).all() for p, t in zip(predictions, truth, strict=True))
    reverse = list(follower.segment(frames[3::-1], mask=truth[3]))[::-1]
    forward = list(follower.segment(frames[3:], mask=truth[3]))
    for prediction, wanted in zip(predictions, reverse[:3] + forward, strict=True):
        assert prediction.ids == (1, 2)
        np.testing.assert_allclose(prediction.probability, wanted.probability, atol=1e-3)
        np.testing.assert_allclose(prediction.scores, wanted.scores, atol=1e-6)


def test_each_object_is_followed_backward_from_its_own_first_mask(follower, squares):
    frames, truth = squares
    masks = {1: np.where(truth[1] == 1, 4, 0), 4: np.where(truth[4] == 2, 2, 0)}
    with pytest.warns(UserWarning, match="ids have gaps"):
        predictions = list(follower.segment(frames, masks=masks, both_directions=True))
    wanted = np.array([0, 4, 2])
    for t, prediction in enumerate(predictions):
        assert prediction.ids == (4, 2) and (prediction.index == wanted[truth[t]]).all()
        assert prediction.probability.sum(0).max() <= 1 + 1e-5
    with pytest.warns(UserWarning, match="ids have gaps"):
        forward = list(follower.segment(frames, masks=masks))
    for t, single in enumerate(forward):   # what has its first mask is left to the pass forward
        assert single.ids == ((), (4,), (4,), (4,), (4, 2), (4, 2))[t]
        if 4 in single.ids:
            apart = (predictions[t].probability.sum(0) < 1) | (t >= 4)
            assert (predictions[t].probability[0] == single.probability[0])[apart].all()


def test_both_directions_with_a_mask_of_frame_0_or_none_in_the_video(follower, squares):
    frames, truth = squares
    plain = follower.segment(frames, mask=truth[0])
    for one, other in zip(follower.segment(frames, mask=truth[0], both_directions=True), plain,
                          strict=True):
        assert (one.probability == other.probability).all()
    with pytest.warns(UserWarning, match="masks of frames 9 were not used"):
        short = list(follower.segment(frames, masks={2: truth[2] == 1, 9: truth[0]},
                                      both_directions=True))
    assert all((p.index == (t == 1)).all() for p, t in zip(short, truth, strict=True))
    with pytest.raises(ValueError, match="frame 1 is 31 x 24, those before it are 32 x 24"):
        list(follower.segment([frames[0], frames[1][:, 1:]], masks={1: truth[1]},
                              both_directions=True))
    queries = Segmenter(standin.Standin(), standin.variables(), standin.tokenizer(), standin.CLIP)
    with pytest.raises(ValueError, match="both_directions is for models that take mask prompts"):
        queries.segment(frames, "red", both_directions=True)


def test_a_spool_returns_what_was_added():
    spool, random = Spool(), np.random.default_rng(0)
    arrays = [random.integers(0, 256, (n, 3, 2)).astype(kind)
              for n, kind in ((4, np.uint8), (0, np.float16), (5, np.float16))]
    assert [spool.add(array) for array in arrays] == [0, 1, 2]
    for place in (2, 0, 1, 2):
        assert (spool[place] == arrays[place]).all() and spool[place].dtype == arrays[place].dtype
