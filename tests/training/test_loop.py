"""Tests the loop: one trace, resuming, SIGTERM, refusals, files in the working directory."""

import dataclasses
import json
import math
import os
import signal

import jax
import numpy as np
import pytest
import toy_model as toy

from vseg_jax.training import NonFiniteLoss, TrainConfig, loop, train
from vseg_jax.training.checkpoints import load
from vseg_jax.training.reports import read_metrics

SPEEDS = ("steps_per_second", "frames_per_second")
CONFIG = TrainConfig(steps=12, batch_size=8, learning_rate=0.01, ema=0.9, log_every=2,
                     checkpoint_every=4, evaluate_every=6)
traces = []


@dataclasses.dataclass(frozen=True)
class Counted(toy.Toy):
    """The toy; it records each time that Python runs its loss, which is when it is traced."""

    def loss(self, variables, batch, key, step):
        traces.append(step)
        return super().loss(variables, batch, key, step)


def evaluation(variables, step):
    return {"kernel": float(np.abs(variables["params"]["head"]["kernel"]).sum())}


def lines(workdir):
    return [{k: v for k, v in line.items() if k not in SPEEDS} for line in read_metrics(workdir)]


def best_steps(workdir):
    return [p.name for p in (workdir / "best/checkpoints").iterdir() if p.is_dir()]


def same(one, two):
    one, two = toy.named(one), toy.named(two)
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


def close(one, two):
    """What two programs compute, up to rounding."""
    for name, array in toy.named(one).items():
        np.testing.assert_allclose(array, toy.named(two)[name], rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken")
    traces.clear()
    trained = train(Counted(), toy.batches(), CONFIG, workdir, evaluate=evaluation,
                    notes={"flow": {"method": "dis"}})
    return workdir, trained, len(traces)


def test_the_variables_that_a_run_started_from(tmp_path):
    still = dataclasses.replace(CONFIG, steps=1, learning_rate=0.0)
    trained = train(toy.Toy(), toy.batches(), still, tmp_path)
    batches = toy.batches()
    before = loop.initial_variables(toy.Toy(), batches, still)
    close(before["params"], trained.variables["params"])
    first = next(batches)
    assert all(np.array_equal(first[k], v) for k, v in next(toy.batches()).items())
    again = loop.initial_variables(toy.Toy(), batches, still, trained.variables)
    close(again["params"], before["params"])


def test_a_whole_run_traces_the_step_once_and_reports(unbroken):
    workdir, trained, traced = unbroken
    assert traced == 1 and trained.finished and trained.step == 12
    train_lines = [line for line in lines(workdir) if line["kind"] == "train"]
    assert [line["step"] for line in train_lines] == [2, 4, 6, 8, 10, 12]
    assert train_lines[-1]["loss"] < train_lines[0]["loss"]
    assert trained.metrics == evaluation(trained.variables, 12)
    assert "head/kernel" in (workdir / "parameters.txt").read_text()
    about = json.loads((workdir / "run.json").read_text())
    assert about["batch"]["x"] == [[8, 6], "float32"] and about["versions"]["jax"]


def test_averaged_parameters_are_returned_and_loaded(unbroken):
    workdir, trained, _ = unbroken
    loaded, about = load(workdir)
    assert same(loaded, trained.variables)
    assert about["config"]["train"]["ema"] == 0.9
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(loaded))
    with pytest.raises(ValueError, match=r"no checkpoint of step 5 .* 8, 12"):
        load(workdir, 5)


def test_notes_are_saved_with_checkpoints(unbroken):
    assert load(unbroken[0])[1]["flow"] == {"method": "dis"}


def test_a_finished_run_says_so(unbroken, capsys):
    workdir, trained, _ = unbroken
    again = train(Counted(), toy.batches(), CONFIG, workdir, evaluate=evaluation)
    assert "is finished: step 12 of 12; raise train.steps" in capsys.readouterr().err
    assert again.metrics == trained.metrics and same(again.variables, trained.variables)


