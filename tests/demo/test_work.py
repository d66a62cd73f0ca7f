"""The work of one user: objects, prompts, runs and corrections, without the page."""

import numpy as np
import pytest
import standin
import standin_vis
from two_squares import SIDE, clip_of, draw, overlap, squares

from vseg_jax.demo import work
from vseg_jax.demo.work import Work

_, TRUTH = squares()


@pytest.fixture
def mine(segmenter, clip):
    mine = Work(segmenter, clip)
    yield mine
    mine.close()


def indices(mine):
    return [mine.index(t) for t in range(len(mine.clip))]


@pytest.fixture
def done(mine):
    """Two objects in all frames, from prompts in frame 0; a session is saved every second frame."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "EVERY", 2)
        for number in (mine.add("red"), mine.add("blue")):
            draw(mine, 0, number)
        assert list(mine.run()) == list(range(8))
        yield mine


def test_a_box_names_an_object_and_its_masks_come_in(mine):
    number = mine.add()
    assert (number, mine.names) == (1, {1: "object 1"})
    mine.box(0, number, (23, 23), (1, 1))   # the corners in any order
    assert overlap(mine.mask(0, 1), TRUTH[0] == 1) > 0.75
    frames = []
    for frame in mine.run():
        frames.append(frame)
        assert mine.valid == frame + 1
        assert overlap(mine.mask(frame, 1), TRUTH[frame] == 1) > 0.7
    assert frames == list(range(8)) and list(mine.run()) == []


def test_clicks_make_a_mask_and_one_beside_the_object_comes_later(mine):
    number = mine.add()
    with pytest.raises(ValueError, match="begin with a click on the object"):
        mine.click(0, number, (10, 10), inside=False)
    mine.click(0, number, (12, 12))
    mine.click(0, number, (50, 12), inside=False)
    assert mine.mask(0, number)[12, 12] and not mine.mask(0, number)[12, 50]
    prompt = mine.prompts.get(0, number)
    assert prompt.inside == ((12, 12),) and prompt.outside == ((50, 12),) and prompt.start is None


def test_a_click_refines_what_the_model_predicts(done):
    predicted = done.mask(5, 1)
    done.click(5, 1, (60, 2), inside=True)
    prompt = done.prompts.get(5, 1)
    assert (prompt.start == predicted).all() and (done.mask(5, 1) >= predicted).all()
    done.click(5, 1, (2, 2), inside=True)
    assert (done.prompts.get(5, 1).start == predicted).all()   # all clicks refine the same mask


def test_the_brush_adds_pixels_and_the_eraser_takes_them(mine):
    number = mine.add()
    mine.paint(2, number, [(10, 10), (30, 10)], radius=3)
    mask = mine.mask(2, number)
    assert mask[10, 7:34].all() and mask[8:13, 20].all() and not mask[15:].any()
    mine.paint(2, number, [(20, 10)], radius=4, inside=False)
    assert not mine.mask(2, number)[10, 17:24].any() and mine.mask(2, number)[10, 10]
    assert mine.undo() == 2 and (mine.mask(2, number) == mask).all()
    assert mine.undo() == 2 and not mine.mask(2, number).any()
    with pytest.raises(ValueError, match="nothing to undo"):
        mine.undo()


def test_a_correction_is_followed_from_its_frame_on(done, segmenter, clip):
    before = indices(done)
    done.paint(4, 2, [(2, 2)], radius=2)
    assert done.valid == 4
    assert list(done.run()) == list(range(3, 8))   # after the last session before frame 4
    assert all((a == b).all() for a, b in zip(before[:4], indices(done), strict=False))
    assert done.mask(4, 2)[2, 2]
    at_once = Work(segmenter, clip)
    for number in (1, 2):
        at_once.add()
        draw(at_once, 0, number)
    at_once.prompts.set(4, 2, done.prompts.get(4, 2))
    assert list(at_once.run()) == list(range(8))
    for one, other in zip(indices(done), indices(at_once), strict=True):
        np.testing.assert_array_equal(one, other)
    at_once.close()


def test_a_run_that_was_given_up_goes_on_where_it_was(mine):
    draw(mine, 0, mine.add())
    run = mine.run()
    assert [next(run) for _ in range(3)] == [0, 1, 2]
    run.close()
    assert mine.valid == 3
    assert list(mine.run())[-1] == 7 and mine.valid == 8


def test_a_change_ends_a_run(mine):
    draw(mine, 0, mine.add())
    run = mine.run()
    next(run)
    draw(mine, 0, 1)
    assert list(run) == [] and mine.valid == 0
    assert list(mine.run()) == list(range(8))


def test_an_object_is_absent_where_the_user_says_so(done):
    done.absent(4, 1)
    assert not done.mask(4, 1).any() and done.mask(4, 2).any()
    list(done.run())
    assert not done.mask(4, 1).any() and overlap(done.mask(4, 2), TRUTH[4] == 2) > 0.9


def test_an_object_that_enters_later_is_followed_back_if_wanted(mine):
    draw(mine, 3, mine.add())
    list(mine.run())
    assert [mine.mask(t, 1).any() for t in range(8)] == [False] * 3 + [True] * 5
    mine.follow_back(True)
    assert mine.valid == 0
    assert list(mine.run()) == list(range(8))
    assert overlap(mine.mask(0, 1), TRUTH[0] == 1) > 0.9


def test_removed_objects_leave_and_their_ids_are_free_again(done):
    done.remove(1)
    assert done.names == {2: "blue"} and done.valid == 8
    assert all(set(np.unique(index)) == {0, 2} for index in indices(done))
    assert done.prompts.frames(1) == [] and done.segmentation(3).ids == (2,)
    number = done.add("another")
    draw(done, 6, number)
    list(done.run())
    assert number == 1 and not done.mask(5, 1).any() and done.mask(7, 1).any()


def test_names_and_the_number_of_objects_are_checked(mine):
    numbers = [mine.add(f"  the   {k}. ") for k in range(3)]
    assert numbers == [1, 2, 3] and mine.names[1] == "the 0."
    with pytest.raises(ValueError, match="up to 3 objects; remove one"):
        mine.add()
    mine.rename(2, "x" * 100)
    assert mine.names[2] == "x" * 40
    with pytest.raises(ValueError, match="name is empty"):
        mine.rename(2, " ")
    with pytest.raises(ValueError, match="choose an object"):
        mine.rename(7, "seven")


def test_prompts_are_checked(mine):
    with pytest.raises(ValueError, match="no object has a mask"):
        next(mine.run())
    with pytest.raises(ValueError, match="choose an object"):
        mine.box(0, 1, (0, 0), (9, 9))
    mine.add()
    with pytest.raises(ValueError, match="no frame 8; the clip has 8"):
        mine.absent(8, 1)
    with pytest.raises(ValueError, match="outside of the picture"):
        mine.click(0, 1, (65, 3))
    with pytest.raises(ValueError, match="stroke has no point"):
        mine.paint(0, 1, [], radius=2)
    mine.absent(0, 1)   # of an object that is nowhere
    with pytest.raises(ValueError, match="no object has a mask"):
        next(mine.run())


def test_newer_prompts_of_a_frame_lie_over_older_ones(mine):
    first, second = mine.add(), mine.add()
    mine.paint(0, first, [(20, 20)], radius=8)
    mine.paint(0, second, [(26, 20)], radius=6)
    assert mine.index(0)[20, 24] == second and mine.index(0)[20, 14] == first
    mine.paint(0, first, [(24, 20)], radius=2)
    assert mine.index(0)[20, 24] == first and mine.index(0)[20, 30] == second
    assert mine.undo() == 0
    assert mine.index(0)[20, 24] == second and mine.index(0)[20, 14] == first
    mine.remove(first)
    assert mine.undo() == 0 and not mine.index(0).any()


def test_segmentations_have_the_scores_of_the_model_and_1_for_prompts(done):
    draw(done, 5, 1)
    found = done.segmentation(5)
    assert found.ids == (1, 2) and found.scores[0] == 1 and 0 < found.scores[1] <= 1
    assert (found.index == done.index(5)).all()
    assert found.masks[0].sum() == SIDE * SIDE


def test_a_query_names_the_object():
    frames, truth = standin.square_frames(6, size=(48, 64), side=16)
    mine = Work(standin.segmenter(), clip_of(frames))
    assert mine.kind == "query"
    with pytest.raises(ValueError, match="no sentence yet"):
        next(mine.run())
    mine.ask(" red ")
    assert list(mine.run()) == list(range(6))
    assert mine.names == {1: "red"} and overlap(mine.mask(2, 1), truth[2] == 1) > 0.5
    with pytest.raises(ValueError, match="takes no mask"):
        mine.box(0, 1, (0, 0), (9, 9))
    mine.ask("blue")
    assert mine.valid == 0 and mine.names == {}
    mine.close()


def test_a_model_that_finds_objects_needs_nothing():
    frames, truth = standin_vis.video(6)
    mine = Work(standin_vis.segmenter(), clip_of(frames))
    assert mine.kind == "" and list(mine.run()) == list(range(6))
    assert mine.names[1] == "square 1" and overlap(mine.mask(1, 1), truth[1] == 1) > 0.9
    assert mine.segmentation(0).categories == ("square", "big_box")
    with pytest.raises(ValueError, match="none can be added"):
        mine.add()
    mine.remove(1)
    mine.valid = 0
    list(mine.run())
    assert 1 not in mine.names and not mine.mask(1, 1).any() and mine.mask(1, 2).any()
    mine.close()


def test_nothing_is_left_of_a_user(segmenter, clip, tmp_path):
    one, other = (Work(segmenter, clip, tmp_path) for _ in range(2))
    draw(one, 0, one.add())
    run = one.run()
    next(run)
    one.close()
    assert list(run) == [] and [p for p in tmp_path.iterdir()] == [other.folder]
    other.close()
    assert not list(tmp_path.iterdir())
