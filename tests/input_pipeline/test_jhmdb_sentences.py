import json

import numpy as np
import pytest
import scipy.io
from archives import JHMDB_SIZE, box, cut, jhmdb, write
from PIL import Image

from vseg_jax.input_pipeline.builders import jhmdb_sentences, prepare, verify
from vseg_jax.input_pipeline.records import decode_mask, open_dataset

OFFICIAL = jhmdb_sentences.Official(videos=2)
MAT = "puppet_mask/run/long_run_1/puppet_mask.mat"


@pytest.fixture
def source(tmp_path):
    return jhmdb(tmp_path / "jhmdb")


def build(source, tmp_path, **options):
    return open_dataset(prepare("jhmdb_sentences", source, tmp_path / "p", options), "test")


def test_masks_of_both_matlab_formats_and_frames_beyond_them(source, tmp_path):
    dataset = build(source, tmp_path, frames=0)
    assert [e.video_id for e in dataset.index] == ["long_run_1", "new_wave_2"]
    assert [e.length for e in dataset.index] == [6, 4]  # the seventh frame has no mask
    assert [e.objects[0].category for e in dataset.index] == ["run", "wave"]
    assert [e.expressions[0].text for e in dataset.index] == ["a man running", "woman waving"]
    for record in dataset:
        for t, mask in enumerate(record.masks):
            np.testing.assert_array_equal(decode_mask(mask, "m"), box(JHMDB_SIZE, 3, 2 * t))
    image = source / "Rename_Images/run/long_run_1/00006.png"
    assert dataset[0].frames[5] == image.read_bytes()


def test_three_frames_are_scored(source, tmp_path):
    dataset = build(source, tmp_path)
    assert [e.annotated for e in dataset.index] == [(1, 3, 5), (0, 2, 3)]
    assert jhmdb_sentences.uniform(40, 3) == [6, 20, 33]
    assert jhmdb_sentences.uniform(2, 3) == [0, 1]


def test_the_frames_of_a_list(source, tmp_path):
    rows = [["long_run_1", f"./Rename_Images/run/long_run_1/{n:05d}.png", "mask", 6, "query"]
            for n in (1, 2, 6)] + [["new_wave_2", "x/00003.png", "mask", 4, "query"]]
    path = write(tmp_path / "samples.json", json.dumps(rows))
    dataset = build(source, tmp_path, samples=str(path))
    assert [e.annotated for e in dataset.index] == [(0, 1, 5), (2,)]
    options = jhmdb_sentences.Options(samples=str(path))
    assert jhmdb_sentences.verify(source, options, OFFICIAL) == []


@pytest.mark.parametrize(("rows", "message"), [
    ([["long_run_1", "x/00007.png"], ["new_wave_2", "x/00001.png"]], "which has 6 frames"),
    ([["long_run_1", "x/00001.png"]], r"lists no frame of 1 of 2 \(new_wave_2\)"),
    ([["long_run_1", "x/first.png"]], "entry 0: the frame's name should be a whole number"),
    ([["long_run_1", 3]], "entry 0: expected"),
    ("no list", "entry 0: expected"),
])
def test_bad_lists(source, tmp_path, rows, message):
    path = write(tmp_path / "samples.json", json.dumps(rows))
    with pytest.raises(ValueError, match=message):
        build(source, tmp_path, samples=str(path))


def test_verify(source):
    assert jhmdb_sentences.verify(source, jhmdb_sentences.Options(), OFFICIAL) == []
    assert verify("jhmdb_sentences", source) == [
        "jhmdb_annotation.txt names 2 videos; the official file names 928"]


@pytest.mark.parametrize(("lost", "message"), [
    ("Rename_Images/run/long_run_1", r"without frames in Rename_Images: 1 of 2 \(long_run_1\)"),
    ("Rename_Images/run/long_run_1/00003.png",
     r"videos with gaps between their frames: 1 of 2 \(long_run"),
    (MAT, r"without puppet_mask\.mat: 1 of 2 \(long_run_1\)"),
    ("puppet_mask", r"puppet_mask does not exist: extract puppet_mask of J-HMDB"),
    ("jhmdb_annotation.txt", r"jhmdb_annotation\.txt cannot be read"),
])
def test_an_incomplete_download(source, tmp_path, lost, message):
    (source / lost).rename(tmp_path / "lost")
    with pytest.raises(ValueError, match=message):
        build(source, tmp_path)
    assert not list((tmp_path / "p").rglob("dataset_info.json"))
    assert len(jhmdb_sentences.verify(source, jhmdb_sentences.Options(), OFFICIAL)) == 1


@pytest.mark.parametrize(("row", "message"), [
    ("video", r"jhmdb_annotation\.txt, line 4: expected 2 columns"),
    ("video,", r"jhmdb_annotation\.txt, line 4: the expression is empty"),
])
def test_bad_rows(source, tmp_path, row, message):
    with open(source / "jhmdb_annotation.txt", "a") as file:
        file.write(row + "\n")
    with pytest.raises(ValueError, match=message):
        build(source, tmp_path)


@pytest.mark.parametrize("name", [
    MAT, "puppet_mask/wave/new_wave_2/puppet_mask.mat", "Rename_Images/run/long_run_1/00002.png"])
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_truncated_files(source, tmp_path, name, share):
    cut(source / name, share)
    with pytest.raises(ValueError, match=rf"{name} cannot be read"):
        build(source, tmp_path)


def test_verify_names_truncated_images(source):
    cut(source / "Rename_Images/run/long_run_1/00002.png")
    [problem] = jhmdb_sentences.verify(source, jhmdb_sentences.Options(), OFFICIAL)
    assert "run/long_run_1/00002.png" in problem and "1 of 13" in problem


def test_a_matlab_file_without_the_masks(source, tmp_path):
    scipy.io.savemat(source / MAT, {"something": np.zeros(3)})
    with pytest.raises(ValueError, match=rf"{MAT} cannot be read as a puppet mask.*part_mask"):
        build(source, tmp_path)


def test_sizes_must_agree(source, tmp_path):
    Image.new("RGB", (30, 24)).save(source / "Rename_Images/run/long_run_1/00002.png")
    with pytest.raises(ValueError, match=r"puppet_mask\.mat is 24x32 .*00002\.png is 24x30"):
        build(source, tmp_path)
