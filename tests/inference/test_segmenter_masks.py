"""Mask prompts: ids, objects that enter later, sizes, and masks that are refused."""


import numpy as np
import pytest
import standin
import standin_vos
from long_video import last_prediction

from vseg_jax.inference.segmenter import Segmenter

SIZE = (24, 32)


def test_masks_are_propagated_under_their_own_ids(follower, squares):
    frames, truth = squares
    ids = np.array([0, 9, 4], np.uint8)   # red is 9, blue 4
    with pytest.warns(UserWarning, match="ids have gaps: 4, 9"):
        predictions = list(follower.segment(frames, mask=ids[truth[0]]))
    assert [a.frame for a in predictions] == list(range(6))
    for t, prediction in enumerate(predictions):
        assert prediction.ids == (4, 9) and (prediction.image == frames[t]).all()
        assert (prediction.index == ids[truth[t]]).all() and prediction.index.dtype == np.uint8
        assert (prediction.masks == (ids[truth[t]] == np.array([4, 9])[:, None, None])).all()
        assert prediction.probability.shape == (2, *SIZE) and prediction.scores.min() > 0.9
    assert set(np.unique(predictions[0].probability)) == {0, 1}, "the mask prompt itself"


def test_objects_enter_later_and_keep_their_ids(follower, squares):
    frames, truth = squares
    session = follower.start(frames[0], mask=truth[0] == 1)   # a bool mask is object 1
    assert session.first.ids == (1,) and (session.first.index == (truth[0] == 1)).all()
    assert (session.step(frames[1]).index == (truth[1] == 1)).all()
    with pytest.warns(UserWarning, match="ids have gaps: 1, 7"):
        entered = session.step(frames[2], mask=np.where(truth[2] == 2, 7, 0))
    wanted = np.array([0, 1, 7])
    assert entered.ids == (1, 7) and (entered.index == wanted[truth[2]]).all()
    assert (session.step(frames[3]).index == wanted[truth[3]]).all()
    corrected = np.where(truth[4] == 1, 7, 0)   # a known id again: the red one is 7 from here
    assert (session.step(frames[4], corrected).index[truth[4] == 1] == 7).all()
    assert session.step(frames[5]).ids == (1, 7)
    together = list(follower.segment(
        frames, mask=truth[0] == 1, masks={2: np.where(truth[2] == 2, 2, 0)}))
    assert all((a.index == t).all() for a, t in zip(together[2:], truth[2:], strict=True))
    assert together[1].ids == (1,) and together[2].ids == (1, 2)


def test_a_correction_is_the_whole_truth_about_the_objects_that_it_names(follower, squares):
    frames, truth = squares
    session = follower.start(frames[0], mask=truth[0])
    part = (truth[1] == 1) & (np.arange(SIZE[0])[:, None] % 2 == 0)
    assert part.any()
    wanted = np.where((truth[1] == 1) & ~part, 0, truth[1])
    assert (session.step(frames[1], part).index == wanted).all(), "object 1 has lost pixels"
    assert (session.step(frames[2]).index == truth[2]).all()
    gone = session.step(frames[3], np.zeros(SIZE, np.uint8), objects=[1])
    assert gone.ids == (1, 2) and (gone.index == np.where(truth[3] == 1, 0, truth[3])).all()
    # The mask does not speak for object 1: its pixels in it are ignored.
    other = session.step(frames[4], np.where(truth[4] == 2, 0, 1), objects=[2])
    assert (other.index == np.where(truth[4] == 2, 0, truth[4])).all()
    assert (session.step(frames[5]).index == truth[5]).all(), "both are found again"
    together = follower.start_many([frames[0]] * 3, masks=[truth[0]] * 3)
    nothing = np.zeros(SIZE, np.uint8)
    indices = [s.index for s in together.step(
        [frames[1]] * 3, [nothing, None, part], objects=[[2, 1], None, None])]
    for index, of_stream in zip(indices, (nothing, truth[1], wanted), strict=True):
        assert (index == of_stream).all()


