"""How JAX compiles in all tests and in the processes that they start.

Most of the tests' time is the compilation of programs that run for milliseconds. Each is compiled
with few optimizations, and once for all tests and workers. What the environment sets stays as it
is: `JAX_DISABLE_MOST_OPTIMIZATIONS=0 make test` compiles with all optimizations.
"""

import os
import tempfile

# Set here, before anything imports jax: the conftest.py files below do.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Without MLIR's passes, an operation on arrays is compiled in half of the time.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:   # a worker has that of the process above it
    compiled = tempfile.TemporaryDirectory()
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": compiled.name,
                   "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
