"""Average precision over tracks: by hand, against the official tool's numbers, and as a command."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vseg_jax.metrics.youtube_vis import YouTubeVISMetric, main, score_files
from vseg_jax.run_lengths import Spans

GOLDEN = Path(__file__).parents[1] / "goldens" / "youtube_vis.npz"
SIZE = (12, 16)
ONE = pytest.approx(1, abs=1e-12)   # precision is n / (n + the smallest step)


def code(top=0, left=0, height=4, width=4, size=SIZE):
    mask = np.zeros(size, int)
    mask[top:top + height, left:left + width] = 1
    flat = np.concatenate([[0], mask.T.ravel(), [2]])
    return {"size": list(size),
            "counts": np.diff(np.flatnonzero(flat[1:] != flat[:-1]), prepend=0).tolist()}


def true(*codes, category=1, **more):
    return {"category_id": category, "segmentations": list(codes), "iscrowd": 0} | more


def ours(*codes, category=1, score=0.5):
    return {"category_id": category, "segmentations": list(codes), "score": score}


def scored(*videos, length=2):
    metric = YouTubeVISMetric()
    for k, (truth, predictions) in enumerate(videos):
        metric.add(k, SIZE, length, truth, predictions)
    return metric.result()


# --- against the official tool ----------------------------------------------------------------


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return {name: json.loads(file[name].tobytes()) for name in file}


@pytest.mark.parametrize("name", [
    "plain", "missing_frames", "crowds", "ties", "tie_of_all", "small", "sizes", "all_at_once",
    "borders", "empty_videos", "many"])
def test_official_scores(golden, name, tmp_path):
    case = golden[name]
    truth, predictions = tmp_path / "truth.json", tmp_path / "results.json"
    truth.write_text(json.dumps(case["truth"]))
    predictions.write_text(json.dumps(case["predictions"]))
    result = score_files(truth, predictions)
    assert result.keys() == case["scores"].keys()
    for key, value in case["scores"].items():
        assert result[key] == pytest.approx(math.nan if value == -1 else value, abs=1e-6,
                                            nan_ok=True), key


# --- by hand ----------------------------------------------------------------------------------


def test_a_frame_that_one_of_them_lacks_adds_to_the_union():
    # 16 of 16 + 16 pixels: reaches 0.50 and no threshold above.
    result = scored(([true(code(), code())], [ours(code(), None)]))
    assert result["AP50"] == ONE and result["AP75"] == 0
    assert result["AP"] == pytest.approx(0.1)
    # 16 of 16 + 16 + 16
    result = scored(([true(code(), code(), None)], [ours(code(), None, code())]), length=3)
    assert result["AP50"] == 0 and result["AR1"] == 0


def test_precision_over_recalls():
    a, b = (code(), code()), (code(6), code(6))
    result = scored(([true(*a), true(*b)],
                     [ours(*a, score=0.9), ours(None, None, score=0.8), ours(*b, score=0.7)]))
    # Recall 1/2 with precision 1, then 1 with 2/3: 51 recalls of 0 ... 0.50, 50 above.
    assert result["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert result["AR1"] == 0.5 and result["AR10"] == ONE
    assert result["APs"] == result["AP"] and math.isnan(result["APl"])


def test_categories_without_an_object_do_not_count():
    hit, miss = ours(code(), code()), ours(code(), code(), category=2)
    assert scored(([true(code(), code())], [hit, miss]))["AP"] == ONE
    both = [true(code(), code()), true(code(), code(), category=2)]
    assert scored((both, [hit]))["AP"] == pytest.approx(0.5)
    assert all(math.isnan(v) for v in scored(([], [hit]), ([], [])).values())
    assert scored((both, []))["AP"] == 0


def test_crowds_take_any_number_and_count_nowhere():
    crowd = true(code(0, 0, 12, 16), code(0, 0, 12, 16), iscrowd=1)
    object_ = true(code(), code())
    over = [ours(*[code(0, 0, 12, 12)] * 2, score=s) for s in (0.9, 0.8)]
    assert scored(([crowd, object_], [*over, ours(code(), code(), score=0.1)]))["AP50"] == ONE
    plain = dict(crowd, iscrowd=0)   # one of the two is then a false positive
    assert scored(([plain, object_], [*over, ours(code(), code(), score=0.1)]))["AP50"] < 1


def test_areas_of_the_file_count_if_it_has_them():
    with_areas = true(code(), code(), areas=[300**2, None])
    result = scored(([with_areas], [ours(code(), code())]))
    assert result["APl"] == ONE and math.isnan(result["APs"])


def test_rows_of_several_processes():
    videos = [([true(code(), code())], [ours(code(), None, score=0.3)]), ([], []),
              ([true(code(2), code(2), iscrowd=1), true(code(6), code(6))],
               [ours(code(6), code(7)), ours(code(2), code(2), score=0.9)])]
    whole = YouTubeVISMetric()
    for first in (1, 0):
        part = YouTubeVISMetric()
        for k in range(first, len(videos), 2):
            part.add(k, SIZE, 2, *videos[k])
        whole.add_rows(json.loads(json.dumps(part.rows)))
    np.testing.assert_equal(whole.result(), scored(*videos))
    with pytest.raises(ValueError, match="video 0 was added already"):
        whole.add_rows(part.rows)


# --- run-length codes -------------------------------------------------------------------------


def test_areas_and_intersections_of_codes():
    rng = np.random.default_rng(0)
    coco = pytest.importorskip("pycocotools.mask")
    for _ in range(60):
        size = tuple(int(n) for n in rng.integers(1, 30, 2))
        masks = rng.random((2, *size)) < rng.random((2, 1, 1))
        codes = [coco.encode(np.asfortranarray(m.astype(np.uint8))) for m in masks]
        a, b = (Spans(c, size, "a test") for c in codes)
        assert (a.area, b.area) == tuple(masks.sum((1, 2)))
        assert a.intersection(b) == b.intersection(a) == (masks[0] & masks[1]).sum()


def test_runs_of_no_length():
    odd = Spans({"size": [2, 3], "counts": [0, 1, 0, 2, 0, 0, 1, 2]}, (2, 3), "a test")
    same = Spans({"size": [2, 3], "counts": [0, 3, 1, 2]}, (2, 3), "a test")
    assert odd.area == same.area == odd.intersection(same) == same.intersection(odd) == 5
    assert Spans({"size": [2, 3], "counts": [6]}, (2, 3), "a test").area == 0


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize("row, said", [
    (true(code(), code(size=(16, 12))),
     "video 0, ground-truth object 0, frame 1 is 16x12 .* is 12x16"),
    (true({"size": [12, 16], "counts": [5]}, None), "frame 0 has 5 pixels, its size is 12x16"),
    (true({"size": [12, 16], "counts": "d\x7f"}, None), "frame 0 cannot be read"),
    (true({"size": [12, 16], "counts": ""}, None), "frame 0 cannot be read"),
    (true([[0, 0, 4, 0, 4, 4]], None), "ground-truth object 0, frame 0 cannot be read"),
    (true({"size": None, "counts": [192]}, None), "frame 0 cannot be read: TypeError"),
    (true({"size": ["12", "16"], "counts": [192]}, None), "frame 0 cannot be read: TypeError"),
    (true({"size": [12, 16], "counts": [10**30]}, None), "frame 0 cannot be read: OverflowError"),
    (true(code(), None, areas=["16", None]), r"the areas are \['16', None\]; they must be a list"),
    (true(code(), None, areas=16), "the areas are 16; they must be a list"),
    (true(code()), "ground-truth object 0 has 1 segmentations; .* the video's 2 frames"),
    (dict(true(), segmentations=None), "ground-truth object 0 has None; it must have a list"),
    ({"segmentations": []}, "ground-truth object 0 has no 'category_id'"),
])
def test_objects_that_cannot_be_scored(row, said):
    with pytest.raises(ValueError, match=said):
        YouTubeVISMetric().add(0, SIZE, 2, [row], [])


@pytest.mark.parametrize("score", [None, "0.5", True, math.nan])
def test_scores_that_are_no_numbers(score):
    with pytest.raises(ValueError, match="video 0, prediction 0: the score is"):
        YouTubeVISMetric().add(0, SIZE, 2, [], [ours(None, None, score=score)])


@pytest.fixture
def files(tmp_path):
    """Truth and perfect results of two videos, as paths."""
    truth = {
        "categories": [{"id": 1, "name": "dog"}],
        "videos": [{"id": k, "height": 12, "width": 16,
                    "file_names": [f"v{k}/0.jpg", f"v{k}/1.jpg"]} for k in (1, 2)],
        "annotations": [true(code(), code(), video_id=k, id=k) for k in (1, 2)],
    }
    results = [ours(code(), None if k == 2 else code()) | {"video_id": k} for k in (1, 2)]
    for name, value in (("truth", truth), ("results", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    return tmp_path / "truth.json", tmp_path / "results.json"


def test_command(files, tmp_path):
    call = [sys.executable, "-m", "vseg_jax.metrics.youtube_vis", "--truth", str(files[0]),
            "--predictions", str(files[1])]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert list(result) == ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10"]
    assert result["AP50"] == ONE and result["AP"] < 1 and result["APl"] is None


def test_a_part_of_the_videos(files, tmp_path, capsys):
    assert score_files(*files, videos=["v1"])["AP"] == ONE
    assert score_files(*files, videos=["2"])["AP75"] == 0
    (tmp_path / "names").write_text("v1\nv3\n")
    assert main(["--truth", str(files[0]), "--predictions", str(files[1]),
                 "--videos", str(tmp_path / "names")]) == 2
    assert "has no video v3" in capsys.readouterr().err


@pytest.mark.parametrize("which, text, said", [
    (1, '[{"video_id": 1, "category_id": 5}]',
     "entry 0: the category_id is 5, which the annotation file does not list; it has 1"),
    (1, '[{"video_id": 1, "category_id": [1]}]', r"entry 0: the category_id is \[1\], which"),
    (1, '[{"video_id": 9}]', "entry 0: the video_id is 9, which .*; it has 1, 2"),
    (1, '[{"video_id": {}}]', "entry 0: the video_id is {}, which"),
    (1, "[7]", "entry 0 is 7, not an object"),
    (1, "{}", "must be a list of results, it is a dict"),
    (1, "[", "results.json cannot be read as JSON"),
    (0, "{}", "truth.json: not in the format of YouTube-VIS annotations: KeyError"),
    (0, '{"categories": [], "videos": [{"id": 3, "width": 9}]}',
     "video 3: not in the format .* KeyErr"),
    (0, '{"categories": [], "videos": [{"id": 3, "height": "9"}]}', "video 3: .* TypeError"),
    (0, '{"categories": [], "videos": [], "annotations": null}', "truth.json has no annotations"),
])
def test_damaged_files(files, which, text, said, capsys):
    files[which].write_text(text)
    with pytest.raises(ValueError, match=said):
        score_files(*files)
    status = main(["--truth", str(files[0]), "--predictions", str(files[1])])
    out, err = capsys.readouterr()
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert not out and len(list(files[0].parent.iterdir())) == 2


@pytest.mark.parametrize("change, said", [
    ({"segmentations": [code(size=(16, 12)), None]}, "prediction 0, frame 0 is 16x12"),
    ({"segmentations": [{"size": [12, 16], "counts": [9]}, None]}, "frame 0 has 9 pixels, its si"),
    ({"segmentations": [[[0, 0, 4, 0, 4, 4]], None]}, "prediction 0, frame 0 cannot be read"),
    ({"segmentations": [None]}, "prediction 0 has 1 segmentations; it must have a list"),
    ({"segmentations": None}, "prediction 0 has None; it must have a list"),
    ({"score": "high"}, "prediction 0: the score is 'high'"),
])
def test_the_command_names_a_bad_result(files, change, said, capsys):
    first, second = json.loads(files[1].read_text())
    files[1].write_text(json.dumps([first | change, second]))
    status = main(["--truth", str(files[0]), "--predictions", str(files[1])])
    out, err = capsys.readouterr()
    assert status == 2 and not out and err.count("\n") == 1
    assert err.startswith("error: ") and said in err
