import json

import numpy as np
import pytest
from archives import PALETTE, box, cut, davis_2016, davis_2017, write
from PIL import Image

from vseg_jax.input_pipeline.builders import davis, prepare, verify
from vseg_jax.input_pipeline.records import decode_image, decode_mask, open_dataset

COUNTS = {2016: {"train": 1, "val": 2}, 2017: {"val": 1, "test-dev": 1}}


def queries(tmp_path, content):
    return str(write(tmp_path / "queries.json", json.dumps(content)))


def build(source, tmp_path, split, **options):
    return open_dataset(prepare("davis", source, tmp_path / "prepared", options), split)


def test_2016_from_pairs_of_paths(tmp_path):
    source = davis_2016(tmp_path / "davis", {"train": ["cow"], "val": ["dog", "goat"]})
    content = {"_about": "a remark", "dog": {"plain": ["a  dog "], "free": ["the pet"]},
            }
    dataset = build(source, tmp_path, "val", year=2016, queries=queries(tmp_path, content))
    assert [entry.video_id for entry in dataset.index] == ["dog", "goat"]
    record = dataset[0]
    assert record.fps == 24.0 and (record.height, record.width) == (16, 24)
    assert record.frames[1] == (source / "JPEGImages/480p/dog/00001.jpg").read_bytes()
    assert decode_image(record.frames[1], "dog").shape == (16, 24, 3)
    for t, mask in enumerate(record.masks):
        np.testing.assert_array_equal(decode_mask(mask, "dog"), box((16, 24), 4, 4 + t))
    assert [(e.text, e.style, e.object_id) for e in record.expressions] == [
        ("a dog", "plain", 1), ("the pet", "free", 1)]
    assert dataset[1].expressions == []
    assert davis.verify(source, davis.Options(year=2016), COUNTS) == []


def test_training_sequences_kept_aside(tmp_path):
    lists = {"train": ["cow", "dog", "goat"], "val": ["car"]}
    source = davis_2016(tmp_path / "davis", lists)

    def names(split, **options):
        return [e.video_id for e in build(source, tmp_path, split, year=2016, **options).index]

    assert names("train") == ["cow", "dog", "goat"]
    assert names("train", holdout=("dog",)) == ["cow", "goat"]
    assert names("holdout", holdout=("dog",)) == ["dog"]
    assert names("val", holdout=("dog",)) == ["car"]
    with pytest.raises(ValueError, match="holdout"):
        build(source, tmp_path, "holdout", year=2016)
    with pytest.raises(ValueError, match="'holdout' names car, which the list of train lacks"):
        names("train", holdout=("car",))
    with pytest.raises(ValueError, match="names all sequences of train"):
        names("train", holdout=tuple(lists["train"]))
    problems = davis.verify(source, davis.Options(year=2016, holdout=("car",)), {2016: {}})
    assert "which the list of train lacks" in problems[0]


def test_some_sequences_of_a_download(tmp_path):
    source = davis_2017(tmp_path / "davis", {"train": ["cow"], "val": ["dogs-jump", "car"]})
    assert [e.video_id for e in build(source, tmp_path, "val", sequences=("car",)).index] == ["car"]
    with pytest.raises(ValueError, match="train"):   # a split without any of them is left out
        build(source, tmp_path, "train", sequences=("car",))
    with pytest.raises(ValueError, match=r"'sequences' names dog, .* there are car, cow, dogs"):
        build(source, tmp_path, "val", sequences=("dog", "car"))
    assert "which no list has" in davis.verify(source, davis.Options(sequences=("dog",)))[0]


def test_a_sequence_in_two_lists(tmp_path):
    source = davis_2016(tmp_path / "davis", {"train": ["cow", "dog"], "val": ["dog"]})
    message = r"train\.txt and val\.txt both list 1 \(dog\)"
    with pytest.raises(ValueError, match=message):
        build(source, tmp_path, "train", year=2016)
    assert "a sequence belongs to one split" in verify("davis", source, {"year": 2016})[0]


