"""Costs of a run before it starts: parameter count, memory, FLOPs, compile time."""

from __future__ import annotations

import math
import resource
import sys
import time
from typing import Any

import jax
import jax.export
import numpy as np

from vseg_jax.models.base import Model
from vseg_jax.training import optimizer as optim
from vseg_jax.training import sharding
from vseg_jax.training.settings import TrainConfig
from vseg_jax.training.setup import Setup


def dry_run(
    model: Model, batch: dict[str, Any], config: TrainConfig, *, run: bool = False
) -> dict[str, Any]:
    """Compiles the training step as `train` would and reports its costs; saves nothing.

    Args:
      model: see models/base.py.
      batch: this process's share of a batch, arrays or `jax.ShapeDtypeStruct`s.
      config: the run.
      run: also take one step, on `batch`, or on random data where it holds only shapes.

    Returns:
      Plain values: `parameters`, `trained_parameters`, `state_bytes` (of the whole state),
      `state_bytes_per_device`, `batch`, `devices`, `compile_seconds`, and XLA's analysis of one
      step on one device: `step_flops`, `step_bytes_accessed`, `step_memory` (bytes of `arguments`,
      `outputs`, `aliased` (outputs that reuse the arguments' memory), `temporaries`, and their
      `total`); None where a backend does not report them. With `run` also `step_seconds`, `loss`,
      `finite` and `process_peak_bytes` (resident memory of the process, compilation included).
    """
    setup = Setup.build(model, batch, config)
    state = setup.state_shapes
    trained, frozen = optim.split(state.params, config)
    report = {
        "parameters": _count({**trained, **frozen}),
        "trained_parameters": _count(trained),
        "state_bytes": sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state)),
        "state_bytes_per_device": sharding.bytes_per_device(state, setup.shardings),
        "batch": {name: [list(s.shape), str(s.dtype)] for name, s in setup.batch_shapes.items()},
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    }
    start = time.perf_counter()
    compiled = setup.jit_step().lower(state, setup.batch_shapes).compile()
    report["compile_seconds"] = time.perf_counter() - start
    cost = cost_of(compiled)
    report["step_flops"] = cost.get("flops")
    report["step_bytes_accessed"] = cost.get("bytes accessed")
    report["step_memory"] = memory_of(compiled.memory_analysis())
    return report | (_one_step(setup, batch, compiled) if run else {})


def count(model: Model, batch: dict[str, Any], config: TrainConfig) -> dict[str, Any]:
    """Counts parameters, and FLOPs per sample, before XLA optimizes the program.

    Nothing is compiled, so a whole table of models takes minutes. XLA counts an addition and a
    multiplication as one each, a loop as one pass through its body, a branch as its most expensive
    arm; what no output needs is left out.

    Args:
      model: see models/base.py.
      batch: this process's share of a batch, arrays or `jax.ShapeDtypeStruct`s.
      config: the run.

    Returns:
      `parameters` that `predict` reads; `training_parameters` that it does not; `training_state`,
      the sizes of the other collections that it does not read (queues, momentum copies);
      `predict_flops` and `step_flops`, per sample of a batch of this size; None where a backend
      does not report them.
    """
    setup = Setup.build(model, batch, config)
    shapes, state = setup.batch_shapes, setup.state_shapes
    variables, samples = state.variables(), next(iter(shapes.values())).shape[0]
    predict = jax.jit(model.predict)
    read = set(jax.export.export(predict)(variables, shapes).module_kept_var_idx)
    numbers = dict.fromkeys(("parameters", "training_parameters", "training_state"), 0)
    for i, (path, leaf) in enumerate(jax.tree.leaves_with_path(variables)):
        if path[0].key == "params":
            numbers["parameters" if i in read else "training_parameters"] += leaf.size
        elif i not in read:
            numbers["training_state"] += leaf.size
    lowered = {
        "predict_flops": predict.lower(variables, shapes),
        "step_flops": setup.jit_step().lower(state, shapes),
    }
    flops = {name: cost_of(program).get("flops") for name, program in lowered.items()}
    return numbers | {name: n if n is None else n / samples for name, n in flops.items()}


def cost_of(program: Any) -> dict[str, float]:
    """Returns XLA's cost analysis of a lowered or compiled program; empty where there is none."""
    cost = program.cost_analysis() or {}
    return cost[0] if isinstance(cost, list) else cost


def _one_step(setup: Setup, batch: dict[str, Any], compiled: Any) -> dict[str, Any]:
    batch = random_batch(batch, setup.config.seed)
    state = setup.initial_state()
    placed = setup.put_batch(batch)
    jax.block_until_ready((state, placed))
    start = time.perf_counter()
    state, metrics = jax.block_until_ready(compiled(state, placed))
    seconds = time.perf_counter() - start
    finite = all(bool(np.isfinite(metrics[name][0])) for name in ("loss", "gradient_norm"))
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "step_seconds": seconds,
        "loss": float(metrics["loss"][0]),
        "finite": finite,
        "process_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
    }


def random_batch(batch: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Returns a batch with random arrays in place of shapes.

    Images get all byte values, floats are normal, other integers small, flags True.

    Args:
      batch: arrays, which stay, or `jax.ShapeDtypeStruct`s.
      seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)

    def draw(spec: Any) -> np.ndarray:
        if not isinstance(spec, jax.ShapeDtypeStruct):
            return np.asarray(spec)
        if spec.dtype == bool:
            return np.ones(spec.shape, bool)
        if np.issubdtype(spec.dtype, np.floating):
            return rng.normal(size=spec.shape).astype(spec.dtype)
        top = 256 if spec.dtype == np.uint8 and spec.shape[-1] == 3 else 2
        return rng.integers(0, top, spec.shape).astype(spec.dtype)

    return {name: draw(spec) for name, spec in batch.items()}


def memory_of(analysis: Any) -> dict[str, int] | None:
    """Returns the bytes that a program needs on one device, by what for; None if it is not known.

    Args:
      analysis: `memory_analysis()` of a compiled program.
    """
    if analysis is None:
        return None
    memory = {
        "arguments": analysis.argument_size_in_bytes,
        "outputs": analysis.output_size_in_bytes,
        "aliased": analysis.alias_size_in_bytes,
        "temporaries": analysis.temp_size_in_bytes,
    }
    memory["total"] = (memory["arguments"] + memory["outputs"] - memory["aliased"]
                       + memory["temporaries"])
    return memory


def _count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
