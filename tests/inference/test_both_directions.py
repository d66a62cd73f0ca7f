"""Videos whose masks are not those of frame 0: what comes before them, without and with a pass
backward."""

import tempfile

import numpy as np
import pytest
import standin

from vseg_jax.inference.backward import Spool
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.inference.session import Session

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
    with pytest.warns(UserWarning, match="ids have gaps: 2, 4") as warned:
        predictions = list(follower.segment(frames, masks=masks, both_directions=True))
    assert len(warned) == 1
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
    queries = standin.segmenter()
    with pytest.raises(ValueError, match="both_directions is for models that take mask prompts"):
        queries.segment(frames, "red", both_directions=True)


def test_a_spool_returns_what_was_added():
    random = np.random.default_rng(0)
    arrays = [random.integers(0, 256, (n, 3, 2)).astype(kind)
              for n, kind in ((4, np.uint8), (0, np.float16), (5, np.float16))]
    with tempfile.TemporaryFile() as file:
        spool = Spool(file)
        assert [spool.add(array) for array in arrays] == [0, 1, 2] and len(spool) == 3
        for place in (2, 0, 1, 2):
            found = spool[place]
            assert (found == arrays[place]).all() and found.dtype == arrays[place].dtype


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("both", [False, True])
def test_ids_without_gaps_over_all_masks_are_no_reason_to_warn(follower, squares, both):
    frames, truth = squares
    masks = {1: np.where(truth[1] == 1, 2, 0), 4: np.where(truth[4] == 2, 1, 0)}
    found = list(follower.segment(frames, masks=masks, both_directions=both))
    assert found[5].ids == (2, 1)


def test_errors_name_the_frame_of_the_video(follower, squares):
    frames, truth = squares
    tiny = np.zeros(SIZE, np.uint8)
    tiny[1, 1] = 1
    small = Segmenter(follower.model, follower.variables, short_side=3)
    for masks in ({2: tiny}, {2: tiny, 4: truth[4]}, {0: truth[0], 2: tiny}):
        for both in (False, True):
            with pytest.raises(ValueError, match="object 1 of the mask of frame 2 at 4 x 3"):
                list(small.segment(frames, masks=masks, both_directions=both))
    four = np.arange(24 * 32).reshape(SIZE) % 5
    with pytest.raises(ValueError, match=r"4 objects .* with the mask of frame 3, but"):
        list(follower.segment(frames, masks={3: four}))
    session = Session(follower.engine, [frames[3]], masks=[truth[3]], single=True, number=3,
                      direction=-1)
    assert [session.first.frame, session.step(frames[2]).frame] == [3, 2]
    with pytest.raises(ValueError, match="frame 1 is 31 x 24, those before it are 32 x 24"):
        session.step(frames[1][:, 1:])


def test_the_temporary_file_is_closed_at_every_end(follower, squares, monkeypatch):
    frames, truth = squares
    files = []
    monkeypatch.setattr(tempfile, "TemporaryFile",
                        lambda make=tempfile.TemporaryFile: files.append(make()) or files[-1])

    def predictions(frames=frames):
        return follower.segment(frames, masks={3: truth[3]}, both_directions=True)

    whole = predictions()
    assert len(list(whole)) == 6 and files.pop().closed, "at the end"
    stopped = predictions()
    next(stopped)
    [file] = files
    assert not file.closed
    stopped.close()
    assert file.closed and not list(stopped), "where the caller stops"
    with pytest.raises(ValueError, match="frame 2 is 31 x 24") as raised:
        list(predictions([*frames[:2], frames[2][:, 1:]]))
    assert files[1].closed, "after an error of the pass backward"
    with pytest.raises(ValueError, match="frame 5 is 31 x 24"):
        list(predictions([*frames[:5], frames[5][:, 1:]]))
    assert files[2].closed and raised, "after an error of the pass forward"


def test_a_mask_of_the_video_speaks_for_the_objects_that_are_named(follower, squares):
    frames, truth = squares
    nothing = np.zeros(SIZE, np.uint8)
    masks = {0: truth[0], 2: nothing, 4: truth[4]}
    session = follower.start(frames[0], mask=truth[0])
    wanted = [session.first, session.step(frames[1]),
              session.step(frames[2], nothing, objects=[1]), session.step(frames[3]),
              session.step(frames[4], truth[4], objects=[2]), session.step(frames[5])]
    found = list(follower.segment(frames, masks=masks, objects={2: {1}, 4: np.array([2])}))
    for one, other in zip(found, wanted, strict=True):
        assert one.ids == other.ids and (one.probability == other.probability).all()
    assert (found[2].index == np.where(truth[2] == 1, 0, truth[2])).all()
    late = list(follower.segment(frames, masks={0: truth[0], 3: truth[3]}, objects={0: [2]}))
    assert [p.ids for p in late] == [(2,)] * 3 + [(2, 1)] * 3
    assert (late[0].index == np.where(truth[0] == 2, 2, 0)).all()
    for objects, said in (
        ({2: [7]}, "object 7 is unknown and has no pixel in the mask of frame 2"),
        ({2: [0]}, "objects of the mask of frame 2 has 0; ids are integers from 1 to 254"),
        ({2: [1], 3: [1]}, "there are objects but no mask for frame 3; give a mask"),
        ({}, "the mask of frame 2 has no object: every pixel is 0"),
    ):
        with pytest.raises(ValueError, match=said):
            follower.segment(frames, masks=masks, objects=objects)
    with pytest.raises(ValueError, match="takes a mask prompt"):
        follower.segment(frames, masks={2: nothing}, objects={2: []})
    queries = standin.segmenter()
    with pytest.raises(ValueError, match="there are objects but no mask for frame 0"):
        queries.segment(frames, "red", objects={0: [1]})


def test_an_object_may_be_absent_from_a_frame_before_its_first_mask(follower, squares):
    frames, truth = squares
    nothing = np.zeros(SIZE, np.uint8)
    masks = {0: truth[0] == 1, 1: nothing, 2: nothing, 4: truth[4] * (truth[4] == 2)}
    found = list(follower.segment(frames, masks=masks, objects={1: [1], 2: [2]},
                                  both_directions=True))
    for t, prediction in enumerate(found):
        wanted = np.where(truth[t] == t, 0, truth[t])   # 1 is not in frame 1, 2 not in frame 2
        assert set(prediction.ids) == {1, 2} and (prediction.index == wanted).all()
    forward = list(follower.segment(frames, masks=masks, objects={1: [1], 2: [2]}))
    assert [p.ids for p in forward] == [(1,)] * 4 + [(1, 2)] * 2
