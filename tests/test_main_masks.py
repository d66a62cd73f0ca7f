"""The command line with a model of masks: a small run from training to an export."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from commandline import command, contents, refused
from PIL import Image

import vseg_jax
from vseg_jax.export.stream import Stream
from vseg_jax.inference import restore as restoring
from vseg_jax.media.video import Video, VideoWriter

pytest.importorskip("av")

SWIFTNET = str(Path(__file__).parents[1] / "configs" / "swiftnet.py") + ":shapes"
SMALL = [
    "--config.data.options.train=4", "--config.data.options.test=2",
    "--config.data.options.length=4", "--config.data.options.height=32",
    "--config.data.options.width=32", "--config.clip.height=32", "--config.clip.width=32",
    "--config.model.width=4", "--config.model.capacity=2", "--config.propagation.skip_max=1",
    "--config.propagation.length=2", "--config.propagation.final_length=3",
    "--config.propagation.final_from=1",
    "--config.train.steps=2", "--config.train.batch_size=2", "--config.train.warmup=1",
    "--config.train.log_every=1", "--config.evaluation.overlay_clips=1",
    "--config.train.evaluate_every=1", "--config.evaluation.choose_by=target/J&F",
]
FRAMES = 7  # of the video


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(workdir, arguments that name it, what the training said)."""
    folder = tmp_path_factory.mktemp("masks")
    arguments = ["--config", SWIFTNET, "--workdir", folder / "run",
                 f"--config.data.prepared={folder / 'data'}", *SMALL]
    code, out, err = command(*arguments)
    assert code == 0, err
    return folder / "run", arguments, out + err


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """(a video of 24 x 40 pixels, the folder with its masks: objects 1, and 5 from frame 3 on)."""
    folder = tmp_path_factory.mktemp("video")
    mask = np.zeros((24, 40), np.uint8)
    mask[6:16, 2:14] = 1
    newcomer = np.zeros((24, 40), np.uint8)
    newcomer[4:12, 28:36] = 5
    (folder / "masks").mkdir()
    for number, index in ((0, mask), (3, newcomer)):
        Image.fromarray(index).save(folder / "masks" / f"{number:05d}.png")
    with VideoWriter(folder / "clip.mp4", 10.0) as writer:
        for t in range(FRAMES):
            frame = np.full((24, 40, 3), 60, np.uint8)
            frame[6:16, 2 + t : 14 + t] = (230, 30, 30)
            writer.add(frame)
    return folder / "clip.mp4", folder / "masks"


def test_training_leaves_scores_and_a_video(trained):
    workdir, _, said = trained
    results = json.loads((workdir / "metrics.json").read_text())
    assert sorted(results) == ["source", "target"]
    assert all(0 <= result["J&F"] <= 1 for result in results.values())
    assert len(list(Video(workdir / "overlay.mp4"))) == 2 * 4 and "J&F" in said
    assert f"--video {workdir}/example.mp4 --mask {workdir}/example.png" in said
    frame = next(iter(Video(workdir / "example.mp4")))
    assert Image.open(workdir / "example.png").size == frame.shape[1::-1]
    assert not (workdir / "tokenizer").exists()


def test_the_best_checkpoint_can_be_used_like_a_run(trained, tmp_path):
    """Only the dataset that chooses is evaluated during the training."""
    workdir, arguments, _ = trained
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    first, last = (line for line in lines if line["kind"] == "evaluation")
    assert "target/J&F" in first and "source/J&F" not in first and "source/J&F" in last
    code, _, err = command(*arguments, "--workdir", workdir / "best", "--mode=evaluate")
    assert code == 0, err
    scores = json.loads((workdir / "best/evaluations/target.json").read_text())
    assert scores["J&F"] == pytest.approx(max(first["target/J&F"], last["target/J&F"]), abs=1e-6)


