"""The files of `predict_to_folder`, and the drawing of overlays."""

import json
import os
import signal

import numpy as np
import pytest
import standin
from PIL import Image

from vseg_jax.inference.predict import predict_to_folder
from vseg_jax.inference.session import Session
from vseg_jax.inference.unfinished import Unfinished
from vseg_jax.media import overlay
from vseg_jax.media.excerpt import Part
from vseg_jax.media.video import Video, VideoWriter

pytest.importorskip("av")


@pytest.fixture(scope="module")
def segmenter():
    return standin.segmenter()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("predict") / "squares.mp4"
    with VideoWriter(path, 12.5) as writer:
        for frame in standin.square_frames(6, size=(48, 64), side=16)[0]:
            writer.add(frame)
    return path


def test_masks_video_and_table(segmenter, video, tmp_path):
    out = tmp_path / "predictions" / "one"
    table = predict_to_folder(segmenter, video, out, query="the red square", progress=False)
    assert json.loads((out / "predictions.json").read_text()) == table
    assert sorted(p.name for p in out.iterdir()) == ["masks", "overlay.mp4", "predictions.json"]
    assert (table["height"], table["width"], table["fps"]) == (48, 64, 12.5)
    assert [row["frame"] for row in table["frames"]] == list(range(6))
    assert [row["time"] for row in table["frames"]] == pytest.approx([0.08 * t for t in range(6)])
    _, truth = standin.square_frames(6, size=(48, 64), side=16)
    for row, index in zip(table["frames"], truth, strict=True):
        with Image.open(out / row["mask"]) as image:
            assert image.mode == "P" and image.getpalette()[3:6] == [128, 0, 0]
            mask = np.asarray(image)
        assert set(np.unique(mask)) == {0, 1}
        wanted = index == 1
        assert ((mask > 0) & wanted).sum() / ((mask > 0) | wanted).sum() > 0.5
        (found,) = row["objects"]
        assert found["area"] == mask.sum() and 0 < found["score"] <= 1
        left, top, right, bottom = found["box"]
        assert mask[top:bottom, left:right].sum() == found["area"]
        assert mask[top:bottom, left].any() and mask[top, left:right].any()
    drawn = list(Video(out / "overlay.mp4"))
    assert len(drawn) == 6 and drawn[0].shape == (48, 64, 3)


def test_uneven_times_are_those_of_the_overlay_and_the_table(segmenter, tmp_path):
    times = [0.0, 0.05, 0.6, 0.7]
    with VideoWriter(tmp_path / "a.mp4", 20.0) as writer:
        for frame, start in zip(standin.square_frames(4, (48, 64), 16)[0], times, strict=True):
            writer.add(frame, start, start + 0.1)
    table = predict_to_folder(segmenter, tmp_path / "a.mp4", tmp_path / "out",
                              query="the red square", progress=False)
    assert [row["time"] for row in table["frames"]] == pytest.approx(times)
    assert table["fps"] == pytest.approx(4 / 0.8)
    drawn = Video(tmp_path / "out" / "overlay.mp4")
    assert len(list(drawn)) == 4 and drawn.times == pytest.approx([*times, 0.8])


def test_a_failed_prediction_leaves_no_files(segmenter, video, tmp_path):
    data = video.read_bytes()
    start = data.find(b"mdat") + 4
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(data[:start] + bytes(len(data) - start))
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="no frame"):
        predict_to_folder(segmenter, noise, out, query="red", progress=False)
    with pytest.raises(ValueError, match="has no word"):
        predict_to_folder(segmenter, video, out, query="...", progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["noise.mp4"]
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="already exists"):
        predict_to_folder(segmenter, video, out, query="red", progress=False)
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


def test_the_overlay_marks_objects_and_leaves_the_rest():
    frame = np.full((120, 160, 3), 100, np.uint8)
    index = np.zeros((120, 160), np.uint8)
    index[30:60, 30:60] = 1
    index[30:60, 90:130] = 2
    index[0:4] = 255
    drawn = overlay.draw(frame, index)
    assert (frame == 100).all(), "the frame is not drawn into"
    assert (drawn[80:, :] == 100).all() and (drawn[:4] == 100).all(), "void is not drawn"
    inside = [drawn[45, 45].astype(float), drawn[45, 110].astype(float)]
    for color, pixel in zip(overlay.COLORS, inside, strict=False):
        towards = color.astype(float) - 100
        assert ((pixel - 100) * towards >= 0).all() and np.abs(pixel - 100).max() > 20
    assert (inside[0] != inside[1]).any()
    edge = np.abs(drawn[45, 30].astype(float) - 100).sum()
    assert edge > np.abs(inside[0] - 100).sum(), "the outline is stronger than the fill"
    assert (overlay.draw(frame, np.zeros_like(index)) == frame).all()


