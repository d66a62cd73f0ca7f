"""The `vseg` command: trains, evaluates and applies models, and works on datasets and results.

Subcommands are described by tables: those on a config or a run in `vseg_jax.commands`, those of
other modules (datasets, metrics, submissions, ...) in `TOOLS`. A module is imported only when its
command runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from vseg_jax import __version__, commands, urls
from vseg_jax.arguments import Once, Parser


@dataclasses.dataclass(frozen=True)
class Tool:
    """A command that a module implements in its `main(arguments)`.

    Attributes:
      summary: what the command does.
      module: module with `main`.
      arguments: put before those of the user.
    """

    summary: str
    module: str
    arguments: tuple[str, ...] = ()


TOOLS = {
    "demo": Tool("Opens a page in the browser on which videos are segmented.",
                 "vseg_jax.demo.__main__"),
    "models": Tool("Lists the models that ship with the library.", "vseg_jax.zoo.__main__"),
    "data prepare": Tool("Converts an official download into a prepared dataset.",
                         "vseg_jax.input_pipeline.builders.__main__", ("prepare",)),
    "data verify": Tool("Checks an official download for missing and damaged files.",
                        "vseg_jax.input_pipeline.builders.__main__", ("verify",)),
    "data new": Tool("Makes a dataset from your own videos and masks.",
                     "vseg_jax.tools.own_data"),
    "data as_youtube_vis": Tool("Writes a prepared dataset in the format of YouTube-VIS.",
                                "vseg_jax.input_pipeline.builders.as_youtube_vis"),
    "metrics a2d": Tool("Scores masks of A2D-Sentences and J-HMDB-Sentences.",
                        "vseg_jax.metrics.a2d"),
    "metrics davis": Tool("Scores masks by region similarity J and boundary accuracy F.",
                          "vseg_jax.metrics.davis"),
    "metrics youtube_vis": Tool("Scores instances by average precision and recall.",
                                "vseg_jax.metrics.youtube_vis"),
    "flow": Tool("Adds optical flow to a prepared dataset, by RAFT or DIS.",
                 "vseg_jax.tools.add_flow"),
    "saliency": Tool("Scores the largest moving object, a baseline without expressions.",
                     "vseg_jax.tools.saliency"),
    "nearest": Tool("Scores labels of the nearest features, a baseline without training.",
                    "vseg_jax.tools.nearest"),
    "submission check": Tool("Checks a submission for an evaluation server.",
                             "vseg_jax.submission.__main__", ("check",)),
    "submission write": Tool("Predicts a test split and writes the submission.",
                             "vseg_jax.submission.__main__", ("write",)),
    "figures qvim": Tool("Draws the analyses of the qvim paper.", "vseg_jax.tools.qvim_figures"),
    "figures rcf": Tool("Draws the analyses of the rcf paper.", "vseg_jax.tools.rcf_figures"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `vseg ARGUMENTS` (of the process by default) and returns the exit status.

    The status is 0 for success, 1 for a non-finite loss, problems that `data verify` found or some
    of several videos that `predict` could not segment, and 2 for a user error, which prints a line
    that begins with "error:".
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] == "--version":
        print(f"vseg_jax {__version__}")
        return 0
    if words[0] in commands.COMMANDS:
        return _run(words[0], words[1:])
    name = next((n for n in (words[0], " ".join(words[:2])) if n in TOOLS), "")
    if name:
        return _run_tool(name, words[len(name.split()):])
    group = [n for n in TOOLS if n.split()[0] == words[0]]
    if group and words[1:] in ([], ["-h"], ["--help"]):
        print(f"usage: vseg {words[0]} COMMAND ...\n\n{_table(group)}\n\n{_HINT}",
              file=sys.stdout if words[1:] else sys.stderr)
        return 0 if words[1:] else 2
    return _unknown(" ".join(words[:2] if group else words[:1]), group)


def _run(name: str, arguments: Sequence[str]) -> int:
    """Runs a command on a config or a run."""
    others, overrides = commands.split_overrides(arguments)
    options = _parse(name, others)
    with commands.user_errors(traceback=options.verbosity > 0):
        from absl import logging

        logging.use_absl_handler()
        logging.set_verbosity(options.verbosity)
        return commands.run(name, vars(options), overrides)
    return 0


def _run_tool(name: str, arguments: Sequence[str]) -> int:
    """Runs a command that another module implements."""
    tool = TOOLS[name]
    with commands.user_errors():
        module = importlib.import_module(tool.module)
        return module.main([*tool.arguments, *arguments]) or 0


def _parse(name: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Parses the arguments of a command on a config or a run."""
    parser = _parser(name)
    options, unknown = parser.parse_known_args(arguments)
    if unknown and unknown[0].startswith("--"):
        from vseg_jax.config import nearest

        key = unknown[0].lstrip("-").partition("=")[0]
        parser.error(f"there is no flag --{key}{nearest(key, vars(options))}")
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)}")
    return options


def _parser(name: str) -> argparse.ArgumentParser:
    """Returns the parser of a command on a config or a run."""
    command = commands.COMMANDS[name]
    examples = "".join(f"  {line}\n" for line in command.examples)
    parser = Parser(
        prog=f"vseg {name}", allow_abbrev=False, description=command.summary,
        epilog=f"examples:\n{examples}\nDocumentation: {urls.DOCS}",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    for key in (*command.required, *command.optional):
        option = commands.OPTIONS[key]
        required = key in command.required
        if option.kind is bool:
            parser.add_argument(f"--{key}", action="store_true", help=option.help)
        else:
            action: dict[str, Any] = {"nargs": "+", "action": "extend"} if option.several else (
                {"action": Once} if option.once else {})
            parser.add_argument(
                f"--{key}", metavar=option.metavar, default=option.default,
                type=option.kind, **action,
                help=f"{option.help}{' (required)' if required else ''}")
    keys = "config.model.KEY" if "config" not in command.required else "config.KEY"
    parser.add_argument(f"--{keys}", metavar="VALUE", default=argparse.SUPPRESS,
                        help="sets a key of the config; may be repeated")
    parser.add_argument("--verbosity", type=int, default=-1, metavar="LEVEL",
                        help="0 shows the log of the libraries, 1 also where an error came from")
    return parser


_HINT = "`vseg COMMAND --help` shows the options of a command and examples."


def _overview() -> str:
    """Returns the text of `vseg --help`."""
    return "\n".join([
        "usage: vseg COMMAND ...", "",
        "Video segmentation in JAX, prompted by a referring expression, a mask, or nothing.", "",
        "commands on a config or a run:", _table(list(commands.COMMANDS)), "",
        "commands on datasets and results:", _table(list(TOOLS)), "",
        "options:", "  --version", "  --help", "", _HINT, f"Documentation: {urls.DOCS}",
    ])


def _table(names: Sequence[str]) -> str:
    """Returns a line with the summary of each command."""
    summaries = {name: command.summary for name, command in commands.COMMANDS.items()}
    summaries |= {name: tool.summary for name, tool in TOOLS.items()}
    width = max(map(len, names))
    return "\n".join(f"  {name:{width}}  {summaries[name]}" for name in names)


def _unknown(name: str, group: Sequence[str]) -> int:
    """Reports a command that does not exist."""
    from vseg_jax.config import nearest

    known = group or [*commands.COMMANDS, *dict.fromkeys(n.split()[0] for n in TOOLS)]
    print(f"error: there is no command '{name}'{nearest(name, known)} (see vseg --help)",
          file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
