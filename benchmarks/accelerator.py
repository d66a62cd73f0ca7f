"""Speed and memory of every system on a GPU or TPU: streaming step and training step.

    python -m benchmarks.accelerator [--budget 540] [--output accelerator.json]
    python -m benchmarks.accelerator --systems qvim rcf --dtypes bfloat16 --batch 2

Random weights, random inputs, the paper's sizes (`programs.py`), no peer. A streaming step takes
one stream by one frame; a training step takes one batch of the config, on all devices of the
process. Nothing of the host's work is included.

Each system and dtype runs in a process of its own, which ends when the budget of seconds is used
up: what has not been measured then is a line of the table that says so, as is a program that fails.
Both files are written anew after each process, the table with the suffix .md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import harness, operations, programs
from vseg_jax.atomic import write_text
from vseg_jax.models.base import Variables
from vseg_jax.settings import Settings
from vseg_jax.training import state as train_state
from vseg_jax.training.dry_run import cost_of, memory_of, random_batch
from vseg_jax.training.setup import Setup

DTYPES = ("bfloat16", "float32")
PROGRAMS = ("streaming", "training")   # steps
LEAST = 15   # seconds, below which no process is started any more
# TFLOP/s of a device without sparsity, by a part of its name, the longer ones first: (bfloat16,
# float32). On GPUs from the A100 on, JAX multiplies float32 as TF32, on TPUs as bfloat16, unless
# it is told otherwise. From the vendors' data sheets; None: no such units, or no number.
PEAKS = {
    "H100 PCIe": (756.0, 378.0), "H100 NVL": (835.0, 417.5), "H100": (989.4, 494.7),
    "H200": (989.4, 494.7), "A100": (312.0, 156.0), "V100": (None, 15.7), "L40": (None, None),
    "L4": (121.0, 60.5), "TPU v4": (275.0, 275.0), "TPU v5 lite": (197.0, 197.0),
    "TPU v5e": (197.0, 197.0), "TPU v5": (459.0, 459.0), "TPU v6": (918.0, 918.0),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One program of one system; None where it was not measured, or is not known.

    Attributes:
      system, dtype, program: what was measured.
      frames: shape of the frames of a call, as text.
      devices: number that the program runs on.
      milliseconds: median of the timed calls.
      repeats: number of timed calls.
      per_second: frames of a stream, or clips of training.
      gflop: operations of products and convolutions of a call on all devices, see `operations.py`.
      xla_gflop: XLA's count of the compiled program, on one device.
      share: of the peak of all devices, see `PEAKS`.
      program_mib: memory of the compiled program on one device, by XLA.
      peak_mib: the most memory in use on one device since the process started.
      compile_s: seconds to compile; tracing is not included.
      note: why it was not measured, else "".
    """

    system: str
    dtype: str
    program: str
    frames: str = ""
    devices: int | None = None
    milliseconds: float | None = None
    repeats: int | None = None
    per_second: float | None = None
    gflop: float | None = None
    xla_gflop: float | None = None
    share: float | None = None
    program_mib: float | None = None
    peak_mib: float | None = None
    compile_s: float | None = None
    note: str = ""


def main() -> None:
    args = _arguments()
    if args.only:
        measure(args, *args.only)
        return
    ends = time.monotonic() + args.budget
    cases = [(system, dtype) for dtype in args.dtypes for system in args.systems]
    done: list[Row] = []
    machine: dict[str, str] = {}
    for number, case in enumerate(cases):
        rows, here = run(case, args.programs, ends - time.monotonic())
        done, machine = done + rows, here or machine
        waiting = [Row(*later, program, note="waits") for later in cases[number + 1:]
                   for program in args.programs]
        write(args.output, machine, done + waiting)
        for row in rows:
            print(table([row]).splitlines()[-1], flush=True)
    print(f"\n{', '.join(f'{key} {value}' for key, value in machine.items() if value)}")
    print(table(done))


