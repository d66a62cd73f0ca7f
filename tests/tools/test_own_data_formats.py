"""The files of annotation tools: all forms give the same masks, and what they refuse."""

import json

import labeled
import numpy as np
import pytest
from labeled import BOXES, truth

from vseg_jax.tools.own_data import cvat, json_files
from vseg_jax.tools.own_data.annotations import find_files, named
from vseg_jax.tools.own_data.assemble import label_videos
from vseg_jax.tools.own_data.videos import find


def changed(path, change):
    """Changes the content of a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def roboflow(folder):
    """An export, whose frames are spread over two splits."""
    for split, frames in (("train", (1, 6)), ("valid", (3,))):
        def keep(content, frames=frames):
            content["annotations"] = [
                entry for entry in content["annotations"] if entry["image_id"] - 10 in frames]
        changed(labeled.coco(folder / split / "_annotations.coco.json",
                             file_name="frame_{:03d}_jpg.rf.0a1b2c3d.jpg"), keep)
    return folder


def label_studio(path):
    """An export, in which the name of each image begins with a hash of its own."""
    def upload(content):
        for number, image in enumerate(content["images"]):
            image["file_name"] = f"images/1b3a8b{number:02x}-{image['file_name']}"
    return changed(labeled.coco(path), upload)


FORMS = {
    "labelme": lambda root: labeled.labelme(root / "labels"),
    "labelme_masks": lambda root: labeled.labelme(root / "labels", mask=True),
    "labelme_beside_the_frames": lambda root: labeled.labelme(root / "clip"),
    "coco": lambda root: labeled.coco(root / "coco.json"),
    "coco_codes": lambda root: labeled.coco(root / "coco.json", labeled.code),
    "coco_runs": lambda root: labeled.coco(root / "coco.json", labeled.runs),
    "roboflow": lambda root: roboflow(root / "export"),
    "label_studio": lambda root: label_studio(root / "result.json"),
    "cvat_images": lambda root: labeled.cvat_images(root / "annotations.xml"),
    "cvat_masks": lambda root: labeled.cvat_images(root / "annotations.xml", mask=True),
    "cvat_video": lambda root: labeled.cvat_video(root / "annotations.xml"),
    "pngs": lambda root: labeled.pngs(root / "labels"),
    "pngs_by_number": lambda root: labeled.pngs(root / "labels", "mask_{}.png"),
}


def read(path, videos):
    """The only video with its annotations, and the problems."""
    sources = find(videos, [path])
    found = []
    for file, places in find_files([path]):
        if file.suffix == ".png":
            from vseg_jax.tools.own_data import _read
            found += _read([(file, places)])[0]
        elif file.suffix == ".xml":
            found += cvat.read(file, places)
        else:
            found += json_files.read(file, places)
    labeled_videos, problems = label_videos(sources, found)
    assert len(labeled_videos) == 1
    return labeled_videos[0], problems


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_masks(form, tmp_path):
    videos = labeled.frames(tmp_path / "clip")
    video, problems = read(FORMS[form](tmp_path), videos)
    assert problems == []
    assert list(video.annotations) == list(BOXES)
    for frame in BOXES:
        np.testing.assert_array_equal(video.index(frame), truth(frame))
    assert video.seen == {1: (1,), 3: (1, 2), 6: (1,)}
    if "pngs" in form:
        assert video.names == {1: "object 1", 2: "object 2"} and not video.categories
    else:
        assert video.names == video.categories == {1: "dog", 2: "cat"}


def test_names_of_tools():
    assert named("a/b\\frame_7.v2.jpg") == ("frame_7.v2", ("a", "b"))
    assert named("frame_7_jpg.rf.00ff.jpg") == ("frame_7", ())
    assert named("clip_mp4-0003_JPG.rf.00ff.jpg") == ("clip_mp4-0003", ())
    assert named("odd.rf.00ff.jpg") == ("odd", ())


def test_a_group_or_a_number_separates_objects_with_the_same_label(tmp_path):
    videos = labeled.frames(tmp_path / "clip")
    labels = labeled.labelme(tmp_path / "labels")

    def two(first, second, groups=(None, None)):
        def change(content):
            for shape, label, group in zip(content["shapes"], (first, second), groups,
                                           strict=False):
                shape |= {"label": label, "group_id": group}
        for t in BOXES:
            changed(labels / f"frame_{t:03d}.json", change)
        return read(labels, videos)

    video, problems = two("dog", "dog")
    assert len(problems) == 1
    assert "frame_003.json has 2 shapes 'dog' without an identity" in problems[0]
    assert "group_id in LabelMe" in problems[0] and "dog_1, dog_2" in problems[0]
    video, problems = two("dog", "dog", (5, 7))
    assert not problems and video.names == {1: "dog 5", 2: "dog 7"}
    assert video.categories == {1: "dog", 2: "dog"}
    video, problems = two("dog_1", "dog #2")
    assert not problems and video.names == {1: "dog_1", 2: "dog #2"}
    assert video.categories == {1: "dog", 2: "dog"}
    video, problems = two("dog", "dog", (5, 5))   # two parts of one object
    assert not problems and video.names == {1: "dog"}
    np.testing.assert_array_equal(video.index(3), truth(3) > 0)


def test_more_objects_than_an_index_mask_names(tmp_path):
    videos, labels = labeled.frames(tmp_path / "clip"), labeled.labelme(tmp_path / "labels")
    changed(labels / "frame_001.json", lambda content: content.update(
        shapes=[{**content["shapes"][0], "label": f"x {i}"} for i in range(254)]))
    assert "clip has 256 objects; an index mask names at most 254" in read(labels, videos)[1][0]


def test_an_identity_of_cvat_and_of_coco(tmp_path):
    videos = labeled.frames(tmp_path / "clip")
    path = labeled.coco(tmp_path / "coco.json")

    def track(content):
        for entry in content["annotations"]:
            entry["category_id"] = 7
            entry["attributes"] = {"track_id": entry["id"] % 100}
    video, problems = read(changed(path, track), videos)
    assert not problems and video.names == {1: "dog 0", 2: "dog 1"}
    path = labeled.cvat_images(tmp_path / "annotations.xml")
    text = path.read_text().replace('label="cat"', 'label="dog" group_id="2"')
    path.write_text(text)
    video, problems = read(path, videos)
    assert not problems and video.names == {1: "dog", 2: "dog 2"}


def test_only_frames_that_were_drawn_count_in_a_track(tmp_path):
    videos = labeled.frames(tmp_path / "clip")
    path = labeled.cvat_video(tmp_path / "annotations.xml")
    assert list(read(path, videos)[0].annotations) == [1, 3, 6]
    text = path.read_text()
    masks = text.replace(
        f'<polygon frame="3" keyframe="1" outside="0" points="{labeled.points(4, 3)}"/>',
        f'<mask frame="3" keyframe="0" outside="0" {labeled.cvat_mask(4, 3)}/>')
    assert masks != text
    path.write_text(masks)   # the cat is drawn in frame 3, the dog is not
    with pytest.raises(ValueError, match=r"frame 3 \(dog of track 0\): CVAT does not interpolate"):
        read(path, videos)


LABELME = {
    "no label": (lambda s, c: s.update(label=" "), "shape 0 has no label"),
    "box": (lambda s, c: s.update(shape_type="rectangle"),
            r"shape 0 \(dog\) is a shape of the type 'rectangle', .*; draw a polygon or a mask"),
    "line": (lambda s, c: s.update(points=[[0, 0], [3, 3]]), "has 2 points; an outline has at lea"),
    "points": (lambda s, c: s.update(points=[[0, 0], [3], [4, 4]]), r"points should be \[\[x, y\]"),
    "mask": (lambda s, c: s.update(shape_type="mask", mask="!"), "the mask cannot be read"),
    "size": (lambda s, c: c.pop("imageWidth"), "imageHeight and imageWidth should be numbers"),
    "shapes": (lambda s, c: c.update(shapes=[1]), "'shapes' should be a list of objects"),
}


@pytest.mark.parametrize("case", LABELME)
def test_faults_of_labelme(case, tmp_path):
    path = labeled.labelme(tmp_path / "labels") / "frame_001.json"
    change, message = LABELME[case]
    changed(path, lambda content: change(content["shapes"][0], content))
    with pytest.raises(ValueError, match=rf"frame_001.json.*{message}"):
        json_files.read(path, ())


def test_a_mask_of_labelme_beyond_the_image(tmp_path):
    path = labeled.labelme(tmp_path / "labels", mask=True) / "frame_001.json"
    changed(path, lambda c: c["shapes"][0].update(points=[[20, 4], [27, 11]]))
    with pytest.raises(ValueError, match="the mask, 8x8 at row 4 and column 20, reaches beyond"):
        json_files.read(path, ())


COCO = {
    "image": (lambda a, c: a.update(image_id=99), "annotation 100 is of the image 99, which the"),
    "category": (lambda a, c: a.update(category_id=1), "annotation 100 has the category_id 1, whi"),
    "box": (lambda a, c: a.update(segmentation=[]), r"annotation 100 \(dog\) is a shape of the t"),
    "crowd": (lambda a, c: a.update(iscrowd=1), r"annotation 100 \(dog\) is a crowd"),
    "key": (lambda a, c: a.pop("category_id"), "annotation 100: not the form of COCO annotations"),
    "size": (lambda a, c: c["images"][1].update(height="tall"), "image 11.*height and width shou"),
    "list": (lambda a, c: c.update(images={}), "'images' should be a list of objects"),
}


@pytest.mark.parametrize("case", COCO)
def test_faults_of_coco(case, tmp_path):
    change, message = COCO[case]
    path = changed(labeled.coco(tmp_path / "coco.json"),
                   lambda content: change(content["annotations"][0], content))
    with pytest.raises(ValueError, match=rf"coco.json.*{message}"):
        json_files.read(path, ())


CVAT = {
    "xml": (lambda t: t[:-20], "is not XML"),
    "root": (lambda t: t.replace("annotations>", "other>"), "is not a file of CVAT: its root is <"),
    "label": (lambda t: t.replace('label="cat"', ""), "frame_003.jpg: a <polygon> has no label"),
    "box": (lambda t: t.replace("<polygon", "<box"), r"\(dog\) is a shape of the type 'box'"),
    "points": (lambda t: t.replace(",4.00;", ";"), r"points should be \[\[x, y\], ...\]"),
    "width": (lambda t: t.replace('width="24"', 'width="wide"'), "its width should be a number"),
}


@pytest.mark.parametrize("case", CVAT)
def test_faults_of_cvat(case, tmp_path):
    change, message = CVAT[case]
    path = labeled.cvat_images(tmp_path / "annotations.xml")
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=rf"annotations.xml.*{message}"):
        cvat.read(path, ())


def test_a_mask_of_cvat_that_does_not_fill_its_box(tmp_path):
    path = labeled.cvat_images(tmp_path / "annotations.xml", mask=True)
    path.write_text(path.read_text().replace('rle="1, 8', 'rle="2, 8'))
    with pytest.raises(ValueError, match=r"image frames/frame_001.jpg \(dog\) has 73 pixels"):
        cvat.read(path, ())


def test_tracks_without_a_size(tmp_path):
    path = labeled.cvat_video(tmp_path / "annotations.xml")
    path.write_text(path.read_text().replace("original_size", "other_size"))
    with pytest.raises(ValueError, match="has tracks but no <original_size>"):
        cvat.read(path, ())


def test_json_of_another_kind(tmp_path):
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ValueError, match=r"x.json is neither a file of LabelMe .* nor of COCO"):
        json_files.read(tmp_path / "x.json", ())


def test_files_that_are_not_masks(tmp_path):
    (tmp_path / "labels/.hidden").mkdir(parents=True)
    (tmp_path / "labels/.hidden/a.json").write_text("{}")
    (tmp_path / "export.zip").write_text("")
    with pytest.raises(ValueError, match="labels holds no annotation file"):
        find_files([tmp_path / "labels"])
    with pytest.raises(ValueError, match=r"export.zip is not an annotation file: .*extract"):
        find_files([tmp_path / "export.zip"])
    with pytest.raises(ValueError, match="there is no file or folder"):
        find_files([tmp_path / "nothing"])
