"""`vseg data new`: the dataset that it writes, and what it refuses."""

import json
import shutil

import labeled
import numpy as np
import pytest
from archives import box, palette_png, picture
from labeled import BOXES, SIZE, truth
from PIL import Image

from vseg_jax import cli
from vseg_jax.evaluation import instances, propagation
from vseg_jax.input_pipeline.builders import prepare, verify
from vseg_jax.input_pipeline.instances import InstanceSamples
from vseg_jax.input_pipeline.propagation import PropagationSamples
from vseg_jax.input_pipeline.records import decode_image, decode_mask, open_dataset
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import (
    ClipConfig,
    InstanceConfig,
    PropagationConfig,
    TextConfig,
)
from vseg_jax.input_pipeline.text import make_tokenizer
from vseg_jax.media.video import VideoWriter
from vseg_jax.tools.own_data import new


def run(tmp_path, *options):
    """The exit status of `vseg data new own --videos clip ...`."""
    return cli.main(["data", "new", str(tmp_path / "own"), *map(str, options)])


def opened(folder, split, **options):
    """A split of a dataset that was written, as the builder of DAVIS reads it."""
    options = {"year": 0, **options}
    assert verify("davis", folder, options) == []
    return open_dataset(prepare("davis", folder, folder / "prepared", options), split)


def test_a_dataset_of_one_video(tmp_path, capsys):
    videos = labeled.frames(tmp_path / "my clip")
    table = tmp_path / "expressions.csv"
    table.write_text("video,object,expression,style\nmy clip,dog,the brown  dog,\n"
                     "my clip,2,the cat,free\n")
    masks = labeled.labelme(tmp_path / "labels")
    assert run(tmp_path, "--videos", videos, "--masks", masks, "--expressions", table) == 0
    out = capsys.readouterr().out
    assert "train my_clip: 6 frames of 24 x 16, 3 annotated: dog (id 1, in 3), cat (id 2, in 1)" \
        in out
    assert "nothing is held out" in out and "own/contact_sheet.jpg before you train" in out
    own = tmp_path / "own"
    data = opened(own, "train", queries=str(own / "expressions.json"))
    [record] = data
    assert (record.height, record.width) == SIZE and data.index[0].annotated == (0, 2, 5)
    assert record.frames == [(videos / f"frame_{t:03d}.jpg").read_bytes() for t in range(1, 7)]
    for place, frame in zip((0, 2, 5), BOXES, strict=True):
        np.testing.assert_array_equal(decode_mask(record.masks[place], ""), truth(frame))
    assert [(o.id, o.category) for o in record.objects] == [(1, "dog"), (2, "cat")]
    assert [c.name for c in data.categories] == ["cat", "dog"]
    assert [(e.text, e.object_id, e.style) for e in record.expressions] == [
        ("the brown dog", 1, "plain"), ("the cat", 2, "free")]
    check_samples(data)
    with Image.open(own / "contact_sheet.jpg") as sheet:
        assert sheet.size == (3 * 320, 213)   # 24 x 16 pixels, 320 wide
    assert run(tmp_path, "--videos", videos, "--masks", masks) == 2
    assert "own already exists" in capsys.readouterr().err


def check_samples(data):
    """Every task draws samples of the dataset and can be scored on it."""
    clip = ClipConfig(length=1, target=0, height=16, width=16)
    [sample] = PropagationSamples(data, clip, PropagationConfig(length=3, objects=2), train=True)
    assert sample["masks"].shape == (3, 16, 16) and sample["valid"]
    samples = InstanceSamples(data, clip, InstanceConfig(objects=2), train=False)
    assert samples.categories == ("cat", "dog") and len(samples) == 3
    tokenizer = make_tokenizer(TextConfig(length=4), ["the brown dog", "the cat"])
    referring = ReferringSamples(data, clip, tokenizer, train=False)
    assert [referring.truth(i).text for i in range(len(referring))] == (
        ["the brown dog"] * 3 + ["the cat"])
    propagation.check(data, "davis")
    instances.check(samples.categories, data)