def test_the_best_checkpoint_is_kept(tmp_path):
    """Evaluations after steps 3, 6, 9 and 12; the second is the best, and the last one as good."""
    config = dataclasses.replace(CONFIG, evaluate_every=3, checkpoint_every=100)
    seen = {}

    def evaluate(variables, step):
        seen[step] = jax.tree.map(np.array, variables)
        return {"score": {3: 0.5, 6: 0.8, 9: 0.7, 12: 0.8}[step]}

    left = [8]

    def terminate():   # after the best evaluation, and before the next one
        left[0] -= 1
        if left[0] == -1:
            os.kill(os.getpid(), signal.SIGTERM)

    for hook in (terminate, lambda: None):
        train(toy.Toy(), toy.batches(hook=hook), config, tmp_path, evaluate=evaluate,
              choose_by="score")
        variables, about = load(tmp_path / "best")
        assert same(variables, seen[6]) and about["config"]["train"]["ema"] == 0.9
    assert not same(load(tmp_path)[0], seen[6])
    assert best_steps(tmp_path) == ["6"]
    with pytest.raises(ValueError, match="choose_by is 'other', which the evaluation lacks; it has "
                                         "score"):
        train(toy.Toy(), toy.batches(), config, tmp_path / "b", evaluate=evaluate,
              choose_by="other")
    report, = (r for r in read_metrics(tmp_path / "b") if r["kind"] == "evaluation")
    assert report["score"] == 0.5   # the evaluation is not lost


def test_a_score_that_is_not_finite_chooses_nothing(tmp_path, caplog):
    config = dataclasses.replace(CONFIG, steps=6, evaluate_every=2)
    scores = {2: math.nan, 4: 0.5, 6: math.inf}
    train(toy.Toy(), toy.batches(), config, tmp_path, choose_by="score",
          evaluate=lambda variables, step: {"score": scores[step]})
    assert best_steps(tmp_path) == ["4"]
    assert "score is nan at step 2" in caplog.text and "score is inf at step 6" in caplog.text


def test_a_best_checkpoint_from_before_a_kill_stays(tmp_path):
    """Killed after the evaluation of step 6, and resumed from the checkpoint of step 4."""
    config = dataclasses.replace(CONFIG, evaluate_every=3)

    def evaluate(variables, step):
        if step == 9 and not killed:
            killed.append(step)
            raise KeyboardInterrupt
        return {"score": float(step <= 6) * step}

    killed = []
    with pytest.raises(KeyboardInterrupt):
        train(toy.Toy(), toy.batches(), config, tmp_path, evaluate=evaluate, choose_by="score")
    (tmp_path / "checkpoints" / "8").rename(tmp_path / "8")
    train(toy.Toy(), toy.batches(), config, tmp_path, evaluate=evaluate, choose_by="score")
    assert best_steps(tmp_path) == ["6"]


def test_the_best_checkpoint_of_an_abandoned_run_is_removed(tmp_path):
    """The first run ends before its first checkpoint, with a score that the second never has."""
    config = dataclasses.replace(CONFIG, steps=4, evaluate_every=2, checkpoint_every=100)

    def abandoned(variables, step):
        if step == 4:
            raise KeyboardInterrupt
        return {"score": 0.9}

    with pytest.raises(KeyboardInterrupt):
        train(toy.Toy(), toy.batches(), dataclasses.replace(config, steps=8), tmp_path,
              evaluate=abandoned, choose_by="score")
    assert best_steps(tmp_path) == ["2"]
    train(toy.Toy(), toy.batches(), config, tmp_path, choose_by="score",
          evaluate=lambda variables, step: {"score": 0.1 * step})
    assert best_steps(tmp_path) == ["4"]


def test_a_resumed_run_that_chooses_by_another_score_forgets_the_old_one(tmp_path):
    config = dataclasses.replace(CONFIG, steps=4, evaluate_every=4)

    def evaluate(variables, step):
        return {"large": 10.0 + step, "small": -0.1 * step}

    train(toy.Toy(), toy.batches(), config, tmp_path, evaluate=evaluate, choose_by="large")
    longer = dataclasses.replace(config, steps=12)
    train(toy.Toy(), toy.batches(), longer, tmp_path, evaluate=evaluate, choose_by="small")
    assert best_steps(tmp_path) == ["8"]   # and 12 is worse
    assert load(tmp_path / "best")[1]["choose_by"] == "small"


