"""The parser of all command lines that are built with argparse."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line, as all other user errors are, with exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with the message."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


class Once(argparse.Action):
    """Refuses an option that is given again, whose value would silently replace the first."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
                 values: Any, option_string: str | None = None) -> None:
        """Takes the value."""
        if (before := getattr(namespace, self.dest)) is not None:
            parser.error(f"{option_string} is given twice, as {before!r} and {values!r}; give one, "
                         "and run the command again for the other, with another --output")
        setattr(namespace, self.dest, values)
