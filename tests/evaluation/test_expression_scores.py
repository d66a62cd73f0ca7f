"""Which queries a model gets over whole videos and how it is scored, with a stand-in model."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import standin
from PIL import Image
from standin import MemoryDataset
from standin_segmenter import StandinSegmenter

from vseg_jax.evaluation import expressions
from vseg_jax.experiment import rvos
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.records import (
    UNKNOWN_OBJECT,
    Expression,
    Object,
    Record,
    decode_image,
    encode_image,
    encode_mask,
)
from vseg_jax.input_pipeline.settings import DatasetConfig, TextConfig
from vseg_jax.metrics.davis import score_folders
from vseg_jax.settings import EvaluationConfig, Settings
from vseg_jax.training.settings import TrainConfig

SIZE = (16, 24)
TEXTS = ("the dog", "a cat", "that dog")


def squares(frames=5):
    """Object 1 moves by two columns a frame, object 2 stands and is gone in the last two frames."""
    masks = np.zeros((frames, *SIZE), np.uint8)
    for t in range(frames):
        masks[t, 1:7, 2 * t:2 * t + 8] = 1
        masks[t, 9:15, 4:10] = 2 * (t < frames - 2)
    return masks


def record(name="one", annotated=(0, 2, 4), objects=(1, 2, 1)):
    masks = squares()
    frames = [encode_image(np.repeat((m * 20)[..., None], 3, -1)) for m in masks]
    return Record(
        name, frames, [encode_mask(m) if t in annotated else b"" for t, m in enumerate(masks)],
        *SIZE, 10.0, [Object(1, "dog"), Object(2, "cat")],
        [Expression(text, number, style) for text, number, style
         in zip(TEXTS, objects, ("first", "first", "full"), strict=True)],
    )


def evaluate(teller, *records, **options):
    return expressions.evaluate(teller, MemoryDataset(records), progress=False, **options)


RIGHT = {"the dog": 20, "a cat": 40, "that dog": 20}


@pytest.mark.parametrize("delay", [0, 2, 7])
def test_perfect_predictions_score_one_however_late_they_come(delay):
    teller = StandinSegmenter(RIGHT, delay)
    result = evaluate(teller, record(), record("two"), at_once=2)
    assert result["J&F"] == result["J"]["mean"] == result["F"]["recall"] == 1
    assert result["objects"] == 6 and list(result["sequences"]["one"]) == ["0", "1", "2"]
    assert result["sequences"]["two"]["1"]["frames"] == 3, "also where the cat is gone"
    # object by object, and two at once
    assert teller.asked == [("the dog", "that dog"), ("a cat",)] * 2
    assert result["protocol"] == "expressions" and result["frames_per_second"] > 0


def test_wrong_predictions_are_scored_by_hand():
    result = evaluate(StandinSegmenter({**RIGHT, "a cat": 20, "that dog": 0}), record())
    found = result["sequences"]["one"]
    assert found["0"]["J"]["mean"] == 1
    # The dog for the cat: no overlap at all, and a prediction where there is no object.
    assert found["1"]["J"]["mean"] == found["1"]["F"]["mean"] == 0
    # The background for the dog.
    assert found["2"]["J"]["mean"] == 0
    assert result["J"]["mean"] == pytest.approx(1 / 3)
    silent = evaluate(StandinSegmenter(dict.fromkeys(TEXTS, 99)), record())
    assert silent["sequences"]["one"]["1"]["J"]["mean"] == pytest.approx(1 / 3), "gone in frame 4"
    assert silent["sequences"]["one"]["0"]["J"]["mean"] == 0


def test_scores_of_each_style_and_category():
    by = evaluate(StandinSegmenter({**RIGHT, "that dog": 99}), record(), record("two"))["by"]
    assert {k: v["expressions"] for k, v in by["style"].items()} == {"first": 4, "full": 2}
    assert by["style"]["first"]["J&F"] == 1 and by["style"]["full"]["J"] == 0
    assert by["category"]["cat"] == {"J&F": 1, "J": 1, "F": 1, "expressions": 2}
    assert by["category"]["dog"]["J&F"] == 0.5


def test_which_expressions_are_evaluated():
    teller = StandinSegmenter(RIGHT)
    result = evaluate(teller, record(), styles=("full",))
    assert teller.asked == [("that dog",)] and list(result["sequences"]["one"]) == ["2"]
    evaluate(teller, record(), categories=("cat",))
    assert teller.asked[1:] == [("a cat",)]
    shuffled = evaluate(teller, record(), shuffle_expressions=True)
    assert teller.asked[2:] == [("a cat", "a cat", "the dog")]
    assert shuffled["J"]["mean"] == 0, "scored against its own expression"


def test_saved_masks_score_the_same(tmp_path):
    teller = StandinSegmenter({**RIGHT, "a cat": 20})
    for _ in range(2):   # the second time in place of the first
        result = evaluate(teller, record(), save=tmp_path / "masks")
    masks = squares()
    for number, object_id in enumerate((1, 2, 1)):
        folder = tmp_path / "truth" / "one" / str(number)
        folder.mkdir(parents=True)
        for t in (0, 2, 4):
            Image.fromarray((masks[t] == object_id).astype(np.uint8)).save(
                folder / f"{t:05d}.png")
    assert len(list((tmp_path / "masks" / "one" / "2").iterdir())) == 5
    scored = score_folders(tmp_path / "truth", tmp_path / "masks", protocol="expressions")
    assert scored["J&F"] == pytest.approx(result["J&F"])
    assert scored["sequences"]["one/1"]["1"] == result["sequences"]["one"]["1"]
    assert json.loads((tmp_path / "masks" / "scores.json").read_text()) == result


def test_what_cannot_be_scored_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no expression with styles \('odd',\)"):
        evaluate(StandinSegmenter(RIGHT), record(), styles=("odd",))
    with pytest.raises(ValueError, match=r"and a known object; .*vseg_jax.submission writes"):
        evaluate(StandinSegmenter(RIGHT), record(objects=(UNKNOWN_OBJECT,) * 3))
    with pytest.raises(ValueError, match="toy video one has expressions but no annotated frame"):
        evaluate(StandinSegmenter(RIGHT), record(annotated=()))
    broken = record()
    broken.frames[3] = b"no picture"
    with pytest.raises(ValueError, match="toy video one frame 3 cannot be decoded"):
        evaluate(StandinSegmenter(RIGHT), broken, save=tmp_path / "masks")
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_expressions_is_skipped():
    silent = record("silent")
    silent.expressions = []
    assert list(evaluate(StandinSegmenter(RIGHT), silent, record())["sequences"]) == ["one"]


def test_videos_of_a_test_set():
    test = record(annotated=(), objects=(UNKNOWN_OBJECT,) * 3)
    found = {name: dict(frames) for name, frames in expressions.predict_videos(
        StandinSegmenter(RIGHT), MemoryDataset([test]), progress=False)}
    assert list(found) == ["one/0", "one/1", "one/2"]
    for name, object_id in (("one/0", 1), ("one/1", 2)):
        np.testing.assert_array_equal(np.stack([found[name][t] for t in range(5)]),
                                      squares() == object_id)


def test_a_real_segmenter_predicts_as_it_does_alone():
    data = standin.samples(videos=1).dataset
    segmenter = Segmenter(standin.Standin(), standin.variables(), standin.tokenizer(),
                          standin.CLIP, "expressions")
    asked = ["the red square", "blue"]
    found = dict(expressions.predictions(segmenter, data[0], asked, "toy"))
    frames = [decode_image(f, "") for f in data[0].frames]
    for number, query in enumerate(asked):
        alone = list(segmenter.segment(frames, query=query))
        assert sorted(found) == [a.frame for a in alone] == list(range(len(frames)))
        for prediction in alone:
            np.testing.assert_array_equal(found[prediction.frame][number], prediction.masks[0])
    result = expressions.evaluate(segmenter, data, progress=False)
    assert result["J"]["mean"] > 0.6, "the stand-in finds its squares"


def test_a_config_that_evaluates_whole_videos(tmp_path, capsys):
    standin.tokenizer(20).save(tmp_path / "tokenizer")
    synthetic = DatasetConfig(
        "moving_shapes", "source_test", prepared=str(tmp_path / "data"),
        options={"splits": ("source_test",), "test": 2, "length": 4, "height": 32, "width": 32,
                 "flow": False, "audio": False},
    )
    marks_all = {"params": standin.variables()["params"] | {"bias": jnp.array(9.0)}}

    def evaluated(data):
        settings = Settings(
            "standin", {}, synthetic, TrainConfig(steps=1, batch_size=1), clip=standin.CLIP,
            text=TextConfig(length=20),
            evaluation=EvaluationConfig(protocol="expressions", datasets={"test": data}),
        )
        task = rvos.Task(settings, standin.Standin(), tmp_path)
        results = task.evaluate(marks_all, tmp_path / "saved")
        task.report(results)
        return results["test"]

    whole = evaluated(synthetic)
    assert 0 < whole["J&F"] < 1 and whole["protocol"] == "expressions"
    assert f"{100 * whole['J&F']:.1f}" in capsys.readouterr().out
    assert json.loads((tmp_path / "saved" / "test" / "scores.json").read_text()) == whole
    kind, scores = min(whole["by"]["category"].items())
    part = evaluated(dataclasses.replace(synthetic, categories=(kind,)))
    assert part["objects"] == scores["expressions"] < whole["objects"]
    assert part["J&F"] == pytest.approx(scores["J&F"])