@pytest.mark.parametrize("size", [(480, 854), (120, 90), (64, 64)])
@pytest.mark.parametrize("words", [2, 12, 200])
def test_the_caption_stays_inside(size, words):
    frame = np.full((*size, 3), 60, np.uint8)
    drawn = overlay.draw(frame, np.zeros(size, np.uint8), "dog " * words)
    written = drawn.max(-1) > 150
    assert written.any()
    rows, columns = np.nonzero(written.any(1))[0], np.nonzero(written.any(0))[0]
    assert rows[0] > size[0] / 2 and rows[-1] < size[0] - 1
    assert columns[0] > 0 and columns[-1] < size[1] - 1


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2)])
def test_a_caption_is_left_out_if_no_letter_fits(size):
    frame = np.full((*size, 3), 60, np.uint8)
    assert overlay.draw(frame, np.ones(size, np.uint8), "a dog").shape == frame.shape


def test_the_palette_is_that_of_davis():
    colors = np.array(overlay.palette()).reshape(256, 3)
    assert colors[[0, 1, 2, 3, 21, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [128, 64, 128], [224, 224, 192]]


def test_mask_prompts_are_propagated_and_keep_their_ids(follower, video, tmp_path):
    _, truth = standin.square_frames(6, size=(48, 64), side=16)
    (tmp_path / "prompts").mkdir()
    overlay.save_index(tmp_path / "prompts" / "00000.png", (truth[0] == 1).astype(np.uint8))
    overlay.save_index(tmp_path / "prompts" / "2.png", (truth[2] == 2) * np.uint8(2))
    overlay.save_index(tmp_path / "first.png", truth[0] * np.uint8(3))   # ids 3 and 6
    with pytest.warns(UserWarning, match="ids have gaps: 3, 6"):
        table = predict_to_folder(follower, video, tmp_path / "one", mask=tmp_path / "first.png",
                                  progress=False)
    assert table["mask"] == "first.png" and "query" not in table
    later = predict_to_folder(follower, video, tmp_path / "two", mask=tmp_path / "prompts",
                              progress=False)
    for t, (row, other) in enumerate(zip(table["frames"], later["frames"], strict=True)):
        with Image.open(tmp_path / "one" / row["mask"]) as image:
            assert (np.asarray(image) == 3 * truth[t]).mean() > 0.97
        assert [o["id"] for o in row["objects"]] == [3, 6]
        assert [o["id"] for o in other["objects"]] == ([1] if t < 2 else [1, 2])
    drawn = list(Video(tmp_path / "one" / "overlay.mp4"))[3].astype(int)
    towards = [drawn[truth[3] == k].mean(0) for k in (1, 2)]
    assert np.abs(towards[0] - towards[1]).sum() > 50
    with pytest.raises(ValueError, match="as mask, not query and mask"):
        predict_to_folder(follower, video, tmp_path / "x", query="red", mask=tmp_path / "first.png")
    with pytest.raises(ValueError, match="there is no mask"):
        predict_to_folder(follower, video, tmp_path / "x", mask=tmp_path / "none.png")
    assert not (tmp_path / "x").exists()


def test_a_folder_of_images_gives_files_with_the_images_names(follower, tmp_path):
    frames, truth = standin.square_frames(4, size=(24, 32))
    for folder in ("cows", "prompts"):
        (tmp_path / folder).mkdir()
    for t, frame in enumerate(frames):   # every fifth frame, as in YouTube-VOS
        Image.fromarray(frame).save(tmp_path / "cows" / f"{5 * t:05d}.png")
    overlay.save_index(tmp_path / "prompts" / "00000.png", (truth[0] == 1).astype(np.uint8))
    overlay.save_index(tmp_path / "prompts" / "00010.png", (truth[2] == 2) * np.uint8(2))
    table = predict_to_folder(follower, tmp_path / "cows", tmp_path / "out", fps=12.0,
                              mask=tmp_path / "prompts", probabilities=True, progress=False)
    assert (table["video"], table["fps"]) == ("cows", 12.0)
    assert Video(tmp_path / "out" / "overlay.mp4").fps == 12
    for t, row in enumerate(table["frames"]):
        assert row["frame"] == t and row["mask"] == f"masks/{5 * t:05d}.png"
        index = np.asarray(Image.open(tmp_path / "out" / row["mask"]))
        assert (index == (truth[t] if t >= 2 else truth[t] == 1)).all()
        with np.load(tmp_path / "out" / "probabilities" / f"{5 * t:05d}.npz") as soft:
            assert soft["ids"].tolist() == [o["id"] for o in row["objects"]]
            probability = soft["probability"]
        assert probability.dtype == np.float16 and probability.shape == (1 + (t >= 2), 24, 32)
        rest = np.concatenate([1 - probability.sum(0, keepdims=True), probability])
        assert (rest.argmax(0) == index).all()
    overlay.save_index(tmp_path / "prompts" / "00001.png", (truth[0] == 1).astype(np.uint8))
    with pytest.raises(ValueError, match=r"holds 00001\.png; masks .* as the image of their frame: "
                                         r"00000\.png"):
        predict_to_folder(follower, tmp_path / "cows", tmp_path / "no", mask=tmp_path / "prompts",
                          progress=False)
    assert not (tmp_path / "no").exists()


def test_masks_of_a_part_have_the_numbers_of_the_video(follower, squares, tmp_path):
    frames, truth = squares
    for folder in ("clip", "prompts", "all"):
        (tmp_path / folder).mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{t}.png")
        overlay.save_index(tmp_path / "all" / f"{t}.png", truth[t])
    overlay.save_index(tmp_path / "prompts" / "1.png", (truth[1] == 1).astype(np.uint8))
    overlay.save_index(tmp_path / "prompts" / "5.png", (truth[5] == 2) * np.uint8(2))

    def run(out, mask, **part):
        return predict_to_folder(follower, tmp_path / "clip", tmp_path / out, part=Part(**part),
                                 mask=tmp_path / mask, progress=False)

    table = run("out", "prompts", start=1, every=2, size=(48, 64))
    assert [(row["frame"], row["mask"]) for row in table["frames"]] == [
        (t, f"masks/{t}.png") for t in (1, 3, 5)]
    assert table["fps"] == 12.5 and table["settings"]["size"] == [48, 64]
    for row, t in zip(table["frames"], (1, 3, 5), strict=True):
        wanted = truth[t].repeat(2, 0).repeat(2, 1)
        index = overlay.read_index(tmp_path / "out" / row["mask"])
        assert (index == (wanted if t == 5 else np.where(wanted == 1, 1, 0))).mean() > 0.97
    first = run("first", "prompts/1.png", start=1, end=3)
    assert [row["frame"] for row in first["frames"]] == [1, 2]
    for part, said in (({"start": 2}, "a mask of frame 1, which is not read: the frames are 2, 3,"
                                      r" \.\.\. to the end"),
                       ({"every": 5, "end": 5}, r"a mask of frame 1, .* 0, 5, \.\.\. below 5")):
        with pytest.raises(ValueError, match=said):
            run("no", "prompts", **part)
    with pytest.warns(UserWarning, match="all has a mask for each of the 6 frames, which"):
        run("repeated", "all")


def test_masks_in_folders_of_objects_speak_for_one_object_each(follower, squares, tmp_path):
    frames, truth = squares
    nothing = np.zeros_like(truth[0])
    for name, mask in (("1/00000", truth[0] == 1), ("2/00000", truth[0] == 2), ("1/3", nothing)):
        file = tmp_path / "prompts" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask * np.uint8(255)).save(file)
    (tmp_path / "clip").mkdir()
    for t, frame in enumerate(frames[:4]):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{t}.png")
    table = predict_to_folder(follower, tmp_path / "clip", tmp_path / "out",
                              mask=tmp_path / "prompts", progress=False)
    for t, row in enumerate(table["frames"]):
        index = np.asarray(Image.open(tmp_path / "out" / row["mask"]))
        assert (index == (truth[t] if t < 3 else np.where(truth[t] == 1, 0, truth[t]))).all()