def test_the_end_of_a_video_is_held_out(tmp_path):
    videos = labeled.frames(tmp_path / "clip", count=12)
    for t in (0, 2, 4, 5, 7, 8, 10):   # frame 5 shows nothing, 10 a second object
        mask = np.zeros(SIZE, np.uint8) if t == 5 else box(SIZE, 4, t) + 0
        if t == 10:
            mask[0, 0] = 9
        palette_png(tmp_path / f"masks/frame_{t:03d}.png", mask)
    parts = new(tmp_path / "own", videos, [tmp_path / "masks"], val_share=0.55,
                categories={1: "dog"})
    assert [(p.name, p.split, p.annotated) for p in parts] == [
        ("clip", "train", (0, 2, 4)), ("clip-end", "val", (7, 8, 10))]
    own = tmp_path / "own"
    assert json.loads((own / "categories.json").read_text()) == {
        "clip": {"1": "dog"}, "clip-end": {"1": "dog"}}
    assert not (own / "expressions.json").exists()
    train, val = opened(own, "train"), opened(own, "val")
    assert [e.annotated for e in (*train.index, *val.index)] == [(0, 2, 4), (0, 1, 3)]
    assert train[0].frames[4] == (videos / "frame_004.jpg").read_bytes()
    assert val[0].frames[0] == (videos / "frame_007.jpg").read_bytes()
    assert [(o.id, o.category) for o in val[0].objects] == [(1, "dog"), (9, "")]


def test_several_videos_some_of_them_held_out(tmp_path, capsys):
    for seed, name in enumerate(("one", "two", "three")):
        labeled.frames(tmp_path / "videos" / name, seed=seed)
    (tmp_path / "videos/readme.txt").write_text("no video")
    labeled.labelme(tmp_path / "labels/one")
    labeled.coco(tmp_path / "labels/two.json")
    labeled.cvat_video(tmp_path / "labels/task.xml", source="three.mp4")
    assert run(tmp_path, "--videos", tmp_path / "videos", "--masks", tmp_path / "labels",
               "--val", "two") == 0
    assert [e.video_id for e in opened(tmp_path / "own", "train").index] == ["one", "three"]
    assert [e.video_id for e in opened(tmp_path / "own", "val").index] == ["two"]
    shutil.rmtree(tmp_path / "own")
    (tmp_path / "labels/task.xml").rename(tmp_path / "labels/five.xml")
    text = (tmp_path / "labels/five.xml").read_text().replace("three.mp4", "4.mp4")
    (tmp_path / "labels/five.xml").write_text(text)
    assert run(tmp_path, "--videos", tmp_path / "videos", "--masks", tmp_path / "labels") == 2
    assert "five.xml, frame 1: it is not clear to which video it belongs (3 (one, three, two)); " \
        "put the masks of each video in a folder or file" in capsys.readouterr().err
    assert not (tmp_path / "own").exists()


def test_a_video_file(tmp_path, capsys):
    with VideoWriter(tmp_path / "clip.mp4", fps=10.0) as writer:
        for t in range(8):
            writer.add(np.full((*SIZE, 3), 20 * t, np.uint8))
    masks = labeled.cvat_video(tmp_path / "annotations.xml")
    assert run(tmp_path, "--videos", tmp_path / "clip.mp4", "--masks", masks) == 0
    [record] = opened(tmp_path / "own", "train")
    assert record.video_id == "clip" and len(record.frames) == 6
    assert abs(decode_image(record.frames[0], "").mean() - 20) < 4   # frame 1
    np.testing.assert_array_equal(decode_mask(record.masks[2], ""), truth(3))
    shutil.rmtree(tmp_path / "own")
    masks.write_text(masks.read_text().replace('frame="6"', 'frame="8"'))
    assert run(tmp_path, "--videos", tmp_path / "clip.mp4", "--masks", masks) == 2
    err = capsys.readouterr().err
    assert "annotations.xml, frame 8: " in err
    assert "clip.mp4 has no frame 8; it has 8 frames, 0 to 7" in err
    assert not (tmp_path / "own").exists()


