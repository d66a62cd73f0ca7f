"""Ctrl-C and SIGTERM as a request to save and stop."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType


class Interruption:
    """A context manager that catches SIGINT (Ctrl-C) and SIGTERM, in the main thread.

    `requested` tells that one came: save and stop at the next good moment. A second Ctrl-C raises
    KeyboardInterrupt at once.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        # Handlers can only be set in the main thread; in others the present handlers stay.
        if threading.current_thread() is threading.main_thread():
            self._previous = {n: signal.signal(n, self._note) for n in self._SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        if number == signal.SIGINT:   # print() is not safe here
            os.write(2, b"\nstopping as soon as all is saved; Ctrl-C again stops at once\n")
