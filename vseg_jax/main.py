"""The command line: train | evaluate | predict | export | dry_run | study | cost.

    python -m vseg_jax.main --config configs/quickstart.py --workdir runs/quickstart
    python -m vseg_jax.main --config configs/qvim.py:davis --workdir runs/davis --mode evaluate
    python -m vseg_jax.main --workdir runs/davis --mode predict \
        --video clip.mp4 --query "a dog running" --output masks
    python -m vseg_jax.main --workdir runs/swiftnet --mode predict \
        --video clip.mp4 --mask first.png --output masks --config.model.adaptation_steps=50
    python -m vseg_jax.main --workdir runs/rcf --mode predict --video video.mp4 --output objects
    python -m vseg_jax.main --mode study --config configs/studies.py:text --workdir runs/text
    python -m vseg_jax.main --mode cost --config configs/studies.py:text --workdir runs/text

Any key of the config can be set: `--config.train.steps=100`. What the user can mend (a config key,
a file, a query) ends with a line that begins "error:" and exit code 2, a loss that is no number
with exit code 1; `--verbosity=1` shows where an error came from.
"""

from __future__ import annotations

import sys
import warnings

from absl import app, flags, logging

MODES = ("train", "evaluate", "predict", "export", "dry_run", "study", "cost")

_CONFIG = flags.DEFINE_string(
    "config", "", "config file, FILE.py or FILE.py:variant; with --mode study or cost the study's"
)
_WORKDIR = flags.DEFINE_string("workdir", "", "folder of the run: checkpoints, curves, metrics")
_MODE = flags.DEFINE_enum("mode", "train", MODES, "what to do")
_VIDEO = flags.DEFINE_string("video", "", "predict: a video file")
_QUERY = flags.DEFINE_string("query", "", "predict: the sentence that names the object")
_MASK = flags.DEFINE_string(
    "mask", "", "predict: the first frame's index PNG, or a folder of them named by frame number"
)
_SHORT_SIDE = flags.DEFINE_integer(
    "short_side", 0, "predict with a mask: the frame's shorter side inside the model; 0 = its own"
)
_RAFT = flags.DEFINE_string(
    "raft", "", "predict with a model that reads optical flow: RAFT's weights; without them, DIS"
)
_SIZE = flags.DEFINE_list(
    "size", [], "export of a model of masks: HEIGHT,WIDTH of the frames; [] = the training's clips"
)
_OUTPUT = flags.DEFINE_string("output", "", "predict, export: folder to write")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "several machines: call jax.distributed.initialize() first"
)

_OVERRIDES: dict[str, str] = {}


def _parse_flags(argv: list[str]) -> list[str]:
    """Takes `--config.some.key=value` (or `--config.some.key value`) out, absl reads the rest."""
    _OVERRIDES.clear()
    rest, arguments = [], iter(argv)
    for argument in arguments:
        if not argument.startswith(("--config.", "-config.")):
            rest.append(argument)
            continue
        key, equals, value = argument.lstrip("-").removeprefix("config.").partition("=")
        _OVERRIDES[key] = value if equals else next(arguments, "")
    try:
        return flags.FLAGS(rest)
    except flags.Error as error:
        print(f"error: {error}; see --help", file=sys.stderr)
        sys.exit(2)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise ValueError(f"arguments not understood: {' '.join(argv[1:])}; see --help")
    from vseg_jax import experiment  # after the flags: --help needs no accelerator

    if not _WORKDIR.value and _MODE.value != "dry_run":
        raise ValueError("--workdir is missing: the folder of the run")
    if _DISTRIBUTED.value:
        experiment.initialize_distributed()
    if _MODE.value in ("predict", "export"):
        if not _OUTPUT.value:
            raise ValueError(f"--output is missing: the folder that {_MODE.value} writes")
        changes = _model_changes()
        if _MODE.value == "export":
            experiment.export(_WORKDIR.value, _OUTPUT.value, _size(), changes)
        else:
            query, mask = (flag.value if flag.present else None
                           for flag in (flags.FLAGS["query"], flags.FLAGS["mask"]))
            experiment.predict(_WORKDIR.value, _VIDEO.value, _OUTPUT.value, query=query, mask=mask,
                               short_side=_SHORT_SIDE.value, changes=changes, raft=_RAFT.value)
        return
    if not _CONFIG.value:
        raise ValueError("--config is missing, for example --config configs/quickstart.py")
    if _MODE.value in ("study", "cost"):
        run = experiment.run_study if _MODE.value == "study" else experiment.study_cost
        run(_CONFIG.value, _WORKDIR.value, _OVERRIDES)
        return
    settings = experiment.read(_CONFIG.value, _OVERRIDES)
    if _MODE.value == "train":
        experiment.train(settings, _WORKDIR.value)
    elif _MODE.value == "evaluate":
        experiment.evaluate(settings, _WORKDIR.value)
    else:
        experiment.dry_run(settings)


def _model_changes() -> dict[str, object]:
    """The overrides of the saved model's keys; no others have a meaning there."""
    from vseg_jax.config import literal

    others = [key for key in _OVERRIDES if not key.startswith("model.")]
    if others:
        raise ValueError(f"{_MODE.value} takes the config from the workdir, but for keys of the "
                         f"model; leave out --config.{others[0]}")
    return {key.removeprefix("model."): literal(value) for key, value in _OVERRIDES.items()}


def _size() -> tuple[int, int] | None:
    if not _SIZE.value:
        return None
    if len(_SIZE.value) != 2 or not all(side.isdecimal() and int(side) for side in _SIZE.value):
        raise ValueError(f"--size is {','.join(_SIZE.value)!r}; it must be HEIGHT,WIDTH in pixels")
    return int(_SIZE.value[0]), int(_SIZE.value[1])


def _main(argv: list[str]) -> None:
    warnings.showwarning = _show_warning
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # what orbax does is of no interest to most
    try:
        main(argv)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        if logging.vlog_is_on(1):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, FloatingPointError) else 2)


def _show_warning(message: Warning | str, category: type, filename: str, lineno: int,
                  file: object = None, line: str | None = None) -> None:
    """A warning for the user in one line; one for programmers with its place."""
    del file
    if category is UserWarning:
        print(f"warning: {message}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


if __name__ == "__main__":
    app.run(_main, flags_parser=_parse_flags)
