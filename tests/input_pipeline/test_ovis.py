import json

import numpy as np
import pytest
from archives import OVIS_SIZE, box, cut, ovis, write

from vseg_jax.input_pipeline import codecs
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


def test_records_hold_what_the_annotations_say(source, tmp_path):
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
    names = [record.video_id for record in split["vos25"]]
    assert names == files.draw([f"vid{k}" for k in range(30)], 25, 0)
    other = builder.Builder(source, tmp_path / "data", builder.Options(seed=1)).splits()
    assert names != [record.video_id for record in other["vos25"]]


def test_dev_is_drawn_out_of_train_and_vos25_out_of_all(source, tmp_path):
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
    said = "\n".join(builder.verify(source, builder.Options(), {"train": 4, "test": 1}))
    assert "annotations_train.json has 3 videos; the official one has 4" in said
    assert "there is no annotation file of test" in said
    assert "train: missing frames: 1 of 9" in said and "vid1/img_0000002.jpg" in said
    assert "files cut off" in said and "vid2/img_0000001.jpg" in said
    assert "valid: videos without frames: 1 of 1 (other)" in said
    assert "bad run-length codes: 1 of 6, the first: the run-length code of vid0 annotation 100, " \
        "frame 0 is 4x4 (height x width), but its video is 12x20" in said
    assert "the official one has 607" in "\n".join(verify("ovis", source))
    with pytest.raises(ValueError, match=r"not whole: .*vid1/img_0000002"):
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
    (_first("segmentations", None), "annotation 100 has the segmentations None; wanted is a list"),
])
def test_damaged_files_are_named(source, tmp_path, damage, message):
    damage(source)
    with pytest.raises(ValueError, match=message):
        prepare("ovis", source, tmp_path / "data")


def test_another_folder(tmp_path):
    with pytest.raises(ValueError, match="not the folder of OVIS"):
        prepare("ovis", tmp_path, tmp_path / "data")


# --- run-length codes -------------------------------------------------------------------------

# what pycocotools 2.0.11 encodes
LARGE = np.zeros((1080, 1920), bool)
LARGE[100:900, 3:6] = LARGE[5, 1700:1703] = LARGE[0, 0] = LARGE[1000:, 700] = True
NOISE = np.unpackbits(np.uint8([112, 21, 60, 65, 153, 90, 151, 190]))[:63].reshape(9, 7)


@pytest.mark.parametrize("mask, text", [
    (NOISE, "311011OO110O33NM00N71I21M012"),
    (LARGE, "01[X3oh0]PM000djlf0`YOQaP:aMZ]SoN000ckT7"),
    (np.zeros((4, 5)), "d0"), (np.ones((4, 5)), "0d0"),
])
def test_compressed_codes_as_pycocotools_writes_them(mask, text):
    for counts in (text, text.encode()):
        decoded = codecs.decode_rle({"size": list(mask.shape), "counts": counts}, "a test")
        np.testing.assert_array_equal(decoded, mask > 0)


def test_codes_equal_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = rng.random(rng.integers(1, 40, 2)) < rng.random()
        code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        np.testing.assert_array_equal(codecs.decode_rle(code, "a test"), mask)


@pytest.mark.parametrize("code, message", [
    ({"size": [4, 5], "counts": [10, 9]}, "of a test has 19 pixels, its size is 4x5"),
    ({"size": [4, 5], "counts": [25, -5]}, "of a test has 20 pixels"),
    ({"size": [4, 5], "counts": "d"}, "of a test cannot be read"),
    ({"size": [4, 5], "counts": ""}, "of a test has 0 pixels"),
    ({"size": [4], "counts": [4]}, "of a test cannot be read"),
    ({"size": None, "counts": [4]}, "of a test cannot be read"),
    ({"size": ["4", "5"], "counts": [20]}, "of a test cannot be read"),
    ({"size": [4.0, 5.0], "counts": [20]}, "of a test cannot be read"),
    ({"size": [-4, -5], "counts": [20]}, "its size is -4x-5"),
    ({"size": [4, 5], "counts": [10**30]}, "of a test cannot be read: OverflowError"),
    ({"counts": [4]}, "of a test cannot be read"),
])
def test_damaged_codes(code, message):
    with pytest.raises(ValueError, match=message):
        codecs.decode_rle(code, "a test")


def test_a_code_of_another_size():
    code = {"size": [4, 5], "counts": [20]}
    assert codecs.decode_rle(code, "a test", (4, 5)).shape == (4, 5)
    with pytest.raises(ValueError, match=r"is 4x5 \(height x width\), but its video is 5x4"):
        codecs.decode_rle(code, "a test", (5, 4))


def test_encoded_as_pycocotools_encodes():
    for mask, text in ((NOISE, "311011OO110O33NM00N71I21M012"),
                       (LARGE, "01[X3oh0]PM000djlf0`YOQaP:aMZ]SoN000ckT7"),
                       (np.zeros((4, 5)), "d0"), (np.ones((4, 5)), "0d0")):
        assert codecs.encode_rle(mask) == {"size": list(mask.shape), "counts": text}
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = rng.random(rng.integers(1, 40, 2)) < rng.random()
        np.testing.assert_array_equal(codecs.decode_rle(codecs.encode_rle(mask), "a test"), mask)
