"""Submissions of index PNGs: written from predictions, checked, with every problem named."""

import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from standin_follower import Follower

from vseg_jax import submission
from vseg_jax.input_pipeline import builders
from vseg_jax.input_pipeline.records import open_dataset
from vseg_jax.submission.__main__ import main

SIZE = (12, 16)
KINDS = ("davis", "youtube_vos")   # of masks
VIDEOS = {"cat": 4, "dog": 3}   # frames


def mask(*ids, size=SIZE):
    index = np.zeros(size, np.uint8)
    for k, number in enumerate(ids):
        index[2 * k:2 * k + 2, 2:9] = number
    return index


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if path.suffix == ".png":
        image.putpalette([0, 0, 0, 128, 0, 0] * 128)
    image.save(path)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Both downloads with two videos: a cat with ids 1 and 2, a dog with the id 3."""
    root = tmp_path_factory.mktemp("sources")
    frame = np.full((*SIZE, 3), 90, np.uint8)
    for t in range(4):
        for name, count in VIDEOS.items():
            if t < count:
                save(root / "davis" / "JPEGImages" / "480p" / name / f"{t:05d}.jpg", frame)
                save(root / "youtube_vos" / "valid" / "JPEGImages" / name / f"{5 * t:05d}.jpg",
                     frame)
    for name, ids in (("cat", (1, 2)), ("dog", (3,))):
        save(root / "davis" / "Annotations" / "480p" / name / "00000.png", mask(*ids))
    (root / "davis" / "ImageSets" / "2017").mkdir(parents=True)
    (root / "davis" / "ImageSets" / "2017" / "test-dev.txt").write_text("cat\ndog\n")
    given = root / "youtube_vos" / "valid" / "Annotations"
    save(given / "cat" / "00000.png", mask(1))
    save(given / "cat" / "00010.png", mask(0, 2))   # enters later
    save(given / "dog" / "00000.png", mask(3))
    objects = {"cat": {"1": ["00000"], "2": ["00010"]}, "dog": {"3": ["00000"]}}
    (root / "youtube_vos" / "valid" / "meta.json").write_text(json.dumps({"videos": {
        name: {"objects": {i: {"category": "x", "frames": f} for i, f in found.items()}}
        for name, found in objects.items()}}))
    return root


def predictions(**changed):
    """The predictions for two videos; a generator for each, as the segmenter yields them."""
    for name, count in VIDEOS.items():
        masks = [mask(1, 2) if name == "cat" else mask(3)] * count
        yield name, enumerate(changed.get(name, masks))


@pytest.fixture
def written(sources, tmp_path):
    """A complete submission of each kind: {kind: folder}."""
    for kind in KINDS:
        submission.write(kind, sources / kind, predictions(), tmp_path / kind)
    return {kind: tmp_path / kind for kind in KINDS}


def test_what_is_written_has_the_servers_layout_and_names(written, sources):
    names = {kind: sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
             for kind, folder in written.items()}
    assert names["davis"] == [f"cat/{t:05d}.png" for t in range(4)] + [
        f"dog/{t:05d}.png" for t in range(3)]
    assert names["youtube_vos"] == [f"Annotations/cat/{t:05d}.png" for t in (0, 5, 10, 15)] + [
        f"Annotations/dog/{t:05d}.png" for t in (0, 5, 10)]
    for kind, folder in written.items():
        with zipfile.ZipFile(f"{folder}.zip") as packed:
            assert sorted(packed.namelist()) == names[kind]
        assert submission.check(kind, sources / kind, folder) == []
        assert submission.check(kind, sources / kind, f"{folder}.zip") == []
    with Image.open(written["davis"] / "dog" / "00002.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), mask(3))


@pytest.mark.parametrize("kind", KINDS)
def test_every_problem_is_listed(kind, written, sources):
    folder, source = written[kind], sources / kind
    cat = folder / submission.FORMATS[kind].folder / "cat"
    first, second, third, fourth = sorted(cat.iterdir())
    first.unlink()
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(second)
    save(third, mask(1, size=(12, 17)))
    save(fourth, mask(1, 9, 200))
    (cat / "extra.png").write_bytes(b"")
    shutil.rmtree(cat.parent / "dog")
    prefix = f"{submission.FORMATS[kind].folder}cat/"
    found = submission.check(kind, source, folder)
    assert [line.split(": ")[0] for line in found] == [
        prefix + first.name, f"{submission.FORMATS[kind].folder}dog", prefix + "extra.png",
        prefix + second.name, prefix + third.name, prefix + fourth.name]
    for line, said in zip(found, (
        "missing", "missing, with its 3 frames", "unexpected", "is a PNG of mode RGB",
        "is 17 x 12, but the frame is 16 x 12",
        "has the ids 9, 200, but the masks of the download have 1, 2",
    ), strict=True):
        assert said in line
    second.write_bytes(second.read_bytes()[:50])
    assert any(second.name in line and "cannot be read" in line
               for line in submission.check(kind, source, folder))
    Image.fromarray(mask(1)).save(second, format="JPEG")
    assert any(f"{second.name}: is a JPEG of mode L" in line
               for line in submission.check(kind, source, folder))


def test_a_zip_with_a_folder_around_it(written, sources, tmp_path):
    with zipfile.ZipFile(tmp_path / "around.zip", "w") as packed:
        for path in written["davis"].rglob("*.png"):
            packed.write(path, path.relative_to(tmp_path))
    found = submission.check("davis", sources / "davis", tmp_path / "around.zip")
    assert found[:2] == ["cat: missing, with its 4 frames", "dog: missing, with its 3 frames"]
    assert found[2].startswith("davis/cat/00000.png: unexpected")
    (tmp_path / "around.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"around\.zip cannot be read as a zip"):
        submission.check("davis", sources / "davis", tmp_path / "around.zip")
    with pytest.raises(ValueError, match="there is no submission"):
        submission.check("davis", sources / "davis", tmp_path / "absent.zip")


def test_bad_predictions_leave_nothing(sources, tmp_path):
    for changed, said in (
        (dict(cat=[mask(1)] * 3), r"has 1 problem:\ncat/00003.png: missing"),
        (dict(cat=[mask(1)] * 5), "has 4 frames of cat, but the dataset has more"),
        (dict(dog=[mask(1)] * 3), "has the ids 1, but the masks of the download have 3"),
        (dict(dog=[mask(3, size=(6, 8))] * 3), "8 x 6, but the frame is 16 x 12"),
    ):
        with pytest.raises(ValueError, match=said):
            submission.write("davis", sources / "davis", predictions(**changed), tmp_path / "out")
    with pytest.raises(ValueError, match="has no video cow; the dataset is another split"):
        submission.write("davis", sources / "davis", [("cow", [])], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out.zip").touch()
    with pytest.raises(ValueError, match=r"out\.zip exists already"):
        submission.write("davis", sources / "davis", predictions(), tmp_path / "out")
    with pytest.raises(ValueError, match=r"no list of val, only of test-dev"):
        submission.wanted("davis", sources / "davis", "val")
    with pytest.raises(ValueError, match=r"no kind 'avis' of submission; known are davis"):
        submission.wanted("avis", sources / "davis")


def test_command(written, sources, capsys):
    arguments = ["check", "--kind", "davis", "--source", str(sources / "davis")]
    assert main([*arguments, f"{written['davis']}.zip"]) == 0
    assert capsys.readouterr().out == f"{written['davis']}.zip is complete\n"
    (written["davis"] / "cat" / "00002.png").unlink()
    done = subprocess.run([sys.executable, "-m", "vseg_jax.submission", *arguments,
                           str(written["davis"])], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == "cat/00002.png: missing\n"
    assert done.stderr == f"error: {written['davis']} has 1 problem\n"
    assert main([*arguments[:-1], str(sources), str(written["davis"])]) == 2
    assert capsys.readouterr().err.startswith("error: no list of sequences in")


@pytest.mark.parametrize("kind", KINDS)
def test_command_that_writes(kind, sources, tmp_path, monkeypatch, capsys):
    options = {"dev": 0} if kind == "youtube_vos" else {}
    prepared = builders.prepare(kind, sources / kind, tmp_path / "data", options)
    assert len(open_dataset(prepared, submission.FORMATS[kind].split)) == 2
    monkeypatch.setattr("vseg_jax.inference.segmenter.load", lambda path: Follower(copies=True))
    assert main(["write", "--kind", kind, "--source", str(sources / kind), "--checkpoint",
                      "run", "--prepared", str(prepared), str(tmp_path / "out")]) == 0
    archive = capsys.readouterr().out.splitlines()[-1]
    assert archive == f"{tmp_path / 'out'}.zip"
    assert submission.check(kind, sources / kind, archive) == []
