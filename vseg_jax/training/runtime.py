"""The process around a run: several hosts, the compilation cache, versions, preemption."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from vseg_jax.interruption import Interruption

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy",
            "tensorflow-datasets", "opencv-python-headless", "clu", "vseg_jax")


def initialize_distributed(**where: Any) -> None:
    """Joins the processes of a job; call it in every process, before any other use of JAX.

    JAX recognizes SLURM, GKE and TPU pods; elsewhere pass `coordinator_address`, `num_processes`
    and `process_id` (see `jax.distributed.initialize`).
    """
    jax.distributed.initialize(**where)


def use_device(name: str) -> None:
    """Makes a device the one that computes where nothing else is said.

    Args:
      name: "cpu", "gpu" or "tpu" for the first of its kind, or with a number, "gpu:1".

    Raises:
      ValueError: there is no such device.
    """
    kind, _, number = name.partition(":")
    try:
        device = jax.devices(kind)[int(number or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        known = [f"{d.platform}:{k}" for k, d in enumerate(jax.local_devices())]
        raise ValueError(f"there is no device {name}; here are {', '.join(known)}, and cpu"
                         ) from error
    jax.config.update("jax_default_device", device)


def enable_compilation_cache() -> None:
    """Caches compiled programs in the user's cache folder, where JAX has no other folder for them.

    `JAX_COMPILATION_CACHE_DIR` names another one, and `JAX_ENABLE_COMPILATION_CACHE=false` switches
    the cache off; see the documentation of JAX.
    """
    if jax.config.jax_compilation_cache_dir is None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(base) / "vseg_jax" / "xla"))


def versions() -> dict[str, str]:
    """Returns the versions of the packages, and the devices, that a run uses."""
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
    """A context manager that catches SIGTERM; `requested(step)` tells whether to save and stop.

    In a single process Ctrl-C does the same, see `Interruption`. In several, JAX's preemption
    service catches SIGTERM and makes all processes stop at the same step, whichever of them
    received it.
    """

    def __init__(self) -> None:
        self._signals = Interruption()
        self._single = jax.process_count() == 1

    def __enter__(self) -> Preemption:
        if self._single:
            self._signals.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._single:
            self._signals.__exit__()

    def requested(self, step: int) -> bool:
        """Returns whether to stop; every process must call it at every step, with the same step."""
        if not self._single:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._signals.requested