def test_a_run_that_begins_with_another(trained, tmp_path):
    workdir, arguments, _ = trained
    still = ["--config.train.steps=1", "--config.train.learning_rate=0",
             "--config.evaluation.overlay_clips=0"]
    code, _, err = command(*arguments, "--workdir", tmp_path / "next",
                           f"--config.init_from={workdir}", *still)
    assert code == 0, err
    one, other = (json.loads((folder / "metrics.json").read_text())["source"]
                  for folder in (workdir, tmp_path / "next"))
    assert one["J"] == pytest.approx(other["J"], abs=1e-4)


def test_adaptation_and_static_memory_are_switches_of_the_evaluation(trained):
    """The paper's Table 1 out of one checkpoint."""
    workdir, arguments, _ = trained
    saved = workdir / "evaluations" / "source"
    for switches, folders in (
        (["--config.model.adaptation_steps=2"], "*"),
        (["--config.model.memory_update=False", "--config.model.objects=1",
          "--config.evaluation.protocol=ovis", "--config.evaluation.skip_absent=True"], "*/1"),
    ):
        code, _, err = command(*arguments, "--mode=evaluate", *switches,
                               "--config.evaluation.save=True")
        assert code == 0, err
        assert len(list(saved.glob(f"{folders}/*.png"))) == 2 * 4
        adapted = json.loads(saved.with_suffix(".json").read_text())["adaptation"]
        assert (adapted is None) == (folders == "*/1")
        assert not adapted or 0 < adapted["L_obj"]["before"] < 1
    assert json.loads(saved.with_suffix(".json").read_text())["protocol"] == "ovis"


STUDY = """
from vseg_jax.settings import RowConfig, StudyConfig


def get_study():
    changes = {{"plain": {{}}, "adapted": {{"model.adaptation_steps": 1}}}}
    return StudyConfig(
        rows={{name: RowConfig("{config}", row, trains=False) for name, row in changes.items()}},
        columns={{"J": "target/J/mean", "L_obj": "target/adaptation/L_obj/before"}}, seeds=(0,),
        paired={{"adapted": "plain"}})
"""


def test_the_rows_of_a_study_evaluate_a_trained_model(trained, tmp_path):
    """As in the studies of the paper's tables, with nothing trained."""
    workdir, (_, config, _, _, *options), _ = trained
    (tmp_path / "table.py").write_text(STUDY.format(config=config))
    study = ["--mode=study", "--config", tmp_path / "table.py", "--workdir", tmp_path / "run",
             *options, "--config.evaluation.datasets.source=None"]
    assert "row 'plain' is not trained; name the trained model" in refused(*study)
    code, out, err = command(*study, f"--config.init_from={workdir}")
    assert code == 0, err
    scores = json.loads((tmp_path / "run/plain/0/scores.json").read_text())["scores"]["target"]
    trained_scores = json.loads((workdir / "metrics.json").read_text())["target"]
    assert scores["J"] == pytest.approx(trained_scores["J"], abs=1e-6)
    assert scores["sample_iou"] == pytest.approx(trained_scores["sample_iou"], abs=1e-6)
    assert not list((tmp_path / "run").rglob("checkpoints")) and "starting at step" not in out + err
    plain, adapted = (line for line in out.splitlines() if line.endswith(" |") and line.startswith(
        ("| plain | 1", "| adapted | 1")))
    assert plain.endswith("|  |") and not adapted.endswith("|  |")
    assert "| target | against | difference |" in out and "| adapted | plain | " in out


def test_prediction_keeps_the_ids_of_the_masks(trained, video, tmp_path):
    video, masks = video
    code, out, err = command("--workdir", trained[0], "--mode=predict", "--video", video,
                             "--mask", masks, "--output", tmp_path / "out")
    assert code == 0 and f"wrote {tmp_path / 'out'}" in out, err
    assert "warning: the objects' ids have gaps: 1, 5" in err
    indices = [np.asarray(Image.open(p)) for p in sorted((tmp_path / "out/masks").glob("*.png"))]
    assert len(indices) == FRAMES and indices[0].shape == (24, 40)
    assert set(np.unique(indices[0])) == {0, 1}
    assert (indices[3][4:12, 28:36] == 5).mean() > 0.9, "given there"
    assert not any((index == 5).any() for index in indices[:3])