def run(
    case: tuple[str, str], chosen: list[str], seconds: float
) -> tuple[list[Row], dict[str, str]]:
    """Measures a system and dtype in a process of its own, for so many seconds at most.

    Args:
      case: the system and the dtype.
      chosen: of `PROGRAMS`.
      seconds: that are left.

    Returns:
      A row for each program, and what the process says of the machine; {} if it says nothing.
    """
    if seconds < LEAST:
        return [Row(*case, program, note="no time left") for program in chosen], {}
    note = ""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "rows.jsonl"
        command = [sys.executable, "-m", "benchmarks.accelerator", *sys.argv[1:],
                   "--output", str(said), "--only", *case]
        try:
            ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=seconds)
            if ended.returncode:
                lines = ended.stderr.strip().splitlines() or [""]
                note = f"ended with {ended.returncode}: {lines[-1][:200]}"
        except subprocess.TimeoutExpired:
            note = "not finished in time"
        lines = said.read_text().splitlines() if said.exists() else []
    machine, *rows = [json.loads(line) for line in lines] or [{}]
    measured = {row["program"]: Row(**row) for row in rows}
    return [measured.get(program, Row(*case, program, note=note)) for program in chosen], machine


def measure(args: argparse.Namespace, system: str, dtype: str) -> None:
    """Measures a system and dtype in this process; adds a line of JSON to `args.output` for each.

    The first line is about the machine. A program that fails is a row that says why.
    """
    with args.output.open("a") as file:
        print(json.dumps(machine()), file=file, flush=True)
        changes = {"model.dtype": dtype}
        if args.batch:
            changes["train.batch_size"] = str(args.batch)
        of = programs.SYSTEMS[system]
        settings = programs.settings_of(of, changes, args.small)
        setup = programs.training(settings)
        variables = random_variables(setup)
        size = None if args.small else of.size
        work = {"streaming": lambda: streaming(settings, size, variables),
                "training": lambda: training(setup, variables)}
        for program in args.programs:
            row = Row(system, dtype, program)
            try:
                row = timed(row, work[program](), args)
            except Exception as error:   # whatever it is, it is a row of the table
                row = dataclasses.replace(row, note=reason(error))
            print(json.dumps(dataclasses.asdict(row)), file=file, flush=True)


def random_variables(setup: Setup) -> Variables:
    """Returns random variables for the batches of a training."""
    shapes = setup.batch_shapes.items()
    return jax.jit(lambda key: setup.model.init(
        key, {name: jnp.zeros(spec.shape, spec.dtype) for name, spec in shapes}
    ))(jax.random.key(0))


class Work(NamedTuple):
    """What is timed.

    Attributes:
      step: the traced program.
      state: of the first call, which donates it.
      call: (compiled program, state) -> the next state.
      frames: shape of the frames of a call.
      samples: number of frames, or of clips, of a call.
      devices: number that it runs on.
    """

    step: Any
    state: Any
    call: Callable[[Any, Any], Any]
    frames: tuple[int, ...]
    samples: int
    devices: int


def streaming(settings: Settings, size: tuple[int, int] | None, variables: Variables) -> Work:
    """Returns the streaming step of a model, after the first frame of a stream."""
    stream = programs.stream(settings, size)
    drawn = random_batch({"frame": stream.frame, **stream.prompt}, 0)
    frame, *prompt = (jnp.asarray(value) for value in drawn.values())
    state = jax.jit(stream.start)(variables, frame, dict(zip(stream.prompt, prompt, strict=True)))
    step = jax.jit(stream.step, donate_argnums=1).trace(variables, state, frame)
    return Work(step, state, lambda compiled, state: compiled(variables, state, frame)[0],
                frame.shape, 1, 1)


def training(setup: Setup, variables: Variables) -> Work:
    """Returns the training step of a model, whose variables it takes over."""
    create = jax.jit(lambda v: train_state.create(v, setup.optimizer, setup.config),
                     out_shardings=setup.shardings, donate_argnums=0)
    state = create(variables)
    batch = setup.put_batch(random_batch(setup.batch_shapes, 0))
    step = setup.jit_step().trace(setup.sharded_shapes(), setup.batch_shapes)
    shape = setup.batch_shapes["frames"].shape
    return Work(step, state, lambda compiled, state: compiled(state, batch)[0], shape, shape[0],
                jax.device_count())


