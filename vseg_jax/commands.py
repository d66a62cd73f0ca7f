"""The commands on a config or a run, shared by `vseg` and `python -m vseg_jax.main`.

`OPTIONS` and `COMMANDS` describe the commands once; both front ends build their flags from them and
call `run`. Nothing heavy is imported before a command runs, so that `--help` is quick.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Values of the options by name; an option that was not given has its default.
Options = Mapping[str, Any]
# {dotted key below the config: Python literal or plain text}
Overrides = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Option:
    """A flag: its help, its default and its type; a flag of type bool takes no value.

    With `several` it takes one or more values, also by being repeated; they come as a list. With
    `once` it is an error to repeat it; of other flags the last one counts.
    """

    help: str
    default: int | bool | None = None
    metavar: str | None = None
    kind: type[Any] = str
    several: bool = False
    once: bool = False


OPTIONS = {
    "config": Option(
        "config (for the commands study and cost: study): NAME, NAME:VARIANT, FILE.py or "
        "FILE.py:VARIANT",
        metavar="CONFIG"),
    "workdir": Option(
        "folder of the run: checkpoints, curves, metrics; where a checkpoint is only read, also a "
        "folder that import or export wrote", metavar="DIR"),
    "weights": Option("public weights of the whole network (.pth, .safetensors, ...)",
                      metavar="FILE"),
    "model": Option(
        "trained model: a name that `vseg models` lists, a folder or .safetensors file that `vseg "
        "export` or `vseg import` wrote, a workdir, or hf://OWNER/NAME@REVISION", metavar="MODEL"),
    "video": Option(
        "video to segment: a file, a folder of images, or the number of a camera; also several of "
        "them, folders of them, and patterns such as 'clips/*.mp4'",
        metavar="PATH", several=True),
    "fps": Option(
        "with a folder of images: frames per second of overlay.mp4; default: 25",
        metavar="NUMBER", kind=float),
    "start": Option("number of the first frame to segment; default: 0", metavar="FRAME", kind=int),
    "end": Option("number of the frame after the last one to segment; default: the video's end",
                  metavar="FRAME", kind=int),
    "every": Option("segment one of so many frames; default: 1, all of them", metavar="NUMBER",
                    kind=int),
    "format": Option(
        "predict: also write the predictions for other programs, as davis, youtube_vos, "
        "youtube_vis, coco, npz or alpha-video; export, to a folder: jax, a checkpoint and the "
        "streaming step as jax.export programs (the default), or onnx, the streaming step as "
        "model.onnx, which needs the extra onnx",
        metavar="FORMAT", several=True),
    "device": Option("where to compute: cpu, gpu, tpu, or gpu:1 for the second one; default: a GPU "
                     "or TPU if there is one", metavar="DEVICE"),
    "query": Option("referring expression of the object to segment, in all videos", metavar="TEXT",
                    once=True),
    "mask": Option(
        "mask prompt: index PNG of the first frame; a folder of them named by frame number; or a "
        "folder of such folders named by object id, whose masks speak for that object only; for "
        "several videos a folder that holds NAME.png or such a folder NAME for each",
        metavar="PATH"),
    "short_side": Option(
        "with a mask prompt: shorter side in pixels at which the model sees the frames; 0 = the "
        "video's own; default: that of the run's evaluation", metavar="PIXELS", kind=int),
    "both_directions": Option(
        "with mask prompts: also follow objects backward, to the frames before their first masks",
        default=False, kind=bool),
    "follow": Option(
        "with a query: a model with mask prompts, such as swiftnet-lite0, that carries the mask of "
        "the frame in which the first model is surest through the video", metavar="MODEL"),
    "probabilities": Option(
        "also write the probabilities of each frame's objects (.npz)", default=False, kind=bool),
    "no_overlay": Option("do not draw overlay.mp4", default=False, kind=bool),
    "raft": Option(
        "for a model that uses optical flow: weights of RAFT; without them OpenCV's DIS computes "
        "the flow, with a note",
        metavar="FILE"),
    "size": Option(
        "predict: scale frames and masks to this size first; export, for a model with mask "
        "prompts: size of the program's frames, by default that of the training clips, scaled to "
        "the shorter side of the run's evaluation",
        metavar="HEIGHT,WIDTH"),
    "output": Option(
        "folder to write; predict keeps what the same command has written there before; export can "
        "also write one FILE.safetensors", metavar="DIR"),
    "half": Option("to a file: store the kernels in half precision", default=False, kind=bool),
    "slim": Option(
        "to a file: leave out the arrays that packages of public weights hold, where the config "
        "names them (model.*_weights=package:NAME); who loads the file needs the packages",
        default=False, kind=bool),
    "distributed": Option(
        "several machines: call jax.distributed.initialize() first", default=False, kind=bool),
}


@dataclasses.dataclass(frozen=True)
class Command:
    """A command: its help, the options it needs and the others that it takes."""

    summary: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


COMMANDS = {
    "train": Command(
        "Trains a config, resumes an interrupted run, and evaluates the result.",
        ("config", "workdir"), ("distributed",),
        ("vseg train --config quickstart --workdir runs/quickstart",
         "vseg train --config qvim:davis --workdir runs/davis --config.data.source=/data/DAVIS")),
    "evaluate": Command(
        "Scores the newest checkpoint of a run, or an import, on every dataset of its config.",
        ("config", "workdir"), ("model", "distributed"),
        ("vseg evaluate --config quickstart --workdir runs/quickstart",
         "vseg evaluate --config qvim:davis --workdir runs/davis --config.evaluation.save=True")),
    "predict": Command(
        "Segments videos: index PNGs, overlay.mp4 and predictions.json for each.",
        ("output", "video"),
        ("model", "workdir", "query", "mask", "start", "end", "every", "size", "short_side", "fps",
         "both_directions", "follow", "probabilities", "no_overlay", "format", "device", "raft",
         "distributed"),
        ('vseg predict --workdir runs/davis --video clip.mp4 --query "a dog running" '
         "--output masks",
         "vseg predict --workdir runs/swiftnet --video clip.mp4 --mask first.png --output masks",
         "vseg predict --workdir runs/swiftnet --video JPEGImages/480p/cows --mask first.png "
         "--output masks",
         "vseg predict --workdir runs/rcf --video clip.mp4 --output objects",
         "vseg predict --model follower.safetensors --video clip.mp4 --mask first.png --output "
         "masks",
         "vseg predict --model swiftnet-lite0 --video clips --mask first_masks --format coco "
         "--output masks",
         "vseg predict --workdir runs/rcf --video 0 --output recording")),
    "export": Command(
        "Writes a checkpoint and the streaming step as compiled programs, or a model as one file.",
        ("output",), ("model", "workdir", "format", "size", "half", "slim", "distributed"),
        ("vseg export --workdir runs/davis --output exported",
         "vseg export --workdir runs/davis --output davis.safetensors --half",
         "vseg export --workdir runs/swiftnet --output exported --size 480,854",
         "vseg export --model swiftnet-lite0 --format onnx --size 240,432 --output follower")),
    "import": Command(
        "Turns public weights into a checkpoint for predict, evaluate and export.",
        ("config", "weights", "output"), ("distributed",),
        ("vseg import --config swiftnet:stm --weights STM_weights.pth --output stm",
         "vseg import --config mmvt:public --weights mmvt.pth --output mmvt "
         "--config.text.tokenizer=bert-base-uncased")),
    "dry_run": Command(
        "Runs one training step on random data and reports its parameters, memory and FLOPs.",
        ("config",), ("distributed",),
        ("vseg dry_run --config quickstart",
         "vseg dry_run --config qvim:a2d --config.train.batch_size=2")),
    "study": Command(
        "Trains and scores the missing runs of a study and writes its table.",
        ("config", "workdir"), ("distributed",),
        ("vseg study --config studies:text --workdir runs/text",)),
    "cost": Command(
        "Counts the parameters and FLOPs of a study's rows, without data or training.",
        ("config", "workdir"), ("distributed",),
        ("vseg cost --config studies:text --workdir runs/text",)),
}


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Separates `--config.some.key=value` and `--config.some.key value` from other arguments.

    Returns:
      The other arguments in their order, and {key below the config: text of the value}.
    """
    others: list[str] = []
    overrides = {}
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith(("--config.", "-config.")):
            others.append(argument)
            continue
        key, equals, value = argument.lstrip("-").removeprefix("config.").partition("=")
        overrides[key] = value if equals else next(rest, "")
    return others, overrides


