"""Trains the toy model in a process of its own: `python worker.py '{"workdir": ..., ...}'`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def start(devices=1, **arguments):
    """A `subprocess.Popen` of `run(**arguments)` with that many simulated devices."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
    }
    return subprocess.Popen([sys.executable, str(HERE / "worker.py"), json.dumps(arguments)],
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)


def finish(process, timeout=240):
    """What a run printed at its end; fails with its error output if it did not end well."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err[-4000:]
    return json.loads(out.splitlines()[-1])


def run(workdir, config, distributed=None, result=None, dropout=0.3, pause=0.0):
    """One run; `result` names an .npz that gets the returned variables."""
    from vseg_jax.training import runtime

    if distributed:
        runtime.initialise_distributed(**distributed)
    import jax
    import numpy as np
    import toy

    from vseg_jax.training import TrainConfig, train

    config = TrainConfig(**config)
    batches = toy.batches(config.batch_size, index=jax.process_index(), count=jax.process_count(),
                          hook=lambda: time.sleep(pause))
    trained = train(toy.Toy(dropout=dropout), batches, config, workdir,
                    evaluate=lambda variables, step: {"answer": 42.0})
    if result and jax.process_index() == 0:
        np.savez(result, **toy.named(trained.variables))
    print(json.dumps({"step": trained.step, "finished": trained.finished,
                      "devices": jax.device_count()}))


if __name__ == "__main__":
    run(**json.loads(sys.argv[1]))
