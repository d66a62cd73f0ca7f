"""The command line with a model that finds objects and hears: from training to an export."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commandline import command, contents, refused

import vseg_jax
from vseg_jax import experiment
from vseg_jax.experiment import vis
from vseg_jax.export.stream import Stream
from vseg_jax.input_pipeline.records import decode_audio, decode_image, open_dataset
from vseg_jax.media.audio import AudioStream, split_by_frame
from vseg_jax.media.video import Video, VideoWriter

av = pytest.importorskip("av")

RCF = str(Path(__file__).parents[1] / "configs" / "rcf.py") + ":shapes_audio"
SMALL = [
    "--config.data.options.train=4", "--config.data.options.test=2",
    "--config.data.options.length=4", "--config.data.options.height=32",
    "--config.data.options.width=32", "--config.clip.height=32", "--config.clip.width=32",
    "--config.model.width=4", "--config.model.channels=16", "--config.model.heads=2",
    "--config.model.hidden=16", "--config.model.decoder_layers=1", "--config.model.queries=3",
    "--config.model.mask_channels=8", "--config.model.vggish_width=1",
    "--config.model.audio_features=8", "--config.model.audio_hidden=4",
    "--config.model.fire=0.01",   # so that an untrained model finds something
    "--config.instances.objects=3", "--config.train.steps=2", "--config.train.batch_size=2",
    "--config.train.warmup=1", "--config.train.log_every=1", "--config.evaluation.overlay_clips=1",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(workdir, arguments that name it, what the training said)."""
    folder = tmp_path_factory.mktemp("found")
    arguments = ["--config", RCF, "--workdir", folder / "run",
                 f"--config.data.prepared={folder / 'data'}", *SMALL]
    code, out, err = command(*arguments)
    assert code == 0, err
    return folder / "run", arguments, out + err


@pytest.fixture(scope="module")
def clip(trained):
    """Frames [4, 32, 32, 3] and samples of a clip of the training."""
    index = next((trained[0].parent / "data").rglob("index-source_test.jsonl"))
    record = open_dataset(index.parent, "source_test")[0]
    return (np.stack([decode_image(data, "clip") for data in record.frames]),
            decode_audio(record.audio, "clip"))


@pytest.fixture(scope="module")
def video(clip, tmp_path_factory):
    """The clip as a video with sound."""
    frames, samples = clip
    path = tmp_path_factory.mktemp("video") / "clip.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=8)
        video.width, video.height, video.pix_fmt = 32, 32, "bgr0"
        track = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
        audio = av.AudioFrame.from_ndarray(
            np.rint(samples * 32768).astype(np.int16)[None], format="s16", layout="mono")
        audio.sample_rate, audio.pts = 16000, 0
        container.mux(track.encode(audio))
        container.mux(track.encode())
    return path


def test_training_leaves_scores_names_and_a_video(trained):
    workdir, _, said = trained
    results = json.loads((workdir / "metrics.json").read_text())
    assert list(results) == ["source"] and 0 <= results["source"]["AP"] <= 1
    assert "AP50" in said and "AR10" in said
    names = [row["name"] for row in json.loads((workdir / "categories.json").read_text())]
    assert len(names) == 8 and names[0] == "circle"
    assert len(list(Video(workdir / "overlay.mp4"))) == 4


def test_evaluation_keeps_what_scores_again(trained):
    workdir, arguments, _ = trained
    code, out, err = command(*arguments, "--mode=evaluate", "--config.evaluation.save=True")
    assert code == 0 and "AP75" in out, err
    scores = json.loads((workdir / "evaluations/source.json").read_text())
    before = json.loads((workdir / "metrics.json").read_text())["source"]
    assert scores.pop("videos").keys() == before.pop("videos").keys()
    assert scores == pytest.approx(before | {k: v for k, v in scores.items() if "second" in k})
    kept = workdir / "evaluations/source"
    assert len(json.loads((kept / "instances.json").read_text())["videos"]) == 2
    assert json.loads((kept / "results.json").read_text())


