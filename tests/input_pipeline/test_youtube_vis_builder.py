import json

import numpy as np
import pytest
from archives import OVIS_SIZE, box, runs, write, youtube_vis

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.builders import files, prepare
from vseg_jax.input_pipeline.builders import youtube_vis as builder
from vseg_jax.input_pipeline.builders.__main__ import main
from vseg_jax.input_pipeline.categories import OFFICIAL, from_coco
from vseg_jax.input_pipeline.instances import InstanceSamples, true_tracks
from vseg_jax.input_pipeline.records import decode_mask, open_dataset
from vseg_jax.input_pipeline.settings import ClipConfig, InstanceConfig

COUNTS = {"train": 3, "valid": 1}


def change(source, edit):
    path = source / "train.json"
    content = json.loads(path.read_text())
    edit(content)
    write(path, json.dumps(content))


@pytest.mark.parametrize("year", [2019, 2021])
def test_records_of_both_years(year, tmp_path):
    source = youtube_vis(tmp_path / "vis", year)
    options = {"year": year, "dev": 0}
    dataset = open_dataset(prepare("youtube_vis", source, tmp_path / "data", options), "train")
    assert [e.video_id for e in dataset.index] == ["vid0", "vid1", "vid2"]
    names = [c.name for c in dataset.categories]
    assert names == list(OFFICIAL[f"youtube_vis_{year}"]) and dataset.categories[0].id == 1
    assert [(o.id, o.category, o.frames) for o in dataset.index[0].objects] == [
        (1, names[0], (0, 2)), (2, names[1], (0, 1, 2))]
    assert dataset[0].fps == 6.0
    assert builder.verify(source, builder.Options(year), COUNTS) == []
    other = builder.verify(source, builder.Options(2019 + 2021 - year), COUNTS)
    assert len(other) == 1 and "the categories are not the official ones" in other[0]
    assert builder.verify(source, builder.Options(0)) == []  # videos of one's own


def test_dev_is_drawn_from_train(tmp_path):
    source = youtube_vis(tmp_path / "vis", train=5)
    folder = prepare("youtube_vis", source, tmp_path / "data", {"dev": 2})
    dev, train = ([e.video_id for e in open_dataset(folder, split).index]
                  for split in ("dev", "train"))
    assert dev == files.draw([f"vid{k}" for k in range(5)], 2, 0)
    assert sorted(dev + train) == [f"vid{k}" for k in range(5)]
    assert len(open_dataset(folder, "valid")) == 1
    with pytest.raises(ValueError, match="takes 200 videos out of train, which has 5; dev=0 takes"):
        prepare("youtube_vis", source, tmp_path / "more")


def test_crowds_are_void_and_unseen_objects_are_left_out(tmp_path):
    source = youtube_vis(tmp_path / "vis", train=1)

    def edit(content):
        rows = content["annotations"]
        whole = runs(box(OVIS_SIZE, 0, 0, 12))
        rows.append(rows[0] | {"id": 300, "iscrowd": 1, "segmentations": [whole, None, None]})
        rows.insert(0, rows[0] | {"id": 1, "segmentations": [None, None, None]})

    change(source, edit)
    folder = prepare("youtube_vis", source, tmp_path / "data", {"dev": 0})
    dataset = open_dataset(folder, "train")
    assert [o.id for o in dataset.index[0].objects] == [1, 2]
    mask = decode_mask(dataset[0].masks[0], "")
    assert (mask[8:, :12] == VOID).all() and (mask == VOID).sum() == 12 * 12 - 64
    assert (mask[:8, :8] != VOID).all()
    problems = builder.verify(source, builder.Options(), {"train": 1, "valid": 1})
    assert problems == ["train: objects that no frame shows (all null): 1 of 4 "
                        "(vid0 annotation 1); they are left out"]


def test_samples_and_ground_truth_of_a_prepared_dataset(tmp_path):
    source = youtube_vis(tmp_path / "vis")
    folder = prepare("youtube_vis", source, tmp_path / "data", {"dev": 1})
    dataset = open_dataset(folder, "dev")
    samples = InstanceSamples(dataset, ClipConfig(height=12, width=20), InstanceConfig(objects=3),
                              train=False)
    assert len(samples) == 3 and len(samples.categories) == 40
    np.testing.assert_array_equal(samples[0]["classes"], [0, 1, 0])  # person, giant_panda
    truth = true_tracks(dataset[0], samples.categories, "a test")
    assert [t["category_id"] for t in truth] == [0, 1]
    assert [c is None for c in truth[0]["segmentations"]] == [False, True, False]
    assert truth[0]["segmentations"][2]["counts"] == "n13900000R4"


def test_another_folder_and_two_years_mixed(tmp_path):
    with pytest.raises(ValueError, match="not the folder of YouTube-VIS"):
        prepare("youtube_vis", tmp_path, tmp_path / "data")
    source = youtube_vis(tmp_path / "vis")
    valid = json.loads((source / "valid.json").read_text())
    valid["categories"] = valid["categories"][:3]
    write(source / "valid.json", json.dumps(valid))
    message = r"valid\.json and .*train\.json have different categories"
    with pytest.raises(ValueError, match=message):
        prepare("youtube_vis", source, tmp_path / "data")


