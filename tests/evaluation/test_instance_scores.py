"""Objects found in a dataset, scored: numbers worked out by hand."""

import json
import math

import numpy as np
import pytest
import standin_vis
from standin import MemoryDataset
from standin_vis import Finder, FinderConfig

from vseg_jax.evaluation import instances
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.records import Object, Record, encode_audio, encode_image, encode_mask
from vseg_jax.metrics import youtube_vis

SQUARE, BOX = standin_vis.NAMES


def build(**changes):
    return Segmenter(Finder(FinderConfig(**changes)), standin_vis.variables(),
                     clip=standin_vis.CLIP, categories=standin_vis.NAMES)


def record(name="one", kinds=(SQUARE, BOX), frames=6, annotated=(0, 2, 4), green=(), audio=b"",
           fps=10.0):
    rgb, masks = standin_vis.video(frames, green=green)
    masks[masks > len(kinds)] = 0
    return Record(
        video_id=name, frames=[encode_image(f) for f in rgb],
        masks=[encode_mask(m) if t in annotated else b"" for t, m in enumerate(masks)],
        height=24, width=32, fps=fps,
        objects=[Object(k, kind) for k, kind in enumerate(kinds, 1)], audio=audio,
    )


def test_average_precision_by_hand():
    """The square is found in all its frames. The box is identity 2 at first and 4 after it comes
    back: each identity covers one of its annotated frames 0 and 4, an IoU of 1/2, which reaches
    only the lowest of the ten thresholds; identity 2 is no longer in the summary."""
    result = instances.evaluate(build(), MemoryDataset([record()]), progress=False)
    assert set(instances.SCORES) <= set(result)
    assert result["protocol"] == "youtube_vis"
    assert result["AP50"] == pytest.approx(1) and result["AP75"] == pytest.approx(0.5)
    assert result["AP"] == pytest.approx((1 + 0.1) / 2)
    assert result["AR1"] == pytest.approx((1 + 0.1) / 2) == result["AR10"]
    assert result["APl"] is None and result["APs"] == result["AP"], "no object of that size"
    assert result["track_recall"] == pytest.approx(4 / 5), "no track had the box at first"
    assert (result["occlusions"], result["identity_preservation"]) == (1, 0)
    # As one category: half of the objects are found at nine thresholds, 51 of 101 recalls.
    assert result["class_agnostic_AP50"] == pytest.approx(1)
    assert result["class_agnostic_AP"] == pytest.approx((1 + 9 * 51 / 101) / 10)
    assert result["class_agnostic_AR10"] == pytest.approx((1 + 9 / 2) / 10)
    assert result["best_track_iou"] == pytest.approx((1 + 1 / 2) / 2)
    assert result["videos"] == {"one": {"best_track_iou": result["best_track_iou"]}}
    # All masks are perfect. The square has one track of 3 frames; of the box's 2, one has a track.
    assert result["DetA"] == pytest.approx(4 / 5) and result["IDF1"] == pytest.approx(8 / 9)
    assert result["AssA"] == pytest.approx((3 + 1 / 2) / 4)
    assert result["HOTA"] == pytest.approx(math.sqrt(4 / 5 * 7 / 8))
    assert result["frames_per_second"] > 0 and result["seconds_to_start"] > 0


def test_false_positives_and_other_categories():
    """A green thing that is not an object of the ground truth is a wrong square of the same score.
    It comes after the right one of its video but before that of the other: precision 2/3 there."""
    dataset = MemoryDataset([record("a", frames=2, annotated=(0, 1), green=(0, 1)),
                             record("b", frames=2, annotated=(0, 1))])
    result = instances.evaluate(build(), dataset, progress=False)
    # Recalls up to 1/2 (51 of 101) at precision 1, the others at 2/3.
    assert result["AP"] == pytest.approx(((51 + 50 * 2 / 3) / 101 + 1) / 2)
    unknown = MemoryDataset([record(kinds=(SQUARE, "whale"), frames=2)])
    result = instances.evaluate(build(), unknown, progress=False)
    assert result["AP"] == pytest.approx(1), "the ground truth has no box: none is counted"
    with pytest.raises(ValueError, match=r"toy has no object of the model's categories.*big_box"):
        instances.evaluate(build(), MemoryDataset([record(kinds=("whale", "fox"))]))
    with pytest.raises(ValueError, match="toy video b has no masks"):
        instances.evaluate(build(), MemoryDataset([record(), record("b", annotated=())]))


