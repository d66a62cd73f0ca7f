"""results.json: written from predictions, accepted by the check, every problem named."""

import json
import zipfile

import numpy as np
import pytest

from vseg_jax import submission
from vseg_jax.metrics.youtube_vis import score_files
from vseg_jax.run_lengths import encode_rle
from vseg_jax.submission.__main__ import main

SIZE = (12, 16)


def mask(top=0):
    pixels = np.zeros(SIZE, bool)
    pixels[top:top + 4, 2:9] = True
    return encode_rle(pixels)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Annotation files of both kinds: a cat of two frames, a dog of three; no images."""
    root = tmp_path_factory.mktemp("vis")
    videos = [{"id": k, "height": 12, "width": 16, "length": n,
               "file_names": [f"{name}/{t:05d}.jpg" for t in range(n)]}
              for k, name, n in ((31, "dog", 3), (7, "cat", 2))]
    said = {"videos": videos, "categories": [{"id": 3, "name": "fish"}, {"id": 1, "name": "owl"}]}
    for name in ("valid.json", "annotations_valid.json"):
        (root / name).write_text(json.dumps(said))
    return root


def predictions(**changed):
    return [("cat", [{"category": "owl", "score": 0.5, "segmentations": [mask(), None]}]),
            ("dog", [{"category": "fish", "score": 1, "segmentations": [None, mask(2), mask(4)]}
                     | changed])]


@pytest.fixture
def archive(source, tmp_path):
    return submission.write("youtube_vis", source, predictions(), tmp_path / "out")


def entries(archive):
    with zipfile.ZipFile(archive) as packed:
        assert packed.namelist() == ["results.json"]
        return json.loads(packed.read("results.json"))


@pytest.mark.parametrize("kind", ("youtube_vis", "ovis"))
def test_what_is_written_has_the_downloads_ids(kind, source, tmp_path):
    path = submission.write(kind, source, predictions(), tmp_path / "out.zip")
    assert path == tmp_path / "out.zip"
    cat, dog = entries(path)
    assert (cat["video_id"], cat["category_id"], cat["score"]) == (7, 1, 0.5)
    assert (dog["video_id"], dog["category_id"]) == (31, 3)
    assert cat["segmentations"] == [mask(), None]
    assert submission.check(kind, source, path) == []
    (tmp_path / "results.json").write_text(json.dumps([cat, dog]))
    assert submission.check(kind, source, tmp_path) == []
    assert submission.check(kind, source, tmp_path / "results.json") == []


def test_what_is_written_can_be_scored(source, archive, tmp_path):
    said = json.loads((source / "valid.json").read_text())
    found = entries(archive)
    said["annotations"] = [dict(entry, id=k, iscrowd=0) for k, entry in enumerate(found)]
    (tmp_path / "truth.json").write_text(json.dumps(said))
    (tmp_path / "results.json").write_text(json.dumps(found))
    assert score_files(tmp_path / "truth.json", tmp_path / "results.json")["AP"] > 0.999


@pytest.mark.parametrize("change, said", [
    ({"video_id": 8}, ["the video_id is 8"]),
    ({"video_id": [31]}, ["the video_id is [31], which the split does not list"]),
    ({"category_id": 40}, ["the category_id is 40; the download has 1 to 3"]),
    ({"score": "high"}, ["the score is 'high'; it must be a finite number"]),
    ({"segmentations": None}, ["segmentations are None; video 31 (dog) has 3 frames"]),
    ({"segmentations": [None]}, ["segmentations are 1; video 31 (dog) has 3 frames"]),
    ({"segmentations": [{"size": [16, 12], "counts": "0"}, None, {"counts": 3}], "score": None},
     ["the score is None", "frame 0 is 16x12 (height x width), but its video is 12x16",
      "frame 2 cannot be read"]),
    ({"segmentations": [None, None, {"size": [12, 16], "counts": [192]}]},
     ["the counts of frame 2 are a list"]),
])
def test_every_problem_is_listed(change, said, source, archive, tmp_path):
    cat, dog = entries(archive)
    path = tmp_path / "results.json"
    path.write_text(json.dumps([cat, dog | change]))
    found = submission.check("youtube_vis", source, path)
    assert len(found) == len(said)
    for line, part in zip(found, said, strict=True):
        assert line.startswith("entry 1: ") and part in line


def test_files_that_are_not_results(source, archive, tmp_path):
    path = tmp_path / "results.json"
    for text, said in (("[", "is not JSON"), ("[]", "at least one object"), ("{}", "a list of"),
                       ("[3]", "entry 0: 3 is not an object")):
        path.write_text(text)
        assert said in submission.check("youtube_vis", source, path)[0]
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as packed:
        packed.writestr("folder/results.json", json.dumps(entries(archive)))
        packed.writestr("more", "")
    assert submission.check("youtube_vis", source, tmp_path / "deep.zip") == [
        "the zip must hold results.json only, it holds folder/results.json, more"]
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as packed:
        packed.writestr("result.json", "[]")
    with pytest.raises(ValueError, match=r"other\.zip holds no results\.json, only result\.json"):
        submission.check("youtube_vis", source, tmp_path / "other.zip")
    with pytest.raises(ValueError, match=r"absent\.zip cannot be read"):
        submission.check("youtube_vis", source, tmp_path / "absent.zip")


def test_bad_predictions_leave_nothing(source, tmp_path):
    for changed, said in (
        ({"segmentations": [None]}, "has 1 problem:\nentry 1: the segmentations are 1"),
        ({"category": "cow"}, "has no category 'cow'; the model was trained for others"),
        ({"score": float("nan")}, "the score is nan"),
    ):
        with pytest.raises(ValueError, match=said):
            submission.write("youtube_vis", source, predictions(**changed), tmp_path / "out")
    with pytest.raises(ValueError, match="has no video cow; the dataset is another split"):
        submission.write("youtube_vis", source, [("cow", [])], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out.zip").touch()
    with pytest.raises(ValueError, match=r"out\.zip exists already"):
        submission.write("youtube_vis", source, predictions(), tmp_path / "out")
    with pytest.raises(ValueError, match="no annotation file of test, only of valid"):
        submission.wanted("youtube_vis", source, "test")
    with pytest.raises(ValueError, match=r"no kind .avis. of submission; .* youtube_vis, ovis"):
        submission.wanted("avis", source)


def test_command(source, archive, tmp_path, capsys):
    arguments = ["check", "--kind", "youtube_vis", "--source", str(source)]
    assert main([*arguments, str(archive)]) == 0
    assert capsys.readouterr().out == f"{archive} is complete\n"
    (tmp_path / "results.json").write_text("[{}]")
    assert main([*arguments, str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out.startswith("entry 0: the category_id is None") and "has 3 problems" in said.err
