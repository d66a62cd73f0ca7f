import dataclasses
import json

import numpy as np
import pytest
from archives import box, cut, refer_youtube_vos, write

from vseg_jax.input_pipeline.builders import prepare, verify, youtube_vos
from vseg_jax.input_pipeline.builders import refer_youtube_vos as module
from vseg_jax.input_pipeline.builders.refer_youtube_vos import Options, read_splits
from vseg_jax.input_pipeline.builders.refer_youtube_vos import verify as check
from vseg_jax.input_pipeline.records import UNKNOWN_OBJECT, decode_mask, open_dataset
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import WordTokenizer

COUNTS = {"train": 4, "valid": 1, "test": 1}
EXPRESSIONS = "meta_expressions/{}/meta_expressions.json"


@pytest.fixture
def source(tmp_path):
    return refer_youtube_vos(tmp_path / "refer")


def change(source, split, edit):
    """Edits the videos of a split's file."""
    path = source / EXPRESSIONS.format(split)
    content = json.loads(path.read_text())
    edit(content["videos"])
    write(path, json.dumps(content))


def test_records_hold_the_download(source, tmp_path):
    folder = prepare("refer_youtube_vos", source, tmp_path / "data", {"dev": 1})
    train, dev, valid, test = (open_dataset(folder, s) for s in ("train", "dev", "valid", "test"))
    assert [len(d) for d in (train, dev, valid, test)] == [3, 1, 1, 1]
    assert [c.name for c in train.categories] == list(module.CATEGORIES)
    record, entry = train[0], train.index[0]
    number = record.video_id[-1]
    assert [(e.text, e.object_id) for e in record.expressions[:2]] == [
        (f"the dog of video {number}", 1), ("a dog on the left", 1)]
    assert record.expressions[2].text.startswith("a person") and len(record.expressions) == 3
    np.testing.assert_array_equal(decode_mask(record.masks[1], ""),
                                  box((16, 24), 0, 5) + 3 * box((16, 24), 8, 12))
    assert [(o.id, o.category, o.frames) for o in entry.objects] == [
        (1, "dog", (0, 1, 2)), (3, "person", (0, 1))]
    assert record.fps == 6.0

    assert valid.index[0].video_id == "late" and test.index[0].video_id == "tested"
    record = valid[0]
    assert [e.text for e in record.expressions] == ["a dog", "a cat behind it"]  # by their keys
    assert {e.object_id for e in record.expressions} == {UNKNOWN_OBJECT} and record.objects == []
    assert record.masks == [b"", b""]  # YouTube-VOS' first masks name none of the sentences
    assert record.frames[1] == (source / "valid/JPEGImages/late/00010.jpg").read_bytes()
    assert check(source, Options(), COUNTS) == []


def test_dev_equals_that_of_youtube_vos(source):
    found = read_splits(source, Options(dev=2))
    of_masks = youtube_vos.read_splits(source, youtube_vos.Options(dev=2))
    for split in ("train", "dev"):
        names = [v.video.name for v in found[split]]
        assert names == [v.name for v in of_masks[split]] and len(names) == 2
    assert "dev" not in read_splits(source, Options(dev=0))
    with pytest.raises(ValueError, match="'dev' takes 100 videos out of train, which has 4"):
        read_splits(source, Options())


def texts(source, **options):
    found = read_splits(source, Options(dev=1, **options)).get("a2r", [])
    return [e.text for v in found for e in v.expressions]


def test_a2r_holds_short_expressions_of_the_categories_of_a2d(source):
    change(source, "train", lambda v: v["video1"]["expressions"].pop("2"))
    assert len(texts(source)) == 4 + 3  # of all videos, dev's too; 26 words are too many
    assert sum(t.startswith("a person") for t in texts(source, a2r_max_words=0)) == 4
    assert sum(t.startswith("a person") for t in texts(source, a2r_max_words=26)) == 4
    assert texts(source, a2r_categories=("owl",)) == texts(source, a2r_categories=()) == []
    with pytest.raises(ValueError, match=r"a2r_categories names car; .*cars are sedans"):
        read_splits(source, Options(a2r_categories=("car", "dog")))


def test_a2r_is_counted_where_all_videos_are_there(tmp_path, monkeypatch):
    source = refer_youtube_vos(tmp_path / "refer")
    monkeypatch.setitem(module.OFFICIAL, "train", 4)
    problems = check(source, Options(), COUNTS)
    assert problems == ["train has 12 expressions; the official one has 12913",
                    "a2r has 8 expressions; the official one has 3528"]
    with pytest.raises(ValueError, match=r"incomplete: .*a2r has 8 expressions"):
        prepare("refer_youtube_vos", source, tmp_path / "data", {"dev": 1})
    monkeypatch.setattr(module, "EXPRESSIONS", 12)
    other = dataclasses.replace(Options(), a2r_max_words=20)  # another subset has another count
    assert check(source, other, COUNTS) == []