def test_objects_without_a_category_are_scored_without_categories(tmp_path):
    """Of DAVIS's kind: one object has a mask, the square; the box is found as well and is wrong."""
    dataset = MemoryDataset([record(kinds=("",), frames=2, annotated=(0, 1)),
                             record("b", kinds=(), frames=2, annotated=(0, 1))])
    result = instances.evaluate(build(), dataset, save=tmp_path / "saved", progress=False)
    assert result["AP"] is result["AR10"] is None
    assert result["best_track_iou"] == result["class_agnostic_AR10"] == pytest.approx(1)
    assert result["videos"] == {"one": {"best_track_iou": pytest.approx(1)}}
    assert 0 < result["class_agnostic_AP50"] <= 1 and result["track_recall"] == pytest.approx(1)
    truth = json.loads((tmp_path / "saved/instances.json").read_text())
    assert [c["name"] for c in truth["categories"]] == ["object"]
    assert {a["category_id"] for a in truth["annotations"]} == {1}
    with pytest.raises(ValueError, match="no object"):
        instances.evaluate(build(), MemoryDataset([record(kinds=())]))


def test_the_models_category_over_all_frames_counts():
    """Green things are boxes where it is loud: in the last four of six frames, hence in the mean;
    the annotated first frame alone would say otherwise. Without audio they are squares."""
    audio = np.concatenate([np.zeros(6400), 0.5 * np.sin(np.arange(12800) * 0.3)])
    loud = dict(kinds=(SQUARE, BOX, BOX), green=range(6), annotated=(0, 1), fps=5.0,
                audio=encode_audio(audio))
    dataset = MemoryDataset([record(**loud)])
    with_audio = instances.evaluate(build(audio=True), dataset, progress=False)
    without = instances.evaluate(build(), dataset, progress=False)
    assert with_audio["AR10"] == pytest.approx((1 + 1 / 2) / 2), "the lost first box is not found"
    assert without["AR10"] == pytest.approx((1 + 0) / 2)
    found = instances.find_objects(build(audio=True), record(**loud), (0, 5), "toy")
    assert [row["category"] for row in found] == [SQUARE, BOX, BOX]
    assert found[0]["score"] == pytest.approx(0.75)
    assert found[1]["score"] == pytest.approx((4 * 0.75 + 2 * 0.125) / 6)
    rateless = record(**{**loud, "fps": 0.0})   # audio and frames end together: 5 a second
    assert instances.find_objects(build(audio=True), rateless, (0, 5), "toy") == found
    silent = record(**{**loud, "audio": b""})
    silent = instances.find_objects(build(audio=True), silent, (0,), "toy")
    assert [row["category"] for row in silent] == [SQUARE, SQUARE]


def test_what_is_saved_scores_the_same(tmp_path):
    dataset = MemoryDataset([record("a"), record("b", green=(3,)), record("c", kinds=())])
    result = instances.evaluate(build(), dataset, save=tmp_path / "saved", progress=False)
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == [
        "instances.json", "results.json", "scores.json"]
    again = youtube_vis.score_files(
        *(tmp_path / "saved" / name for name in ("instances.json", "results.json")))
    for name, value in again.items():
        assert result[name] is None if math.isnan(value) else result[name] == pytest.approx(value)
    truth = json.loads((tmp_path / "saved/instances.json").read_text())
    assert truth["videos"][1] == {"id": 2, "height": 24, "width": 32, "file_names": [
        "b/00000.jpg", "b/00002.jpg", "b/00004.jpg"]}
    assert [c["name"] for c in truth["categories"]] == list(standin_vis.NAMES)
    again = instances.evaluate(build(), dataset, save=tmp_path / "saved", progress=False)
    assert again["AP"] == result["AP"], "an earlier result is replaced"
    with pytest.raises(ValueError, match="already exists"):
        instances.evaluate(build(), dataset, save=tmp_path, progress=False)


def test_all_frames_of_a_video_for_a_server():
    [(name, rows)] = instances.predict_videos(build(), MemoryDataset([record(annotated=())]),
                                      progress=False)
    assert name == "one" and [row["category"] for row in rows] == [SQUARE, BOX]
    assert [[code is not None for code in row["segmentations"]] for row in rows] == [
        [True] * 6, [False] * 4 + [True] * 2]


def test_a_damaged_frame_is_named():
    broken = record()
    broken.frames[3] = b"no picture"
    with pytest.raises(ValueError, match="toy video one frame 3"):
        instances.evaluate(build(), MemoryDataset([broken]), progress=False)


def test_the_table(capsys):
    numbers = {c: 0.5 for c in instances.COLUMNS} | {"AP75": None, "frames_per_second": 12.0}
    instances.report({"dev": numbers})
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split() == [*instances.COLUMNS, "frames/s"]
    assert line.split() == ["dev", "50.0", "50.0", "-", *["50.0"] * 8, "12.0"]