def test_frames_that_other_programs_would_turn(tmp_path):
    videos = labeled.frames(tmp_path / "clip")
    exif = Image.Exif()
    exif[0x0112] = 3   # upside down
    upright = np.zeros((*SIZE, 3), np.uint8)
    upright[:8] = 255
    Image.fromarray(upright[::-1, ::-1]).save(videos / "frame_004.jpg", exif=exif, quality=95)
    new(tmp_path / "own", videos, [labeled.pngs(tmp_path / "masks")])
    [record] = opened(tmp_path / "own", "train")
    assert b"Exif" not in record.frames[3]
    assert np.abs(decode_image(record.frames[3], "") - upright.astype(float)).mean() < 9


FAULTS = {
    "no frame": (lambda m: (m / "frame_001.json").rename(m / "frame_099.json"),
                 "frame_099.json: ", "has no frame 'frame_099'; the images are frame_000.jpg to"),
    "size": (lambda m: edit(m / "frame_001.json", lambda c: c.update(imageWidth=48)),
             "frame_001.json is 16x48 (height x width), but the frames of", "are 16x24; take the"),
    "empty": (lambda m: edit(m / "frame_001.json", lambda c: c["shapes"][0].update(
        points=[[90, 2], [95, 2], [95, 9]])),
        "frame_001.json, shape 0 (dog) is empty: it covers no pixel of the frame", ""),
    "hidden": (lambda m: edit(m / "frame_003.json", lambda c: c["shapes"][0].update(
        points=c["shapes"][1]["points"])), "frame_003.json: ", " is completely under other obj"),
    "unreadable": (lambda m: (m / "frame_001.json").write_text("{"),
                   "frame_001.json is not JSON", ""),
    "nothing": (lambda m: [edit(p, lambda c: c.update(shapes=[])) for p in m.iterdir()],
                "clip: no mask shows an object", ""),
    "twice": (lambda m: (m / "mask_1.json").write_text((m / "frame_001.json").read_text()),
              "mask_1.json and ", "frame_001.json are both of frame 1 of clip; leave one"),
}


