"""The parser of all command lines that are built with argparse."""

from __future__ import annotations

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line, as all other user errors are, with exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with the message."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")