def test_objects_of_a_mask_must_be_known_or_have_pixels(follower, squares):
    frames, truth = squares
    session = follower.start(frames[0], mask=truth[0])
    for mask, objects, said in (
        (truth[1], [1, 7], "object 7 is unknown and has no pixel in the mask of frame 1"),
        (truth[1], [0], "has 0; ids are integers from 1 to 254"),
        (truth[1], ["1"], "has '1'; ids are integers"),
        (truth[1], 1, "objects of the mask of frame 1 is 1; give a list of ids"),
        (truth[1], np.array(1), r"objects of the mask of frame 1 is array\(1\); give a list"),
        (None, [1], "there are objects but no mask for frame 1; give a mask"),
        (np.zeros(SIZE, np.uint8), None, "name objects that are gone in `objects`"),
    ):
        with pytest.raises(ValueError, match=said):
            session.step(frames[1], mask, objects=objects)
    assert (session.step(frames[1]).index == truth[1]).all(), "a refused mask changes nothing"


def test_an_object_is_removed_and_its_slot_and_id_are_free(follower, squares):
    frames, truth = squares
    session = follower.start(frames[0], mask=truth[0])
    in_flight = session.push([frames[1]])
    session.remove(1)
    assert session.collect(in_flight)[0].ids == (1, 2), "the frame before it was removed"
    left = session.step(frames[2])
    assert left.ids == (2,) and left.probability.shape[0] == 1
    assert (left.index == np.where(truth[2] == 2, 2, 0)).all() and left.scores.shape == (1,)
    entered = session.step(frames[3], np.where(truth[3] == 1, 3, 0))
    assert entered.ids == (3, 2) and session._state["present"].shape == (1, 3)
    assert (entered.index == np.array([0, 3, 2])[truth[3]]).all()
    session.remove([2, 3])
    assert session.step(frames[4]).ids == () and not session.step(frames[4]).index.any()
    assert (session.step(frames[5], truth[5]).index == truth[5]).all(), "the ids may return"
    together = follower.start_many([frames[0]] * 2, masks=[truth[0]] * 2)
    together.remove(2, stream=1)
    assert [s.ids for s in together.step([frames[1]] * 2)] == [(1, 2), (1,)]


def test_what_cannot_be_removed_is_named_and_changes_nothing(follower, squares):
    frames, truth = squares
    session = follower.start_many([frames[0]] * 2, masks=[truth[0]] * 2)
    for ids, stream, said in (
        (7, 0, "no object 7 to remove; those .*: 1, 2"),
        ([1, 0], 0, "ids has 0; ids are integers from 1 to 254"),
        (np.array(1), 0, r"ids is array\(1\); give a list of ids"),
        (1, -1, "there is no stream -1; the session has 2, numbered from 0"),
        (1, 2, "there is no stream 2; the session has 2"),
    ):
        with pytest.raises(ValueError, match=said):
            session.remove(ids, stream=stream)
    assert [s.ids for s in session.step([frames[1]] * 2)] == [(1, 2)] * 2
    session.step([None, frames[2]])
    with pytest.raises(ValueError, match="stream 0 has ended"):
        session.remove(1)
    session.finish()
    with pytest.raises(ValueError, match="this session is finished"):
        session.remove(1, stream=1)


@pytest.mark.parametrize("kind", [list, tuple, set, np.array])
def test_ids_may_be_any_collection(follower, squares, kind):
    frames, truth = squares
    session = follower.start_many([frames[0]], masks=[truth[0]])
    [gone] = session.step(frames[1:2], [np.zeros(SIZE, np.uint8)], objects=[kind([1, 2])])
    assert gone.ids == (1, 2) and not gone.index.any()
    session.remove(kind([1, 2]))
    assert session.step(frames[2:3])[0].ids == ()


