"""Tests that eight simulated devices, and two processes, compute what one device computes."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import eight_devices
import numpy as np
import pytest
import toy_model as toy
import worker
from jax.sharding import AbstractMesh, PartitionSpec

from vseg_jax.training import TrainConfig, sharding, train
from vseg_jax.training.checkpoints import load
from vseg_jax.training.reports import read_metrics

# Plain gradient descent keeps rounding differences small; Adam would amplify those of gradients
# near zero.
CONFIG = dict(steps=6, batch_size=8, optimizer="sgd", learning_rate=0.01, log_every=1,
              checkpoint_every=3)
# Splits kernels by outputs along `model`, their moments by the same rule, and the queue by slots.
TWO = dict(model_parallel=2, sharding=[["head/kernel$", [None, "model"]]])
SPLIT = dict(model_parallel=2, sharding=[["kernel$", [None, "model"]], ["queue/keys", ["model"]]])


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """Returns variables and losses of a run on this process's only device."""
    workdir = tmp_path_factory.mktemp("one")
    trained = train(toy.Toy(dropout=0.0), toy.batches(), TrainConfig(**CONFIG), workdir)
    return toy.named(trained.variables), losses(workdir)


def losses(workdir):
    return [line["loss"] for line in read_metrics(workdir) if line["kind"] == "train"]


def check(one_device, result, workdir):
    expected, expected_losses = one_device
    with np.load(result) as found:
        assert set(found) == set(expected)
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=2e-5, atol=2e-6, err_msg=name)
    np.testing.assert_allclose(losses(workdir), expected_losses, rtol=1e-5)


def test_eight_devices_equal_one_and_a_checkpoint_moves_between_meshes(one_device, tmp_path):
    def case(name, workdir=None, **changes):
        return tmp_path / name, dict(workdir=str(tmp_path / f"{workdir or name}-run"),
                                     config={**CONFIG, **changes}, dropout=0.0)

    # "moved" is half on 8x1 and half on 4x2.
    process = worker.start_all(8, case("8x1"), case("4x2", **SPLIT), case("half", "moved", steps=3),
                               case("moved", **SPLIT), case("fsdp", sharding="fsdp"))
    assert worker.finish(process) == {"step": 6, "finished": True, "devices": 8}
    for name in ("8x1", "4x2", "moved", "fsdp"):
        check(one_device, tmp_path / f"{name}.npz", tmp_path / f"{name}-run")
    # A checkpoint saved by eight devices can be read on one.
    variables, _ = load(tmp_path / "4x2-run")
    for name, array in toy.named(variables).items():
        np.testing.assert_allclose(array, one_device[0][name], rtol=2e-5, atol=2e-6, err_msg=name)


def two_processes(workdir, config, pause=0.0):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    return [
        worker.start(
            f"{workdir}-{i}", 2, workdir=str(workdir), config=config, dropout=0.0, pause=pause,
            distributed=dict(coordinator_address=address, num_processes=2, process_id=i))
        for i in range(2)
    ]


def test_two_processes_equal_one_and_stop_together_when_either_gets_sigterm(one_device, tmp_path):
    workdir = tmp_path / "two"
    # The run is stopped in the middle by a signal to the second process only ...
    config = {**CONFIG, **TWO, "checkpoint_every": 100}
    processes = two_processes(workdir, config, pause=1.0)
    deadline = time.monotonic() + 120
    while not losses(workdir) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(processes[1].pid, signal.SIGTERM)
    ends = [worker.finish(process) for process in processes]
    assert ends[0] == ends[1] and not ends[0]["finished"] and 0 < ends[0]["step"] < 6
    saved = [p.name for p in (workdir / "checkpoints").iterdir()]
    assert saved == [str(ends[0]["step"])]  # one checkpoint for all
    data = workdir / "checkpoints" / saved[0] / "data"
    assert len([p for p in data.iterdir() if p.name.startswith("process_")]) == 2
    # ... and resumes to the end, with another layout of which no process holds the whole.
    config = {**config, "sharding": "fsdp", "model_parallel": 1}
    ends = [worker.finish(process) for process in two_processes(workdir, config)]
    assert ends == [{"step": 6, "finished": True, "devices": 4}] * 2
    check(one_device, f"{workdir}-0.npz", workdir)
    assert json.loads((workdir / "run.json").read_text())["processes"] == 2


def test_the_layout_of_fsdp():
    config = TrainConfig(steps=1, sharding="fsdp")
    mesh = AbstractMesh((4, 2), sharding.AXES)
    shapes = {"kernel": (3, 4, 8), "equal": (8, 8), "odd": (3, 5), "bias": (8,), "step": ()}
    state = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    layout = sharding.state_shardings(state, config, mesh)
    assert {name: tuple(where.spec) for name, where in layout.items()} == {
        "kernel": (None, None, "data"), "equal": ("data",), "odd": (), "bias": (), "step": ()}
    assert sharding.bytes_per_device(state, layout) == 4 * (96 / 4 + 64 / 4 + 15 + 8 + 1)


COLLECTIVES = """
import json, re, sys
import toy_model as toy
from vseg_jax.training import TrainConfig
from vseg_jax.training.setup import Setup

found = {}
for name, options in json.loads(sys.argv[1]).items():
    config = TrainConfig(steps=1, batch_size=8, optimizer="sgd", learning_rate=0.1, **options)
    setup = Setup.build(toy.Toy(dropout=0.0), next(toy.batches()), config)
    text = setup.jit_step().lower(setup.sharded_shapes(), setup.batch_shapes).compile().as_text()
    found[name] = {}
    for shapes, kind in re.findall(r"= (.*?) ([a-z]+-[a-z-]+)\\(.*replica_groups", text):
        found[name].setdefault(kind, []).extend(re.findall(r"\\[(.*?)\\]", shapes))
print(json.dumps(found))
"""


def test_gradients_are_reduced_once_and_no_activations_are_gathered():
    cases = {"replicated": {}, "fsdp": {"sharding": "fsdp"}}
    found = eight_devices.run(COLLECTIVES, Path(__file__).parent, json.dumps(cases))
    for collectives in found.values():
        reduced = collectives.pop("all-reduce")   # kernels (here transposed), biases, others
        assert [reduced.count(shape) for shape in ("8,6", "4,8", "4")] == [1, 1, 1]
    # The outputs of all samples enter the queue, and FSDP collects the kernels and the queue.
    assert found["replicated"] == {"all-gather": ["8,4"]}
    assert found["fsdp"].keys() == {"all-gather"}
    assert sorted(found["fsdp"]["all-gather"]) == ["32,4", "6,8", "8,4", "8,4"]


def test_rules_that_do_not_fit_are_refused():
    mesh = sharding.make_mesh(TrainConfig(steps=1))
    state = {"kernel": np.zeros((3, 4), np.float32)}

    def place(*rules):
        return sharding.state_shardings(state, TrainConfig(steps=1, sharding=rules), mesh)

    assert place(("kern", (None, "model")))["kernel"].spec == PartitionSpec(None, "model")
    with pytest.raises(ValueError, match="'kernl' matches no leaf of the state"):
        place(("kernl", ("model",)))
    with pytest.raises(ValueError, match=r"more axes than kernel of shape \(3, 4\)"):
        place(("kernel", (None, None, "model")))
    with pytest.raises(ValueError, match="names the axis 'modle'; there are data, model"):
        place(("kernel", ("modle",)))
    with pytest.raises(ValueError, match="is 1 x 2, but there are 1 devices"):
        sharding.make_mesh(TrainConfig(steps=1, model_parallel=2))