def timed(row: Row, work: Work, args: argparse.Namespace) -> Row:
    """Compiles and times a program, and returns the row with the results."""
    lowered, device = work.step.lower(), jax.devices()[0]
    start = harness.clock()
    compiled = lowered.compile()
    compile_s = harness.clock() - start
    times = list(_times(work, compiled, args))
    median, gflop = statistics.median(times), operations.count(work.step.jaxpr) / 1e9
    peak = peak_of(device.device_kind, row.dtype)
    memory, used = memory_of(compiled.memory_analysis()), device.memory_stats() or {}
    flops = cost_of(compiled).get("flops")
    return dataclasses.replace(
        row, frames="x".join(map(str, work.frames)), devices=work.devices,
        milliseconds=median * 1e3, repeats=len(times), per_second=work.samples / median,
        gflop=gflop, xla_gflop=None if flops is None else flops / 1e9,
        share=gflop / 1e3 / median / peak / work.devices if peak else None,
        program_mib=memory["total"] / 2**20 if memory else None,
        peak_mib=used["peak_bytes_in_use"] / 2**20 if "peak_bytes_in_use" in used else None,
        compile_s=compile_s)


def _times(work: Work, compiled: Any, args: argparse.Namespace) -> Iterator[float]:
    """Yields the seconds of calls, after two untimed ones: two, and more while there is time."""
    state = work.state

    def call() -> None:
        nonlocal state
        state = jax.block_until_ready(work.call(compiled, state))

    call()
    call()
    ends = harness.clock() + args.seconds
    for done in range(args.repeats):
        if done >= 2 and harness.clock() > ends:
            return
        yield harness.seconds(call)


def peak_of(kind: str, dtype: str) -> float | None:
    """Returns the TFLOP/s of a kind of device in a dtype; None where they are not known."""
    found = next((peaks for name, peaks in PEAKS.items() if name in kind), (None, None))
    return found[DTYPES.index(dtype)]


def reason(error: Exception) -> str:
    """Returns an error in one short line."""
    if "RESOURCE_EXHAUSTED" in str(error):
        return "out of memory"
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def machine() -> dict[str, str]:
    """Returns a description of the devices, their driver and the software."""
    device = jax.devices()[0]
    try:
        driver = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        driver = ""
    return harness.machine() | {
        "devices": f"{jax.device_count()} x {device.device_kind}", "driver": driver,
        "platform": device.client.platform_version}


def table(rows: list[Row]) -> str:
    """Formats the rows as a Markdown table."""
    lines = [
        "| system | dtype | step | frames | ms | per second | GFLOP | of the peak | program, MiB | "
        "device's peak, MiB | compile, s | note |", "|" + "---|" * 12]
    for row in rows:
        unit = "frames" if row.program == PROGRAMS[0] else "clips"
        cells = (
            row.system, row.dtype, row.program, row.frames or "-", _cell(row.milliseconds, ".2f"),
            _cell(row.per_second, ".2f", f" {unit}"), _cell(row.gflop, ",.1f"),
            _cell(row.share, ".1%"), _cell(row.program_mib, ",.0f"), _cell(row.peak_mib, ",.0f"),
            _cell(row.compile_s, ".1f"), row.note.replace("|", "/"))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(path: Path, machine: dict[str, str], rows: list[Row]) -> None:
    """Writes machine and rows as JSON, and the table beside it."""
    plain = {"machine": machine, "rows": [dataclasses.asdict(row) for row in rows]}
    write_text(path, json.dumps(plain, indent=2) + "\n")
    facts = "\n".join(f"- {key}: {' '.join(value.split())}" for key, value in machine.items()
                      if value)
    write_text(path.with_suffix(".md"), f"{facts}\n\n{table(rows)}\n")


def _cell(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def _arguments() -> argparse.Namespace:
    parser = harness.arguments(__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=programs.SYSTEMS,
                        default=list(programs.SYSTEMS))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--budget", type=float, default=540, help="seconds for everything")
    parser.add_argument("--seconds", type=float, default=4, help="most seconds of timed calls")
    parser.add_argument("--batch", type=int, help="clips of a training step; default: the config's")
    parser.add_argument("--small", action="store_true", help="small networks, to try this out")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    parser.set_defaults(repeats=20, output=Path("accelerator.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
