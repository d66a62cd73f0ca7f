"""Measures speed and memory in comparison with a peer: in one process, taking turns, by medians.

Machines are noisy and times are not comparable between them, but the ratio of two functions that
take turns on the same machine is. Compile time is reported separately from run time. No test
depends on these measurements. Benchmarks of streams measure each row in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from vseg_jax import __version__

clock = time.perf_counter


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table; peer columns are None without a peer.

    Memory is what a call adds to the peak resident memory of the process, in MiB (Linux with glibc
    only, None elsewhere). Memory that an allocator kept from earlier calls and did not return on
    request is not counted: read small numbers with care.
    """

    name: str
    ours_ms: float
    peer_ms: float | None
    ratio: float | None  # ours / peer: below 1 is faster than the peer
    compile_s: float
    ours_mib: float | None
    peer_mib: float | None
    repeats: int


def compare(
    name: str,
    jax_fn: Callable[[], object],
    torch_fn: Callable[[], object] | None = None,
    repeats: int = 7,
) -> Row:
    """Times `jax_fn` and `torch_fn` in alternating calls.

    Args:
      name: of the row.
      jax_fn: takes no arguments and returns arrays, which are waited for; its first call compiles.
      torch_fn: the peer's function; None without a peer.
      repeats: timed calls of each, after an untimed one.
    """
    start = clock()
    jax.block_until_ready(jax_fn())
    first = clock() - start
    if torch_fn is not None:
        torch_fn()
    ours, peer = [], []
    for _ in range(repeats):
        ours.append(seconds(lambda: jax.block_until_ready(jax_fn())))
        if torch_fn is not None:
            peer.append(seconds(torch_fn))
    run = statistics.median(ours)
    peer_run = statistics.median(peer) if peer else None
    return Row(
        name=name,
        ours_ms=run * 1e3,
        peer_ms=peer_run * 1e3 if peer else None,
        ratio=run / peer_run if peer else None,
        compile_s=max(first - run, 0.0),
        ours_mib=_peak_mib(lambda: jax.block_until_ready(jax_fn())),
        peer_mib=_peak_mib(torch_fn) if torch_fn is not None else None,
        repeats=repeats,
    )


def machine() -> dict[str, str]:
    """Returns a description of the machine and the software."""
    versions = {"vseg_jax": __version__}
    for package in ("jax", "jaxlib", "flax", "torch"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "device": jax.devices()[0].device_kind,
        "cores": str(os.cpu_count()),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        **versions,
    }


def table(rows: Sequence[Row]) -> str:
    """Formats the rows as a Markdown table."""
    lines = [
        "| what | ours, ms | peer, ms | ours / peer | compile, s | ours, MiB | peer, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            row.name,
            _cell(row.ours_ms, 1),
            _cell(row.peer_ms, 1),
            _cell(row.ratio, 2),
            _cell(row.compile_s, 1),
            _cell(row.ours_mib, 0),
            _cell(row.peer_mib, 0),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def arguments(description: str) -> argparse.ArgumentParser:
    """Returns a parser with the flags of all benchmarks."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=7, help="timed calls of each function")
    parser.add_argument("--output", type=Path, help="also write the rows to this JSON file")
    parser.add_argument(
        "--cpu-time",
        action=_CpuTime,
        nargs=0,
        help="measure processor time instead of elapsed time: for busy machines, on one core",
    )
    return parser


class _CpuTime(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        global clock
        clock = time.process_time
        namespace.cpu_time = True


def report(rows: Sequence[Row], output: Path | None = None) -> None:
    """Prints machine and table, and writes both as JSON if `output` is given."""
    _say(table(rows), [dataclasses.asdict(row) for row in rows], output)


def report_apart(
    args: argparse.Namespace, module: str, keys: Iterable[Sequence[Any]],
    measure: Callable[..., dict[str, Any]],
) -> None:
    """Reports rows that are each measured in a process of their own, for a separate peak memory.

    Args:
      args: of `arguments`, with `row`: the words of the key that this process measures, or None in
        the first process.
      module: the module to run with `python -m`.
      keys: of the rows, of one or several words each.
      measure: maps the words of a key to a row, {column: value}; all rows have the same columns.
    """
    if args.row:
        print(json.dumps(measure(*args.row)))
        return
    rows = []
    for key in keys:
        command = [sys.executable, "-m", module, *sys.argv[1:], "--row", *map(str, key)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(map(str, r.values())) for r in rows)]
    _say("\n".join("| " + " | ".join(line) + " |" for line in lines), rows, args.output)


def seconds(function: Callable[[], object]) -> float:
    """Returns the seconds that a call takes."""
    start = clock()
    function()
    return clock() - start


def memory(peak: bool = False) -> float:
    """Returns the memory in use in MiB: of the accelerator if present, else resident (Linux).

    Args:
      peak: whether to return the peak since `forget_peak` instead of the current value; the peak of
        an accelerator cannot be reset.
    """
    statistics = jax.devices()[0].memory_stats()
    if statistics:
        return statistics["peak_bytes_in_use" if peak else "bytes_in_use"] / 2**20
    return _resident(peak)


def forget_peak() -> None:
    """Resets the peak of the resident memory."""
    Path("/proc/self/clear_refs").write_text("5")


def _say(text: str, rows: list[dict[str, Any]], output: Path | None) -> None:
    here = machine()
    print(", ".join(f"{key} {value}" for key, value in here.items() if value))
    print(text)
    if output is not None:
        partial = output.with_name(output.name + ".partial")
        partial.write_text(json.dumps({"machine": here, "rows": rows}, indent=2) + "\n")
        os.replace(partial, output)


def _peak_mib(fn: Callable[[], object]) -> float | None:
    try:
        before = _resident(peak=False)
        forget_peak()
        fn()
        return max(_resident(peak=True) - before, 0)
    except (OSError, AttributeError):
        return None


def _resident(peak: bool) -> float:
    if not peak:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    key = "VmHWM" if peak else "VmRSS"
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {key}")


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