def test_2017_palette_ids_and_first_frame_only_in_test_dev(tmp_path):
    source = davis_2017(tmp_path / "davis", {"val": ["dogs-jump"], "test-dev": ["car"]})
    content = {"dogs-jump": {"plain": {"1": ["left dog"], "2": ["right dog", "the last"]}}}
    options = {"queries": queries(tmp_path, content)}
    record = build(source, tmp_path, "val", **options)[0]
    expected = box((16, 24), 0, 1) + 2 * box((16, 24), 8, 12)
    np.testing.assert_array_equal(decode_mask(record.masks[1], "dogs"), expected)
    assert [o.id for o in record.objects] == [1, 2]
    assert [(e.text, e.object_id) for e in record.expressions] == [
        ("left dog", 1), ("right dog", 2), ("the last", 2)]
    entry = build(source, tmp_path, "test-dev", **options).index[0]
    assert entry.length == 2 and entry.annotated == (0,)
    assert davis.verify(source, davis.Options(), COUNTS) == []


def test_2016_reads_the_lists_and_masks_of_the_2017_download(tmp_path):
    source = davis_2017(tmp_path / "davis", {"val": ["dogs-jump"]})
    (source / "ImageSets/2017").rename(source / "ImageSets/2016")
    record = build(source, tmp_path, "val", year=2016)[0]
    assert [o.id for o in record.objects] == [1]
    expected = box((16, 24), 0, 0) | box((16, 24), 8, 12)
    np.testing.assert_array_equal(decode_mask(record.masks[0], "dogs"), expected)


def test_masks_of_other_modes(tmp_path):
    path = tmp_path / "mask.png"
    gray = np.where(box((8, 8), 0, 0, 4), 255, 0).astype(np.uint8)
    Image.fromarray(gray).save(path)
    assert set(np.unique(davis.read_mask(path, single=False))) == {0, 1}  # 255 alone: an object
    image = Image.fromarray(np.where(gray > 0, 255, 3).astype(np.uint8), "P")
    image.putpalette(PALETTE)
    image.save(path)
    assert set(np.unique(davis.read_mask(path, single=False))) == {3, 255}  # 255 beside ids: void
    Image.fromarray(np.dstack([gray, gray * 0, gray * 0])).save(path)
    np.testing.assert_array_equal(davis.read_mask(path, single=True), gray > 0)
    with pytest.raises(ValueError, match=r"mask\.png has the mode RGB"):
        davis.read_mask(path, single=False)


def test_counts_are_compared_with_the_official_ones(tmp_path):
    source = davis_2016(tmp_path / "davis", {"train": ["cow"], "val": ["dog"]})
    assert verify("davis", source, {"year": "2016"}) == [
        "train lists 1 sequences; the official list has 30",
        "val lists 1 sequences; the official list has 20"]


@pytest.mark.parametrize(("lost", "message"), [
    ("JPEGImages/480p/dogs-jump", r"val: sequences without frames: 1 of 2 \(dogs-jump\)"),
    ("Annotations/480p/car/00001.png", r"missing masks: 1 of 4 \(.*car/00001\.png\)"),
    ("JPEGImages/480p/car/00001.jpg", r"missing frames: 1 of 4 \(.*car/00001\.jpg\)"),
    ("Annotations/480p/car", r"missing masks: 2 of 4"),
    ("ImageSets", r"no list of sequences in .*ImageSets/2017"),
])
def test_an_incomplete_download(tmp_path, lost, message):
    source = davis_2017(tmp_path / "davis", {"val": ["car", "dogs-jump"]})
    (source / lost).rename(tmp_path / "lost")
    with pytest.raises(ValueError, match=message):
        prepare("davis", source, tmp_path / "prepared")
    assert not list((tmp_path / "prepared").rglob("dataset_info.json"))
    [problem] = davis.verify(source, davis.Options(), {2017: {}})
    assert problem


def test_frames_missing_in_the_middle(tmp_path):
    source = davis_2017(tmp_path / "davis", {"val": ["car"]}, frames=4)
    (source / "JPEGImages/480p/car/00001.jpg").unlink()
    (source / "Annotations/480p/car/00001.png").unlink()
    assert davis.verify(source, davis.Options(), {2017: {}}) == [
        "val: car lacks frames: 1 (1)"]


@pytest.mark.parametrize(
    "name", ["JPEGImages/480p/car/00001.jpg", "Annotations/480p/car/00000.png"])
