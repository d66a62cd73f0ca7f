import dataclasses
import json
import subprocess
import sys
from typing import Literal

import pytest
from archives import davis_2017

from vseg_jax.input_pipeline.builders import BUILDERS, files, parse_options, prepare, verify
from vseg_jax.input_pipeline.builders.__main__ import main


@dataclasses.dataclass(frozen=True)
class Options:
    year: Literal[2016, 2017] = 2017
    size: tuple[int, int] = (1, 2)
    names: tuple[str, ...] = ()
    count: int = 3
    share: float = 0.5
    on: bool = False
    path: str = ""


def test_options_from_a_config_and_from_the_command_line_are_the_same():
    typed = {"year": 2016, "size": [3, 4], "names": ("a", "b"), "count": 5, "share": 1,
             "on": True, "path": "7"}
    spelled = {"year": "2016", "size": "3,4", "names": "a,b", "count": "5", "share": "1",
               "on": "true", "path": "7"}
    expected = Options(2016, (3, 4), ("a", "b"), 5, 1.0, True, "7")
    assert parse_options(Options, typed, "toy") == expected
    assert parse_options(Options, spelled, "toy") == expected


@pytest.mark.parametrize(("options", "message"), [
    ({"yaer": 2016}, "toy has no option 'yaer'; did you mean 'year'?"),
    ({"zzz": 1}, "known are: count, names, on, path, share, size, year"),
    ({"year": 2018}, "option 'year' of toy is 2018; it must be one of 2016, 2017"),
    ({"size": (1, 2, 3)}, "option 'size' of toy needs 2 values"),
    ({"names": 3}, "needs values separated by commas, got 3"),
    ({"count": 1.5}, "option 'count' of toy needs int, got 1.5"),
    ({"count": True}, "option 'count' of toy needs int, got True"),
    ({"share": "half"}, "option 'share' of toy needs float, got 'half'"),
    ({"on": "yes"}, "option 'on' of toy needs bool, got 'yes'"),
    ({"path": 7}, "option 'path' of toy needs str, got 7"),
])
def test_bad_options(options, message):
    with pytest.raises(ValueError) as error:
        parse_options(Options, options, "toy")
    assert message in str(error.value)


def test_prepared_once_and_then_without_the_source(tmp_path, capsys):
    source = davis_2017(tmp_path / "davis", {"val": ["car"]})
    folder = prepare("davis", source, tmp_path / "p")
    assert "building" in capsys.readouterr().out
    before = sorted((p, p.stat().st_mtime_ns) for p in folder.iterdir())
    source.rename(tmp_path / "gone")
    assert prepare("davis", source, tmp_path / "p") == folder
    assert "building" not in capsys.readouterr().out
    assert sorted((p, p.stat().st_mtime_ns) for p in folder.iterdir()) == before


def test_folders_differ_by_options_and_by_what_option_files_hold(tmp_path):
    source = davis_2017(tmp_path / "davis", {"val": ["car"]})
    (source / "ImageSets/2016").mkdir()
    (source / "ImageSets/2016/val.txt").write_text("car\n")
    queries = tmp_path / "queries.json"

    def folder(options):
        return prepare("davis", source, tmp_path / "p", options)

    queries.write_text('{"car": {"plain": {"1": ["a car"]}}}')
    first = folder({"queries": str(queries)})
    copy = tmp_path / "copy.json"
    copy.write_text(queries.read_text())
    assert folder({"queries": str(copy)}) == first
    queries.write_text('{"car": {"plain": {"1": ["a bus"]}}}')
    second = folder({"queries": str(queries)})
    assert len({first, second, folder({"year": 2016}), folder({})}) == 4
    assert folder({"year": 2017}) == folder({})


@pytest.mark.parametrize("source", ["", "/nowhere"])
def test_no_source(tmp_path, source):
    with pytest.raises(ValueError, match=r"davis: .*nothing is prepared .*datasets/davis"):
        prepare("davis", source, tmp_path / "p")
    with pytest.raises(ValueError, match="davis: "):
        verify("davis", source)


def test_unknown_dataset(tmp_path):
    with pytest.raises(ValueError, match="there is no dataset 'davos'; did you mean 'davis'"):
        prepare("davos", "", tmp_path)


