"""Shares compiled programs between the tests of this folder and the processes they start."""

import jax
import pytest


@pytest.fixture(scope="package", autouse=True)
def compiled_once(tmp_path_factory):
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    patch = pytest.MonkeyPatch()
    for name, value in settings.items():
        jax.config.update(name, value)
        patch.setenv(name.upper(), str(value))
    yield
    patch.undo()
    for name, value in before.items():
        jax.config.update(name, value)
