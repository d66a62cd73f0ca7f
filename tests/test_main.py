"""The command line, whole: a small run from training to an export, and what bad input says."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from commandline import SMALL_QUICKSTART as SMALL
from commandline import command, contents, refused
from PIL import Image

import vseg_jax
from vseg_jax import cli
from vseg_jax.export.stream import Stream
from vseg_jax.media.video import VideoWriter
from vseg_jax.tools import qvim_figures as qvim_analysis

pytest.importorskip("av")

ROOT = Path(__file__).parents[1]
QUICKSTART = str(ROOT / "configs" / "quickstart.py")
QVIM = str(ROOT / "configs" / "qvim.py")
LIMIT = 12  # words
FRAMES = 24  # of the video


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(workdir, arguments that name it, stdout and stderr of the training)."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["--config", QUICKSTART, "--workdir", folder / "run",
                 f"--config.data.prepared={folder / 'data'}", *SMALL,
                 "--config.evaluation.overlay_clips=1"]
    code, out, err = command(*arguments)
    assert code == 0, err
    return folder / "run", arguments, out + err


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path, noise = tmp_path_factory.mktemp("video") / "clip.mp4", np.random.default_rng(0)
    with VideoWriter(path, 10.0) as writer:
        for t in range(FRAMES):
            frame = noise.integers(0, 90, (24, 40, 3), np.uint8)
            frame[6:16, 2 + t : 14 + t] = (230, 30, 30)
            writer.add(frame)
    return path


def test_training_leaves_all_that_it_promises(trained):
    workdir, _, said = trained
    assert "starting at step 0 of 2" in said and "mean_iou" in said
    results = json.loads((workdir / "metrics.json").read_text())
    assert sorted(results) == ["source", "source_shuffled_expressions", "target"]
    assert all(0 <= result["mean_iou"] <= 1 for result in results.values())
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [(x["step"], x["kind"]) for x in lines] == [
        (1, "train"), (2, "train"), (2, "evaluation")]
    assert Image.open(workdir / "overview.png").width > 800
    config = json.loads((workdir / "config.json").read_text())
    assert config["clip"]["length"] == config["model"]["clip_length"] == 2  # one follows
    assert config["train"]["steps"] == config["model"]["total_steps"] == 2
    assert config["model"]["decoder_channels"] == [4] * 5
    assert config["model"]["contrast_dim"] == 128, "with the keys that nobody set"


def test_the_last_lines_of_a_training_say_what_it_showed_and_how_to_go_on(trained, tmp_path):
    workdir, _, said = trained
    for part in ("\n- source: ", "\n- target (a domain not seen in training): ",
                 "with the expressions of other objects", "  overview.png ", "  overlay.mp4 "):
        assert part in said
    (line,) = [line for line in said.splitlines() if " predict --workdir" in line]
    words = shlex.split(line)
    assert Path(words[0]).name == "vseg" and words[-1] == str(workdir / "example")
    assert cli.main([*words[1:-1], str(tmp_path / "masks")]) == 0
    assert (tmp_path / "masks" / "overlay.mp4").is_file()


def test_a_finished_run_says_so_and_scores_the_same_later(trained):
    workdir, arguments, _ = trained
    results = (workdir / "metrics.json").read_bytes()
    code, _, err = command(*arguments)
    assert code == 0 and "is finished: step 2 of 2" in err
    code, out, _ = command(*arguments, "--mode", "evaluate", "--config.evaluation.save=True")
    assert code == 0 and "source_shuffled_expressions" in out
    for name, result in json.loads(results).items():
        again = json.loads((workdir / "evaluations" / f"{name}.json").read_text())
        assert again["mean_iou"] == pytest.approx(result["mean_iou"], abs=1e-4)
        assert (workdir / "evaluations" / name / "predictions.json").is_file()
    assert (workdir / "metrics.json").read_bytes() == results


def test_prediction_cuts_a_query_over_the_limit_and_names_the_lost_words(trained, video, tmp_path):
    query = " ".join(["the red square that moves to the right"] * 2)
    code, out, err = command("--workdir", trained[0], "--mode=predict", "--video", video, "--query",
                             query, "--output", tmp_path / "masks")
    assert code == 0 and f"wrote {tmp_path / 'masks'}" in out
    warnings = [x for x in err.splitlines() if x.startswith("warning: ")]
    assert any(f"longer than {LIMIT} tokens; cut off: 'moves to the right'" in x for x in warnings)
    table = json.loads((tmp_path / "masks" / "predictions.json").read_text())
    assert [row["frame"] for row in table["frames"]] == list(range(FRAMES))
    assert (table["height"], table["width"]) == (24, 40)
    assert len(list((tmp_path / "masks" / "masks").glob("*.png"))) == FRAMES


def test_the_folder_of_the_best_checkpoint_takes_the_tokenizer_of_its_run(trained, tmp_path):
    shutil.copytree(trained[0] / "checkpoints", tmp_path / "best" / "checkpoints")
    with pytest.raises(ValueError, match="best has no folder tokenizer/; copy it"):
        vseg_jax.load(tmp_path / "best")
    shutil.copytree(trained[0] / "tokenizer", tmp_path / "tokenizer")
    query = "the red square"
    found = [vseg_jax.load(folder).engine.tokenizer.encode(query)[0].tolist()
             for folder in (tmp_path / "best", trained[0])]
    assert found[0] == found[1]


def test_a_second_model_follows_what_the_query_names(trained, video, tmp_path):
    settings = ["--workdir", trained[0], "--mode=predict", "--video", video, "--query",
                "the red square", "--output", tmp_path / "masks"]
    code, out, err = command(*settings, "--follow=swiftnet-lite0", "--short_side=48")
    assert code == 0 and f"wrote {tmp_path / 'masks'}" in out, err
    table = json.loads((tmp_path / "masks" / "predictions.json").read_text())
    assert table["query"] == "the red square" and table["found"]["frame"] < FRAMES
    assert [row["frame"] for row in table["frames"]] == list(range(FRAMES))
    error = refused(*settings[:-1], tmp_path / "other", "--follow", trained[0])
    assert f"--follow {trained[0]}: this model takes a query" in error
    assert "name a model that takes mask prompts, such as swiftnet-lite0" in error


def test_a_video_that_is_cut_off_is_predicted_as_far_as_it_goes(trained, video, tmp_path):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[: int(0.7 * video.stat().st_size)])
    code, _, err = command("--workdir", trained[0], "--mode=predict", "--video", cut, "--query",
                           "the red square", "--output", tmp_path / "masks")
    assert code == 0 and "warning: " in err and "cut off" in err, err
    frames = json.loads((tmp_path / "masks" / "predictions.json").read_text())["frames"]
    assert 0 < len(frames) < FRAMES


def test_where_a_run_points_and_what_qfa_makes_of_it(trained, tmp_path, capsys):
    workdir, _, _ = trained
    dataset, = (p.parent for p in (workdir.parent / "data").rglob("dataset_info.json"))
    opened = ["--dataset", str(dataset), "--split", "target_test", "--output", str(tmp_path)]
    qvim_analysis.main(["pointing", str(workdir), str(workdir), *opened, "--rows", "2"])
    table = json.loads((tmp_path / "pointing.json").read_text())[str(workdir)]
    assert list(table) == ["1", "2", "3", "4", "5"]
    assert table["1"]["samples"] > 2 and 0 < table["1"]["area"] < 0.5
    assert "on the object" in capsys.readouterr().out
    qvim_analysis.main(["augmented", str(workdir), *opened, "--beta", "2", "--rows", "2"])
    shown = json.loads((tmp_path / "augmented.json").read_text())["samples"]
    assert len(shown) == 2 and all(one["rest_kept"] == 0 for one in shown)   # nothing is above 2
    assert {"pointing.png", "augmented.png"} <= {p.name for p in tmp_path.iterdir()}
    with pytest.raises(SystemExit, match=r"^2$"):
        qvim_analysis.main(["augmented", str(tmp_path / "none"), *opened])
    assert "error: there is no folder" in capsys.readouterr().err


def test_an_export_predicts_as_the_run_does(trained, tmp_path):
    code, out, err = command("--workdir", trained[0], "--mode", "export", "--output",
                             tmp_path / "exported")
    assert code == 0 and f"wrote {tmp_path / 'exported'}" in out, err
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    predictions = [list(vseg_jax.load(folder).segment(frames, "a red square"))
               for folder in (trained[0], tmp_path / "exported")]
    for one, other in zip(*predictions, strict=True):
        np.testing.assert_array_equal(one.probability, other.probability)
    stream = Stream(tmp_path / "exported" / "stream")
    tokens, valid = vseg_jax.load(trained[0]).engine.tokenizer.encode("a red square")
    state = stream.start(frames[:1], tokens=tokens[None], tokens_valid=valid[None])
    _, prediction = stream.step(state, frames[1:2])
    probability = 1 / (1 + np.exp(-np.asarray(prediction["logits"][0])))
    wanted = predictions[0][int(prediction["frame"][0])].probability
    np.testing.assert_allclose(probability, wanted, atol=1e-4)


@pytest.mark.parametrize(("arguments", "said"), [
    (["--config.train.stepz=3"], "unknown config key 'config.train.stepz'; did you mean 'steps'?"),
    (["--config.model.chanels=3"], "'config.model.chanels'; did you mean 'channels'?"),
    (["--config.modle.channels=3"], "'config.modle'; did you mean 'model'?"),
    (["--config.train.steps=many"], "'config.train.steps' must be int, got 'many'"),
    (["--config.train.steps"], "'config.train.steps' must be int, got ''"),
    (["--config.model.ca_w=word"], "must be one of 'bilinear', 'words'"),
    (["--config.clip.target=9"], "target is 9"),
    (["--config.system=qvin"], "no model 'qvin'; did you mean 'qvim'?"),
    (["--config.data.name=moving_shape"], "no dataset 'moving_shape'; did you mean"),
    (["--config.data.options.actor=1"],
     "moving_shapes has no option 'actor'; did you mean 'actors'?"),
    (["--config.data.split=trian"], "no split 'trian'"),
    (["--config.evaluation.datasets.target.split=tset"], "no split 'tset'"),
    (["--config.evaluation.datasets.target.styles=('sung',)"], "has no sample with styles"),
    (["--config.evaluation.protocol=davis"], "a model that takes queries is evaluated by 'legacy'"),
    (["--config.model.vocabulary=5"], "token ids, but the model knows 5; raise the vocabulary"),
    (["--config", "configs/quikstart.py"],
     "there is no config 'configs/quikstart.py'; did you mean 'quickstart'?"),
    (["--config", f"{QUICKSTART}:big"], "has no variants, got 'big'"),
    (["--config", f"{QVIM}:a2c"], "qvim has no variant 'a2c'; there are a2d, rvos, davis"),
    (["--config="], "--config is missing"),
    (["--workdir="], "--workdir is missing"),
    (["--mode=trian"], "trian"),
    (["--wrokdir=x"], "Did you mean: workdir"),
    (["train"], "unknown arguments: train"),
    (["--mode=predict"], "--output is missing"),
    (["--mode=export"], "--output is missing"),
    (["--mode=evaluate"], "there is no folder or file"),
])
def test_what_cannot_be_started(arguments, said, tmp_path, trained):
    workdir = tmp_path / "run"
    prepared = trained[0].parent / "data"
    error = refused("--config", QUICKSTART, "--workdir", workdir, *SMALL,
                    f"--config.data.prepared={prepared}", *arguments)
    assert said in error and error.count("\n") == 1
    assert not contents(tmp_path), "nothing is written"


def test_a_dataset_that_is_missing_or_half_extracted(tmp_path):
    def said(*arguments):
        return refused("--workdir", tmp_path / "run", f"--config.data.prepared={tmp_path}/data",
                       f"--config.data.source={tmp_path / 'A2D'}", "--config", *arguments)

    assert "/datasets/a2d_sentences) and give the folder" in said(f"{QVIM}:a2d")
    release = tmp_path / "A2D" / "Release"
    release.mkdir(parents=True)
    assert f"{release / 'videoset.csv'} cannot be read" in said(f"{QVIM}:a2d")
    (release / "videoset.csv").write_text("v1,1,0\n")
    assert f"{release / 'videoset.csv'}, line 1: " in said(f"{QVIM}:a2d")
    assert sorted(contents(tmp_path)) == [Path("A2D/Release/videoset.csv")]


def test_a_workdir_that_is_a_file(trained, tmp_path):
    (tmp_path / "run").write_text("mine")
    error = refused(*trained[1], "--workdir", tmp_path / "run")
    assert str(tmp_path / "run") in error and error.count("\n") == 1
    assert contents(tmp_path) == {Path("run"): b"mine"}


def test_a_picture_that_is_damaged_after_it_was_prepared(trained, tmp_path):
    shutil.copytree(trained[0].parent / "data", tmp_path / "data")
    (shard,) = (tmp_path / "data").rglob("*source_train.array_record*")
    records = ArrayRecordReader(str(shard)).read_all()
    writer = ArrayRecordWriter(str(shard), "group_size:1")
    for record in records:
        writer.write(record.replace(b"\x89PNG", b"\x89PMG"))
    writer.close()
    error = refused(*trained[1], f"--config.data.prepared={tmp_path / 'data'}", "--workdir",
                    tmp_path / "run")
    assert re.search(r"of moving_shapes source_train video \S+ frame \d cannot be decoded", error)
    assert error.count("\n") == 1


def test_a_workdir_of_another_config_stays_as_it_is(trained):
    workdir, arguments, _ = trained
    before = contents(workdir)
    error = refused(*arguments, "--config.train.learning_rate=0.5", "--config.model.queue=16")
    assert "holds a run with a different config" in error
    assert "train.learning_rate: 0.01 there, 0.5 here" in error
    assert "model.queue: 8 there, 16 here" in error
    assert contents(workdir) == before


def test_a_checkpoint_of_another_model_names_what_differs(trained):
    workdir, arguments, _ = trained
    before = contents(workdir)
    error = refused(*arguments, "--mode=evaluate", "--config.model.word_width=9",
                    "--config.model.fuse=conv")
    assert "is of another model" in error and "missing params/" in error
    assert "params/text/embedding/words/embedding is [[300, 8], 'float32'], the model wants " \
           "[[300, 9], 'float32']" in error
    assert contents(workdir) == before


def test_what_cannot_be_predicted(trained, video, tmp_path):
    workdir = trained[0]
    empty, text = tmp_path / "empty.mp4", tmp_path / "text.mp4"
    empty.write_bytes(b"")
    text.write_bytes(b"this is no video" * 100)
    out = tmp_path / "out"

    def said(video, query="a square", folder=workdir, output=out):
        return refused("--mode", "predict", "--workdir", folder, f"--video={video}",
                       f"--query={query}", "--output", output)

    assert "--video is missing" in said("")
    assert "there is no video file" in said(tmp_path / "gone.mp4")
    assert "empty.mp4 is empty (0 bytes)" in said(empty)
    assert "text.mp4 cannot be opened as a video" in said(text)
    assert "the expression '' has no word" in said(video, query="")
    assert "there is no folder" in said(video, folder=tmp_path / "gone")
    assert "neither checkpoints/" in said(video, folder=tmp_path)
    error = refused("--mode=predict", "--workdir", workdir, "--output", out, "--video", video,
                    "--config.clip.length=3")
    assert "reads the config from the workdir and accepts only keys of the model" in error
    assert "leave out --config.clip.length" in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.mp4", "text.mp4"]
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert "already exists" in said(video)
    assert list(contents(out)) == [Path("mine.txt")]


def test_a_number_that_is_none_ends_with_code_1(tmp_path):
    """What the loop raises for a loss that is not finite, here from a config, which is quicker."""
    (tmp_path / "config.py").write_text(
        "def get_config():\n    raise FloatingPointError('loss is nan at step 7')\n")
    error = refused("--config", tmp_path / "config.py", "--workdir", tmp_path / "run", code=1)
    assert error == "loss is nan at step 7\n"


def test_a_process_of_its_own(trained, tmp_path):
    """What the shell sees: the exit code, one line, and nothing of the libraries' own talk."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "vseg_jax.main", "--config", QUICKSTART, "--workdir",
         tmp_path / "run", "--config.train.stepz=3"],
        cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: unknown config key 'config.train.stepz'; did you mean 'steps'?\n"
