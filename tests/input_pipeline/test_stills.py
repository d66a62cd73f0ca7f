import numpy as np
import pytest
from archives import box, cut, palette_png, picture, stills
from PIL import Image

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.builders import prepare, verify
from vseg_jax.input_pipeline.propagation import PropagationSamples
from vseg_jax.input_pipeline.records import decode_mask, open_dataset
from vseg_jax.input_pipeline.settings import ClipConfig, PropagationConfig


@pytest.fixture
def source(tmp_path):
    return stills(tmp_path / "stills")


def test_each_image_is_a_record(source, tmp_path):
    assert verify("stills", source) == []
    dataset = open_dataset(prepare("stills", source, tmp_path / "data"), "train")
    assert [e.video_id for e in dataset.index] == ["a", "more/b"]
    assert [[o.id for o in e.objects] for e in dataset.index] == [[2], [1]]
    assert dataset[0].frames == [(source / "images/a.jpg").read_bytes()]
    mask = decode_mask(dataset[0].masks[0], "")
    assert (mask[:4, :4] == 2).all() and (mask[9] == VOID).all()
    samples = PropagationSamples(dataset, ClipConfig(height=16, width=16),
                                 PropagationConfig(stills=1.0), train=True)
    assert len(samples) == 2 and samples[0]["objects"].sum() >= 1


def test_categories(source, tmp_path):
    (source / "categories.json").write_text('{"a": {"2": " giant  panda "}}')
    dataset = open_dataset(prepare("stills", source, tmp_path / "data"), "train")
    assert [[(o.id, o.category) for o in e.objects] for e in dataset.index] == [
        [(2, "giant panda")], [(1, "")]]
    only = open_dataset(prepare("stills", source, tmp_path / "data", {"sets": "more/"}), "train")
    assert only.index[0].objects[0].category == ""   # the file may name images of other sets


@pytest.mark.parametrize("content, message", [
    ("[]", r"should hold \{image: .* got list"), ('{"a": "dog"}', "got 'dog' for 'a'"),
    ('{"a": {"2": " "}}', "'a': a category is empty"), ("{", "categories.json is not JSON"),
    ('{"a": {"x": "dog"}}', "'a': an object's id should be a whole number, got 'x'"),
    ('{"c": {"1": "dog"}}', r"names images that are not in .*images: 1 of 1 \(c\)"),
    ('{"a": {"1": "dog"}}', r"'a' has categories of the objects \[1\], but .* objects \[2\]"),
])
def test_damaged_categories_are_named(source, tmp_path, content, message):
    (source / "categories.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        prepare("stills", source, tmp_path / "data")


def test_folders_of_other_names_and_gray_masks(source, tmp_path):
    (source / "masks").rename(source / "truth")
    Image.fromarray(255 * box((10, 14), 1, 1).astype(np.uint8)).save(source / "truth/a.png")
    options = {"masks": "truth"}
    dataset = open_dataset(prepare("stills", source, tmp_path / "data", options), "train")
    assert [o.id for o in dataset.index[0].objects] == [1]


def test_some_of_several_sets(source, tmp_path):
    Image.fromarray(picture((10, 14), 1)).save(source / "images/a_2.jpg")
    palette_png(source / "masks/a_2.png", 1 * box((10, 14), 0, 0))
    palette_png(source / "masks/z.png", 1 * box((10, 14), 0, 0))   # no image, in no chosen set

    def names(sets):
        folder = prepare("stills", source, tmp_path / "data", {"sets": sets})
        return [entry.video_id for entry in open_dataset(folder, "train").index]

    assert names(("more/",)) == ["more/b"]
    assert names("a_,more/") == ["a_2", "more/b"]   # as the command line gives them
    assert names(("a",)) == ["a", "a_2"]
    with pytest.raises(ValueError, match=r"no image .* whose path begins with 'people_'"):
        names(("a", "people_"))
    assert "whose path begins with 'x'" in verify("stills", source, {"sets": ("x",)})[0]


def test_what_is_missing_is_named(source, tmp_path):
    (source / "masks/more/b.png").unlink()
    palette_png(source / "masks/c.png", 1 * box((10, 14), 0, 0))
    cut(source / "images/a.jpg")
    problems = "\n".join(verify("stills", source))
    assert "images without a mask: 1 of 2 (more/b)" in problems
    assert "masks without an image: 1 of 2 (c)" in problems
    assert "files cut off" in problems and "images/a.jpg" in problems
    with pytest.raises(ValueError, match=r"incomplete: images without a mask: 1 of 2 \(more/b\)"):
        prepare("stills", source, tmp_path / "data")


@pytest.mark.parametrize("damage, message", [
    (lambda s: cut(s / "images/a.jpg"), r"a\.jpg cannot be read as an image"),
    (lambda s: palette_png(s / "masks/a.png", 1 * box((9, 14), 0, 0)), r"a\.png is 9x14"),
    (lambda s: Image.fromarray(picture((10, 14), 0)).save(s / "masks/a.png"), "the mode RGB"),
    (lambda s: Image.fromarray(picture((10, 14), 0)).save(s / "images/a.png"), "the same name"),
])
def test_damaged_files_are_named(source, tmp_path, damage, message):
    damage(source)
    with pytest.raises(ValueError, match=message):
        prepare("stills", source, tmp_path / "data")


def test_images_with_an_exif_orientation(source, tmp_path):
    """A camera's orientation mark turns the image where it is decoded; the mask fits that."""
    image = Image.fromarray(picture((14, 10), 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(source / "images/a.jpg", exif=exif)
    dataset = open_dataset(prepare("stills", source, tmp_path / "data"), "train")
    assert (dataset.index[0].height, dataset.index[0].width) == (10, 14)


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="there is no image"):
        prepare("stills", tmp_path, tmp_path / "data")
