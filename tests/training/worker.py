"""Trains the toy model in its own process, with a number of simulated devices."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path


def start(out, devices=1, **arguments):
    """Starts `run(out, **arguments)`."""
    return start_all(devices, (out, arguments))


def start_all(devices, *runs):
    """Starts runs in one process, one after another.

    The process is forked from one that has done the imports but has no JAX backend yet.

    Args:
      devices: number of simulated devices.
      runs: (out, arguments) of each; `out` is the path, without suffix, of its outcome (.json) and
        returned variables (.npz). The output of all goes to the last one's .log.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["toy_model", "worker", "vseg_jax.training.loop"])
    process = context.Process(target=_enter, args=(devices, runs))
    process.out = Path(runs[-1][0])
    process.start()
    return process


def finish(process, timeout=240):
    """Returns the outcome of the last run; fails with its output if it did not succeed."""
    process.join(timeout)
    assert process.exitcode == 0, Path(f"{process.out}.log").read_text()[-4000:]
    return json.loads(Path(f"{process.out}.json").read_text())


def _enter(devices, runs):
    log = os.open(f"{runs[-1][0]}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    for out, arguments in runs:
        run(out, **arguments)


def run(out, workdir, config, distributed=None, dropout=0.3, pause=0.0, model=None):
    """Trains the toy, or the model and batches that `model()` returns."""
    from vseg_jax.training import runtime

    if distributed:
        runtime.initialize_distributed(**distributed)
    import jax
    import numpy as np
    import toy_model as toy

    from vseg_jax.training import TrainConfig, train

    config = TrainConfig(**config)
    network = toy.Toy(dropout=dropout)
    batches = toy.batches(config.batch_size, index=jax.process_index(), count=jax.process_count(),
                          hook=lambda: time.sleep(pause))
    if model:
        network, batches = model()
    trained = train(network, batches, config, workdir,
                    evaluate=lambda variables, step: {"value": 42.0})
    if jax.process_index() == 0:
        np.savez(f"{out}.npz", **toy.named(trained.variables))
    Path(f"{out}.json").write_text(json.dumps(
        {"step": trained.step, "finished": trained.finished, "devices": jax.device_count()}))
