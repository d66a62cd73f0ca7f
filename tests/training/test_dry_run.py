"""Tests the report of a dry run on the toy model, counted by hand."""

import jax
import numpy as np
import pytest
import toy_model as toy

from vseg_jax.training.dry_run import count, dry_run
from vseg_jax.training.settings import TrainConfig

PARAMETERS = (6 * 8 + 8) + (8 + 8) + (8 * 4 + 4)  # encoder, normalization, head


def shapes():
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in next(toy.batches()).items()}


def test_counts_and_costs():
    config = TrainConfig(steps=1, batch_size=8, groups=(("encoder", 0.0),))
    report = dry_run(toy.Toy(), shapes(), config)
    assert report["parameters"] == PARAMETERS
    assert report["trained_parameters"] == PARAMETERS - 56
    # Two moments per trained parameter; statistics; queue and its pointer; step; key; two counts.
    floats = PARAMETERS + 2 * (PARAMETERS - 56) + 2 * 8 + 32 * 4
    assert report["state_bytes"] == pytest.approx(4 * floats, abs=4 * 8)
    assert report["state_bytes_per_device"] == report["state_bytes"]
    assert report["step_flops"] > 8 * 2 * (8 * 4) and report["compile_seconds"] > 0
    memory = report["step_memory"]
    assert memory["total"] >= memory["arguments"] >= report["state_bytes"]
    assert "loss" not in report


class Predicting(toy.Toy):
    """Predicts by a matrix product; only training reads the other parameters."""

    def predict(self, variables, batch):
        return batch["x"] @ variables["params"]["encoder"]["kernel"]


def test_counts_without_compiling():
    numbers = count(Predicting(), shapes(), TrainConfig(steps=1, batch_size=8))
    assert numbers["parameters"] == 6 * 8
    assert numbers["training_parameters"] == PARAMETERS - 6 * 8
    assert numbers["training_state"] == 2 * 8 + 32 * 4 + 1  # statistics, queue and its pointer
    assert numbers["predict_flops"] == 2 * 6 * 8  # of one sample
    forward = 2 * (6 * 8 + 8 * 4) + 2 * 4 * 32  # layers, and the loss term of the queue
    assert 2 * forward < numbers["step_flops"] < 10 * forward


def test_one_step_on_random_data_or_the_batch():
    config = TrainConfig(steps=1, batch_size=8)
    report = dry_run(toy.Toy(), shapes(), config, run=True)
    assert report["finite"] and report["step_seconds"] > 0
    assert report["process_peak_bytes"] > 2**20
    given = dry_run(toy.Toy(), {**next(toy.batches()), "y": np.full((8, 4), np.nan, np.float32)},
                    config, run=True)
    assert not given["finite"]
