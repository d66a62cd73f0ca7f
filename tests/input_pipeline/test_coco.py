import json

import numpy as np
import pytest
from archives import box, picture, runs, write
from PIL import Image

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.builders import coco as builder
from vseg_jax.input_pipeline.builders import prepare
from vseg_jax.input_pipeline.propagation import PropagationSamples
from vseg_jax.input_pipeline.records import decode_mask, open_dataset
from vseg_jax.input_pipeline.settings import ClipConfig, PropagationConfig
from vseg_jax.run_lengths import decode_rle

SIZE = (20, 30)
# What is drawn: a dog's outline of two parts, a bicycle, a crowd of people, a table
DOG = [[2, 3, 10, 3, 10, 9, 2, 9], [12.0, 3.0, 16.0, 3.0, 16.0, 9.0, 12.0, 9.0]]
BICYCLE = [[20.2, 4.1, 27.5, 6.2, 24.9, 14.7]]


def annotation(number, image, category, part, crowd=0):
    return {"id": number, "image_id": image, "category_id": category, "segmentation": part,
            "iscrowd": crowd}


@pytest.fixture
def source(tmp_path):
    """Two images in val: one as above, one of a table alone."""
    root = tmp_path / "coco"
    (root / "val2017").mkdir(parents=True)
    images = []
    for k in (1, 2):
        name = f"{k:012d}.jpg"
        Image.fromarray(picture(SIZE, k)).save(root / "val2017" / name)
        images.append({"id": k, "file_name": name, "height": 20, "width": 30})
    write(root / "annotations/instances_val2017.json", json.dumps({
        "images": images, "categories": [{"id": k} for k in (1, 2, 18, 67)],
        "annotations": [
            annotation(5, 1, 67, [[0, 0, 30, 0, 30, 20, 0, 20]]), annotation(6, 1, 18, DOG),
            annotation(7, 1, 1, runs(box(SIZE, 0, 0, 20)), crowd=1), annotation(8, 1, 2, BICYCLE),
            annotation(9, 2, 67, [[0, 0, 30, 0, 30, 20, 0, 20]]),
        ]}))
    return root


def change(source, edit):
    path = source / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    edit(content["annotations"])
    write(path, json.dumps(content))


def test_only_shared_categories_under_the_other_names(source, tmp_path):
    dataset = open_dataset(prepare("coco", source, tmp_path / "data"), "val")
    assert [e.video_id for e in dataset.index] == ["000000000001"]  # a table is nothing here
    assert [(o.id, o.category) for o in dataset.index[0].objects] == [(1, "dog"), (2, "motorbike")]
    assert dataset.categories[6].name == "ape" and len(dataset.categories) == 40
    mask = decode_mask(dataset[0].masks[0], "")
    people = box(SIZE, 0, 0, 20)
    inside = (mask[3:9, 2:10] == 1).all() and (mask[3:9, 12:16] == 1).all()
    assert inside and (mask == 1).sum() == 72
    assert (mask[people & (mask != 1) & (mask != 2)] == VOID).all()
    assert (mask[16:, 20:] == 0).all()
    other = prepare("coco", source, tmp_path / "data", {"names": "ovis"})
    assert [o.category for o in open_dataset(other, "val").index[0].objects] == ["Dog", "Bicycle"]
    assert builder.verify(source, builder.Options(), {"val": 2}) == []


def test_all_categories_for_training_on_stills(source, tmp_path):
    dataset = open_dataset(prepare("coco", source, tmp_path / "data", {"names": "all"}), "val")
    assert [[o.category for o in e.objects] for e in dataset.index] == [
        ["dining table", "dog", "bicycle"], ["dining table"]]
    assert len(dataset.categories) == 80 and dataset.categories[79].name == "toothbrush"
    mask = decode_mask(dataset[0].masks[0], "")
    assert (mask[16:, 20:] == 1).all() and (mask[3:9, 2:10] == 2).all()
    samples = PropagationSamples(dataset, ClipConfig(height=16, width=16),
                                 PropagationConfig(stills=1.0), train=True)
    assert len(samples) == 2 and all(samples[i]["objects"].any() for i in range(2))


def test_outlines_are_filled_nearly_as_in_coco(source):
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
        points = np.array([60, 50]) + 40 * rng.uniform(0.6, 1, (9, 1)) * np.stack(
            [np.cos(angle), np.sin(angle)], 1)
        outline = [points.ravel().tolist()]
        theirs = coco.merge(coco.frPyObjects(outline, 100, 120))
        theirs = decode_rle({"size": [100, 120], "counts": theirs["counts"]}, "a test")
        ours = builder.mask_of(outline, (100, 120), "a test")
        x, y = points.T
        area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
        assert abs(ours.sum() - area) < 0.03 * area
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.95


def test_what_is_missing_is_named(source, tmp_path):
    (source / "val2017/000000000002.jpg").unlink()
    problems = builder.verify(source, builder.Options())
    assert problems[0] == "there is no annotations/instances_train2017.json"
    assert problems[1] == "val has 2 images; the official one has 5000"
    assert "missing images: 1 of 2" in problems[2] and "000000000002.jpg" in problems[2]
    with pytest.raises(ValueError, match=r"incomplete: .*000000000002"):
        prepare("coco", source, tmp_path / "data")
    with pytest.raises(ValueError, match="not the folder of COCO"):
        prepare("coco", tmp_path, tmp_path / "data")


@pytest.mark.parametrize("edit, message", [
    (lambda a: a[1].update(category_id=99), "annotation 6 has the category_id 99"),
    (lambda a: a[1].update(image_id=99), "annotation 6 is of the image 99"),
    (lambda a: a[1].update(segmentation=[[1, 2, 3]]), "annotation 6: an outline should be"),
    (lambda a: a[2]["segmentation"].update(size=[30, 20]), "annotation 7 is 30x20"),
    (lambda a: a[1].pop("iscrowd"), "annotation 6: not the form of COCO"),
])
def test_damaged_annotations(source, tmp_path, edit, message):
    change(source, edit)
    with pytest.raises(ValueError, match=message):
        prepare("coco", source, tmp_path / "data")
