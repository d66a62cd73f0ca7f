"""Which masks are the prompts, what is scored and saved, with a stand-in that tracks colors."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import standin_vos
from PIL import Image
from standin import MemoryDataset
from standin_follower import Follower

from vseg_jax.evaluation import propagation, region_scores, runner
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.records import Object, Record, encode_image, encode_mask
from vseg_jax.metrics.davis import score_folders

SIZE = (16, 24)


def record(name, masks, annotated=None):
    """A video in which every object has a gray of its own; ids as they are in `masks`."""
    ids = sorted(set(np.unique(masks).tolist()) - {0, 255})
    frames = [encode_image(np.repeat((np.where(m == 255, 0, m) * 20)[..., None], 3, -1)
                           .astype(np.uint8)) for m in masks]
    encoded = [encode_mask(m) if annotated is None or t in annotated else b""
               for t, m in enumerate(masks)]
    return Record(name, frames, encoded, *SIZE, 10.0, [Object(i, "square") for i in ids])


def squares(frames, ids=(1, 2), step=2):
    masks = np.zeros((frames, *SIZE), np.uint8)
    for k, number in enumerate(ids):
        for t in range(frames):
            masks[t, 1 + 7 * k:7 + 7 * k, step * t:step * t + 8] = number
    return masks


def evaluate(segmenter, records, **options):
    return propagation.evaluate(segmenter, MemoryDataset(records), progress=False, **options)


def test_perfect_predictions_score_one():
    follower = Follower()
    result = evaluate(follower, [record("one", squares(5)), record("two", squares(6, (3,)))])
    assert set(region_scores.SCORES) <= set(result)
    assert result["J&F"] == result["J"]["mean"] == result["F"]["mean"] == 1
    assert result["J"]["decay"] == 0 and result["protocol"] == "davis"
    assert follower.given == [[[1, 2]], [[3]]], "the first masks alone, with their own ids"
    # DAVIS counts ids up to the largest one: two that are never there are right everywhere.
    assert result["objects"] == 2 + 3 and list(result["sequences"]) == ["one", "two"]


def test_a_mask_that_stays_is_scored_by_hand():
    result = evaluate(Follower(copies=True), [record("one", squares(4, (1,)))])
    # The square of 6 x 8 moves by two columns a frame; frames 1 and 2 count.
    j = [36 / 60, 24 / 72]
    assert result["J"]["mean"] == pytest.approx(np.mean(j))
    assert result["J"]["recall"] == 0.5
    assert result["sequences"]["one"]["1"]["J"]["decay"] == pytest.approx(j[0] - j[1])


def test_only_annotated_frames_are_scored_but_all_are_predicted(tmp_path):
    follower = Follower(copies=True)
    result = evaluate(follower, [record("one", squares(7, (1,)), annotated=(1, 3, 4, 6))],
                      save=tmp_path / "masks")
    # The prompt is in frame 1; frames 3 and 4 count, moved by 4 and 6 columns.
    assert result["J"]["mean"] == pytest.approx(np.mean([24 / 72, 12 / 84]))
    saved = sorted((tmp_path / "masks" / "one").iterdir())
    assert [p.name for p in saved] == [f"{t:05d}.png" for t in range(7)]
    with Image.open(saved[0]) as before, Image.open(saved[6]) as after:
        assert before.mode == after.mode == "P"
        assert not np.asarray(before).any(), "nothing is known before the first mask"
        assert np.asarray(after).sum() == 48


def late(frames=6):
    masks = squares(frames, (1, 2))
    masks[:3][masks[:3] == 2] = 0   # enters in frame 3
    masks[0, 15, 23] = 255
    return masks


def test_objects_enter_when_the_protocol_says_so():
    follower = Follower()
    davis = evaluate(follower, [record("one", late())])
    assert follower.given == [[[1]]] and davis["objects"] == 1
    follower = Follower()
    entering = evaluate(follower, [record("one", late())], protocol="youtube_vos")
    assert follower.given == [[[1]], [[2]]], "the newcomer alone: what is known is not corrected"
    assert entering["J&F"] == 1
    assert {k: v["frames"] for k, v in entering["sequences"]["one"].items()} == {"1": 5, "2": 2}


def test_objects_alone_in_streams_of_their_own(tmp_path):
    follower = Follower()
    masks = squares(5, (4, 7), step=1)
    masks[:, 15, 20:23] = 9
    masks[3:][masks[3:] == 9] = 0
    result = evaluate(follower, [record("one", masks)], protocol="ovis", at_once=2,
                      save=tmp_path / "masks")
    assert follower.together == [2, 1], "two at once, the third after them"
    assert follower.given == [[[1], [1]], [[1]]], "each is object 1 of its own stream"
    found = result["sequences"]["one"]
    assert {k: v["frames"] for k, v in found.items()} == {"4": 4, "7": 4, "9": 4}
    assert result["J&F"] == 1
    with Image.open(tmp_path / "masks" / "one" / "7" / "00004.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.where(masks[4] == 7, 7, 0))
    skipped = evaluate(Follower(), [record("one", masks)], protocol="ovis", skip_absent=True)
    assert skipped["sequences"]["one"]["9"]["frames"] == 2


def test_saved_masks_score_the_same(tmp_path):
    records = [record("one", squares(6)), record("two", squares(5, (1,)))]
    for _ in range(2):   # the second time in place of the first
        result = evaluate(Follower(copies=True), records, save=tmp_path / "masks")
    for name, masks in (("one", squares(6)), ("two", squares(5, (1,)))):
        (tmp_path / "truth" / name).mkdir(parents=True)
        for t, mask in enumerate(masks):
            Image.fromarray(mask).save(tmp_path / "truth" / name / f"{t:05d}.png")
    scored = score_folders(tmp_path / "truth", tmp_path / "masks")
    assert scored == {key: result[key] for key in scored}
    assert json.loads((tmp_path / "masks" / "scores.json").read_text()) == result
    with pytest.raises(ValueError, match="already exists"):
        evaluate(Follower(), records, save=tmp_path)


def test_a_failure_leaves_no_folder_and_names_the_video(tmp_path):
    broken = record("two", squares(5, (1,)))
    broken.frames[3] = b"no picture"
    with pytest.raises(ValueError, match="toy video two frame 3 cannot be decoded"):
        evaluate(Follower(), [record("one", squares(4)), broken], save=tmp_path / "masks")
    assert list(tmp_path.iterdir()) == []

    class Small(Follower):
        def start_many(self, frames, queries=None, masks=None):
            raise ValueError("2 objects (1, 2), but the model was built for 1")

    with pytest.raises(ValueError, match=r"toy video one frame 0: 2 objects"):
        evaluate(Small(), [record("one", squares(4))])


def test_what_cannot_be_scored_is_named_before_the_first_frame():
    follower = Follower()
    good = record("good", squares(4))
    with pytest.raises(ValueError, match=r"video empty has no object in its masks"):
        evaluate(follower, [good, record("empty", np.zeros((4, *SIZE), np.uint8))])
    masks = squares(4)
    masks[0] = 0
    for protocol in ("davis", "ovis"):
        with pytest.raises(ValueError, match=r"video late has no object in its first mask"):
            evaluate(follower, [good, record("late", masks)], protocol=protocol)
    with pytest.raises(ValueError, match=r"video test has masks of 1 frames.*submission writes"):
        evaluate(follower, [good, record("test", squares(4), annotated=(0,))])
    with pytest.raises(ValueError, match=r"'coco'; it must be one of davis"):
        evaluate(follower, [good], protocol="coco")
    assert follower.given == []


@pytest.mark.parametrize(("protocol", "ids"), [("davis", (2, 1)), ("ovis", (3,))])
def test_with_a_segmenter(protocol, ids):
    """A model that tracks colors, through the sessions that users have."""
    segmenter = Segmenter(standin_vos.Follower(), standin_vos.variables())
    result = evaluate(segmenter, [record("one", squares(4, ids))], protocol=protocol)
    assert result["J&F"] == 1 and list(result["sequences"]["one"]) == [str(i) for i in sorted(ids)]
    if protocol == "davis":
        many = squares(4)
        many[0, 15, ::8] = 3, 4, 5
        with pytest.raises(ValueError, match=r"video many frame 0: 5 objects.*built for 3"):
            evaluate(segmenter, [record("many", many)])


def test_newcomers_with_a_segmenter():
    segmenter = Segmenter(standin_vos.Follower(), standin_vos.variables())
    result = evaluate(segmenter, [record("one", late())], protocol="youtube_vos")
    assert result["J&F"] == 1 and list(result["sequences"]["one"]) == ["1", "2"]


def test_times():
    masks = squares(6, (1,))
    result = evaluate(Follower(wait=0.01), [record("a", masks), record("b", masks)])
    assert result["seconds_per_frame"] >= 0.01 and result["seconds_to_start"] >= 0.01
    assert result["frames_per_second"] <= 100
    clock = runner.Clock()
    one = record("a", masks)
    for _ in propagation.propagate(Follower(wait=0.01), one, {2: [masks[2]]}, "a", clock):
        time.sleep(0.1)   # what is done with a prediction is not timed
    assert len(clock.starts) == 1, "frame 2, which has the prompt, and frame 3"
    assert len(clock.frames) == 2 and sum(clock.frames) < 0.1
    short = evaluate(Follower(), [record("a", squares(2, (1,)))], protocol="ovis")
    assert short["frames_per_second"] is None


def test_videos_without_ground_truth():
    dataset = MemoryDataset([record("one", late(), annotated=(0, 3)),
                             record("two", squares(3, (2,)), annotated=(0,))])
    predictions = {name: {t: index.copy() for t, index in frames} for name, frames
               in propagation.predict_videos(Follower(), dataset, entering=True, progress=False)}
    assert list(predictions) == ["one", "two"] and sorted(predictions["one"]) == list(range(6))
    np.testing.assert_array_equal(predictions["one"][5], late()[5])
    np.testing.assert_array_equal(predictions["two"][2], squares(3, (2,))[2])
    [first, _] = propagation.predict_videos(Follower(), dataset, entering=False, progress=False)
    assert {i for _, index in first[1] for i in np.unique(index)} == {0, 1}


def test_the_score_of_each_object_and_its_video():
    result = evaluate(Follower(copies=True), [
        record("still", squares(4, (1, 2), step=0)), record("one", squares(4, (1,)))])
    assert result["sample_iou"] == pytest.approx([1, 1, (36 / 60 + 24 / 72) / 2], abs=1e-5)
    assert result["sample_video"] == [0, 0, 1] and result["adaptation"] is None


class Adapted(Follower):
    """Streams with a report on two steps; that of the second stream collapsed."""

    def start_many(self, frames, queries=None, masks=None):
        session = super().start_many(frames, queries, masks)
        curves = np.zeros((len(frames), 3, 4))   # streams, steps and slots, of which some are empty
        curves[0, :, :2] = np.array([[0.5, 0.3], [0.9, 0.9], [0.1, 0.2]])
        curves[1:, :, 0] = 0.2, 0.1, 0.0
        session.adaptation = SimpleNamespace(
            objects=curves, background=curves / 2, collapsed=np.arange(len(frames)) == 1)
        return session


def test_the_losses_of_the_adaptation_by_hand(capsys):
    davis = evaluate(Adapted(), [record("one", squares(4))])
    assert davis["adaptation"] == {
        "L_obj": {"before": pytest.approx(0.4), "after": pytest.approx(0.15)},
        "L_bg": {"before": pytest.approx(0.2), "after": pytest.approx(0.075)}, "collapsed": 0}
    alone = evaluate(Adapted(), [record("one", squares(4))], protocol="ovis")["adaptation"]
    # The trained keys of the second object are used, so nothing has changed for it.
    assert alone["L_obj"] == {"before": pytest.approx(0.35), "after": pytest.approx(0.15)}
    assert alone["collapsed"] == 0.5
    region_scores.report({"toy-val": davis})
    assert capsys.readouterr().out.splitlines()[-1] == (
        "toy-val: adaptation to the first frame: L_obj 40.0 -> 15.0, L_bg 20.0 -> 7.5, "
        "collapsed 0.0")


def test_a_table_of_results(capsys):
    result = evaluate(Follower(copies=True), [record("one", squares(4, (1,)))])
    region_scores.report({"toy-val": result})
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["J&F", "J", "J"] and row.split()[0] == "toy-val"
    assert float(row.split()[2]) == pytest.approx(100 * result["J"]["mean"], abs=0.05)


@pytest.mark.slow
def test_two_processes_share_the_videos(tmp_path):
    script = (
        "import sys, json, jax, test_propagation_scores as t\n"
        "number, address, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]\n"
        "jax.distributed.initialize(address, 2, number)\n"
        "t.shared(out)\n"
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    outputs = [tmp_path / f"{i}.json" for i in range(2)]
    running = [subprocess.Popen([sys.executable, "-c", script, str(i), address, str(outputs[i])],
                                env=environment, stderr=subprocess.PIPE, text=True)
               for i in range(2)]
    errors = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    shared(tmp_path / "alone.json")
    alone, *found = (json.loads(p.read_text()) for p in (tmp_path / "alone.json", *outputs))
    assert alone.pop("started") == 3 and alone.pop("error") == ""
    assert [f.pop("started") for f in found] == [2, 1]
    assert all("one process only" in f.pop("error") for f in found)
    assert found == [alone, alone]


def shared(out):
    """Evaluates three videos and writes the scores, or the error."""
    follower = Follower(copies=True)
    records = [record(f"video{i}", squares(5, (1,), step=i)) for i in range(3)]
    result = evaluate(follower, records)
    result = {key: value for key, value in result.items() if "second" not in key}
    result |= {"started": len(follower.given), "error": ""}
    try:
        evaluate(Follower(), records, save=Path(out).with_suffix(""))
    except ValueError as error:
        result["error"] = str(error)
    Path(out).write_text(json.dumps(result))
