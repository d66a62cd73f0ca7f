import json

import numpy as np
import pytest
from archives import box, cut, palette_png, write, youtube_vos
from PIL import Image

from vseg_jax.input_pipeline.builders import files, prepare, verify
from vseg_jax.input_pipeline.builders.youtube_vos import Options, read_splits
from vseg_jax.input_pipeline.builders.youtube_vos import verify as check
from vseg_jax.input_pipeline.records import decode_mask, open_dataset

COUNTS = {"train": 4, "valid": 1}


@pytest.fixture
def source(tmp_path):
    return youtube_vos(tmp_path / "youtube")


def test_records_hold_the_download(source, tmp_path):
    folder = prepare("youtube_vos", source, tmp_path / "data", {"dev": 1})
    train, dev = (open_dataset(folder, split) for split in ("train", "dev"))
    assert len(train) == 3 and len(dev) == 1
    record, entry = train[0], train.index[0]
    assert record.frames[1] == (
        source / f"train/JPEGImages/{record.video_id}/00005.jpg").read_bytes()
    np.testing.assert_array_equal(decode_mask(record.masks[1], ""),
                                  box((16, 24), 0, 5) + 3 * box((16, 24), 8, 12))
    assert [(o.id, o.category, o.frames) for o in entry.objects] == [
        (1, "dog", (0, 1, 2)), (3, "person", (0, 1))]
    assert record.fps == 6.0 and record.expressions == []

    valid = open_dataset(folder, "valid")
    assert valid.index[0].annotated == (0, 1) and len(valid[0].frames) == 3
    assert [(o.id, o.category, o.frames) for o in valid.index[0].objects] == [
        (1, "", (0,)), (2, "", (1,))]
    assert check(source, Options(), COUNTS) == []


def test_dev_is_drawn_by_the_names_alone(source):
    found = read_splits(source, Options(dev=2))
    names = {split: [v.name for v in videos] for split, videos in found.items()}
    assert names["dev"] == files.draw([f"video{k}" for k in range(4)], 2, 0) == sorted(names["dev"])
    assert sorted(names["dev"] + names["train"]) == [f"video{k}" for k in range(4)]
    assert "dev" not in read_splits(source, Options(dev=0))
    with pytest.raises(ValueError, match="'dev' takes 100 videos out of train, which has 4"):
        read_splits(source, Options())


def test_a_drawn_name_does_not_depend_on_the_others():
    names = [f"{k:03d}" for k in range(50)]
    drawn = files.draw(names, 10, 0)
    assert drawn == files.draw(reversed(names), 10, 0) != files.draw(names, 10, 1)
    assert files.draw(["b", "a", "c"], 1, 0) == ["b"]  # published, so fixed for good
    left = [n for n in names if n != drawn[3]]
    assert set(drawn) - {drawn[3]} < set(files.draw(left, 10, 0))
    with pytest.raises(ValueError, match="cannot draw 3 of 2 videos"):
        files.draw(["a", "b"], 3, 0)


def test_frames_between_the_annotated_ones(source, tmp_path):
    """The download of all frames."""
    for t in range(11):
        path = source / f"valid/JPEGImages/late/{t:05d}.jpg"
        if not path.exists():
            Image.new("RGB", (24, 16)).save(path)
    dataset = open_dataset(prepare("youtube_vos", source, tmp_path / "data", {"dev": 0}), "valid")
    assert dataset.index[0].annotated == (0, 5) and dataset[0].fps == 30.0


def test_what_is_missing_is_named(source, tmp_path):
    (source / "train/Annotations/video1/00005.png").unlink()
    (source / "train/JPEGImages/video2/00010.jpg").unlink()
    (source / "valid/Annotations/late/00005.png").unlink()
    cut(source / "train/JPEGImages/video0/00000.jpg")
    problems = check(source, Options(), {"train": 5, "valid": 1})
    text = "\n".join(problems)
    assert "train/meta.json has 4 videos; the official one has 5" in text
    assert "train: missing masks: 1 (video1/00005.png)" in text
    assert "train: missing frames: 1 (video2/00010.jpg)" in text
    assert "valid: missing masks: 1 (late/00005.png)" in text
    assert "files cut off" in text and "video0/00000.jpg" in text
    with pytest.raises(ValueError, match=r"incomplete: .*video1/00005\.png"):
        prepare("youtube_vos", source, tmp_path / "data", {"dev": 0})
    assert "has 4 videos; the official one has 3471" in "\n".join(verify("youtube_vos", source))


@pytest.mark.parametrize("damage, message", [
    (lambda s: cut(s / "train/JPEGImages/video1/00005.jpg"), r"video1/00005\.jpg cannot be read"),
    (lambda s: palette_png(s / "train/Annotations/video1/00005.png", 1 * box((16, 20), 0, 0)),
     r"video1/00005\.png is 16x20 .* is 16x24"),
    (lambda s: palette_png(s / "train/Annotations/video1/00005.png", 7 * box((16, 24), 0, 0)),
     r"video1/00005\.png has the ids \[7\]"),
    (lambda s: Image.new("RGB", (24, 16), "red").save(s / "train/Annotations/video1/00005.png"),
     "has the mode RGB"),
    (lambda s: cut(s / "train/meta.json"), r"train/meta\.json is not JSON"),
    (lambda s: write(s / "train/meta.json", "[]"), r"train/meta\.json should hold"),
    (lambda s: write(s / "train/meta.json", json.dumps({"videos": {"video1": {"objects": [1]}}})),
     "meta.json, video video1 should be"),
    (lambda s: write(s / "train/meta.json",
                     json.dumps({"videos": {"video1": {"objects": {"x": {}}}}})),
     "video video1: an object's id should be a whole number, got 'x'"),
    (lambda s: write(s / "train/meta.json", json.dumps({"videos": {"gone": {"objects": {}}}})),
     r"videos without frames: 1 of 1 \(gone\)"),
])
def test_damaged_files_are_named(source, tmp_path, damage, message):
    damage(source)
    with pytest.raises(ValueError, match=message):
        prepare("youtube_vos", source, tmp_path / "data", {"dev": 0})


def test_another_folder(tmp_path):
    with pytest.raises(ValueError, match="is not the folder of YouTube-VOS"):
        prepare("youtube_vos", tmp_path, tmp_path / "data")
