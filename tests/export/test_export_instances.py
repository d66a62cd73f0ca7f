"""Exported streams of models that find objects, with and without audio."""

import jax
import numpy as np
import pytest
import standin_vis
from standin_vis import Finder, FinderConfig
from test_export import elsewhere

from vseg_jax.config import parse
from vseg_jax.export import export
from vseg_jax.export import stream as exported
from vseg_jax.inference import restore, segmenter
from vseg_jax.input_pipeline.audio import silent_patches
from vseg_jax.media.audio import AudioStream


def finder(**changes):
    model = Finder(FinderConfig(**changes))
    config = {"system": "finder", "model": vars(model.config), "clip": vars(standin_vis.CLIP)}
    about = {"config": config, "batch": {"frames": [[2, 2, 24, 32, 3], "uint8"]}}
    variables = jax.tree.map(np.asarray, standin_vis.variables())
    return restore.Restored(model, variables, None, standin_vis.CLIP, about, standin_vis.NAMES)


def test_the_stream_predicts_the_same_without_the_models_code(tmp_path):
    """Two streams; the second one's audio stops; `first_step` predicts the first frames."""
    with_audio = finder(audio=True)
    export.export_stream(with_audio, tmp_path, platforms=("cpu",))
    videos = [standin_vis.video(4, green=range(4))[0], standin_vis.video(4, green=(1, 2, 3))[0]]
    frames, streams = np.stack(videos, 1), (AudioStream(), AudioStream())
    tone = (0.5 * np.sin(np.arange(1600) * 0.3)).astype(np.float32)
    inputs = [[stream.push(samples) for stream, samples in zip(streams, now, strict=True)]
              for now in ((tone * 0, tone), (tone, tone), (tone, None))]
    patches, valid = (np.stack([[one[k] for one in now] for now in inputs]) for k in (0, 1))
    np.savez(tmp_path / "in.npz", frames=frames, audio=patches, audio_valid=valid)
    elsewhere(f"""
import sys
import numpy as np
from vseg_jax.export.stream import Stream
stream, given = Stream({str(tmp_path)!r}), np.load({str(tmp_path / "in.npz")!r})
assert stream.description["categories"] == ["square", "big_box"]
frames, out = given["frames"], []
audio = [{{k: given[k][t] for k in ("audio", "audio_valid")}} for t in range(3)]
state, prediction = stream.first_step(frames[0], **audio[0])
out.append(prediction)
for t in (1, 2):
    state, prediction = stream.step(state, frames[t], **audio[t])
    out.append(prediction)
state, prediction = stream.step(state, frames[3])
out.append(prediction)
np.savez({str(tmp_path / "out.npz")!r}, **{{k: np.stack([a[k] for a in out]) for k in prediction}})
""")
    out = np.load(tmp_path / "out.npz")
    direct = segmenter.Segmenter(with_audio.model, with_audio.variables, clip=standin_vis.CLIP,
                                 categories=standin_vis.NAMES)
    session = direct.start_many(frames[0], audio=[tone * 0, tone])
    predictions = [session.first, session.step(frames[1], audio=[tone, tone]),
                   session.step(frames[2], audio=[tone, None]), session.step(frames[3])]
    assert out["frame"].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    for t, of_streams in enumerate(predictions):
        for s, prediction in enumerate(of_streams):
            found = out["identities"][t, s] >= 0
            assert tuple(out["identities"][t, s][found] + 1) == prediction.ids
            classes = out["probabilities"][t, s][found, :-1].argmax(-1)
            assert tuple(standin_vis.NAMES[c] for c in classes) == prediction.categories
            probability = 1 / (1 + np.exp(-out["logits"][t, s][found]))
            np.testing.assert_allclose(prediction.probability, probability, atol=1e-5)
            np.testing.assert_allclose(prediction.scores, out["scores"][t, s][found], atol=1e-6)
    last = [predictions[t][0].categories[-1] for t in (1, 3)]
    assert last == ["big_box", "square"]


def test_a_stream_without_audio_takes_frames_alone(tmp_path):
    export.export_stream(finder(), tmp_path, platforms=("cpu",))
    assert sorted(p.name for p in tmp_path.glob("*.bin")) == ["first_step.bin", "step.bin"]
    stream = exported.Stream(tmp_path)
    assert stream.description["prompt"] == [] and len(stream.description["prediction"]) == 5
    frames, _ = standin_vis.video(4)
    state, first = stream.first_step(frames[:1])
    assert first["identities"].tolist() == [[0, 1, -1]]
    _, second = stream.step(stream.start(frames[:1]), frames[1:2])
    assert second["identities"].tolist() == [[0, 1, -1]] and second["frame"].tolist() == [1]
    with pytest.raises(ValueError, match=r"the prompt has \['audio'\]; it must have \[\]"):
        stream.first_step(frames[:1], audio=silent_patches(1))
    with pytest.raises(ValueError, match="takes a prompt only when a stream starts"):
        stream.step(state, frames[1:2], audio=silent_patches(1))


def test_categories_travel_with_an_export(tmp_path, monkeypatch):
    monkeypatch.setattr("vseg_jax.models.build", lambda name, settings: Finder(
        parse(FinderConfig, settings, "config.model")))
    saved = tmp_path / "saved"
    saved.mkdir()
    restore.save(finder(), saved)
    out = export.export(saved, tmp_path / "out", platforms=("cpu",))
    assert sorted(p.name for p in out.iterdir()) == [
        "about.json", "categories.json", "stream", "variables"]
    loaded = segmenter.load(out)
    assert loaded.categories == standin_vis.NAMES and loaded.engine.clip == standin_vis.CLIP
    frames, _ = standin_vis.video(2)
    assert [a.categories for a in loaded.segment(frames)] == [standin_vis.NAMES] * 2
    with pytest.raises(ValueError, match="this model takes frames of its clips' size"):
        export.export(saved, tmp_path / "large", size=(48, 48))
    restore.save_categories(out, ("square", "big_box", "whale"))
    with pytest.raises(ValueError, match=r"categories\.json names 3 categories.*the model has 2"):
        segmenter.load(out)
    (out / "categories.json").unlink()
    with pytest.raises(ValueError, match=r"has no categories\.json; copy it from the workdir"):
        segmenter.load(out)
