"""Tests that the sentences at the end of a run say what the scores show, also of a bad model."""

import pytest

from vseg_jax.evaluation.summary import COLUMNS, Role, report, sentences

ROLES = {"source": Role(), "target": Role(unseen=True), "shuffled": Role(control_of="source")}


def scores(mean, best=None, grounded=0.0, guess=0.4):
    return dict(zip(COLUMNS, (mean, mean if best is None else best, grounded, guess), strict=True))


def of(mean, **others):
    (sentence,) = sentences({"source": scores(mean, **others)}, ROLES)
    return sentence


def control(own, others):
    results = {"source": scores(own), "shuffled": scores(others)}
    return sentences(results, ROLES)[1]


def test_a_good_model():
    said = of(0.7, grounded=0.9)
    assert said == ("source: mean IoU 70, against 40 for the perfect mask of a random object. The "
                    "prediction covers the named object most in 90 % of the frames (40 % by "
                    "chance): better than guessing.")


@pytest.mark.parametrize("mean, best, found", [
    (0.41, 0.5, "no better than guessing."),
    (0.39, 0.5, "no better than guessing."),
    (0.2, 0.25, "worse than guessing, because the masks themselves are poor (best_iou 25)."),
    (0.2, 0.75, "worse than guessing, because it often segments another object (best_iou 75)."),
])
def test_a_model_that_is_not_better_than_guessing(mean, best, found):
    said = of(mean, best=best, grounded=0.5)
    assert said.endswith(found) and "better than guessing" not in said.replace("no better", "")


def test_frames_with_one_object_leave_nothing_to_guess():
    said = of(0.5, guess=1.0)
    assert said.startswith("source: mean IoU 50.") and "guess" not in said


def test_an_unseen_domain_is_called_one():
    (said,) = sentences({"target": scores(0.5)}, ROLES)
    assert said.startswith("target (a domain not seen in training): mean IoU 50")


@pytest.mark.parametrize("own, others, found", [
    (0.7, 0.2, "falls from 70 to 20: the model uses the expression."),
    (0.7, 0.5, "falls from 70 to 50: the model uses only a part of the expression."),
    (0.4, 0.39, "hardly falls, from 40 to 39: the model does not use the expression."),
    (0.4, 0.5, "hardly falls, from 40 to 50: the model does not use the expression."),
    (0.05, 0.01, "too low to tell whether the model uses the expression."),
])
def test_the_expressions_of_other_objects(own, others, found):
    said = control(own, others)
    assert said.startswith("source: with the expressions of other objects") and found in said


def test_a_control_without_its_dataset_is_only_in_the_table():
    assert sentences({"shuffled": scores(0.3)}, {"shuffled": Role(control_of="")}) == []


def test_the_report_is_a_table_and_lines_of_a_terminal(capsys):
    report({"source": scores(0.7, best=0.75, grounded=0.9), "shuffled": scores(0.2)}, ROLES,
           ["QFA replaces 85 % of the background."])
    printed = capsys.readouterr().out
    assert printed.split()[:4] == list(COLUMNS)
    assert "source        70.0      75.0      90.0      40.0" in printed
    assert printed.splitlines()[-1] == "- QFA replaces 85 % of the background."
    assert max(map(len, printed.splitlines())) <= 100
