"""Conversions that stop, are killed, meet faulty videos, or are made in parts."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from toy_dataset import ToyBuilder, toy_record

from vseg_jax.input_pipeline.records import open_dataset
from vseg_jax.input_pipeline.unread import Unread, fingerprint

HERE = Path(__file__)


def read(path, seconds=0.0):
    """A record of a text file with a number; "broken" is a fault."""
    time.sleep(seconds)
    text = path.read_text()
    with open(path.with_name("read"), "a") as file:
        print(path.stem, file=file)
    if text == "broken":
        raise ValueError(f"{path} cannot be read")
    return toy_record(int(text)), {"text": text}


class Texts(ToyBuilder):
    """Records of the files <split>-<n>.txt in the source."""

    name = "toy"
    seconds = 0.0

    def splits(self):
        found = sorted(self.source.glob("*.txt"))
        return {split: [Unread(read, path, self.seconds, depends_on=path) for path in found
                        if path.stem.startswith(split)] for split in ("train", "valid")}

    def conclude(self, split, notes):
        print(f"{split}: {' '.join(note['text'] for note in notes)}")


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(5):
        (folder / f"train{number}.txt").write_text(str(number))
    (folder / "valid0.txt").write_text("9")
    return folder


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def reads(source):
    """What was read since the last call."""
    path = source / "read"
    names = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def folders(prepared):
    return sorted(path.name for path in (prepared / "toy/default").iterdir())


def test_a_build_that_fails_goes_on_where_it_stopped(source, tmp_path, capsys):
    whole = Texts(source, tmp_path / "whole").build()
    said = capsys.readouterr().out
    assert "train: 0 1 2 3 4\nvalid: 9\n" in said
    assert reads(source) == ["train0", "train1", "train2", "train3", "train4", "valid0"]
    (source / "train3.txt").write_text("broken")
    with pytest.raises(ValueError, match=r"train3.txt cannot be read. The 3 videos before it are "
                                         r"kept in .*1\.0\.0\.partial: the same command resumes"):
        Texts(source, tmp_path / "p").build()
    assert reads(source)[-1] == "train3" and folders(tmp_path / "p") == ["1.0.0.partial"]
    with pytest.raises(ValueError, match=r"half-built \(left over: .*partial\)"):
        open_dataset(tmp_path / "p/toy/default/1.0.0", "train")
    (source / "train3.txt").write_text("3")
    capsys.readouterr()
    folder = Texts(source, tmp_path / "p").build()
    assert reads(source) == ["train3", "train4", "valid0"]
    assert content(folder) == content(whole) and folders(tmp_path / "p") == ["1.0.0"]
    assert capsys.readouterr().out == said.replace("whole", "p")


def test_what_has_changed_is_read_again(source, tmp_path):
    (source / "valid0.txt").write_text("broken")
    with pytest.raises(ValueError, match="The 5 videos"):
        Texts(source, tmp_path / "p").build()
    (source / "valid0.txt").write_text("9")
    (source / "train1.txt").write_text("7")
    (source / "train2.txt").unlink()
    reads(source)
    dataset = open_dataset(Texts(source, tmp_path / "p").build(), "train")
    assert reads(source) == ["train1", "valid0"]
    assert [entry.video_id for entry in dataset.index] == ["toy-0", "toy-7", "toy-3", "toy-4"]


def test_a_damaged_file_is_written_again(source, tmp_path):
    (source / "valid0.txt").write_text("broken")
    with pytest.raises(ValueError, match="The 5 videos"):
        Texts(source, tmp_path / "p").build()
    (source / "valid0.txt").write_text("9")
    for number, path in enumerate(sorted((tmp_path / "p/toy/default/1.0.0.partial").iterdir())):
        data = bytearray(path.read_bytes())
        path.write_bytes(data[:-7] if number else b"")
    folder = Texts(source, tmp_path / "p").build()
    assert content(folder) == content(Texts(source, tmp_path / "whole").build())


def test_a_build_that_fails_at_once_leaves_nothing_behind(source, tmp_path):
    (source / "train0.txt").write_text("broken")
    with pytest.raises(ValueError, match=r"train0.txt cannot be read$"):
        Texts(source, tmp_path / "a/b").build()
    assert not (tmp_path / "a").exists()


def test_faulty_videos_are_left_out_and_listed(source, tmp_path, capsys):
    for name in ("train0", "train3"):
        (source / f"{name}.txt").write_text("broken")
    folder = Texts(source, tmp_path / "p").build(skip_faulty=True)
    assert "warning: toy: 2 of 6 videos are left out, listed in skipped.json; the first: " in (
        capsys.readouterr().out)
    assert json.loads((folder / "skipped.json").read_text()) == [
        {"split": "train", "number": number, "fault": f"{source / f'train{number - 1}.txt'} cannot "
         "be read"} for number in (1, 4)]
    names = [entry.video_id for entry in open_dataset(folder, "train").index]
    assert names == ["toy-1", "toy-2", "toy-4"] and len(open_dataset(folder, "valid")) == 1
    for name in ("train0", "train3"):
        (source / f"{name}.txt").unlink()
    without = content(Texts(source, tmp_path / "without").build())
    assert {k: v for k, v in content(folder).items() if k != "skipped.json"} == without


def test_a_split_without_a_whole_video_is_an_error(source, tmp_path):
    (source / "valid0.txt").write_text("broken")
    with pytest.raises(ValueError, match=r"toy valid: all 1 videos are faulty, the first: .*0.txt"):
        Texts(source, tmp_path / "p").build(skip_faulty=True)
    (source / "valid0.txt").write_text("9")
    reads(source)
    Texts(source, tmp_path / "p").build()
    assert reads(source) == ["valid0"]


@pytest.mark.parametrize("parts", [1, 3, 8])
def test_parts_together_are_the_whole(source, tmp_path, parts):
    whole = content(Texts(source, tmp_path / "whole").build())
    reads(source)
    kept = [Texts(source, tmp_path / "p").keep(part, parts)[0] for part in range(parts, 0, -1)]
    assert sum(kept) == 6 and max(kept) - min(kept) <= 1 and len(reads(source)) == 6
    assert content(Texts(source, tmp_path / "p").build()) == whole
    assert reads(source) == [] and folders(tmp_path / "p") == ["1.0.0"]


def test_a_part_goes_on_after_a_faulty_video(source, tmp_path):
    (source / "train2.txt").write_text("broken")
    with pytest.raises(ValueError, match="train2"):
        Texts(source, tmp_path / "p").keep(1, 2)
    assert Texts(source, tmp_path / "p").keep(1, 2, skip_faulty=True) == (2, 1)


@pytest.mark.parametrize("after", [0, 3])
def test_a_killed_build_goes_on_where_it_stopped(source, tmp_path, after):
    whole = content(Texts(source, tmp_path / "whole").build())
    reads(source)
    program = ("import sys; sys.path[:0] = sys.argv[1:3]; from test_unread import Texts;"
               "Texts.seconds = 0.2; Texts(sys.argv[3], sys.argv[4]).build()")
    helpers = HERE.parents[1] / "helpers"
    running = subprocess.Popen([sys.executable, "-c", program, str(HERE.parent), str(helpers),
                                str(source), str(tmp_path / "p")], stderr=subprocess.DEVNULL)
    kept = tmp_path / "p/toy/default/1.0.0.partial"
    while sum(path.is_file() for path in kept.glob("*")) < after + 1:
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    reads(source)
    folder = Texts(source, tmp_path / "p").build()
    assert len(reads(source)) < 6 - after and content(folder) == whole
    assert folders(tmp_path / "p") == ["1.0.0"]


def test_what_a_killed_writer_left_is_removed(source, tmp_path):
    stopped = tmp_path / "p/toy/default/incomplete.AB12CD_1.0.0"
    stopped.mkdir(parents=True)
    (stopped / "dataset_info.json").write_text("{}")
    Texts(source, tmp_path / "p").build()
    assert folders(tmp_path / "p") == ["1.0.0"]


def test_the_name_of_a_record_follows_what_it_depends_on(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Video:
        frames: dict[int, Path]
        size: tuple[int, int] = (2, 3)
        shown: frozenset[str] = frozenset("abc")

    def name(video, source=tmp_path):
        return fingerprint(video, source)

    frame = tmp_path / "a/0.jpg"
    frame.parent.mkdir()
    frame.write_bytes(b"12")
    os.utime(frame, (1, 1))
    video = Video({0: frame})
    first = name(video)
    assert first == name(Video({0: frame})) != name(Video({1: frame}))
    assert first != name(dataclasses.replace(video, size=(3, 2)))
    os.utime(frame, (1, 2))
    changed = name(video)
    assert changed != first
    frame.write_bytes(b"123")
    os.utime(frame, (1, 2))
    assert name(video) != changed
    before = name(frame.parent)
    (frame.parent / "1.jpg").write_bytes(b"")
    assert name(frame.parent) != before
    assert name(np.arange(3)) == name([0, 1, 2]) != name(np.arange(4))
    with pytest.raises(TypeError, match="object is not a plain value"):
        name(object())


def test_a_moved_source_is_the_same(source, tmp_path):
    (source / "valid0.txt").write_text("broken")
    with pytest.raises(ValueError, match="The 5 videos"):
        Texts(source, tmp_path / "p").build()
    moved = source.rename(tmp_path / "moved")
    (moved / "valid0.txt").write_text("9")
    reads(moved)
    Texts(moved, tmp_path / "p").build()
    assert reads(moved) == ["valid0"]