def test_prediction_uses_the_audio_and_an_export_agrees(trained, video, clip, tmp_path):
    code, out, err = command("--workdir", trained[0], "--mode=predict", "--video", video,
                             "--output", tmp_path / "out")
    assert code == 0 and f"wrote {tmp_path / 'out'}" in out and "no audio" not in err, err
    table = json.loads((tmp_path / "out/predictions.json").read_text())
    shown = {o["id"] for row in table["frames"] for o in row["objects"]}
    assert {row["id"] for row in table["identities"]} == shown != set()
    code, _, err = command("--workdir", trained[0], "--mode=export", "--output",
                           tmp_path / "exported")
    assert code == 0, err
    names = vseg_jax.load(tmp_path / "exported").categories
    stream, audio_stream, state = Stream(tmp_path / "exported/stream"), AudioStream(), None
    assert tuple(stream.description["categories"]) == names
    audio = split_by_frame([clip[1]], 8.0)
    for frame, chunk, row in zip(clip[0], audio, table["frames"], strict=False):
        patch, valid = audio_stream.push(chunk)
        given = {"audio": patch[None], "audio_valid": valid[None]}
        state, prediction = (stream.step(state, frame[None], **given) if state
                         else stream.first_step(frame[None], **given))
        one = {name: np.asarray(array[0]) for name, array in prediction.items()}
        found = one["identities"] >= 0
        assert (one["identities"][found] + 1).tolist() == [o["id"] for o in row["objects"]]
        np.testing.assert_allclose(one["scores"][found], [o["score"] for o in row["objects"]],
                                   atol=1e-4)


def test_the_folder_of_the_best_checkpoint_takes_the_categories_of_its_run(trained, tmp_path):
    shutil.copytree(trained[0] / "checkpoints", tmp_path / "best" / "checkpoints")
    shutil.copy(trained[0] / "categories.json", tmp_path)
    assert vseg_jax.load(tmp_path / "best").categories == vseg_jax.load(trained[0]).categories


def test_a_video_without_audio_is_predicted_with_a_warning(trained, clip, tmp_path):
    silent = tmp_path / "silent.mp4"
    with VideoWriter(silent, 8.0) as writer:
        for frame in clip[0]:
            writer.add(frame)
    code, _, err = command("--workdir", trained[0], "--mode=predict", "--video", silent,
                           "--output", tmp_path / "out")
    assert code == 0, err
    assert f"warning: {silent} has no audio track; the model gets silence\n" in err
    assert len(json.loads((tmp_path / "out/predictions.json").read_text())["frames"]) == 4


def test_a_sentence_is_refused(trained, video, tmp_path):
    error = refused("--workdir", trained[0], "--mode=predict", "--video", video, "--query=a circle",
                    "--output", tmp_path / "no")
    assert "finds the objects of its categories by itself: leave out query" in error
    assert not (tmp_path / "no").exists()


def test_settings_that_do_not_fit(trained, tmp_path):
    workdir, arguments, _ = trained
    before = contents(workdir)
    other = [*arguments, "--workdir", tmp_path / "other"]
    assert "the data has 8 categories (circle, square" in refused(
        *other, "--config.model.categories=5")
    assert "is evaluated by 'youtube_vis'" in refused(*other, "--config.evaluation.protocol=davis")
    names = ("square", "circle", "triangle", "star", "ring", "cross", "heart", "crescent")
    error = refused(*arguments, f"--config.instances.categories={names!r}")
    assert "was trained for circle, square" in error and "use another workdir" in error
    assert contents(workdir) == before


def test_the_samples_must_have_audio_for_a_model_that_uses_audio(tmp_path):
    settings = experiment.read(RCF, {})
    model = experiment.build_model(settings)
    without = dataclasses.replace(settings.instances, uses_audio=False)
    with pytest.raises(ValueError, match=r"uses_audio is False, but the model uses audio"):
        vis.Task(dataclasses.replace(settings, instances=without), model, tmp_path)
