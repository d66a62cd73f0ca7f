"""Predictions for many videos: which they are, their names and masks, and the summary."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import standin
from PIL import Image

from vseg_jax.inference import predict as predict_module
from vseg_jax.inference.many import find_videos, mask_of, names_of, predict_videos
from vseg_jax.media import overlay
from vseg_jax.media.excerpt import Part
from vseg_jax.media.video import VideoWriter

pytest.importorskip("av")


@pytest.fixture(scope="module")
def segmenter():
    return standin.segmenter()


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")


@pytest.fixture
def clips(tmp_path):
    """Two videos, a folder of images and a file that is no video, and the index masks of all."""
    folder = tmp_path / "clips"
    folder.mkdir()
    frames, truth = standin.square_frames(4, size=(24, 32))
    for name in ("b10.mp4", "b9.MP4"):
        with VideoWriter(folder / name, 10.0) as writer:
            for frame in frames:
                writer.add(frame)
    (folder / "images").mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "images" / f"{t + 3}.png")
    (folder / "broken.mp4").write_text("not a video")
    (folder / "notes.txt").write_text("not a video either")
    return folder, truth


def test_files_folders_and_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a/2.mp4", "a/10.MOV", "a/.hidden.mp4", "a/notes.txt", "a/b/3.mkv",
          "a/frames/0.jpg", "a/empty/notes.txt", "x[1].mp4", "photos/0.jpg", "photos/day.mp4")

    def found(*given):
        videos, several = find_videos(given)
        return [path.as_posix() for path in videos], several

    assert found("a/2.mp4") == (["a/2.mp4"], False)
    assert found("a/frames") == (["a/frames"], False)
    assert found("a") == (["a/2.mp4", "a/10.MOV", "a/frames"], True)
    assert found("a/*.m*") == (["a/2.mp4"], True), "a pattern always stands for several"
    assert found("a/**/*.m[pk]?") == (["a/2.mp4", "a/b/3.mkv"], True)
    touch(tmp_path, "a/out/2/overlay.mp4")
    videos, _ = find_videos(["a/**/*.mp4"], "a/out")
    assert [path.as_posix() for path in videos] == ["a/2.mp4"], "not what was written before"
    assert found("x[1].mp4") == (["x[1].mp4"], False), "a file that exists is no pattern"
    assert found("gone.mp4", "a/2.mp4", "a/2.mp4") == (["gone.mp4", "a/2.mp4"], True)
    assert found("a/empty") == (["a/empty"], False), "its error names it"
    assert found("0") == (["0"], False)
    with pytest.raises(ValueError, match=r"no file fits a/\*\.avi; it is neither a video nor"):
        found("a/*.avi")
    with pytest.raises(ValueError, match=r"photos holds images \(0\.jpg\) and videos \(day\.mp4\);"
                                         r" name the videos by a pattern, such as 'photos/\*\.mp4"):
        found("photos")
    with pytest.raises(ValueError, match="a camera is segmented until it is stopped"):
        found("0", "a/2.mp4")


@pytest.mark.parametrize(("files", "names"), [
    (["a/x.mp4"], ["x"]), (["a/x.mp4", "a/y.mov"], ["x", "y"]),
    (["a/x.mp4", "b/x.mp4"], ["a/x", "b/x"]), (["a/x.mp4", "a/x.mov"], ["x.mp4", "x.mov"]),
    (["a/x.mp4", "a/x/y.mp4"], ["x.mp4", "x/y"]), (["a/v1.2.mp4", "a/v1.3.mp4"], ["v1.2", "v1.3"]),
])
def test_names_are_unique(tmp_path, monkeypatch, files, names):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, *files)
    assert names_of([Path(file) for file in files]) == names
    (tmp_path / "a" / "v1.2").mkdir(parents=True)
    assert names_of([Path("a/v1.2"), Path("a/w.mp4")]) == ["v1.2", "w"], "a folder has no suffix"


def test_the_masks_of_several_videos(tmp_path):
    touch(tmp_path, "x.png", "y.bmp", "z/00000.png", "a/x.mp4.png", "two.png", "two/0.png")
    assert mask_of(tmp_path, "x") == tmp_path / "x.png"
    assert mask_of(tmp_path, "y") == tmp_path / "y.bmp"
    assert mask_of(tmp_path, "z") == tmp_path / "z"
    assert mask_of(tmp_path, "a/x.mp4") == tmp_path / "a" / "x.mp4.png"
    with pytest.raises(ValueError, match=r"holds no mask for the video w; .* folder with w\.png"):
        mask_of(tmp_path, "w")
    with pytest.raises(ValueError, match=r"holds two.* and two.* for the video two"):
        mask_of(tmp_path, "two")


def statuses(summary):
    return {row["name"]: row["status"] for row in summary["videos"]}


def test_one_that_fails_does_not_stop_the_others_and_those_that_are_done_are_kept(
        segmenter, clips, tmp_path, capsys):
    folder, _ = clips
    out = tmp_path / "out"

    def run(query="the red square"):
        return predict_videos(segmenter, [folder], out, query=query, progress=False)

    summary = run()
    assert statuses(summary) == {
        "b9": "done", "b10": "done", "broken": "failed", "images": "done"}
    assert [summary[key] for key in ("done", "skipped", "failed", "waiting", "frames")] == [
        3, 0, 1, 0, 12]
    assert json.loads((out / "summary.json").read_text()) == summary
    said = capsys.readouterr()
    assert said.err.startswith("failed: broken: ") and said.err.count("\n") == 1
    assert "4 videos: 3 done, 1 failed (12 frames in " in said.out
    assert "\n  failed: broken: " in said.out and "broken.mp4 cannot be opened" in said.out
    assert sorted(p.name for p in out.iterdir()) == ["b10", "b9", "images", "summary.json"]
    assert sorted(p.name for p in (out / "images" / "masks").iterdir()) == [
        f"{t}.png" for t in range(3, 7)]
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    (folder / "b10.mp4").replace(folder / "broken.mp4")   # mended
    again = run()
    assert statuses(again) == {"b9": "skipped", "broken": "done", "images": "skipped"}
    assert (again["frames"], again["skipped"]) == (4, 2)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    other = run("the blue square")
    assert set(statuses(other).values()) == {"failed"}
    assert other["videos"][0]["error"].endswith(
        "b9 holds predictions with another query; name another output, or remove it")
    with pytest.raises(ValueError, match=r"this model takes .* as query, not mask"):
        predict_videos(segmenter, [folder], out, mask=folder)


def test_a_frame_rate_is_that_of_the_folders_among_several_videos(segmenter, clips, tmp_path):
    folder, _ = clips
    (folder / "broken.mp4").unlink()
    summary = predict_videos(segmenter, [folder], tmp_path, query="red", fps=4.0, progress=False)
    assert summary["done"] == 3
    rates = {name: json.loads((tmp_path / name / "predictions.json").read_text())["fps"]
             for name in statuses(summary)}
    assert rates == {"b9": 10, "b10": 10, "images": 4}


def test_a_single_video_has_the_folder_for_itself_and_is_not_done_twice(segmenter, clips, tmp_path):
    folder, _ = clips
    arguments = segmenter, [folder / "images"], tmp_path / "out"
    settings = {"query": "red", "progress": False}
    assert predict_videos(*arguments, **settings)["done"] == 1
    assert (tmp_path / "out" / "masks" / "3.png").is_file()
    assert not (tmp_path / "out" / "summary.json").exists()
    assert predict_videos(*arguments, **settings)["skipped"] == 1
    for changed, said in (({"query": "blue"}, "query"), ({"part": Part(every=2)}, "every")):
        with pytest.raises(ValueError, match=f"holds predictions with another {said}; name"):
            predict_videos(*arguments, **settings | changed)
    (tmp_path / "out" / "predictions.json").write_text("{}")
    with pytest.raises(ValueError, match="holds predictions with another model, video, mask"):
        predict_videos(*arguments, **settings)


def test_each_video_has_its_own_masks(follower, clips, tmp_path):
    folder, truth = clips
    (tmp_path / "masks" / "images").mkdir(parents=True)
    overlay.save_index(tmp_path / "masks" / "b9.png", (truth[0] == 1) * np.uint8(4))
    overlay.save_index(tmp_path / "masks" / "images" / "3.png", (truth[0] == 2).astype(np.uint8))
    with pytest.warns(UserWarning, match="the objects' ids have gaps: 4"):
        summary = predict_videos(follower, [folder / "*"], tmp_path / "out",
                                 mask=tmp_path / "masks", progress=False)
    assert statuses(summary) == {"b9": "done", "b10": "failed", "broken": "failed",
                                 "images": "done", "notes": "failed"}
    assert "holds no mask for the video b10" in summary["videos"][1]["error"]
    for name, file, wanted in (("b9", "00003", 4 * (truth[3] == 1)),
                               ("images", "6", truth[3] == 2)):
        index = overlay.read_index(tmp_path / "out" / name / "masks" / f"{file}.png")
        assert (index == wanted).mean() > 0.97
    with pytest.raises(ValueError, match=r"b9\.png, but there are several videos; name a folder"):
        predict_videos(follower, [folder], tmp_path / "no", mask=tmp_path / "masks" / "b9.png")
    assert not (tmp_path / "no").exists()


def test_after_ctrl_c_the_same_call_goes_on(segmenter, clips, tmp_path, monkeypatch, capsys):
    folder, _ = clips
    (folder / "broken.mp4").unlink()
    draw, drawn = overlay.draw, []

    def interrupt(*arguments):
        drawn.append(1)
        if len(drawn) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return draw(*arguments)

    def run():
        return predict_videos(segmenter, [folder], tmp_path / "out", query="red", progress=False)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="resumes after"):
        patch.setattr(predict_module.overlay, "draw", interrupt)
        run()
    assert "3 videos: 1 done, 2 not finished" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "b10.unfinished", "b9", "summary.json"]
    assert statuses(run()) == {"b9": "skipped", "b10": "done", "images": "done"}


def test_a_bug_in_one_video_is_named_with_its_kind(segmenter, clips, tmp_path, monkeypatch):
    folder, _ = clips
    predict = predict_module.predict_to_folder

    def fails(segmenter, video, *arguments, **settings):
        if video.stem == "b9":
            raise RuntimeError("out of memory")
        return predict(segmenter, video, *arguments, **settings)

    monkeypatch.setattr("vseg_jax.inference.many.predict_to_folder", fails)
    summary = predict_videos(segmenter, [folder / "b*.mp4", folder / "b9.MP4"], tmp_path / "out",
                             query="red", progress=False)
    assert {row["name"]: row.get("error") for row in summary["videos"]}["b9"] == (
        "RuntimeError: out of memory")
    assert summary["done"] == 1