@pytest.mark.parametrize("edit, message", [
    (lambda c: c["annotations"][0].update(category_id=77), "annotation 100 has the category_id 77"),
    (lambda c: c["annotations"][0].update(segmentations=None), "has the segmentations None"),
    (lambda c: c["annotations"][0]["segmentations"][1].update(size=[20, 12]),
     r"annotation 100, frame 1 is 20x12 .* its video is 12x20"),
    (lambda c: c["categories"].append({"id": 1, "name": "cow"}), "lists a category twice"),
    (lambda c: c["videos"][0].update(file_names=["0.jpg", "1.jpg", "2.jpg"]),
     "video 7: file_names should be <video>/<frame>, got 0.jpg"),
    (lambda c: c["videos"][0].update(file_names=["/a/b/0.jpg"] * 3), "video 7: file_names should"),
    (lambda c: c["videos"][0].pop("height"), "video 7: not the form .* KeyError"),
    (lambda c: c["videos"][0].update(height="12"), "video 7: not the form .* TypeError"),
    (lambda c: c["videos"].append(c["videos"][0]), r"lists videos twice: 1 of 4 \(vid0\)"),
    (lambda c: c["annotations"].append(c["annotations"][0]), "two annotations with the id"),
    (lambda c: c["annotations"][0].pop("segmentations"), "annotation 100: not the form .* KeyErr"),
    (lambda c: c["annotations"][0].update(segmentations=[None] * 5),
     "annotation 100 has 5 segmentations, but its video has 3 frames; expected is one per frame"),
    (lambda c: c["annotations"][0]["segmentations"].append([[1, 2, 3, 4, 5, 6]]),
     r"frame 3 should be a run-length code .* \(outlines are not read\), got \[\[1, 2"),
    (lambda c: c["categories"].pop(0), "annotation 90 has the category_id 1, which"),
    (lambda c: c["categories"][0].update(id="one"), r"train\.json: not the form .* TypeError"),
    (lambda c: c.update(categories=[], annotations=None), "lists no category"),
])
def test_damaged_annotations(tmp_path, edit, message):
    source = youtube_vis(tmp_path / "vis")
    change(source, edit)
    with pytest.raises(ValueError, match=message):
        prepare("youtube_vis", source, tmp_path / "data", {"dev": 0})


def test_more_objects_than_a_mask_can_name(tmp_path):
    source = youtube_vis(tmp_path / "vis", train=1)
    code = runs(box(OVIS_SIZE, 0, 0, 4))

    def edit(content):
        first = content["annotations"][0]
        content["annotations"] = [
            first | {"id": k, "segmentations": [code, None, None]} for k in range(255)]

    change(source, edit)
    [problem] = builder.verify(source, builder.Options(), {"train": 1, "valid": 1})
    assert "(vid0) has 255 objects; an index mask names at most 254" in problem
    with pytest.raises(ValueError, match="has 255 objects"):
        prepare("youtube_vis", source, tmp_path / "data", {"dev": 0})


@pytest.mark.parametrize("code, message", [
    ({"size": [20, 12], "counts": [240]}, "is 20x12 (height x width), but its video is 12x20"),
    ({"size": [12, 20], "counts": [5, 5]}, "has 10 pixels, its size is 12x20"),
    ({"size": [12, 20], "counts": "d0"}, "has 20 pixels, its size is 12x20"),
    ({"size": [12, 20], "counts": "n1\x7f"}, "cannot be read: ValueError"),
    ({"size": [12.0, 20.0], "counts": [240]}, "cannot be read: TypeError"),
])
def test_codes_that_do_not_fit(tmp_path, capsys, code, message):
    source = youtube_vis(tmp_path / "vis")
    change(source, lambda c: c["annotations"][0]["segmentations"].insert(0, code))
    change(source, lambda c: c["annotations"][0]["segmentations"].pop())
    given = ["youtube_vis", "--source", str(source)]
    prepared = ["--prepared", str(tmp_path / "data")]
    assert main(["verify", *given, "--option", "year=0"]) == 1
    problem, summary = capsys.readouterr().out.splitlines()
    assert problem.startswith("problem: train: objects with bad run-length codes: 1 of 6, the first"
                              f": the run-length code of vid0 annotation 100, frame 0 {message}")
    assert summary == "youtube_vis: 1 problems"
    assert main(["prepare", *given, *prepared, "--option", "dev=0"]) == 2
    error = capsys.readouterr().err.partition("error: ")[2]
    assert f"train.json, annotation 100, frame 0 {message}" in error and error.count("\n") == 1
    assert not [p for p in (tmp_path / "data").rglob("*") if p.is_file()]


@pytest.mark.parametrize("nothing", [None, []])
def test_a_train_file_without_annotations(tmp_path, nothing):
    source = youtube_vis(tmp_path / "vis")
    change(source, lambda c: c.update(annotations=nothing))
    assert builder.verify(source, builder.Options(0)) == [
        "train: train.json has no annotations; training needs them"]


def test_what_coco_shares():
    for table, some in (
        ("youtube_vis_2019", {1: "person", 3: "sedan", 4: "motorbike", 18: "dog", 23: "bear"}),
        ("youtube_vis_2021", {1: "person", 3: "car", 16: "bird", 34: "flying_disc", 18: "dog"}),
        ("ovis", {1: "Person", 3: "Vehical", 2: "Bicycle", 25: "Giraffe", 9: "Boat"}),
    ):
        found = from_coco(table)
        assert some.items() <= found.items()
        assert set(found.values()) <= set(OFFICIAL[table])