def test_expressions_without_an_object_give_no_samples(source, tmp_path):
    folder = prepare("refer_youtube_vos", source, tmp_path / "data", {"dev": 1})
    tokenizer = WordTokenizer.from_texts(["a dog"], 4)
    clip = ClipConfig(length=1, target=0, height=16, width=24)
    assert len(ReferringSamples(open_dataset(folder, "a2r"), clip, tokenizer, train=False)) == 24
    with pytest.raises(ValueError, match="valid has no sample"):
        ReferringSamples(open_dataset(folder, "valid"), clip, tokenizer, train=False)


def test_without_the_file_of_test_its_videos_stay_in_valid(source):
    (source / EXPRESSIONS.format("test")).unlink()
    assert [v.video.name for v in read_splits(source, Options(dev=0))["valid"]] == [
        "late", "tested"]
    assert check(source, Options(), COUNTS) == ["valid has 2 videos; the official one has 1"]


def test_some_splits(source):
    assert set(read_splits(source, Options(splits=("valid", "test")))) == {"valid", "test"}
    assert check(source, Options(splits=("test",)), COUNTS) == []
    with pytest.raises(ValueError, match=r"option 'splits' is 'val'; it takes some of train, va"):
        read_splits(source, Options(splits=("val",)))
    (source / EXPRESSIONS.format("train")).unlink()
    with pytest.raises(ValueError, match=r"no .*train/meta_expressions\.json, and none of the oth"):
        read_splits(source, Options(splits=("train",)))


def test_what_is_missing_is_named(source, tmp_path):
    (source / "train/Annotations/video1/00005.png").unlink()
    (source / "train/JPEGImages/video2/00010.jpg").unlink()
    (source / "valid/JPEGImages/late/00010.jpg").unlink()
    cut(source / "train/JPEGImages/video0/00000.jpg")
    write(source / "train/meta.json",
          (source / "train/meta.json").read_text().replace("dog", "wolf"))
    problems = "\n".join(check(source, Options(), COUNTS | {"train": 5}))
    for fault in (
        "train has 4 videos; the official one has 5",
        "train/meta.json: unknown categories: 1 (wolf)",
        "train: missing masks: 1 (video1/00005.png)",
        "train: missing frames: 1 (video2/00010.jpg)",
        "valid: missing frames that the file of expressions lists: 1 (late/00010.jpg)",
        "files cut off or of another type: 1 of 22",
    ):
        assert fault in problems
    with pytest.raises(ValueError, match=r"incomplete: .*video1/00005\.png"):
        prepare("refer_youtube_vos", source, tmp_path / "data", {"dev": 0})
    assert "has 4 videos; the official one has 3471" in "\n".join(
        verify("refer_youtube_vos", source))


@pytest.mark.parametrize("split, edit, message", [
    ("train", lambda v: v["video1"].pop("frames"), r"video video1 should be .*KeyError\('frames'"),
    ("train", lambda v: v["video1"].update(expressions=[]), "video video1 should be"),
    ("train", lambda v: v["video1"]["expressions"]["2"].pop("obj_id"),
     "video1 should be .*obj_id only in train"),
    ("train", lambda v: v["video1"]["expressions"]["2"].update(obj_id="2"),
     r"video1, expression 2 names the object 2; meta\.json has \[1, 3\]"),
    ("train", lambda v: v["video1"]["expressions"]["2"].update(obj_id="x"),
     "expression 2: obj_id should be a whole number, got 'x'"),
    ("train", lambda v: v["video1"]["expressions"]["2"].update(exp=" "),
     "expression 2: the expression is empty"),
    ("train", lambda v: v["video1"]["frames"].append("last"), "a frame should be a whole number"),
    ("train", lambda v: v.update(gone=v["video1"]),
     r"meta\.json lacks videos that .*: 1 of 5 \(gone\)"),
    ("valid", lambda v: v["late"]["expressions"].pop("0"),
     r"keys should be 0 to 0, got \[1\]; predictions are submitted under them"),
    ("valid", lambda v: v.clear(), "should hold"),
])
def test_damaged_expressions_are_named(source, split, edit, message):
    change(source, split, edit)
    with pytest.raises(ValueError, match=message):
        read_splits(source, Options(dev=0))


def test_another_folder_and_truncated_files(source, tmp_path):
    with pytest.raises(ValueError, match="is not the folder of Refer-YouTube-VOS"):
        prepare("refer_youtube_vos", tmp_path, tmp_path / "data")
    cut(source / EXPRESSIONS.format("valid"))
    with pytest.raises(ValueError, match=r"valid/meta_expressions\.json is not JSON"):
        read_splits(source, Options(dev=0))


def test_categories_are_in_order():
    assert len(set(module.CATEGORIES)) == len(module.CATEGORIES) == 65
    assert sorted(module.CATEGORIES) == list(module.CATEGORIES)
    assert set(module.A2R_CATEGORIES) < set(module.CATEGORIES)
