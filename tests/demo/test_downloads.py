"""The files that a user takes along."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from two_squares import COLORS, SIZE, draw, overlap, squares

from vseg_jax.demo import downloads
from vseg_jax.demo.clip import read_clip
from vseg_jax.demo.limits import Limits
from vseg_jax.demo.work import Work
from vseg_jax.inference.predict import predict_to_folder
from vseg_jax.media.overlay import palette
from vseg_jax.media.video import SOUND_RATE, Video, VideoWriter

pytest.importorskip("av")
_, TRUTH = squares()


@pytest.fixture
def done(segmenter, clip_of_file):
    work = Work(segmenter, clip_of_file)
    for name in ("red", "the blue/one"):
        draw(work, 0, work.add(name))
    list(work.run())
    yield work
    work.close()


def saved(work, kind):
    """The file and the reported shares."""
    shares = []
    path = downloads.DOWNLOADS[kind](work, shares.append)
    assert shares == sorted(shares) and shares[-1] == 1
    return path


def images(path):
    with zipfile.ZipFile(path) as archive:
        return {name: Image.open(io.BytesIO(archive.read(name))) for name in archive.namelist()}


def test_the_overlay_shows_the_masks_at_the_times_of_the_video(done):
    video = Video(saved(done, "overlay video"))
    frames = list(video)
    assert len(frames) == 8 and video.times == pytest.approx([t / 10 for t in range(9)])
    changed = np.abs(frames[3].astype(int) - done.clip[3]).sum(-1) > 30
    assert changed[TRUTH[3] > 0].mean() > 0.8


def test_the_overlay_of_a_part_has_the_sound_of_that_part(segmenter, tmp_path):
    seconds = np.arange(SOUND_RATE) / SOUND_RATE   # silent, then a tone from 0.5 s on
    sound = np.where(seconds > 0.5, np.sin(2 * np.pi * 440 * seconds) / 2, 0).astype(np.float32)
    with VideoWriter(tmp_path / "tone.mp4", 10.0, iter([np.stack([sound] * 2)])) as writer:
        for frame in squares(10)[0]:
            writer.add(frame)
    work = Work(segmenter, read_clip(tmp_path / "tone.mp4", Limits(frames=3), begin=0.4))
    [samples] = _sound(saved(work, "overlay video"))
    assert len(samples) / SOUND_RATE == pytest.approx(0.3, abs=0.15)
    tone = np.flatnonzero(np.abs(samples) > 0.1)[0] / SOUND_RATE
    assert tone == pytest.approx(0.1, abs=0.05)
    work.close()


def _sound(path):
    import av

    with av.open(str(path)) as container:
        yield np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])


def test_masks_are_index_pngs(done):
    found = images(saved(done, "masks"))
    assert list(found) == [f"masks/{t:05d}.png" for t in range(8)]
    image = found["masks/00003.png"]
    assert image.mode == "P" and image.getpalette()[:12] == list(palette()[:12])
    assert (np.asarray(image) == done.index(3)).all()


def test_the_table_is_that_of_predict(done, segmenter, file, tmp_path):
    table = json.loads(saved(done, "table").read_text())
    Image.fromarray(TRUTH[0]).save(tmp_path / "first.png")
    wanted = predict_to_folder(segmenter, file, tmp_path / "out", mask=tmp_path / "first.png",
                               progress=False)
    del wanted["mask"], wanted["settings"]
    assert {key: table[key] for key in wanted if key != "frames"} == {
        key: value for key, value in wanted.items() if key != "frames"}
    assert table["names"] == {"1": "red", "2": "the blue/one"}
    for row, other in zip(table["frames"], wanted["frames"], strict=True):
        assert [row[key] for key in ("frame", "time", "mask")] == [
            other[key] for key in ("frame", "time", "mask")]
        for one, two in zip(row["objects"], other["objects"], strict=True):
            assert one.keys() == two.keys() and one["id"] == two["id"]
            assert one["area"] == pytest.approx(two["area"], abs=40)   # the page's frames are JPEG


def test_cutouts_have_alpha_and_nothing_but_the_object(done):
    done.absent(2, 1)
    found = images(saved(done, "cut-outs"))
    assert "1 red/00002.png" not in found and len(found) == 15
    rgba = np.asarray(found["2 the blue_one/00003.png"])
    assert rgba.shape == (*SIZE, 4) and set(np.unique(rgba[..., 3])) == {0, 255}
    assert ((rgba[..., 3] > 0) == done.mask(3, 2)).all()
    assert not rgba[rgba[..., 3] == 0].any()
    assert np.abs(rgba[30, 20, :3].astype(int) - COLORS[2]).max() < 30


def test_prompts_go_to_predict_for_the_whole_video_at_its_size(segmenter, file, tmp_path):
    work = Work(segmenter, read_clip(file, Limits(frames=3, side=32), begin=0.25))
    work.add()
    work.paint(1, 1, [(11, 6), (15, 6)], radius=2)   # frame 3 of the file, at half its size
    work.absent(0, work.add("nowhere"))   # which says nothing: predict would refuse it
    with zipfile.ZipFile(saved(work, "prompts")) as archive:
        assert archive.namelist() == ["prompts/1/00003.png"]
        archive.extractall(tmp_path)
    mask = np.asarray(Image.open(tmp_path / "prompts/1/00003.png"))
    assert mask.shape == SIZE and mask[12, 26] == 1
    table = predict_to_folder(segmenter, file, tmp_path / "out", mask=tmp_path / "prompts",
                              progress=False)
    assert [len(row["objects"]) for row in table["frames"]] == [0] * 3 + [1] * 5
    last = np.asarray(Image.open(tmp_path / "out" / table["frames"][7]["mask"]))
    assert overlap(last == 1, TRUTH[7] == 1) > 0.7
    work.close()


def test_frames_of_a_part_have_their_numbers_in_the_video(segmenter, file):
    work = Work(segmenter, read_clip(file, Limits(frames=3), begin=0.25))
    work.add("red")
    work.paint(0, 1, [(26, 12)], radius=4)
    table = json.loads(saved(work, "table").read_text())
    assert [(row["frame"], row["time"], row["mask"]) for row in table["frames"]] == [
        (t, t / 10, f"masks/{t:05d}.png") for t in (2, 3, 4)]
    assert list(images(saved(work, "masks"))) == [f"masks/{t:05d}.png" for t in (2, 3, 4)]
    assert list(images(saved(work, "cut-outs"))) == ["1 red/00002.png"]
    work.close()


def test_files_do_not_replace_a_video_of_the_same_name(done, file):
    done.clip.path = done.folder / "overlay.mp4"   # as an upload of the page
    done.clip.path.write_bytes(file.read_bytes())
    assert saved(done, "overlay video") != done.clip.path
    assert done.clip.path.read_bytes() == file.read_bytes()


def test_a_video_without_an_object_has_files_too(segmenter, clip_of_file):
    work = Work(segmenter, clip_of_file)
    table = json.loads(saved(work, "table").read_text())
    assert all(row["objects"] == [] for row in table["frames"])
    work.close()