def edit(path, change):
    """Changes the content of a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("case", FAULTS)
def test_faults_name_the_file_and_write_nothing(case, tmp_path, capsys):
    videos, masks = labeled.frames(tmp_path / "clip"), labeled.labelme(tmp_path / "labels")
    change, *messages = FAULTS[case]
    change(masks)
    assert run(tmp_path, "--videos", videos, "--masks", masks) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: 1 problem; nothing was written:\n")
    assert all(message in err for message in messages), err
    assert not (tmp_path / "own").exists()


def test_all_problems_are_listed_at_once(tmp_path, capsys):
    videos, masks = labeled.frames(tmp_path / "clip"), labeled.pngs(tmp_path / "masks")
    Image.new("L", (9, 9)).save(masks / "frame_001.png")
    Image.fromarray(picture(SIZE, 1)).save(masks / "frame_003.png")
    (masks / "frame_006.png").write_bytes(b"\x89PNG")
    palette_png(masks / "frame_400.png", truth(1))
    assert run(tmp_path, "--videos", videos, "--masks", masks) == 2
    err = capsys.readouterr().err
    assert "4 problems" in err
    assert "frame_001.png is 9x9 (height x width), but" in err and "frame_001.jpg is 16x24" in err
    assert "frame_003.png has the mode RGB and colors that are not those of" in err
    assert "frame_006.png cannot be read as an image" in err
    assert "has no frame 'frame_400'" in err


def test_masks_of_two_kinds_and_of_one_frame_twice(tmp_path, capsys):
    videos, masks = labeled.frames(tmp_path / "clip"), labeled.labelme(tmp_path / "labels")
    labeled.coco(tmp_path / "coco.json")
    assert run(tmp_path, "--videos", videos, "--masks", masks, tmp_path / "coco.json") == 2
    assert "are both of frame 1 of clip; leave one" in capsys.readouterr().err
    for t in (1, 3):
        (masks / f"frame_{t:03d}.json").unlink()
    palette_png(masks / "frame_002.png", truth(1))
    assert run(tmp_path, "--videos", videos, "--masks", masks) == 2
    assert "clip has both index masks (PNG) and shapes (JSON, XML)" in capsys.readouterr().err


TABLES = {
    "header": ("film,object,expression\n", "the header should be 'video,object,expression'"),
    "video": ("video,object,expression\nclap,dog,x\n", "line 2: there is no annotated video"),
    "object": ("video,object,expression\nclip.mp4,cow,x\n",
               "line 2: clip has no object 'cow'; its objects are dog (1), cat (2)"),
    "text": ("video,object,expression\nclip,dog, \n", "line 2: the expression is empty"),
    "columns": ("video,object,expression\nclip,dog\n", "line 2: expected 3 columns"),
}


@pytest.mark.parametrize("case", TABLES)
def test_faults_of_a_table(case, tmp_path, capsys):
    videos, masks = labeled.frames(tmp_path / "clip"), labeled.labelme(tmp_path / "labels")
    content, message = TABLES[case]
    (tmp_path / "t.csv").write_text(content)
    assert run(tmp_path, "--videos", videos, "--masks", masks, "--expressions",
               tmp_path / "t.csv") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "own").exists()


def test_a_table_that_is_not_there(tmp_path, capsys):
    videos, masks = labeled.frames(tmp_path / "clip"), labeled.labelme(tmp_path / "labels")
    assert run(tmp_path, "--videos", videos, "--masks", masks, "--expressions",
               tmp_path / "gone.csv") == 2
    said = capsys.readouterr().err
    assert "gone.csv cannot be read" in said and "/guides/own-data" in said


SPLITS = {
    "video": (["--val", "clop"], "--val names clop, but the annotated videos are 1 (clip)"),
    "all": (["--val", "clip"], "--val names all videos; leave some to train on"),
    "share": (["--val_share", "1.5"], "--val_share is 1.5; it must be a share"),
    "few": (["--val_share", "0.3"], "clip has 2 annotated frames for train, counted from the"),
    "both": (["--val", "clip", "--val_share", "0.3"], "give one of them"),
    "categories": (["--categories", "dog"], "--categories must be ID=NAME,..., got 'dog'"),
    "unused": (["--categories", "1=dog,7=cat"], "names object 7 cat, which no index mask shows"),
}


@pytest.mark.parametrize("case", SPLITS)
def test_faults_of_the_split(case, tmp_path, capsys):
    videos, masks = labeled.frames(tmp_path / "clip"), labeled.pngs(tmp_path / "masks")
    options, message = SPLITS[case]
    assert run(tmp_path, "--videos", videos, "--masks", masks, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "own").exists()


def test_faults_of_the_videos(tmp_path, capsys):
    masks = labeled.pngs(tmp_path / "masks")
    (tmp_path / "empty").mkdir()
    assert run(tmp_path, "--videos", tmp_path / "empty", "--masks", masks) == 2
    assert "empty holds neither images, nor folders of images, nor videos" in \
        capsys.readouterr().err
    labeled.frames(tmp_path / "videos/a  b")
    labeled.frames(tmp_path / "videos/a_b")
    assert run(tmp_path, "--videos", tmp_path / "videos", "--masks", masks) == 2
    assert "are both called a_b; rename one of them" in capsys.readouterr().err
    assert run(tmp_path, "--videos", tmp_path / "no.mp4", "--masks", masks) == 2
    assert "there is no video file" in capsys.readouterr().err
    videos = labeled.frames(tmp_path / "clip")
    Image.fromarray(picture((8, 8), 0)).save(videos / "frame_004.jpg")
    assert run(tmp_path, "--videos", videos, "--masks", masks) == 2
    assert "frame_004.jpg is 8 x 8, the images before it are 24 x 16" in capsys.readouterr().err
    assert not (tmp_path / "own").exists()
