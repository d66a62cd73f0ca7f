"""Tests that runs killed at any moment and resumed end like an unbroken one, to the last bit."""

import random
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest
import toy_model as toy
import worker

from vseg_jax.training.reports import read_metrics

STEPS = 40
CONFIG = dict(steps=STEPS, batch_size=8, learning_rate=0.01, ema=0.9, accumulate=2, clip_norm=1.0,
              log_every=1, checkpoint_every=3, evaluate_every=10)


def start(workdir):
    return worker.start(f"{workdir}-out", workdir=str(workdir), config=CONFIG)


def losses(workdir):
    return [{k: v for k, v in line.items() if "per_second" not in k}
            for line in read_metrics(workdir)]


def final_state(workdir):
    state = ocp.PyTreeCheckpointer().restore(workdir / "checkpoints" / str(STEPS) / "state")
    return toy.named(state)


def kill_at(process, workdir, line):
    """Kills the process as soon as `metrics.jsonl` has that many lines, whatever it is doing."""
    path = workdir / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while process.is_alive() and time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= line:
            break
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.03))
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_runs_end_like_an_unbroken_one(tmp_path, kills):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    unbroken = start(whole)
    draw = random.Random(kills)
    at = sorted(draw.sample(range(2, STEPS - 4), kills))
    killed = [kill_at(start(broken), broken, line) for line in at]
    assert worker.finish(start(broken))["finished"] and worker.finish(unbroken)["finished"]
    assert sum(killed) == kills, f"only {sum(killed)} of {kills} kills found the process alive"

    assert losses(broken) == losses(whole)
    assert [x["step"] for x in losses(whole) if x["kind"] == "train"] == list(range(1, STEPS + 1))
    one, two = final_state(whole), final_state(broken)
    assert one.keys() == two.keys() and len(one) > 20
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)