def test_slots_follow_the_number_of_objects(follower, squares):
    frames, truth = squares
    model = standin_vos.Follower(standin_vos.FollowerConfig(objects=11))
    many = Segmenter(model, standin_vos.variables())

    def slots(session):
        return session._state["present"].shape[1] - 1

    session = many.start(frames[0], mask=truth[0] == 1)
    assert slots(session) == 1
    for number, wanted in ((2, 2), (3, 4), (4, 4), (5, 8), (6, 8), (7, 8), (8, 8), (9, 11)):
        mask = np.zeros(SIZE, np.uint8)
        mask[number, :] = number
        assert len(session.step(frames[1], mask).ids) <= slots(session) == wanted
    before = dict(standin_vos.TRACES)
    again = many.start(frames[0], mask=truth[0] == 1)
    again.step(frames[1], np.where(truth[1] == 2, 2, 0))
    assert before == standin_vos.TRACES, "each size is compiled once"
    assert slots(follower.start_many([frames[0]] * 2, masks=[truth[0], truth[0] == 1])) == 2


def test_short_side_changes_the_input_and_not_the_size_of_the_masks(squares):
    frames, truth = squares
    small = standin_vos.segmenter(short_side=12)
    assert small.geometry(24, 32).size == (12, 16) and small.geometry(33, 24).size == (16, 12)
    predictions = list(small.segment(frames, mask=truth[0]))
    for prediction, mask in zip(predictions, truth, strict=True):
        assert prediction.probability.shape == (2, *SIZE)
        assert (prediction.index == mask).mean() > 0.9
        background = 1 - prediction.probability.sum(0)
        assert background.min() > -1e-4
        best = np.concatenate([background[None], prediction.probability]).argmax(0)
        assert (prediction.index == best).all()
    assert (predictions[0].index == truth[0]).all(), "the mask prompt is not resized"


def test_streams_together_are_streams_alone(follower):
    videos = [standin.square_frames(5, SIZE, seed=k) for k in range(8)]
    session = follower.start_many([f[0] for f, _ in videos], masks=[m[0] == 1 for _, m in videos])
    predictions = [session.first]
    for t in range(1, 5):
        # In every second stream the blue square enters at frame 2.
        later = [np.where(m[2] == 2, 2, 0) if k % 2 else None for k, (_, m) in enumerate(videos)]
        predictions.append(session.step([f[t] for f, _ in videos], later if t == 2 else None))
    for k, (frames, truth) in enumerate(videos):
        alone = follower.segment(frames, mask=truth[0] == 1,
                                 masks={2: np.where(truth[2] == 2, 2, 0)} if k % 2 else None)
        for together, single in zip(predictions, alone, strict=True):
            assert together[k].ids == single.ids and together[k].frame == single.frame
            np.testing.assert_allclose(together[k].probability, single.probability, atol=1e-6)
    with pytest.raises(ValueError, match=r"2 sizes \(32 x 24, 20 x 30\)"):
        follower.start_many([np.zeros((24, 32, 3), np.uint8), np.zeros((30, 20, 3), np.uint8)],
                            masks=[np.ones((24, 32)) > 0, np.ones((30, 20)) > 0])
    with pytest.raises(ValueError, match="1 masks for 8 streams"):
        session.step([f[0] for f, _ in videos], [None])
    with pytest.raises(ValueError, match="2 masks for 1 stream; give one per stream"):
        follower.start_many([videos[0][0][0]], masks=[videos[0][1][0]] * 2)


def test_a_long_video_compiles_two_steps_and_keeps_memory_flat(follower, squares):
    frames, truth = squares
    second = np.where(truth[2] == 2, 2, 0)
    list(follower.segment(frames, mask=truth[0] == 1, masks={2: second}))
    before = dict(standin_vos.TRACES)
    later = {t: second for t in (2, 152, 302)}
    last_prediction(lambda video: follower.segment(video, mask=truth[0] == 1, masks=later), frames)
    assert before == standin_vos.TRACES, "no new trace for a longer video or an object that enters"