@pytest.mark.parametrize(("stop_at", "number"), [
    (5, signal.SIGTERM), (6, signal.SIGINT), (12, signal.SIGTERM)])
def test_a_signal_saves_and_the_next_start_resumes_exactly(unbroken, tmp_path, stop_at, number):
    workdir, trained, _ = unbroken
    before = signal.getsignal(number)

    left = [stop_at]

    def terminate():
        left[0] -= 1
        if left[0] == -1:  # one batch is read ahead, for its shapes
            os.kill(os.getpid(), number)

    traces.clear()
    stopped = train(Counted(), toy.batches(hook=terminate), CONFIG, tmp_path, evaluate=evaluation)
    assert (stopped.finished, stopped.step) == (False, stop_at)
    assert signal.getsignal(number) is before
    resumed = train(Counted(), toy.batches(), CONFIG, tmp_path, evaluate=evaluation)
    # Once for each start that takes steps: a restored state has the shapes of a new one.
    assert len(traces) == (2 if stop_at < 12 else 1)
    assert resumed.finished and same(resumed.variables, trained.variables)
    assert lines(tmp_path) == lines(workdir)


def test_the_step_with_a_non_finite_loss_is_named(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Breaks(toy.Toy):
        def loss(self, variables, batch, key, step):
            loss, updates, metrics = super().loss(variables, batch, key, step)
            return jax.numpy.where(step == 6, np.nan, loss), updates, metrics

    config = dataclasses.replace(CONFIG, log_every=100)
    with pytest.raises(NonFiniteLoss, match=r"loss is nan at step 7 .* is of step 4"):
        train(Breaks(), toy.batches(), config, tmp_path)
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"4"}


def test_a_working_directory_with_another_config_is_refused_and_keys_are_named(unbroken):
    workdir, _, _ = unbroken
    with pytest.raises(ValueError, match=r"train.learning_rate: 0.01 there, 0.5 here") as error:
        train(Counted(), toy.batches(),
              dataclasses.replace(CONFIG, learning_rate=0.5, log_every=7), workdir)
    assert "log_every" not in str(error.value)


def test_batches_of_another_size_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"train.batch_size is 16 .*'x': \(8, 6\)"):
        train(toy.Toy(), toy.batches(8), dataclasses.replace(CONFIG, batch_size=16), tmp_path)


def test_a_run_initializes_from_the_variables_of_another(unbroken, tmp_path):
    started = jax.device_get(unbroken[1].variables)
    still = dataclasses.replace(CONFIG, steps=1, learning_rate=0.0, ema=0.0)
    trained = train(toy.Toy(), toy.batches(), still, tmp_path / "next", initial=started)
    assert same(trained.variables["params"], started["params"])
    started["params"]["head"].pop("bias")
    with pytest.raises(ValueError, match="missing params/head/bias"):
        train(toy.Toy(), toy.batches(), still, tmp_path / "third", initial=started)


def test_a_run_initializes_from_one_that_lacks_modules_or_has_more(unbroken, tmp_path, capfd):
    variables = jax.device_get(unbroken[1].variables)
    less = {"params": {name: module for name, module in variables["params"].items()
                       if name != "head"} | {"other": {"kernel": np.ones(3)}}}
    still = dataclasses.replace(CONFIG, steps=1, learning_rate=0.0, ema=0.0)
    fresh = train(toy.Toy(), toy.batches(), still, tmp_path / "fresh")
    capfd.readouterr()
    trained = train(toy.Toy(), toy.batches(), still, tmp_path / "next", initial=less)
    note = "initialized afresh: batch_stats, params/head, queue; not used: params/other"
    assert note in capfd.readouterr().out
    params = trained.variables["params"]
    assert same(params["encoder"], variables["params"]["encoder"])
    assert same(params["head"], fresh.variables["params"]["head"])
    with pytest.raises(ValueError, match="missing params/encoder/bias"):
        train(toy.Toy(), toy.batches(), still, tmp_path / "third",
              initial={"params": {"other": {"kernel": np.ones(3)}}})
    less["params"]["encoder"]["bias"] = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"params/encoder/bias is \[\[3\]"):
        train(toy.Toy(), toy.batches(), still, tmp_path / "fourth", initial=less)
