"""Runs Python in a process of its own that has eight simulated devices."""

import json
import os
import subprocess
import sys


def run(code, folder, *arguments):
    """Returns what the last line says that `code` prints, in JSON.

    Args:
      code: Python; `arguments` are its `sys.argv[1:]`.
      folder: where it runs; modules there can be imported.
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], text=True, capture_output=True, cwd=folder,
        env={**os.environ, "JAX_PLATFORMS": "cpu",
             "XLA_FLAGS": "--xla_force_host_platform_device_count=8"})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
