import json

import numpy as np
import pytest
from archives import OVIS_SIZE, box, cut, ovis, write

from vseg_jax.input_pipeline.builders import files, prepare, verify
from vseg_jax.input_pipeline.builders import ovis as builder
from vseg_jax.input_pipeline.records import decode_mask, open_dataset

COUNTS = {"train": 3, "valid": 1}


@pytest.fixture
def source(tmp_path):
    return ovis(tmp_path / "ovis")


def change(source, edit):
    path = source / "annotations_train.json"
    content = json.loads(path.read_text())
    edit(content)
    write(path, json.dumps(content))


def test_records_hold_the_annotations(source, tmp_path):
    folder = prepare("ovis", source, tmp_path / "data")
    dataset = open_dataset(folder, "train")
    assert [e.video_id for e in dataset.index] == ["vid0", "vid1", "vid2"]
    entry, record = dataset.index[0], dataset[0]
    # ids in order of the annotations': 90 is the Person, 100 the Bird
    assert [(o.id, o.category, o.frames) for o in entry.objects] == [
        (1, "Person", (0, 2)), (2, "Bird", (0, 1, 2))]
    masks = [decode_mask(m, "") for m in record.masks]
    big, small = box(OVIS_SIZE, 0, 0, 8), box(OVIS_SIZE, 2, 2, 3)
    np.testing.assert_array_equal(masks[0], np.where(small, 1, 2 * big))  # the smaller in front
    np.testing.assert_array_equal(masks[1], 2 * big)
    assert (masks[2][2:5, 5:9] == 1).all() and (masks[2] == 1).sum() == 12
    valid = open_dataset(folder, "valid")
    assert valid.index[0].annotated == () and len(valid[0].frames) == 3
    assert len(open_dataset(folder, "vos25")) == 3
    assert builder.verify(source, builder.Options(), COUNTS) == []


def test_vos25_is_drawn_by_names_and_seed(tmp_path):
    source = ovis(tmp_path / "ovis", train=30)
    split = builder.Builder(source, tmp_path / "data", builder.Options()).splits()
    names = [video.read()[0].video_id for video in split["vos25"]]
    assert names == files.draw([f"vid{k}" for k in range(30)], 25, 0)
    other = builder.Builder(source, tmp_path / "data", builder.Options(seed=1)).splits()
    assert names != [video.read()[0].video_id for video in other["vos25"]]


def test_dev_is_drawn_from_train_and_vos25_from_all(source, tmp_path):
    folder = prepare("ovis", source, tmp_path / "data", {"dev": 1})
    names = {s: [e.video_id for e in open_dataset(folder, s).index]
             for s in ("train", "dev", "vos25")}
    assert names["dev"] == files.draw(["vid0", "vid1", "vid2"], 1, 0)
    assert sorted(names["train"] + names["dev"]) == names["vos25"] == ["vid0", "vid1", "vid2"]
    assert [c.name for c in open_dataset(folder, "dev").categories][:2] == ["Person", "Bird"]


def test_what_is_missing_is_named(source, tmp_path):
    (source / "train/vid1/img_0000002.jpg").unlink()
    cut(source / "train/vid2/img_0000001.jpg")
    for path in (source / "valid/other").iterdir():
        path.unlink()
    change(source, lambda c: c["annotations"][0]["segmentations"][0].update(size=[4, 4]))
    problems = "\n".join(builder.verify(source, builder.Options(), {"train": 4, "test": 1}))
    assert "annotations_train.json has 3 videos; the official one has 4" in problems
    assert "there is no annotation file of test" in problems
    assert "train: missing frames: 1 of 9" in problems and "vid1/img_0000002.jpg" in problems
    assert "files cut off" in problems and "vid2/img_0000001.jpg" in problems
    assert "valid: videos without frames: 1 of 1 (other)" in problems
    assert "bad run-length codes: 1 of 6, the first: the run-length code of vid0 annotation 100, " \
        "frame 0 is 4x4 (height x width), but its video is 12x20" in problems
    assert "the official one has 607" in "\n".join(verify("ovis", source))
    with pytest.raises(ValueError, match=r"incomplete: .*vid1/img_0000002"):
        prepare("ovis", source, tmp_path / "data")


def _first(key, value):
    def edit(content):
        content["annotations"][0][key] = value
    return lambda source: change(source, edit)


@pytest.mark.parametrize("damage, message", [
    (lambda s: cut(s / "annotations_train.json"), r"annotations_train\.json is not JSON"),
    (lambda s: write(s / "annotations_train.json", "{}"), "not the form of YouTube-VIS annotation"),
    (lambda s: cut(s / "train/vid1/img_0000002.jpg"), r"img_0000002\.jpg cannot be read"),
    (_first("segmentations", [None]), "annotation 100 has 1 segmentations, but its video has 3"),
    (_first("segmentations", [[[1, 2, 3, 4]], None, None]),
     "annotation 100, frame 0 should be a run-length code"),
    (_first("segmentations", [{"size": [12, 20], "counts": [5, 5]}, None, None]),
     "annotation 100, frame 0 has 10 pixels, its size is 12x20"),
    (_first("segmentations", [{"size": [20, 12], "counts": [240]}, None, None]),
     "annotation 100, frame 0 is 20x12 .* its video is 12x20"),
    (_first("segmentations", [{"size": [12, 20], "counts": "n1\x7f"}, None, None]),
     "annotation 100, frame 0 cannot be read"),
    (_first("video_id", 99), r"videos that it does not list: 1 \(99\)"),
    (_first("category_id", 99), "annotation 100 has the category_id 99, which .* {1: 'Person'"),
    (_first("segmentations", None),
     "annotation 100 has the segmentations None; expected is a list"),
])
def test_damaged_files_are_named(source, tmp_path, damage, message):
    damage(source)
    with pytest.raises(ValueError, match=message):
        prepare("ovis", source, tmp_path / "data")


def test_another_folder(tmp_path):
    with pytest.raises(ValueError, match="not the folder of OVIS"):
        prepare("ovis", tmp_path, tmp_path / "data")