@pytest.mark.parametrize(("mask", "said"), [
    (np.ones((24, 31), np.uint8), "the mask of frame 0 is 31 x 24, its frame 32 x 24"),
    (np.ones((24, 32, 3), np.uint8), r"uint8 \(24, 32, 3\); this is an image with colors.*save"),
    (np.ones((2, 24, 32), bool), r"bool \(2, 24, 32\); if these are masks of single.*index mask"),
    (np.ones((1, 1, 24, 32)), r"float64 \(1, 1, 24, 32\): a mask is an index PNG"),
    (np.ones((24, 32)), "is float64; a mask holds integers"),
    (np.full((24, 32), 255, np.uint8), "value 255, which stands for unknown.*object as 1"),
    (np.full((24, 32), 300), "value 300; ids are 1 to 254"),
    (np.full((24, 32), -1), "value -1; ids are 1 to 254"),
    (np.zeros((24, 32), np.uint8), "has no object: every pixel is 0"),
    (np.arange(24 * 32).reshape(SIZE) % 5,
     r"4 objects \(1, 2, 3, 4\) with the mask of frame 0, but the model was built for 3.*"
     r"model\.objects"),
])
def test_messages_about_bad_masks_say_what_is_wanted(follower, squares, mask, said):
    frames, truth = squares
    with pytest.raises(ValueError, match=said):
        follower.start(frames[0], mask=mask)
    session = follower.start(frames[0], mask=truth[0])
    with pytest.raises(ValueError, match=said.replace("4 objects", "[45] objects")
                       .replace("frame 0", "frame 1")):
        session.step(frames[1], mask)
    assert (session.step(frames[1]).index == truth[1]).all(), "a refused mask changes nothing"


def test_the_prompt_must_be_the_kind_that_the_model_takes(follower, squares):
    frames, truth = squares
    with pytest.raises(ValueError, match=r"takes a mask prompt: give .* as mask, not query"):
        follower.segment(frames, "red")
    with pytest.raises(ValueError, match="takes a mask prompt"):
        follower.start(frames[0])
    with pytest.raises(ValueError, match="as mask, not query and mask"):
        follower.start(frames[0], "red", truth[0])
    queries = standin.segmenter()
    with pytest.raises(ValueError, match=r"takes a query: give .* as query, not mask"):
        queries.start(frames[0], mask=truth[0])
    with pytest.raises(ValueError, match="takes a query"):
        queries.start(frames[0], "red").step(frames[1], truth[1])
    with pytest.raises(ValueError, match="short_side is for models that take mask prompts"):
        Segmenter(standin.Standin(), standin.variables(), short_side=8)


def test_frames_of_another_size_and_masks_of_no_frame(follower, squares):
    frames, truth = squares
    with pytest.raises(ValueError, match="no frame"):
        follower.segment([], mask=truth[0])
    with pytest.raises(ValueError, match="frame 1 is 31 x 24, those before it are 32 x 24"):
        list(follower.segment([frames[0], frames[1][:, 1:]], mask=truth[0]))
    with pytest.raises(ValueError, match="masks has the frame number -1; frames are numbered from"):
        follower.segment(frames, masks={-1: truth[2]})
    with pytest.raises(ValueError, match="frame 1 is 31 x 24, those before it are 32 x 24"):
        list(follower.segment([frames[0], frames[1][:, 1:]], masks={5: truth[0]}))
    with pytest.raises(ValueError, match="two masks for frame 0"):
        follower.segment(frames, mask=truth[0], masks={0: truth[0]})
    with pytest.raises(ValueError, match="the mask of frame 3 is 31 x 24, its frame 32 x 24"):
        follower.segment(frames, masks={0: truth[0], 3: truth[3][:, 1:]})   # not iterated
    with pytest.warns(UserWarning, match="masks of frames 50 were not used"):
        list(follower.segment(frames, masks={0: truth[0], 50: truth[0]}))
    tiny = np.zeros(SIZE, np.uint8)
    tiny[1, 1] = 1
    with pytest.raises(ValueError, match=r"nothing is left of object 1 .* at 4 x 3; raise short"):
        Segmenter(follower.model, follower.variables, short_side=3).start(frames[0], mask=tiny)


def test_too_many_objects_of_a_later_mask_are_found_before_the_first_frame(follower, squares):
    frames, truth = squares
    later = np.zeros(truth[0].shape, np.uint8)
    later[0, :2] = 3, 4
    with pytest.raises(ValueError, match=r"4 objects .1, 2, 3, 4. with the mask of frame 5, but "):
        follower.segment(frames, masks={0: truth[0], 5: later})