def run(command: str, options: Options, overrides: Overrides) -> int:
    """Runs a command of `COMMANDS`.

    Returns:
      The exit status: 0, or 1 where some of several videos failed.

    Raises:
      ValueError: a required option is missing, or the command cannot use what it was given.
      FloatingPointError: the loss of a training became non-finite.
    """
    for name in COMMANDS[command].required:
        if not options[name]:
            raise ValueError(f"--{name} is missing: {OPTIONS[name].help}")
    from vseg_jax import experiment  # imports jax

    if options["distributed"]:
        experiment.initialize_distributed()
    if command == "predict":
        failed = experiment.predict(
            _source(options), options["video"], options["output"], query=options["query"],
            mask=options["mask"], short_side=options["short_side"], fps=options["fps"],
            both_directions=options["both_directions"], follow=options["follow"] or "",
            probabilities=options["probabilities"], drawn=not options["no_overlay"],
            start=options["start"], end=options["end"], every=options["every"],
            size=_size(options["size"]), into=options["format"] or (),
            changes=_model_changes(command, overrides),
            raft=options["raft"] or "", device=options["device"])
        return 1 if failed else 0
    if command == "export":
        experiment.export(
            _source(options), options["output"], _size(options["size"]),
            _model_changes(command, overrides), format=_one_format(options["format"]),
            half=options["half"], slim=options["slim"])
    elif command == "study":
        experiment.run_study(options["config"], options["workdir"], overrides)
    elif command == "cost":
        experiment.study_cost(options["config"], options["workdir"], overrides)
    else:
        settings = experiment.read(options["config"], overrides)
        if command == "train":
            experiment.train(settings, options["workdir"])
        elif command == "evaluate":
            experiment.evaluate(settings, options["workdir"], options["model"])
        elif command == "import":
            written = experiment.import_weights(settings, options["weights"], options["output"])
            print(f"wrote {written}")
        else:
            experiment.dry_run(settings)
    return 0