def test_a_folder_of_images_and_a_mask_after_frame_0(trained, video, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    (tmp_path / "clip").mkdir()
    for number, frame in enumerate(Video(video[0])):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{number:05d}.png")
    (masks / "00002.png").write_bytes((video[1] / "00000.png").read_bytes())
    for name, switches in (("late", []), ("both", ["--both_directions", "--probabilities"])):
        code, _, err = command("--workdir", trained[0], "--mode=predict", "--video",
                               tmp_path / "clip", "--fps=12.5", "--mask", masks, "--short_side=24",
                               "--output", tmp_path / name, *switches)
        assert code == 0, err
        table = json.loads((tmp_path / name / "predictions.json").read_text())
        ids = [[o["id"] for o in row["objects"]] for row in table["frames"]]
        assert ids == ([[1]] * FRAMES if switches else [[], []] + [[1]] * (FRAMES - 2))
        assert table["fps"] == 12.5
    assert len(list((tmp_path / "both" / "probabilities").iterdir())) == FRAMES
    error = refused("--workdir", trained[0], "--mode=predict", "--video", video[0], "--fps=12.5",
                    "--mask", masks, "--output", tmp_path / "no")
    assert "clip.mp4 has a frame rate of its own" in error and not (tmp_path / "no").exists()


def test_prediction_and_export_take_the_models_switches(trained, video, tmp_path):
    video, masks = video
    first = masks / "00000.png"
    for name, switches in (("plain", []), ("adapted", ["--config.model.adaptation_steps=2"])):
        code, _, err = command("--workdir", trained[0], "--mode=predict", "--video", video,
                               "--mask", first, "--output", tmp_path / name, *switches)
        assert code == 0, err
    code, _, err = command("--workdir", trained[0], "--mode=export", "--size=24,40", "--output",
                           tmp_path / "stream", "--config.model.memory_update=False")
    assert code == 0, err
    stream = Stream(tmp_path / "stream" / "stream")
    assert stream.description["frame"]["shape"][-3:] == [24, 40, 3]
    about = json.loads((tmp_path / "stream" / "about.json").read_text())
    assert about["config"]["model"]["memory_update"] is False
    error = refused("--workdir", trained[0], "--mode=predict", "--video", video, "--mask", first,
                    "--output", tmp_path / "no", "--config.model.adaptation_step=2")
    assert "did you mean 'adaptation_steps'?" in error
    error = refused("--workdir", trained[0], "--mode=export", "--output", tmp_path / "no",
                    "--size=24")
    assert "--size is '24'; it must be HEIGHT,WIDTH in pixels" in error


def test_an_export_predicts_as_the_run_does(trained, video, tmp_path):
    code, _, err = command("--workdir", trained[0], "--mode=export", "--output",
                           tmp_path / "exported")
    assert code == 0, err
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:20] = 1
    predictions = [list(vseg_jax.load(folder).segment(frames, mask=mask))
               for folder in (trained[0], tmp_path / "exported")]
    for one, other in zip(*predictions, strict=True):
        np.testing.assert_array_equal(one.probability, other.probability)
    stream = Stream(tmp_path / "exported" / "stream")
    assert stream.description["frame"]["shape"][-3:] == [32, 32, 3]


