"""What a run will cost, before it is begun: parameters, memory, operations, compile time."""

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
from vseg_jax.training import loop, sharding
from vseg_jax.training import optimizer as optim
from vseg_jax.training import state as train_state
from vseg_jax.training.settings import TrainConfig


def dry_run(
    model: Model, batch: dict[str, Any], config: TrainConfig, *, run: bool = False
) -> dict[str, Any]:
    """Compiles the training step as `train` would and reports; saves nothing.

    Args:
      model: see models/base.py.
      batch: this process's share of a batch, arrays or `jax.ShapeDtypeStruct`s.
      config: the run.
      run: take one step as well, on `batch`, or on random data where it has shapes only.

    Returns:
      Plain values: `parameters`, `trained_parameters`, `state_bytes` (of the whole state),
      `state_bytes_per_device`, `devices`, `compile_seconds`, and what XLA says of one step on one
      device: `step_flops`, `step_bytes_accessed`, `step_memory` (bytes of `arguments`, `outputs`,
      `aliased` (outputs that take the arguments' place), `temporaries`, and their `total`); None
      where a backend does not tell.  With `run` also `step_seconds`, `loss`, `finite` and
      `process_peak_bytes` (resident memory of the process, compiling included).
    """
    shapes, state, optimizer, mesh, shardings = _abstract(model, batch, config)
    trained, frozen = optim.split(state.params, config)
    report = {
        "parameters": _count({**trained, **frozen}),
        "trained_parameters": _count(trained),
        "state_bytes": sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state)),
        "state_bytes_per_device": sharding.bytes_per_device(state, shardings),
        "batch": {name: [list(s.shape), str(s.dtype)] for name, s in shapes.items()},
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    }
    step = loop.jit_step(model, optimizer, config, mesh, shardings)
    start = time.perf_counter()
    compiled = step.lower(state, shapes).compile()
    report["compile_seconds"] = time.perf_counter() - start
    cost = _cost(compiled)
    report["step_flops"] = cost.get("flops")
    report["step_bytes_accessed"] = cost.get("bytes accessed")
    report["step_memory"] = _memory(compiled.memory_analysis())
    return report | (_one_step(model, batch, optimizer, config, mesh, shardings, compiled)
                     if run else {})


def count(model: Model, batch: dict[str, Any], config: TrainConfig) -> dict[str, Any]:
    """Parameters, and operations a sample, as the program stands before XLA optimizes it.

    Nothing is compiled, so a whole table of models takes minutes. XLA counts an addition and a
    multiplication each as one, a loop as one turn of its body, a branch as its dearest arm; what
    no output needs is left out.

    Args: see `dry_run`.

    Returns:
      `parameters` that `predict` reads; `training_parameters` that it does not; `training_state`,
      numbers of the other collections that it does not (queues, momentum copies); `predict_flops`
      and `step_flops` of one sample, the batch being as large as it is; None where a backend does
      not tell.
    """
    shapes, state, optimizer, mesh, shardings = _abstract(model, batch, config)
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
        "step_flops": loop.jit_step(model, optimizer, config, mesh, shardings).lower(state, shapes),
    }
    flops = {name: _cost(program).get("flops") for name, program in lowered.items()}
    return numbers | {name: n if n is None else n / samples for name, n in flops.items()}


def _abstract(model: Model, batch: dict[str, Any], config: TrainConfig) -> tuple[Any, ...]:
    """Shapes of the batch and of the state, the optimizer, the mesh, and the state's layout."""
    mesh, optimizer = sharding.make_mesh(config), optim.make(config)
    shapes = sharding.global_shapes(batch)
    state = train_state.abstract(model, shapes, optimizer, config)
    return shapes, state, optimizer, mesh, sharding.state_shardings(state, config, mesh)


def _cost(program: Any) -> dict[str, float]:
    """XLA's cost analysis of a lowered or compiled program; empty where there is none."""
    cost = program.cost_analysis() or {}
    return cost[0] if isinstance(cost, list) else cost


def _one_step(model, batch, optimizer, config, mesh, shardings, compiled) -> dict[str, Any]:
    batch = _concrete(batch, config.seed)
    state = loop.begin(model, batch, optimizer, config, shardings)
    placed = sharding.put_batch(batch, sharding.batch_sharding(mesh))
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


def _concrete(batch: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Arrays as they are; for shapes random bytes, normal floats, zeros and ones, and all valid."""
    rng = np.random.default_rng(seed)

    def draw(spec):
        if not isinstance(spec, jax.ShapeDtypeStruct):
            return np.asarray(spec)
        if spec.dtype == bool:
            return np.ones(spec.shape, bool)
        if np.issubdtype(spec.dtype, np.floating):
            return rng.normal(size=spec.shape).astype(spec.dtype)
        # Images take all byte values; ids, masks and positions stay small.
        top = 256 if spec.dtype == np.uint8 and spec.shape[-1] == 3 else 2
        return rng.integers(0, top, spec.shape).astype(spec.dtype)

    return {name: draw(spec) for name, spec in batch.items()}


def _memory(analysis: Any) -> dict[str, int] | None:
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