def test_truncated_files(tmp_path, name):
    source = davis_2017(tmp_path / "davis", {"val": ["car"]})
    cut(source / name, 0.7)
    with pytest.raises(ValueError, match=rf"{name} cannot be read as an image"):
        prepare("davis", source, tmp_path / "prepared")
    assert not list((tmp_path / "prepared").rglob("dataset_info.json"))
    [problem] = davis.verify(source, davis.Options(), {2017: {}})
    assert name in problem and "cut off" in problem


def test_sizes_must_agree(tmp_path):
    source = davis_2017(tmp_path / "davis", {"val": ["car"]})
    path = source / "Annotations/480p/car/00001.png"
    Image.new("P", (24, 17)).save(path)
    with pytest.raises(ValueError, match=r"car/00001\.png is 17x24 .*car/00001\.jpg is 16x24"):
        prepare("davis", source, tmp_path / "prepared")


def test_a_bad_line_of_a_list(tmp_path):
    source = davis_2016(tmp_path / "davis", {"val": ["dog"]})
    with open(source / "ImageSets/480p/val.txt", "a") as file:
        file.write("\n/JPEGImages/480p/dog/00002.jpg\n")
    with pytest.raises(ValueError, match=r"val\.txt, line 4"):
        prepare("davis", source, tmp_path / "prepared", {"year": 2016})


@pytest.mark.parametrize(("content", "message"), [
    ({"car": {"plain": ["which?"]}}, "has the objects \\[1, 2\\]; assign the expressions"),
    ({"car": {"plain": {"3": ["x"]}}}, "there is no object 3"),
    ({"car": {"plain": {"one": ["x"]}}}, "an object id should be a whole number, got 'one'"),
    ({"car": {"plain": {"1": [" "]}}}, "the expression is empty"),
    ({"car": {"plain": "not a list"}}, "sequence 'car': expected"),
    ({"car": ["no style"]}, "sequence 'car': expected"),
    (["no dict"], "should hold"),
])
def test_bad_queries(tmp_path, content, message):
    source = davis_2017(tmp_path / "davis", {"val": ["car"]})
    path = queries(tmp_path, content)
    with pytest.raises(ValueError, match=message) as error:
        prepare("davis", source, tmp_path / "prepared", {"queries": path})
    assert path in str(error.value)