def test_the_probabilities_of_a_query_without_an_overlay(segmenter, video, tmp_path):
    predict_to_folder(segmenter, video, tmp_path, query="red", probabilities=True, drawn=False,
                      progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "masks", "predictions.json", "probabilities"]
    files = sorted((tmp_path / "probabilities").iterdir())
    for prediction, file in zip(segmenter.segment(video, "red"), files, strict=True):
        with np.load(file) as soft:
            np.testing.assert_allclose(soft["probability"], prediction.probability, atol=5e-4)


def test_an_image_is_fitted_into_another_size():
    picture = np.full((20, 40, 3), 200, np.uint8)
    assert (overlay.fit(picture, (40, 20)) == picture).all()
    fitted = overlay.fit(picture, (80, 60))   # twice as large, black above and below
    assert fitted.shape == (60, 80, 3)
    assert (fitted[10:50] == 200).all() and not fitted[:10].any() and not fitted[50:].any()
    assert overlay.fit(picture, (3, 60)).any()


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_after_an_interruption_it_goes_on_where_it_was(follower, video, tmp_path, monkeypatch):
    _, truth = standin.square_frames(6, size=(48, 64), side=16)
    (tmp_path / "prompts").mkdir()
    overlay.save_index(tmp_path / "prompts" / "0.png", (truth[0] == 1).astype(np.uint8))
    overlay.save_index(tmp_path / "prompts" / "2.png", (truth[2] == 2) * np.uint8(2))

    def run(out):
        return predict_to_folder(follower, video, tmp_path / out, mask=tmp_path / "prompts",
                                 both_directions=True, probabilities=True, progress=False)

    def pushed(self, *arguments, **named):
        steps.append(self.next_frame)
        return push(self, *arguments, **named)

    def draw(image, index, *arguments):
        drawn.append(index)
        if len(drawn) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return overlay_draw(image, index, *arguments)

    wanted, push, overlay_draw = run("whole"), Session.push, overlay.draw
    steps, drawn, before = [], [], signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(overlay, "draw", draw)
        with pytest.raises(KeyboardInterrupt, match=r"out\.unfinished holds the 4 frames that are "
                                                    "done, and the same command resumes"):
            run("out")
    assert signal.getsignal(signal.SIGINT) is before and not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"beginning of a prediction with another mask, both_dir"):
        predict_to_folder(follower, video, tmp_path / "out", mask=tmp_path / "prompts" / "0.png",
                          probabilities=True, progress=False)
    monkeypatch.setattr(Session, "push", pushed)
    assert run("out") == wanted
    assert steps == [1, 0, 4, 5]   # the way back from frame 2, and the last two frames
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "prompts", "whole"]