def _source(options: Options) -> str:
    """Returns the trained model that `--model` or `--workdir` names."""
    given = [name for name in ("model", "workdir") if options[name]]
    if not given:
        raise ValueError(f"--model is missing: {OPTIONS['model'].help}")
    if len(given) > 1:
        raise ValueError("--model and --workdir both name a trained model; give one of them")
    return options[given[0]]


def _model_changes(command: str, overrides: Overrides) -> dict[str, object]:
    """Returns the overrides of the model's keys; the rest of a saved config is fixed."""
    from vseg_jax.config import literal

    for key in overrides:
        if not key.startswith("model."):
            raise ValueError(f"{command} reads the config from the workdir and accepts only keys "
                             f"of the model (--config.model.KEY); leave out --config.{key}")
    return {key.removeprefix("model."): literal(value) for key, value in overrides.items()}


def _one_format(names: Sequence[str] | None) -> str:
    """Returns the format of an export, "" for the default."""
    if names and len(names) > 1:
        raise ValueError(f"--format is {', '.join(names)}; export writes one format at a time")
    return names[0] if names else ""


def _size(text: str | None) -> tuple[int, int] | None:
    if not text:
        return None
    sides = text.split(",")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise ValueError(f"--size is {text!r}; it must be HEIGHT,WIDTH in pixels")
    return int(sides[0]), int(sides[1])


@contextlib.contextmanager
def user_errors(traceback: bool = False) -> Iterator[None]:
    """Turns errors and warnings that concern the user into one line each.

    An error exits the process with status 2, a non-finite loss with status 1, Ctrl-C with 130.

    Args:
      traceback: whether to raise the error instead, to show where it came from.
    """
    warnings.showwarning = _show_warning
    try:
        yield
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        if traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, FloatingPointError) else 2)
    except KeyboardInterrupt as stop:   # Ctrl-C; 130 is what shells expect
        if traceback:
            raise
        print(f"error: {str(stop) or 'interrupted'}", file=sys.stderr)
        sys.exit(130)


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int,
                  file: object = None, line: str | None = None) -> None:
    """Prints a warning for the user in one line, and one for programmers with its place."""
    del file
    if category is UserWarning:
        print(f"warning: {message}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))
