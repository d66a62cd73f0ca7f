"""Runs of referring models: the tokenizer of the run that they are initialized from."""

import dataclasses
import re

import numpy as np
import pytest
import standin

from vseg_jax import experiment
from vseg_jax.experiment import rvos
from vseg_jax.experiment.build import build_model, build_task
from vseg_jax.inference.restore import TOKENIZER
from vseg_jax.input_pipeline.text import HuggingFaceTokenizer, WordTokenizer


class Model(standin.Standin):
    vocabulary = 256


class Small(standin.Standin):
    vocabulary = 9


TEXTS = ["a blue box on the left", "zebra"]


@pytest.fixture
def settings(tmp_path):
    known = WordTokenizer.from_texts(["the blue square", "a red box"], 8)
    known.save(tmp_path / "before" / TOKENIZER)
    settings = experiment.read("quickstart", {})
    return dataclasses.replace(settings, init_from=str(tmp_path / "before")), known


def test_words_keep_the_ids_under_which_they_were_learned(settings, tmp_path, capsys):
    settings, known = settings
    model = Model()
    tokenizer = rvos._tokenizer(settings, model, TEXTS, tmp_path / "run")
    for text in ("a blue box", "the red square"):
        np.testing.assert_array_equal(tokenizer.encode(text)[0][:3], known.encode(text)[0][:3])
    assert not tokenizer.unknown("zebra on the right")
    assert "init_from: 4 words are new to the model: left, on, right, zebra" in \
        capsys.readouterr().out
    fresh = dataclasses.replace(settings, init_from="")
    assert rvos._tokenizer(fresh, model, TEXTS, tmp_path / "run").unknown("red square")
    with pytest.raises(ValueError, match="has 12 token ids, but the model knows 9"):
        rvos._tokenizer(settings, Small(), TEXTS, tmp_path / "run")


def test_a_tokenizer_of_another_kind_is_refused(settings, tmp_path, monkeypatch):
    settings, _ = settings
    other = HuggingFaceTokenizer.__new__(HuggingFaceTokenizer)   # without its files
    other.size = 9
    monkeypatch.setattr(rvos, "make_tokenizer", lambda text, texts: other)
    with pytest.raises(ValueError, match="has a tokenizer of another kind"):
        rvos._tokenizer(settings, Model(), TEXTS, tmp_path / "run")


@pytest.mark.parametrize(("config", "choice", "error"), [
    ("quickstart", "source/mean_iuo", "has no score 'mean_iuo'; did you mean 'mean_iou'?"),
    ("quickstart", "source/frames_per_second", "has no score 'frames_per_second'; known are"),
    ("swiftnet:follow2", "dev/J&f", "has no score 'J&f'; did you mean 'J&F'?"),
    ("rcf:shapes", "source/HOTTA", "has no score 'HOTTA'; did you mean 'HOTA'?"),
])
def test_a_score_that_the_evaluation_lacks_is_found_before_any_data_is_read(
        config, choice, error, tmp_path):
    settings = experiment.read(config, {"evaluation.choose_by": choice})
    with pytest.raises(ValueError, match=re.escape(
            f"evaluation.choose_by is '{choice}', but the evaluation {error}")):
        build_task(settings, build_model(settings), tmp_path).samples()
    assert not list(tmp_path.iterdir())