def test_frames_before_one_that_fails_are_kept(segmenter, tmp_path):
    frames = standin.square_frames(5, size=(48, 64), side=16)[0]
    (tmp_path / "images").mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "images" / f"{t}.png")
    wanted = predict_to_folder(segmenter, tmp_path / "images", tmp_path / "whole", query="red",
                               progress=False)
    Image.fromarray(frames[4][:40]).save(tmp_path / "images" / "4.png")
    with pytest.raises(ValueError, match=r"4\.png is 64 x 40"), \
            pytest.warns(UserWarning, match=r"out\.unfinished holds 3 frames that are done; the"):
        predict_to_folder(segmenter, tmp_path / "images", tmp_path / "out", query="red",
                          progress=False)
    assert len(list((tmp_path / "out.unfinished" / "masks").iterdir())) == 3   # one frame late
    Image.fromarray(frames[4]).save(tmp_path / "images" / "4.png")
    assert predict_to_folder(segmenter, tmp_path / "images", tmp_path / "out", query="red",
                             progress=False) == wanted
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_what_a_killed_call_left_is_begun_again(segmenter, video, tmp_path):
    (tmp_path / "out.unfinished").mkdir()
    with pytest.raises(ValueError, match=r"out\.unfinished is not the beginning of a prediction"):
        predict_to_folder(segmenter, video, tmp_path / "out", query="red", progress=False)
    command = predict_to_folder(segmenter, video, tmp_path / "whole", query="red",
                                progress=False)["settings"]
    left = Unfinished(tmp_path / "other", command).__enter__().folder
    (left / "masks").mkdir()
    (left / "masks" / "99999.png").write_text("half")
    predict_to_folder(segmenter, video, tmp_path / "other", query="red", progress=False)
    assert len(list((tmp_path / "other" / "masks").iterdir())) == 6
