"""Checks downloads and prepares datasets: `vseg data {prepare,verify} NAME --source DIR`."""

from __future__ import annotations

import sys

from vseg_jax import urls
from vseg_jax.arguments import Parser
from vseg_jax.input_pipeline.builders import BUILDERS, prepare, prepare_shard, verify
from vseg_jax.input_pipeline.video_builder import SKIPPED


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 0, 1 if `verify` found problems, 2 if the command failed."""
    parser = Parser(
        prog="vseg data",
        description="Checks official downloads and turns them into prepared datasets; "
                    f"see {urls.DATASETS}",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command, purpose in (("prepare", "Converts an official download into a prepared dataset"),
                             ("verify", "Checks an official download for faults")):
        one = commands.add_parser(command, description=f"{purpose}; see {urls.DATASETS}",
                                  help=purpose)
        one.add_argument("name", help=f"one of {', '.join(BUILDERS)}")
        one.add_argument("--source", default="", help="folder of the official download")
        if command == "prepare":
            one.add_argument("--prepared", default="data", help="folder of all prepared datasets")
            one.add_argument("--skip_faulty", action="store_true",
                             help="leave out videos that cannot be read, and list them in "
                                  f"{SKIPPED} of the prepared dataset")
            one.add_argument("--shard", metavar="I/N",
                             help="convert only the I-th of N parts of the videos; the same "
                                  "command without it then writes the dataset")
        one.add_argument("--option", action="append", default=[], metavar="KEY=VALUE",
                         help="an option of the builder; may be repeated")
    given = parser.parse_args(arguments)
    try:
        options = _options(given.option)
        if given.command == "prepare":
            what = (given.name, given.source, given.prepared, options)
            if given.shard is None:
                print(prepare(*what, skip_faulty=given.skip_faulty))
            else:
                print(prepare_shard(
                    *what, shard=_shard(given.shard), skip_faulty=given.skip_faulty))
            return 0
        problems = verify(given.name, given.source, options)
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for problem in problems:
        print(f"problem: {problem}")
    print(f"{given.name}: {len(problems) or 'no'} problems")
    return 1 if problems else 0


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise ValueError(f"--shard must be I/N, for example 1/8, got '{text}'")
    return int(number), int(count)


def _options(pairs: list[str]) -> dict[str, str]:
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--option must be KEY=VALUE, got '{pair}'")
        options[key] = value
    return options


if __name__ == "__main__":
    sys.exit(main())
