"""J, F and their statistics: by hand, against the official tool's numbers, and as a command."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vseg_jax.metrics.davis import DavisMetric, main, read_index, score_folders, statistics
from vseg_jax.metrics.jf import boundary, boundary_f, boundary_tolerance, jaccard, score

GOLDEN = Path(__file__).parents[1] / "goldens" / "davis.npz"


def square(top, left, side=4, size=(16, 20), value=1):
    mask = np.zeros(size, np.uint8)
    mask[top:top + side, left:left + side] = value
    return mask


def test_jaccard():
    a, b = square(2, 2) > 0, square(2, 4) > 0
    assert jaccard(a, a) == 1
    assert jaccard(a, b) == pytest.approx(8 / 24)
    assert jaccard(a, a & False) == 0
    assert jaccard(a & False, a & False) == 1


def test_boundary_is_half_a_pixel_towards_the_origin():
    # A 2 x 2 square: the ring of pixels up and to the left of its outline, not the inner corner.
    drawn = boundary(square(2, 2, side=2, size=(6, 6)) > 0)
    assert drawn[1:4, 1:4].tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert drawn.sum() == 8
    # At the lower right corner of the frame only neighbors inside count, the last pixel never.
    assert boundary(square(4, 4, side=2, size=(6, 6)) > 0)[3:, 3:].tolist() == [
        [1, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert boundary(np.ones((3, 3), bool)).sum() == 0


def test_boundary_f_by_hand():
    a = square(4, 4) > 0
    assert boundary_tolerance((480, 854)) == 8
    assert boundary_tolerance((16, 20)) == 1
    assert boundary_f(a, a) == 1
    # Moved by one pixel all of the outline lies within the tolerance of one, and not by three:
    assert boundary_f(square(4, 5) > 0, a) == 1
    # Outlines are rings of 16 pixels over 5 x 5. Moved by 3, columns 6..10 against 3..7: of each
    # ring, rows 3 and 7 are shared at columns 6, 7 and touch at one more, and the ring's inner
    # column lies one pixel away from the other's at 3 + 4 = 7 in rows 4..6 (6 against 7).
    moved = square(4, 7) > 0
    matched = 2 * 3 + 3   # rows 3 and 7: columns 6, 7, 8; column 6: rows 4, 5, 6
    assert boundary_f(moved, a) == pytest.approx(matched / 16)
    assert boundary_f(moved, a, bound=3) == 1
    nothing = a & False
    assert boundary_f(nothing, a) == boundary_f(a, nothing) == 0
    assert boundary_f(nothing, nothing) == 1
    whole = a | True   # an object without an outline
    assert boundary_f(whole, whole) == 1
    assert boundary_f(whole, a) == 0


@pytest.mark.parametrize("size", [(33, 47), (1, 9), (9, 1), (5, 200)])
def test_the_window_around_the_object_changes_nothing(size):
    generator = np.random.default_rng(0)
    for _ in range(20):
        masks = np.zeros((2, *size), bool)
        for mask in masks:
            top, left = generator.integers(0, size[0]), generator.integers(0, size[1])
            window = mask[top:top + generator.integers(1, 12), left:left + 9]
            window[...] = generator.random(window.shape) < 0.7
        assert score(*masks) == (jaccard(*masks), boundary_f(*masks))


def test_statistics_by_hand():
    # Eight frames: borders round(1, 2.75, 4.5, 6.25, 8) - 1 = 0, 2, 3, 5, 7; halves go to even.
    values = np.array([1, 1, 0.7, 0.6, 0.5, 0.4, 0.2, 0.0])
    found = statistics(values)
    assert found["mean"] == pytest.approx(0.55)
    assert found["recall"] == 0.5, "one half is not above one half"
    assert found["decay"] == pytest.approx(np.mean([1, 1, 0.7]) - np.mean([0.4, 0.2, 0.0]))
    assert statistics(np.array([0.3]))["decay"] == 0


def test_decay_of_long_sequences_and_what_eight_bits_make_of_it():
    falling = np.linspace(1, 0, 298)
    assert statistics(falling)["decay"] == pytest.approx(0.75, abs=0.01)
    assert math.isnan(statistics(falling, official_overflow=True)["decay"])
    # Borders 0, 124.75, 249.5, 374.25, 499 of 500 frames: the last two wrap to 118 and 243.
    falling = np.linspace(1, 0, 500)
    wrapped = statistics(falling, official_overflow=True)["decay"]
    assert wrapped == pytest.approx(falling[:126].mean() - falling[118:244].mean())
    short = np.linspace(1, 0, 256)
    assert statistics(short) == statistics(short, official_overflow=True)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as stored:
        arrays = dict(stored)
    return {name: {key: arrays[f"{name}/{key}"] for key in ("truth", "prediction", "J", "F")}
            for name in {key.split("/")[0] for key in arrays}}


def test_the_official_numbers(golden):
    assert {len(case["truth"]) for case in golden.values()} >= {5, 300}
    metric = DavisMetric(official_overflow=True)
    for name, case in golden.items():
        metric.add(name, case["prediction"], case["truth"])
    result = metric.result()
    for letter in "JF":
        rows = np.concatenate([golden[name][letter] for name in golden])
        assert [result[letter][k] for k in ("mean", "recall", "decay")] == pytest.approx(
            rows.mean(axis=0), abs=1e-9, nan_ok=True)
        for name, case in golden.items():
            ours = [[found[letter][k] for k in ("mean", "recall", "decay")]
                    for found in result["sequences"][name].values()]
            np.testing.assert_allclose(ours, case[letter], atol=1e-9, err_msg=name)
    assert result["J&F"] == pytest.approx((result["J"]["mean"] + result["F"]["mean"]) / 2)
    assert list(result["sequences"]["ids_with_a_gap"]) == ["1", "2", "3"]
    assert math.isnan(result["J"]["decay"]), "three hundred frames, counted in eight bits"


def test_without_the_overflow_only_the_decay_of_long_sequences_differs(golden):
    case = golden["three_hundred_frames"]
    results = []
    for overflow in (False, True):
        metric = DavisMetric(official_overflow=overflow)
        for pair in zip(case["prediction"], case["truth"], strict=True):   # frame by frame
            metric.add("a", *pair)
        results.append(metric.result())
    right, official = results
    assert right["J"]["mean"] == official["J"]["mean"]
    assert right["J"]["recall"] == official["J"]["recall"]
    values = np.array(metric.rows["a"]["rows"][1])[1:-1, 0]
    assert right["sequences"]["a"]["1"]["J"]["decay"] == pytest.approx(
        values[:75].mean() - values[223:].mean())


def test_which_frames_and_objects_count():
    truth = np.stack([square(2, 2)] * 6)
    truth[3:] += square(9, 9, value=2)   # enters in frame 3
    prediction = truth.copy()
    prediction[[0, -1]] = 0                  # wrong in the first frame and in the last
    results = {}
    for protocol in ("davis", "youtube_vos", "ovis"):
        metric = DavisMetric(protocol)
        metric.add("a", prediction if protocol == "youtube_vos" else prediction * (prediction == 1),
                   truth)
        results[protocol] = metric.result()
    assert results["davis"]["J&F"] == 1 and results["davis"]["objects"] == 1
    assert results["davis"]["sequences"]["a"]["1"]["frames"] == 4
    # Of frames 1..5 the square is missed in the last; the newcomer has frames 4 and 5.
    assert results["ovis"]["J"]["mean"] == pytest.approx(4 / 5)
    found = results["youtube_vos"]["sequences"]["a"]
    assert (found["1"]["J"]["mean"], found["2"]["J"]["mean"]) == (pytest.approx(4 / 5), 1 / 2)
    assert results["youtube_vos"]["J"]["mean"] == pytest.approx((4 / 5 + 1 / 2) / 2)


def test_expressions_count_all_frames_and_absence():
    truth, prediction = np.zeros((4, 16, 20), np.uint8), np.zeros((4, 16, 20), np.uint8)
    truth[1:] = square(2, 2)
    prediction[0], prediction[1] = square(2, 2), square(2, 2)
    metric = DavisMetric("expressions")
    metric.add("video/0", prediction, truth)
    assert metric.result()["J"]["mean"] == pytest.approx(1 / 4)


def test_objects_predicted_one_by_one_and_absence_left_out():
    truth = [square(2, 2) > 0] * 3 + [np.zeros((16, 20), bool)] * 2
    prediction = [square(2, 2) > 0, square(2, 4) > 0, square(2, 2) > 0, square(0, 0) > 0,
              np.zeros((16, 20), bool)]
    means = {}
    for skip in (False, True):
        metric = DavisMetric("ovis", skip_absent=skip)
        for pair in zip(prediction, truth, strict=True):
            metric.add_object("a", 7, *pair)
        for pair in zip(truth, truth, strict=True):
            metric.add_object("b", 1, *pair)
        result = metric.result()
        means[skip] = result["sequences"]["a"]["7"]["J"]["mean"]
        assert result["J"]["mean"] == pytest.approx((means[skip] + 1) / 2)
    assert means == {False: pytest.approx((1 / 3 + 1 + 0 + 1) / 4),
                     True: pytest.approx((1 / 3 + 1) / 2)}


def test_rows_travel_as_json(golden):
    whole, parts = DavisMetric(), DavisMetric()
    for name in ("vanishing", "missing_object"):
        case, part = golden[name], DavisMetric()
        whole.add(name, case["prediction"], case["truth"])
        part.add(name, case["prediction"], case["truth"])
        parts.add_rows(json.loads(json.dumps(part.rows)))
    assert parts.result() == whole.result()
    with pytest.raises(ValueError, match="vanishing was added already"):
        parts.add_rows(whole.rows)


def test_what_cannot_be_scored_is_named():
    with pytest.raises(ValueError, match="no object to score"):
        DavisMetric().result()
    with pytest.raises(ValueError, match=r"'davis2019'.*davis, youtube_vos"):
        DavisMetric("davis2019")
    metric = DavisMetric()
    with pytest.raises(ValueError, match=r"a: the prediction has shape \(16, 20\).*\(16, 21\)"):
        metric.add("a", square(2, 2), square(2, 2, size=(16, 21)))
    metric.add("a", square(2, 2), square(2, 2))
    metric.add("a", square(2, 2), square(2, 2))
    with pytest.raises(ValueError, match="a: no frame counts, it has 2"):
        metric.result()
    metric = DavisMetric()
    for value in (1, 1, 3, 1):
        metric.add("b", square(2, 2, value=value), square(2, 2))
    with pytest.raises(ValueError, match=r"b, frame 2 .* id 3, the ground truth no id above 1"):
        metric.result()


def test_a_frame_of_480p_is_quick():
    import time

    generator = np.random.default_rng(0)
    y, x = np.mgrid[:480, :854]
    waves = np.hypot(y - 240 + 9 * np.sin(x / 5), x - 427 + 9 * np.sin(y / 7))
    truth = ((waves < 210) + (waves < 150) + (waves < 90)).astype(np.uint8)
    prediction = np.where(generator.random(truth.shape) < 0.02, np.uint8(0), truth)
    metric = DavisMetric()
    started = time.process_time()
    for _ in range(5):
        metric.add("a", prediction, truth)
    assert (time.process_time() - started) / 15 < 0.1, "about 5 ms an object"


# --- the command ------------------------------------------------------------------------------


def write(folder, masks, mode="P"):
    folder.mkdir(parents=True, exist_ok=True)
    for t, mask in enumerate(masks):
        image = Image.fromarray(mask)
        if mode == "P":
            image.putpalette([0, 0, 0, 128, 0, 0] * 128)
        image.save(folder / f"{t:05d}.png")


@pytest.fixture
def folders(tmp_path, golden):
    for name in ("vanishing", "void"):
        write(tmp_path / "truth" / name, golden[name]["truth"])
        write(tmp_path / "predictions" / name, golden[name]["prediction"])
    return tmp_path / "truth", tmp_path / "predictions"


def run(capsys, *arguments):
    assert main([str(a) for a in arguments]) == 2
    return capsys.readouterr().err


def test_command(folders, golden):
    truth, predictions = folders
    for name in ("00000.png", "00007.png"):   # the first and the last are not asked for
        (predictions / "void" / name).unlink()
    done = subprocess.run(
        [sys.executable, "-m", "vseg_jax.metrics.davis", "--truth", truth, "--predictions",
         predictions], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    rows = np.concatenate([golden[name]["J"] for name in ("vanishing", "void")])
    assert [result["J"][k] for k in ("mean", "recall", "decay")] == pytest.approx(rows.mean(0))
    assert set(result["sequences"]) == {"vanishing", "void"}


def test_command_scores_the_listed_sequences_and_writes_json(folders, golden, capsys, tmp_path):
    truth, predictions = folders
    case = golden["three_hundred_frames"]
    write(truth / "long", case["truth"])
    write(predictions / "long", case["prediction"])
    (tmp_path / "list.txt").write_text("long\n")
    arguments = ["--truth", str(truth), "--predictions", str(predictions), "--sequences",
                 str(tmp_path / "list.txt"), "--official_overflow"]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)   # no NaN
    assert list(result["sequences"]) == ["long"]
    assert result["J"]["decay"] is None
    (tmp_path / "list.txt").write_text("long other")
    assert "no mask in" in run(capsys, *arguments)
    (tmp_path / "list.txt").unlink()
    assert "list.txt" in run(capsys, *arguments)


def test_masks_of_davis_2016(tmp_path):
    masks = np.stack([square(2, 2 + t, value=255) for t in range(4)])
    write(tmp_path / "truth" / "a", masks, mode="L")
    write(tmp_path / "predictions" / "a", masks[[0, 0, 1, 2]] // 255)
    result = score_folders(tmp_path / "truth", tmp_path / "predictions")
    assert result["objects"] == 1
    assert result["J"]["mean"] == pytest.approx(12 / 20)
    write(tmp_path / "void", masks[:1])   # in a palette 255 is void
    assert read_index(tmp_path / "void" / "00000.png").max() == 255


def test_hidden_files_and_lists_of_windows(folders, capsys, tmp_path):
    truth, predictions = folders
    (truth / "void" / "._00000.png").write_text("hidden")
    arguments = ["--truth", truth, "--predictions", predictions, "--sequences"]
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "list.txt").write_text("void\r\n", encoding=encoding)
        assert main([str(a) for a in (*arguments, tmp_path / "list.txt")]) == 0
    (tmp_path / "list.txt").write_bytes("müll".encode("latin-1"))
    assert "list.txt is not UTF-8 text" in run(capsys, *arguments, tmp_path / "list.txt")


def test_expressions_lie_a_folder_deeper(tmp_path):
    masks = np.stack([square(2, 2, value=255)] * 3)
    for folder in ("truth", "predictions"):
        for name in ("one/0", "one/1"):
            write(tmp_path / folder / name, masks, mode="L")
    result = score_folders(tmp_path / "truth", tmp_path / "predictions", protocol="expressions")
    assert list(result["sequences"]) == ["one/0", "one/1"]
    assert result["sequences"]["one/0"]["1"]["frames"] == 3


def test_bad_folders_are_named(folders, capsys, tmp_path):
    truth, predictions = folders
    arguments = ["--truth", truth, "--predictions", predictions]
    assert run(capsys, "--truth", tmp_path / "no", "--predictions", predictions).startswith(
        f"error: {tmp_path / 'no'} is not a folder")
    (tmp_path / "bare").mkdir()
    assert "holds no sequence" in run(
        capsys, "--truth", tmp_path / "bare", "--predictions", predictions)
    frame = predictions / "void" / "00003.png"
    kept = frame.read_bytes()
    frame.unlink()
    assert f"{predictions / 'void'} lacks 1 of 6 frames: 00003.png" in run(capsys, *arguments)
    Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(frame)
    assert f"{frame} has the mode RGB" in run(capsys, *arguments)
    Image.fromarray(np.zeros((5, 6), np.uint16)).save(frame)
    assert f"{frame} has the mode I;16" in run(capsys, *arguments)
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(frame)
    assert f"{frame} is 6 x 5, its ground truth" in run(capsys, *arguments)
    frame.write_bytes(kept[:60])
    assert f"{frame} cannot be read" in run(capsys, *arguments)
    Image.fromarray(np.full((20, 26), 9, np.uint8)).save(frame)
    assert "void, frame 3 (from 0): the prediction has the id 9" in run(capsys, *arguments)
    frame.write_bytes(kept)
    (predictions / "vanishing").rename(predictions / "elsewhere")
    assert f"{predictions} lacks 1 of 2 sequences: vanishing" in run(capsys, *arguments)
