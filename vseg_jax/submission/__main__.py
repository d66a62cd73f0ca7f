"""Writes and checks submissions to the benchmarks' servers.

    vseg submission check --kind davis --source DAVIS FOLDER_OR_ZIP
    vseg submission write --kind davis --source DAVIS \\
        --checkpoint RUN --prepared DATASET OUTPUT

DAVIS is the folder of the official download (`--source`), RUN the working directory of a training
or an export, and DATASET the folder that `vseg data prepare` printed. `check` lists every
problem and exits with status 2 if there is one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from vseg_jax.arguments import Parser
from vseg_jax.submission import FORMATS, check, find
from vseg_jax.submission.base import count


def main(arguments: Iterable[str] | None = None) -> int:
    """Runs the command of the module's docstring and returns its exit status."""
    parser = Parser(prog="vseg submission", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    defaults = ", ".join(f"{name}: {format_.split}" for name, format_ in FORMATS.items())
    for name, path in (("check", "a folder or a zip"), ("write", "a new folder or zip")):
        command = commands.add_parser(
            name, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        command.add_argument("--kind", choices=FORMATS, required=True)
        command.add_argument("--source", required=True, help="folder of the official download")
        command.add_argument("--split", default="", help=f"default: {defaults}")
        if name == "write":
            command.add_argument("--checkpoint", required=True, help="working directory or export")
            command.add_argument("--prepared", required=True, help="folder of the prepared dataset")
        command.add_argument("path", help=path)
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        if options.command == "write":
            print(_write(options))
            return 0
        problems = check(options.kind, options.source, options.path, options.split)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if problems:
        print(*problems, sep="\n")
        print(f"error: {options.path} has {count(problems)}", file=sys.stderr)
        return 2
    print(f"{options.path} is complete")
    return 0


def _write(options: argparse.Namespace) -> Path:
    from vseg_jax.inference.segmenter import load
    from vseg_jax.input_pipeline.records import open_dataset

    format_ = find(options.kind)
    split = options.split or format_.split
    dataset = open_dataset(options.prepared, split)
    predictions = format_.predict(load(options.checkpoint), dataset, sys.stderr.isatty())
    return format_.write(options.source, predictions, options.path, split)


if __name__ == "__main__":
    sys.exit(main())
