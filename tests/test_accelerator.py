"""The benchmark of accelerators counts right, measures, and always ends with a whole table."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import accelerator, operations  # noqa: E402

ARGS = argparse.Namespace(repeats=5, seconds=1e6)


def counted(function, *shapes):
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return operations.count(jax.jit(function).trace(*inputs).jaxpr)


def run(*options):
    command = [sys.executable, "-m", "benchmarks.accelerator", *options]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True, env={
        **os.environ, "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0"}).stdout


def test_operations_of_products_and_convolutions():
    assert counted(jnp.matmul, (5, 2, 3), (5, 3, 4)) == 5 * 2 * 4 * 3 * 2
    assert counted(lambda x: jnp.sin(x) + 1, (7,)) == 0

    def convolve(x, kernel, padding="SAME", **options):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)

    image = (2, 8, 8, 6)
    assert counted(convolve, image, (3, 3, 6, 10)) == 2 * (2 * 8 * 8 * 10) * 9 * 6
    assert counted(lambda x, k: convolve(x, k, feature_group_count=6), image, (3, 3, 1, 6)) == (
        2 * (2 * 8 * 8 * 6) * 9)
    # Three of four multiplications would be by an inserted zero.
    none = [(0, 0), (0, 0)]
    spread = counted(lambda x, k: convolve(x, k, none, lhs_dilation=(2, 2)), image, (1, 1, 6, 10))
    assert spread == 2 * (2 * 15 * 15 * 10) * 6 // 4


def test_operations_of_loops_branches_and_gradients():
    square, once = (4, 4), 2 * 4**3

    def rows(x):
        return jax.lax.map(lambda row: x @ row, jnp.ones((3, 4)))

    def branches(x):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ x @ x, lambda: x @ x)

    assert counted(rows, square) == 3 * 2 * 4**2
    assert counted(lambda x: jax.lax.fori_loop(0, 5, lambda _, y: y @ x, x), square) == 5 * once
    assert counted(branches, square) == 2 * once
    # Forward, its repetition, and two products backward.
    remat = jax.checkpoint(lambda x, y: jnp.sin(x @ y))
    assert counted(jax.grad(lambda x, y: remat(x, y).sum(), argnums=(0, 1)), square, square) == (
        4 * once)


def test_what_is_measured_of_a_program():
    """A state [64, 64] that each call multiplies with itself."""
    calls = []
    state = jnp.eye(64)

    def call(compiled, state):
        calls.append(state)
        return compiled(state)

    work = accelerator.Work(jax.jit(jnp.matmul).trace(state, state), state,
                            lambda compiled, state: call(lambda x: compiled(x, x), state),
                            (2, 64, 64, 3), 2, 1)
    row = accelerator.timed(accelerator.Row("x", "bfloat16", "training"), work, ARGS)
    assert len(calls) == 2 + 5 and row.repeats == 5
    assert row.gflop == 2 * 64**3 / 1e9 and row.frames == "2x64x64x3"
    assert row.per_second == pytest.approx(2 / (row.milliseconds / 1e3))
    assert row.program_mib >= 3 * 64 * 64 * 4 / 2**20 and row.compile_s > 0
    assert row.share is None, "the peak of a CPU is not known"
    slow = accelerator.timed(accelerator.Row("x", "bfloat16", "training"), work,
                             argparse.Namespace(repeats=5, seconds=0))
    assert slow.repeats == 2


def test_the_share_of_the_peak(monkeypatch):
    monkeypatch.setattr(accelerator, "peak_of", lambda kind, dtype: 1e-3)   # 1 GFLOP/s
    work = accelerator.Work(jax.jit(jnp.matmul).trace(jnp.eye(64), jnp.eye(64)), jnp.eye(64),
                            lambda compiled, state: compiled(state, state), (1,), 1, 2)
    row = accelerator.timed(accelerator.Row("x", "float32", "training"), work, ARGS)
    assert row.share == pytest.approx(2 * 64**3 / 1e9 / (row.milliseconds / 1e3) / 2)


@pytest.mark.parametrize(("kind", "bfloat16", "float32"), [
    ("NVIDIA H100 80GB HBM3", 989.4, 494.7), ("NVIDIA H100 PCIe", 756, 378),
    ("NVIDIA H200", 989.4, 494.7), ("NVIDIA A100-SXM4-40GB", 312, 156), ("NVIDIA L4", 121, 60.5),
    ("NVIDIA L40S", None, None), ("Tesla V100-SXM2-16GB", None, 15.7), ("TPU v5 lite", 197, 197),
    ("TPU v5p", 459, 459), ("TPU v6 lite", 918, 918), ("cpu", None, None),
])
def test_the_peaks_of_devices(kind, bfloat16, float32):
    assert (accelerator.peak_of(kind, "bfloat16"), accelerator.peak_of(kind, "float32")) == (
        bfloat16, float32)


def test_a_program_that_fails_is_a_row(monkeypatch, tmp_path):
    def fail(*inputs):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 byte")

    monkeypatch.setattr(accelerator, "random_variables", lambda setup: {})
    monkeypatch.setattr(accelerator, "streaming", fail)
    monkeypatch.setattr(accelerator, "training", lambda *_: 1 / 0)
    accelerator.measure(argparse.Namespace(
        output=tmp_path / "rows", batch=None, small=True, programs=accelerator.PROGRAMS,
    ), "cvls", "float32")
    _, *rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert [row["note"] for row in rows] == [
        "out of memory", "ZeroDivisionError: division by zero"]


def test_without_time_every_row_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["x", "--budget", "0", "--output", str(tmp_path / "a.json")])
    accelerator.main()
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert len(rows) == 6 * 2 * 2 and {row["note"] for row in rows} == {"no time left"}


def test_a_process_that_ends_badly_or_late(monkeypatch):
    def late(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", late)
    [row], machine = accelerator.run(("cvls", "float32"), ["training"], 20)
    assert row.note == "not finished in time" and machine == {}
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: argparse.Namespace(
        returncode=-9, stderr="some\nlast words\n"))
    [row], _ = accelerator.run(("cvls", "float32"), ["training"], 20)
    assert row.note == "ended with -9: last words" and row.milliseconds is None


@pytest.mark.parametrize("program", [
    "streaming", pytest.param("training", marks=pytest.mark.slow)])
def test_a_small_system(program, tmp_path):
    said = run("--small", "--systems", "cvls", "--dtypes", "bfloat16", "--programs", program,
               "--repeats", "2", "--output", str(tmp_path / "a.json"))
    content = json.loads((tmp_path / "a.json").read_text())
    [row] = content["rows"]
    assert row["note"] == "" and row["milliseconds"] > 0 and row["gflop"] > 0.001
    assert content["machine"].keys() >= {"devices", "driver", "jax", "jaxlib", "flax", "vseg_jax"}
    assert said.rstrip().splitlines()[-1] in (tmp_path / "a.md").read_text()
    assert "| cvls | bfloat16 | " + program in (tmp_path / "a.md").read_text()
