"""The command line, run in the process of a test."""

import contextlib
import io
import warnings
from pathlib import Path

from absl import flags, logging

from vseg_jax import main

# A quickstart of seconds, in both forms in which a key can be set.
SMALL_QUICKSTART = [
    "--config.data.options.train=4", "--config.data.options.test=2",
    "--config.data.options.length", "3",
    "--config.train.steps", "2", "--config.train.batch_size=2", "--config.train.warmup=1",
    "--config.train.log_every=1", "--config.train.learning_rate=0.01",
    "--config.clip.length=2", "--config.clip.stride=1", "--config.clip.target=1",
    "--config.clip.height=32", "--config.clip.width=32",
    "--config.model.backbone=resnet18", "--config.model.resnet_width=4",
    "--config.model.channels=8", "--config.model.decoder_channels", "(4,4,4,4,4)",
    "--config.model.word_width=8", "--config.model.queue=8", "--config.model.vocabulary=300",
    "--config.text.length=12", "--config.evaluation.batch_size=4",
    "--config.evaluation.overlay_clips=0",
]


def command(*arguments):
    """(exit code, stdout, stderr) of a command line, run in this process."""
    out, err, code, verbosity = io.StringIO(), io.StringIO(), 0, logging.get_verbosity()
    for flag in flags.FLAGS.get_flags_for_module(main):
        flag.unparse()
    with (warnings.catch_warnings(), contextlib.redirect_stdout(out),
          contextlib.redirect_stderr(err)):
        warnings.simplefilter("default")
        try:
            code = main.main(main._parse_flags(["vseg_jax.main", *map(str, arguments)]))
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
