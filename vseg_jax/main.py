"""The command line: train | evaluate | predict | export | dry_run.

    python -m vseg_jax.main --config configs/quickstart.py --workdir runs/quickstart
    python -m vseg_jax.main --config configs/qvim.py:davis --workdir runs/davis --mode evaluate
    python -m vseg_jax.main --workdir runs/davis --mode predict \
        --video clip.mp4 --query "a dog running" --output masks

Any key of the config can be set: `--config.train.steps=100`. Errors of the user (a config key, a
file, a query) end with one line and exit code 2.
"""

from __future__ import annotations

import sys

from absl import app, flags, logging

MODES = ("train", "evaluate", "predict", "export", "dry_run")

_CONFIG = flags.DEFINE_string("config", "", "config file, FILE.py or FILE.py:variant")
_WORKDIR = flags.DEFINE_string("workdir", "", "folder of the run: checkpoints, curves, metrics")
_MODE = flags.DEFINE_enum("mode", "train", MODES, "what to do")
_VIDEO = flags.DEFINE_string("video", "", "predict: a video file")
_QUERY = flags.DEFINE_string("query", "", "predict: the sentence that names the object")
_OUTPUT = flags.DEFINE_string("output", "", "predict, export: folder to write")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "several machines: call jax.distributed.initialize() first"
)

_OVERRIDES: dict[str, str] = {}


def _parse_flags(argv: list[str]) -> list[str]:
    """Takes `--config.some.key=value` (or `--config.some.key value`) out, absl reads the rest."""
    rest, arguments = [], iter(argv)
    for argument in arguments:
        if not argument.startswith(("--config.", "-config.")):
            rest.append(argument)
            continue
        key, equals, value = argument.lstrip("-").removeprefix("config.").partition("=")
        _OVERRIDES[key] = value if equals else next(arguments, "")
    return app.parse_flags_with_usage(rest)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise ValueError(f"arguments not understood: {' '.join(argv[1:])}; see --help")
    from vseg_jax import experiment  # after the flags: --help needs no accelerator

    if not _WORKDIR.value and _MODE.value != "dry_run":
        raise ValueError("--workdir is missing: the folder of the run")
    if _DISTRIBUTED.value:
        experiment.initialise_distributed()
    if _MODE.value in ("predict", "export"):
        if not _OUTPUT.value:
            raise ValueError(f"--output is missing: the folder that {_MODE.value} writes")
        if _MODE.value == "export":
            experiment.export(_WORKDIR.value, _OUTPUT.value)
        else:
            experiment.predict(_WORKDIR.value, _VIDEO.value, _QUERY.value, _OUTPUT.value)
        return
    if not _CONFIG.value:
        raise ValueError("--config is missing, for example --config configs/quickstart.py")
    settings = experiment.read(_CONFIG.value, _OVERRIDES)
    if _MODE.value == "train":
        experiment.train(settings, _WORKDIR.value)
    elif _MODE.value == "evaluate":
        experiment.evaluate(settings, _WORKDIR.value)
    else:
        experiment.dry_run(settings)


def _main(argv: list[str]) -> None:
    try:
        main(argv)
    except ValueError as error:
        if logging.vlog_is_on(1):     # --verbosity=1 shows where it came from
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app.run(_main, flags_parser=_parse_flags)