def test_command_line(tmp_path, capsys):
    source = davis_2017(tmp_path / "davis", {"val": ["car"]})
    common = ["davis", "--source", str(source)]
    assert main(["verify", *common]) == 1
    assert "problem: val lists 1 sequences; the official list has 30" in capsys.readouterr().out
    prepared = ["--prepared", str(tmp_path / "p")]
    assert main(["prepare", *common, *prepared, "--option", "year=2017"]) == 0
    assert (tmp_path / "p/davis/default").is_dir()
    assert main(["prepare", *common, *prepared, "--option", "year"]) == 2
    assert "error: --option must be KEY=VALUE, got 'year'" in capsys.readouterr().err
    assert main(["prepare", *common, *prepared, "--option", "year=1999"]) == 2
    assert "must be one of 2016, 2017" in capsys.readouterr().err


def test_faulty_videos_on_the_command_line(tmp_path, capsys):
    source = davis_2017(tmp_path / "davis", {"val": ["car", "dog", "owl"]})
    command = ["prepare", "davis", "--source", str(source), "--prepared", str(tmp_path / "p")]
    broken = next((source / "Annotations/480p/dog").iterdir())
    broken.write_bytes(b"no image")
    assert main(command) == 2
    assert f"error: {broken} cannot be read as an image" in (said := capsys.readouterr().err)
    assert "The 1 videos before it are kept in" in said and "--skip_faulty" in said
    assert main([*command, "--skip_faulty"]) == 0
    assert "1 of 3 videos are left out, listed in skipped.json; the first: " in (
        capsys.readouterr().out)
    folder = tmp_path / "p/davis/default/1.0.0"
    assert [row["number"] for row in json.loads((folder / "skipped.json").read_text())] == [2]


def test_shards_on_the_command_line(tmp_path, capsys):
    source = davis_2017(tmp_path / "davis", {"val": ["car", "dog", "owl"]})
    command = ["prepare", "davis", "--source", str(source), "--prepared", str(tmp_path / "p")]
    assert main([*command, "--shard", "2/2"]) == 0
    assert "shard 2 of 2: 1 videos are converted, 0 are faulty; when all shards are done, the " in (
        capsys.readouterr().out)
    assert main([*command, "--shard", "1/2"]) == 0 and main(command) == 0
    folder = tmp_path / "p/davis/default/1.0.0"
    whole = prepare("davis", source, tmp_path / "whole")
    for path in (folder, whole):
        assert path.is_dir()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in whole.iterdir()}
    assert main([*command, "--shard", "1/2"]) == 0
    assert "is prepared already" in capsys.readouterr().out
    for wrong, message in (("0/2", "must be from 1/2 to 2/2"), ("3/2", "must be from 1/2 to 2/2"),
                           ("2", "--shard must be I/N"), ("a/b", "--shard must be I/N")):
        assert main([*command, "--shard", wrong]) == 2
        assert message in capsys.readouterr().err


def test_readers_are_imported_only_where_they_are_used():
    code = (
        "import importlib, sys\n"
        "from vseg_jax.input_pipeline.builders import BUILDERS\n"
        "[importlib.import_module(m) for m in BUILDERS.values()]\n"
        "print([m for m in ('h5py', 'scipy', 'av', 'tensorflow') if m in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip().endswith("[]"), ran.stdout


def test_a_missing_reader_names_the_extra():
    with pytest.raises(ImportError, match=r"pip install 'vseg_jax\[data\]'"):
        files.require("no_such_reader")


def test_every_builder_has_the_same_interface():
    import importlib

    for name, path in BUILDERS.items():
        module = importlib.import_module(path)
        assert module.Builder.name == name
        assert module.Options() == parse_options(module.Options, {}, name)


def test_a_refused_build_leaves_no_folders(tmp_path):
    source = tmp_path / "empty"
    source.mkdir()
    with pytest.raises(ValueError, match="is not the folder of DAVIS"):
        prepare("davis", source, tmp_path / "a/b")
    assert list(tmp_path.iterdir()) == [source]
    kept = tmp_path / "a/b/davis/other"
    kept.mkdir(parents=True)
    with pytest.raises(ValueError, match="is not the folder of DAVIS"):
        prepare("davis", source, tmp_path / "a/b")
    assert list((tmp_path / "a/b/davis").iterdir()) == [kept]
