import os
from collections import Counter

import numpy as np
import pytest
from archives import A2D_SIZE, a2d, a2d_frame, box, cut, write

from vseg_jax.input_pipeline.builders import a2d_sentences, prepare, verify
from vseg_jax.input_pipeline.records import decode_image, decode_mask, open_dataset

OFFICIAL = a2d_sentences.Official(videos=4, queries=5, missed=1, train=2, test=1)


@pytest.fixture
def source(tmp_path):
    return a2d(tmp_path / "a2d")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The prepared dataset; its texts lie in text_annotations/."""
    root = tmp_path_factory.mktemp("a2d")
    return prepare("a2d_sentences", a2d(root / "source", "text_annotations"), root / "prepared")


def test_splits_without_the_missed_video(folder):
    assert [e.video_id for e in open_dataset(folder, "train").index] == ["walk_dog-1", "copy"]
    assert [e.video_id for e in open_dataset(folder, "test").index] == ["test"]


def test_frames_counted_from_one_and_clamped_by_one(folder):
    record = open_dataset(folder, "train")[0]
    assert len(record.frames) == 6 and record.fps == 10.0
    assert [t for t, mask in enumerate(record.masks) if mask] == [0, 5]  # 00001 and 00007 of 6
    for t, data in enumerate(record.frames):
        assert abs(float(decode_image(data, "clip")[..., 0].mean()) - 40 * t) < 12


def test_masks_are_turned_upright_whether_squeezed_or_not(folder):
    record = open_dataset(folder, "train")[0]
    two = 3 * box(A2D_SIZE, 0, 30) + box(A2D_SIZE, 20, 4)  # ids are instances plus one
    np.testing.assert_array_equal(decode_mask(record.masks[0], "two"), two)
    np.testing.assert_array_equal(decode_mask(record.masks[5], "one"), box(A2D_SIZE, 20, 8))


def test_objects_have_their_labels_and_expressions_their_objects(folder):
    record, copy = open_dataset(folder, "train")
    assert [(o.id, o.category) for o in record.objects] == [(1, "dog-walk"), (3, "adult-run")]
    assert [(e.text, e.object_id) for e in record.expressions] == [
        ("a dog, walking", 1), ("a man running", 3)]
    assert [(o.id, o.category) for o in copy.objects] == [(2, "bird-fly")]  # from reS_id
    assert [(e.text, e.object_id) for e in copy.expressions] == [("a bird flying", 2)]


def test_a_repeated_instance_and_a_surplus_mask(folder):
    record = open_dataset(folder, "train")[1]
    np.testing.assert_array_equal(decode_mask(record.masks[1], "copy"), 2 * box(A2D_SIZE, 2, 2))


def test_the_smaller_of_two_overlapping_objects_gets_the_pixels(folder):
    record = open_dataset(folder, "test")[0]
    expected = 2 * box(A2D_SIZE, 0, 0, 16).astype(int)
    expected[4:8, 4:8] = 1
    np.testing.assert_array_equal(decode_mask(record.masks[2], "test"), expected)


def test_exclude(source, tmp_path):
    folder = prepare("a2d_sentences", source, tmp_path / "p", {"exclude": ("walk_dog-1",)})
    assert [e.video_id for e in open_dataset(folder, "train").index] == ["copy"]
    with pytest.raises(ValueError, match=r"'exclude' names videos that videoset\.csv lacks"):
        prepare("a2d_sentences", source, tmp_path / "p", {"exclude": "nobody"})


def test_labels_have_names():
    named = {label: a2d_sentences.category(Counter([label])) for label in (11, 29, 75)}
    assert named == {11: "adult-climb", 29: "baby-none", 75: "dog-jump"}
    assert a2d_sentences.category(Counter([90])) == "label-90"
    assert a2d_sentences.category(Counter([])) == ""
    assert a2d_sentences.category(Counter([11, 12, 12])) == "adult-crawl"


def test_verify(source):
    assert a2d_sentences.verify(source, a2d_sentences.Options(), OFFICIAL) == []
    problems = verify("a2d_sentences", source)
    assert "4 rows in videoset.csv; the official files have 3782" in problems
    assert "5 queries in a2d_annotation.txt; the official files have 6655" in problems
    assert "2 train videos that are not missed; the official files have 3017" in problems
    assert "1 test videos that are not missed; the official files have 737" in problems
    write(source / "a2d_annotation.txt", "video_id,instance_id,query\nwalk_dog-1,0,a dog\n")
    counts = a2d_sentences.Official(4, 1, 1, 2, 1)
    [problem] = a2d_sentences.verify(source, a2d_sentences.Options(), counts)
    assert "without a query" in problem and "2 of 3 (copy, test)" in problem


def test_a_complete_download_is_counted_before_it_is_prepared(source, tmp_path, monkeypatch):
    monkeypatch.setattr(a2d_sentences.Official, "videos", 4)   # what there is counts as whole
    with pytest.raises(ValueError, match=r"5 queries in a2d_annotation\.txt; the official files "
                                         "have 6655"):
        prepare("a2d_sentences", source, tmp_path / "p")


@pytest.mark.parametrize(("lost", "message"), [
    ("Release/clips320H/test.mp4", r"clips missing in .*clips320H: 1 of 3 \(test\)"),
    ("Release/clips320H", r"clips missing in .*clips320H: 3 of 3 \(walk_dog-1, copy, test\)"),
    ("a2d_annotation_with_instances/copy", r"videos without masks in .*: 1 of 3 \(copy\)"),
    ("a2d_annotation_with_instances", r"neither .* nor .* exists: download a2d_annotation_with"),
    ("a2d_missed_videos.txt", r"neither .* nor .* exists: download a2d_missed_videos"),
    ("Release/videoset.csv", r"videoset\.csv cannot be read"),
])
def test_an_incomplete_download(source, tmp_path, lost, message):
    (source / lost).rename(tmp_path / "lost")
    with pytest.raises(ValueError, match=message):
        prepare("a2d_sentences", source, tmp_path / "p")
    assert not list((tmp_path / "p").rglob("dataset_info.json"))
    assert len(a2d_sentences.verify(source, a2d_sentences.Options(), OFFICIAL)) == 1


@pytest.mark.parametrize(("name", "row", "message"), [
    ("Release/videoset.csv", "x,11,00:00,00:02,32,48,6,3", r"csv, line 5: expected 9 columns"),
    ("Release/videoset.csv", "x,11,00:00,00:02,32,48,6,3,2", r"csv, line 5: .* got '2'"),
    ("a2d_annotation.txt", "nobody,0,a dog", r"txt, line 7: there is no video 'nobody'"),
    ("a2d_annotation.txt", "test,first,a dog", r"txt, line 7: instance_id should be a whole"),
    ("a2d_annotation.txt", "test,0,", r"txt, line 7: the expression is empty"),
    ("a2d_annotation.txt", "test,0,one,two", r"txt, line 7: expected 3 columns"),
])
def test_bad_rows(source, tmp_path, name, row, message):
    with open(source / name, "a") as file:
        file.write(row + "\n")
    with pytest.raises(ValueError, match=message):
        prepare("a2d_sentences", source, tmp_path / "p")


def test_another_header(source, tmp_path):
    write(source / "a2d_annotation.txt", "test,0,a ball rolling\n")
    with pytest.raises(ValueError, match=r"txt, line 1: the header should be 'video_id,"):
        prepare("a2d_sentences", source, tmp_path / "p")


def test_broken_files(source, tmp_path):
    note = source / "a2d_annotation_with_instances/test/00003.h5"
    whole = note.read_bytes()
    cut(note)
    with pytest.raises(ValueError, match=r"test/00003\.h5 cannot be read as an A2D-Sentences"):
        prepare("a2d_sentences", source, tmp_path / "p")
    note.write_bytes(b"<html>not found</html>")
    [problem] = a2d_sentences.verify(source, a2d_sentences.Options(), OFFICIAL)
    assert "test/00003.h5" in problem
    note.write_bytes(whole)
    cut(source / "Release/clips320H/test.mp4", 0.3)
    with pytest.raises(ValueError, match=r"test\.mp4 cannot be decoded"):
        prepare("a2d_sentences", source, tmp_path / "p")


def test_masks_of_another_size_and_frames_beyond_the_clip(source, tmp_path):
    folder = source / "a2d_annotation_with_instances/test"
    a2d_frame(folder / "00004.h5", [0], [np.ones((30, 48), bool)], [36])
    with pytest.raises(ValueError, match=r"00004\.h5 is 30x48 .*test\.mp4 is 32x48"):
        prepare("a2d_sentences", source, tmp_path / "p")
    os.remove(folder / "00004.h5")
    a2d_frame(folder / "00007.h5", [0], [np.ones(A2D_SIZE, bool)], [36])
    with pytest.raises(ValueError, match=r"00007\.h5: the clip .* has only 5 frames"):
        prepare("a2d_sentences", source, tmp_path / "p")
    os.remove(folder / "00007.h5")
    a2d_frame(folder / "00004.h5", [0, 1, 2], [np.ones(A2D_SIZE, bool)] * 2, [36, 36])
    with pytest.raises(ValueError, match=r"00004\.h5: reMask has the shape .* for 3 instances"):
        prepare("a2d_sentences", source, tmp_path / "p")


