"""The process around a run: several machines, compiled programs on disk, what is installed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import signal
import threading
from pathlib import Path

import jax
from jax.experimental import multihost_utils

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy",
            "tensorflow-datasets", "opencv-python-headless", "clu", "vseg_jax")


def initialize_distributed(**where) -> None:
    """Joins the processes of a job; call before anything else of JAX, in each process alike.

    SLURM, GKE and TPU pods are recognized by JAX itself; elsewhere give `coordinator_address`,
    `num_processes` and `process_id` (see `jax.distributed.initialize`).
    """
    jax.distributed.initialize(**where)


def enable_compilation_cache(folder: str | Path | None = None) -> Path:
    """Keeps compiled programs in `folder` (the user's cache folder by default) between runs."""
    if folder is None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base) / "vseg_jax" / "xla"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def versions() -> dict[str, str]:
    """The packages and devices that a run is made with."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    found["devices"] = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    found["processes"] = str(jax.process_count())
    return found


class Preemption:
    """Hears SIGTERM while entered; `requested(step)` says whether to save and leave.

    In one process a handler sets a flag.  In several, JAX's own preemption service hears the
    signal and all processes are told to stop at the same step, whichever of them was hit.
    """

    def __init__(self):
        self._heard = threading.Event()
        self._previous = None

    def __enter__(self) -> Preemption:
        # Handlers can only be set in the main thread; elsewhere the caller's own stays.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, lambda *_: self._heard.set())
        return self

    def __exit__(self, *_) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def requested(self, step: int) -> bool:
        """Every process has to ask at every step, with the same number."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._heard.is_set()
