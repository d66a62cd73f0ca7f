"""The command line, run in the process of a test."""

import contextlib
import io
import warnings
from pathlib import Path

import jax
import pytest
from absl import flags, logging

from vseg_jax import main


def command(*arguments):
    """(exit code, stdout, stderr) of a command line, run in this process."""
    out, err, code, verbosity = io.StringIO(), io.StringIO(), 0, logging.get_verbosity()
    for flag in flags.FLAGS.get_flags_for_module(main):
        flag.unparse()
    with (warnings.catch_warnings(), contextlib.redirect_stdout(out),
          contextlib.redirect_stderr(err)):
        warnings.simplefilter("default")
        try:
            main._main(main._parse_flags(["vseg_jax.main", *map(str, arguments)]))
        except SystemExit as stop:
            code = stop.code
    logging.set_verbosity(verbosity)
    return code, out.getvalue(), err.getvalue()


def refused(*arguments, code=2):
    """The error of a command line that must end with one: its line and those that list keys."""
    got, out, err = command(*arguments)
    assert got == code, (out, err)
    assert "Traceback" not in err
    _, _, error = err.rpartition("error: ")
    assert err.count("error: ") == 1 and all(x.startswith("  ") for x in error.splitlines()[1:])
    return error


def contents(folder):
    """{file: bytes} of a folder."""
    return {p.relative_to(folder): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def quick_compilation(tmp_path_factory):
    """Programs compile quickly and run slowly; those that are kept lie in no one's home."""
    folder = jax.config.jax_compilation_cache_dir
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        jax.config.update("jax_disable_most_optimizations", True)
        yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.config.update("jax_compilation_cache_dir", folder)