def test_a_file_predicts_as_the_run_does_and_has_its_scores(trained, video, tmp_path):
    video, masks = video
    file = tmp_path / "m.safetensors"
    code, out, err = command("--workdir", trained[0], "--mode=export", "--output", file)
    assert code == 0 and f"wrote {file} (" in out, err
    for name, model in (("run", trained[0]), ("file", file)):
        code, _, err = command("--mode=predict", "--model", model, "--video", video, "--mask",
                               masks / "00000.png", "--output", tmp_path / name)
        assert code == 0, err
    assert contents(tmp_path / "run/masks") == contents(tmp_path / "file/masks")
    evaluate = [*trained[1], "--mode=evaluate", "--model", file, "--workdir"]
    assert "already exists" in refused(*evaluate, tmp_path / "run")
    code, _, err = command(*evaluate, tmp_path / "scored")
    assert code == 0, err
    before = (tmp_path / "scored/about.json").stat().st_mtime_ns
    code, _, err = command(*evaluate, tmp_path / "scored")   # again, with the model that is there
    assert code == 0 and (tmp_path / "scored/about.json").stat().st_mtime_ns == before, err
    scores = json.loads((tmp_path / "scored/evaluations/source.json").read_text())
    trained_scores = json.loads((trained[0] / "metrics.json").read_text())["source"]
    assert scores["J"] == pytest.approx(trained_scores["J"], abs=1e-6)

    def said(*arguments):
        return refused("--mode=export", "--output", tmp_path / "o.safetensors", *arguments)

    assert "--model and --workdir both name a trained model" in said(
        "--model", file, "--workdir", trained[0])
    assert "--model is missing: trained model: a name" in said()
    assert "--size is for the programs in a folder" in said("--model", file, "--size=24,40")
    assert "leave out slim" in said("--model", file, "--slim")
    assert "already exists" in said("--model", file, "--output", file)
    assert "--half is for one file; end --output with .safetensors" in said(
        "--model", file, "--half", "--output", tmp_path / "folder")
    assert not (tmp_path / "o.safetensors").exists() and not (tmp_path / "folder").exists()


def test_a_file_of_another_model_is_refused_before_anything_is_written(trained, tmp_path):
    workdir, arguments, _ = trained
    code, _, err = command("--workdir", workdir, "--mode=export", "--output",
                           tmp_path / "m.safetensors")
    assert code == 0, err
    evaluate = [*arguments, "--mode=evaluate", "--model", tmp_path / "m.safetensors", "--workdir",
                tmp_path / "scored"]
    err = refused(*evaluate, "--config.model.width=8")
    assert f"checkpoint {tmp_path / 'm.safetensors'} is of another model" in err
    assert "--config.model.width=4" in err and not (tmp_path / "scored").exists()


def test_a_folder_holds_the_same_model_or_another(trained, tmp_path):
    """A model written to a new folder by `evaluate --model` is the same; with other arrays not."""
    model = restoring.restore(trained[0])
    other = dataclasses.replace(model, variables=jax.tree.map(lambda x: x + 1, model.variables))
    for name, saved in (("same", model), ("other", other)):
        (tmp_path / name).mkdir()
        restoring.save(saved, tmp_path / name)
    assert restoring.same(restoring.restore(tmp_path / "same"), model)
    assert not restoring.same(restoring.restore(tmp_path / "other"), model)
    assert "already exists" in refused(*trained[1], "--mode=evaluate", "--model", trained[0],
                                       "--workdir", tmp_path / "other")
    code, _, err = command(*trained[1], "--mode=evaluate", "--model", trained[0],
                           "--workdir", tmp_path / "same")
    assert code == 0, err


def test_what_cannot_be_predicted(trained, video, tmp_path):
    workdir, (video, masks) = trained[0], video
    first = np.asarray(Image.open(masks / "00000.png"))

    def said(mask, *more):
        path = tmp_path / "mask.png"
        Image.fromarray(mask).save(path)
        error = refused("--mode=predict", "--workdir", workdir, f"--video={video}", "--mask", path,
                        "--output", tmp_path / "out", *more)
        assert not (tmp_path / "out").exists()
        return error

    assert "is 20 x 24, its frame 40 x 24" in said(first[:, :20])
    assert "has the value 255" in said(np.where(first > 0, 255, 1).astype(np.uint8))
    assert "has no object" in said(first * 0)
    assert "colors that are not those of DAVIS" in said(first[..., None] * np.uint8((1, 3, 7)))
    assert "12 objects" in said(np.arange(960, dtype=np.uint8).reshape(24, 40) % 13)
    assert "not query and mask" in said(first, "--query=the red square")
    error = refused("--mode=predict", "--workdir", workdir, f"--video={video}", "--query=a square",
                    "--output", tmp_path / "out")
    assert "this model takes a mask prompt: give the first frame's index mask as mask, " \
           "not query" in error
    assert sorted(contents(tmp_path)) == [Path("mask.png")]
