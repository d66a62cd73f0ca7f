"""Refer-YouTube-VOS: written from predictions, accepted by the check, every problem named."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from standin_segmenter import StandinSegmenter

from vseg_jax import submission
from vseg_jax.input_pipeline import builders
from vseg_jax.submission.__main__ import main

KIND = "refer_youtube_vos"
SIZE = (12, 16)
FRAMES = (0, 5, 10)
EXPRESSIONS = {"cat": ("a cat", "the dog"), "owl": ("an owl",)}
GRAYS = {"a cat": 40, "the dog": 90, "an owl": 90}


def truth(video, number, t):
    mask = np.zeros(SIZE, bool)
    mask[2:6, t // 5:t // 5 + 4] = True
    return mask if (video, number) == ("cat", 0) else ~mask


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two videos of valid, a third of test, and a frame that is not listed."""
    root = tmp_path_factory.mktemp("source")
    for video in (*EXPRESSIONS, "tested"):
        folder = root / "valid" / "JPEGImages" / video
        folder.mkdir(parents=True)
        for t in (*FRAMES, 15):
            gray = np.where(truth("cat", 0, t), 40, 90).astype(np.uint8)
            Image.fromarray(np.repeat(gray[..., None], 3, -1)).save(
                folder / f"{t:05d}.jpg", format="PNG")   # so that grays stay what they are
    said = {video: {"frames": [f"{t:05d}" for t in FRAMES],
                    "expressions": {str(k): {"exp": text} for k, text in enumerate(texts)}}
            for video, texts in (*EXPRESSIONS.items(), ("tested", ("a fish",)))}
    for split, videos in (("valid", said), ("test", {"tested": said["tested"]})):
        path = root / "meta_expressions" / split / "meta_expressions.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"videos": videos}))
    return root


def predictions():
    for video, texts in EXPRESSIONS.items():
        for k in range(len(texts)):
            yield f"{video}/{k}", ((i, truth(video, k, t)) for i, t in enumerate(FRAMES))


@pytest.fixture
def written(source, tmp_path):
    submission.write(KIND, source, predictions(), tmp_path / "written")
    return tmp_path / "written"


def test_what_is_written_has_the_servers_layout(written, source):
    names = [f"Annotations/{video}/{k}/{t:05d}.png"
             for video, texts in EXPRESSIONS.items() for k in range(len(texts)) for t in FRAMES]
    with zipfile.ZipFile(f"{written}.zip") as packed:
        assert sorted(packed.namelist()) == names
    with Image.open(written / "Annotations" / "cat" / "1" / "00005.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), 255 * truth("cat", 1, 5))
    assert submission.check(KIND, source, f"{written}.zip") == []


def test_every_problem_is_listed(written, source):
    folder = written / "Annotations"
    (folder / "cat" / "0" / "00000.png").unlink()
    Image.fromarray(np.ones(SIZE, np.uint8)).save(folder / "cat" / "0" / "00005.png")
    Image.fromarray(np.zeros(SIZE, np.uint8), "P").save(folder / "cat" / "0" / "00010.png")
    shutil.rmtree(folder / "cat" / "1")
    Image.fromarray(np.zeros((16, 12), np.uint8)).save(folder / "owl" / "0" / "00005.png")
    shutil.copytree(folder / "owl" / "0", folder / "owl" / "1")
    found = submission.check(KIND, source, written)
    assert found == [
        "Annotations/cat/0/00000.png: missing",
        "Annotations/cat/1: missing, with its 3 frames",
        *(f"Annotations/owl/1/{t:05d}.png: unexpected, the frame or video is not in the valid split"
          for t in FRAMES),
        "Annotations/cat/0/00005.png: has the values 1; it must have 0 and 255 only",
        "Annotations/cat/0/00010.png: is a PNG of mode P; it must be a PNG of mode L, with the "
        "values 0 and 255",
        "Annotations/owl/0/00005.png: is 12 x 16, but the frame is 16 x 12",
    ]


def test_missing_frames(source, tmp_path):
    copy = tmp_path / "source"
    shutil.copytree(source, copy)
    (copy / "valid" / "JPEGImages" / "owl" / "00010.jpg").unlink()
    assert submission.wanted(KIND, copy)["owl/0"].frames == ("00000", "00005", "00010")
    shutil.rmtree(copy / "valid" / "JPEGImages" / "owl")
    with pytest.raises(ValueError, match=r"owl/00000\.jpg cannot be read as an image"):
        submission.wanted(KIND, copy)
    assert list(submission.wanted(KIND, copy, "test")) == ["tested/0"]


def test_command_that_writes(source, tmp_path, monkeypatch, capsys):
    prepared = builders.prepare(KIND, source, tmp_path / "data")
    monkeypatch.setattr("vseg_jax.inference.segmenter.load", lambda path: StandinSegmenter(GRAYS))
    assert main(["write", "--kind", KIND, "--source", str(source), "--checkpoint", "run",
                      "--prepared", str(prepared), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path / 'out'}.zip"
    for video, k, t in (("cat", 0, 10), ("cat", 1, 0), ("owl", 0, 5)):
        with Image.open(tmp_path / f"out/Annotations/{video}/{k}/{t:05d}.png") as image:
            np.testing.assert_array_equal(np.asarray(image) > 0, truth(video, k, t))