def test_files_named_in_other_ways(tmp_path):
    source = davis_2017(tmp_path / "davis", {"val": ["car", "dogs-jump"]}, frames=3)
    images, masks = (source / folder / "480p" for folder in ("JPEGImages", "Annotations"))
    for t in range(3):   # from 5, every fifth, without zeros, in capitals
        (images / f"car/{t:05d}.jpg").rename(images / f"car/{5 * t + 5}.JPG")
        (masks / f"car/{t:05d}.png").rename(masks / f"car/{5 * t + 5:04d}.PNG")
        Image.open(images / f"dogs-jump/{t:05d}.jpg").save(images / f"dogs-jump/{t:05d}.png")
        (images / f"dogs-jump/{t:05d}.jpg").unlink()
    for folder in (images, masks):
        (folder / "car/._5.png").write_text("hidden")
    (source / "ImageSets/2017/val.txt").write_bytes("\ufeffcar\r\ndogs-jump\r\n".encode())
    dataset = build(source, tmp_path, "val", year=0)
    assert [e.video_id for e in dataset.index] == ["car", "dogs-jump"]
    assert dataset[0].frames[1] == (images / "car/10.JPG").read_bytes()
    assert [e.annotated for e in dataset.index] == [(0, 1, 2)] * 2
    assert verify("davis", source, {"year": "0"}) == []
    (images / "car/10.JPG").unlink()
    (masks / "car/0010.PNG").unlink()
    (masks / "car/0012.PNG").write_bytes((masks / "car/0005.PNG").read_bytes())
    problems = "\n".join(verify("davis", source, {"year": "0"}))
    assert "missing frames: 1 of 6" in problems and "car lacks frames" in problems
    (masks / "car/005.png").write_bytes((masks / "car/0005.PNG").read_bytes())
    assert "holds 0005.PNG and 005.png, two files with the number 5" in \
        verify("davis", source, {"year": "0"})[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_text_files_of_windows(tmp_path, encoding):
    source = davis_2017(tmp_path / "davis", {"val": ["car"]})
    (source / "ImageSets/2017/val.txt").write_text("car\r\n", encoding=encoding)
    path = tmp_path / "queries.json"
    path.write_text('{"car": {"plain": {"1": ["großes Auto"]}}}', encoding=encoding)
    record = build(source, tmp_path, "val", queries=str(path))[0]
    assert [e.text for e in record.expressions] == ["großes Auto"]
    (source / "ImageSets/2017/val.txt").write_bytes("müll".encode("latin-1"))
    assert "val.txt is not UTF-8 text" in davis.verify(source, davis.Options(), {2017: {}})[0]


def test_frames_turned_by_a_camera(tmp_path):
    source = davis_2017(tmp_path / "davis", {"val": ["car"]}, frames=1)
    exif = Image.Exif()
    exif[0x0112] = 6   # to be turned by 90 degrees
    path = source / "JPEGImages/480p/car/00000.jpg"
    Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    record = build(source, tmp_path, "val")[0]
    assert (record.height, record.width) == (16, 24)
    assert decode_image(record.frames[0], "car").shape == (16, 24, 3)


def test_bad_masks_and_queries_are_found_by_verify_and_prepare(tmp_path):
    source = davis_2017(tmp_path / "davis", {"val": ["car"]})
    mask = source / "Annotations/480p/car/00001.png"

    def found(match, **options):
        problems = davis.verify(source, davis.Options(**options), {2017: {}})
        assert len(problems) == 1 and match in problems[0]
        return problems[0]

    soft = np.where(box((16, 24), 0, 0), 255, 0).astype(np.uint8)
    soft[0, :3] = 20, 90, 160
    Image.fromarray(soft).save(mask)
    with pytest.raises(ValueError, match="smooth edges"):
        prepare("davis", source, tmp_path / "prepared")
    found("00001.png has the values 20, 90, 160 at the edges of white")
    for t in range(2):
        Image.new("P", (24, 16)).save(mask.with_name(f"{t:05d}.png"))
    found("val: car has no object: no mask has another value than 0 and 255")
    davis_2017(source, {"val": ["car"]})
    path = queries(tmp_path, {"cars": {"plain": {"1": ["x"]}}})
    found("expressions of sequences that no list names: 1 (cars); did you mean car?", queries=path)
    with pytest.warns(UserWarning, match="no list names: 1 .cars.; did you mean car?"):
        prepare("davis", source, tmp_path / "prepared", {"queries": path})
    path = queries(tmp_path, {"car": {"plain": {"3": ["x"]}}})
    found("there is no object 3", queries=path)


def test_your_own_videos_may_lack_masks_and_have_categories(tmp_path):
    source = davis_2017(tmp_path / "davis", {"train": ["car"]}, frames=4)
    masks = source / "Annotations/480p/car"
    (masks / "00001.png").unlink()
    categories = source / "categories.json"
    categories.write_text('{"car": {"1": "car", "2": "a  bus"}}')
    dataset = build(source, tmp_path, "train", year=0)
    assert dataset.index[0].annotated == (0, 2, 3) and dataset[0].masks[1] == b""
    assert [(o.id, o.category) for o in dataset[0].objects] == [(1, "car"), (2, "a bus")]
    assert [(c.id, c.name) for c in dataset.categories] == [(1, "a bus"), (2, "car")]
    assert verify("davis", source, {"year": "0"}) == []
    for content, message in (
            ('{"bus": {"1": "x"}}', "names sequences that no list has: 1 of 1 (bus)"),
            ('{"car": {"1": " "}}', "'car': a category is empty"),
            ('{"car": {"one": "x"}}', "an object's id should be a whole number, got 'one'"),
            ('{"car": ["x"]}', "should hold {sequence: {"),
            ('{"car": {"3": "x"}}', "has categories of the objects [3], but the masks have")):
        categories.write_text(content)
        [problem] = verify("davis", source, {"year": "0"})
        assert message in problem
    categories.unlink()
    for path in masks.iterdir():
        path.unlink()
    [problem] = verify("davis", source, {"year": "0"})
    assert problem == "train: sequences without masks: 1 of 1 (car)"
