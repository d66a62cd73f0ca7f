"""Predictions in the formats of other programs, read as these read them."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import standin
import standin_vis
from PIL import Image
from pycocotools.coco import COCO

from vseg_jax.inference.many import predict_videos
from vseg_jax.input_pipeline.builders import tracks
from vseg_jax.media import overlay
from vseg_jax.media.excerpt import Part
from vseg_jax.media.video import VideoWriter
from vseg_jax.run_lengths import decode_rle

av = pytest.importorskip("av")
SCHEMA = Path(__file__).parents[2] / "docs" / "predictions.schema.json"


def write(path, frames):
    with VideoWriter(path, 10.0) as writer:
        for frame in frames:
            writer.add(frame)


@pytest.fixture(scope="module")
def followed(follower, tmp_path_factory):
    """(output folder, index masks): a video and a folder of images, whose objects are 1 and 2."""
    root = tmp_path_factory.mktemp("formats")
    frames, truth = standin.square_frames(6, size=(24, 32))
    (root / "clips" / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    write(root / "clips" / "day.mp4", frames)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(root / "clips" / "images" / f"f{t}.png")
    for name in ("day", "images"):
        overlay.save_index(root / "masks" / f"{name}.png", truth[0])
    predict_videos(
        follower, [root / "clips"], root / "out", mask=root / "masks", part=Part(every=2),
        into=["davis", "youtube_vos", "npz", "alpha-video", "coco", "youtube_vis"], progress=False)
    return root / "out", truth[::2]


def test_index_pngs_in_the_layouts_of_the_benchmarks(followed):
    out, truth = followed
    for folder in (out / "davis", out / "youtube_vos" / "Annotations"):
        assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png")) == [
            *(f"day/0000{t}.png" for t in (0, 2, 4)), *(f"images/f{t}.png" for t in (0, 2, 4))]
        with Image.open(folder / "images" / "f4.png") as image:
            assert image.mode == "P" and (np.asarray(image) == truth[2]).all()


def test_arrays_for_numpy(followed):
    out, truth = followed
    with np.load(out / "npz" / "images.npz", allow_pickle=False) as arrays:
        assert arrays["masks"].dtype == np.uint8 and (arrays["masks"] == truth).all()
        assert arrays["frames"].tolist() == [0, 2, 4]
        np.testing.assert_allclose(arrays["times"], [0, 0.08, 0.16])
    assert np.load(out / "npz" / "day.npz")["masks"].shape == (3, 24, 32)


def test_a_video_with_transparency(followed):
    out, truth = followed
    with av.open(str(out / "alpha-video" / "images.mov")) as container:
        frames = [frame.to_ndarray(format="rgba") for frame in container.decode(video=0)]
        assert container.streams.video[0].codec_context.name.startswith("prores")
    assert len(frames) == 3
    for frame, index in zip(frames, truth, strict=True):
        assert ((frame[..., 3] > 127) == (index > 0)).mean() > 0.99
        inside = frame[index == 1][:, :3].astype(int).mean(0)
        assert inside[0] > 200 and inside[1:].max() < 60, "red"


def test_coco_as_pycocotools_reads_it(followed):
    out, truth = followed
    coco = COCO(str(out / "coco.json"))
    names = [image["file_name"] for image in coco.loadImgs(coco.getImgIds())]
    assert names == [*(f"day/0000{t}.jpg" for t in (0, 2, 4)),
                     *(f"images/f{t}.png" for t in (0, 2, 4))]
    assert coco.loadCats(coco.getCatIds()) == [{"id": 1, "name": "object"}]
    for t, number in enumerate(coco.getImgIds()[3:]):
        found = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        assert [(a["track_id"], a["category_id"]) for a in found] == [(1, 1), (2, 1)]
        for annotation in found:
            mask = coco.annToMask(annotation)
            assert (mask == (truth[t] == annotation["track_id"])).all()
            left, top, width, height = map(int, annotation["bbox"])
            assert mask[top:top + height, left:left + width].sum() == annotation["area"]


def test_youtube_vis_as_its_builder_reads_it(followed):
    out, truth = followed
    read = tracks.read({"train": [(out / "youtube_vis.json", out)]}, "a test")
    day, images = read.splits["train"]
    assert [video.name for video in (day, images)] == ["day", "images"]
    assert images.size == (24, 32) and len(day.frames) == 3
    assert [category.name for category in read.categories] == ["object"]
    for i, track in enumerate(images.tracks, 1):
        for t, code in enumerate(track.codes):
            assert (decode_rle(code, "a test") == (truth[t] == i)).all()


def test_objects_with_categories_that_overlap_and_leave(tmp_path):
    frames, truth = standin_vis.video()
    (tmp_path / "clip").mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{t}.png")
    settings = {"into": ["coco", "youtube_vis"], "progress": False}
    predict_videos(standin_vis.segmenter(), [tmp_path / "clip"], tmp_path / "out", **settings)
    content = json.loads((tmp_path / "out" / "youtube_vis.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "square"}, {"id": 2, "name": "big_box"}]
    assert content["videos"][0]["file_names"] == [f"clip/{t}.png" for t in range(6)]
    red, blue, again = content["annotations"]   # the blue square is a new object when it returns
    assert [a["category_id"] for a in (red, blue, again)] == [1, 2, 2]
    assert [code is None for code in blue["segmentations"]] == [False] * 2 + [True] * 4
    assert [code is None for code in again["bboxes"]] == [True] * 4 + [False] * 2
    for t, code in enumerate(red["segmentations"]):
        assert (decode_rle(code, "a test") == (truth[t] == 1)).mean() > 0.97
    assert red["score"] == 0.75 and len(red["areas"]) == 6
    coco = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert len(coco["annotations"]) == 10 and {a["category_id"] for a in coco["annotations"]} == {
        1, 2}


def test_a_format_is_added_to_predictions_that_are_there(follower, tmp_path, monkeypatch):
    frames, truth = standin.square_frames(3, size=(24, 32))
    (tmp_path / "clip").mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{t}.png")
    overlay.save_index(tmp_path / "first.png", truth[0])

    def run(*names):
        return predict_videos(follower, [tmp_path / "clip"], tmp_path / "out", into=names,
                              mask=tmp_path / "first.png", progress=False)

    run()
    monkeypatch.setattr("vseg_jax.inference.formats.os.link", lambda *a: (_ for _ in ()).throw(
        OSError("no links here")))
    assert run("davis", "npz")["skipped"] == 1
    assert len(list((tmp_path / "out" / "davis" / "clip").iterdir())) == 3
    before = (tmp_path / "out" / "npz" / "clip.npz").stat().st_mtime_ns
    run("davis", "npz")
    assert (tmp_path / "out" / "npz" / "clip.npz").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="there is no format 'coko'; did you mean 'coco'"):
        run("coko")


def test_a_video_with_the_name_of_a_format_is_refused(follower, tmp_path):
    (tmp_path / "clips").mkdir()
    write(tmp_path / "clips" / "coco.json.mp4", standin.square_frames(2, size=(24, 32))[0])
    with pytest.raises(ValueError, match=r"the video coco\.json has the name of what --format"):
        predict_videos(follower, [tmp_path / "clips"], tmp_path / "out", mask=tmp_path,
                       into=["coco"], progress=False)


def test_tables_fit_the_schema(followed, tmp_path):
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema).validate
    table = json.loads((followed[0] / "day" / "predictions.json").read_text())
    check(table)
    (tmp_path / "clip").mkdir()
    for t, frame in enumerate(standin_vis.video()[0]):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{t}.png")
    predict_videos(standin_vis.segmenter(), [tmp_path / "clip"], tmp_path / "found", progress=False)
    predict_videos(standin.segmenter(), [tmp_path / "clip"], tmp_path / "named", query="red",
                   part=Part(1, 4, size=(16, 20)), fps=12.0, progress=False)
    for name in ("found", "named"):
        check(json.loads((tmp_path / name / "predictions.json").read_text()))
    for wrong in ({**table, "fps": "10"}, {**table, "extra": 1}, {**table, "frames": []}):
        with pytest.raises(jsonschema.ValidationError):
            check(wrong)
