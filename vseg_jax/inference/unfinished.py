"""The folder of a prediction while it is written: it can be interrupted, and goes on later."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vseg_jax import atomic
from vseg_jax.inference.session import Session
from vseg_jax.media.camera import Camera
from vseg_jax.media.excerpt import Excerpt, Source
from vseg_jax.media.images import ImageFolder

SUFFIX = ".unfinished"
EVERY = 60.0   # seconds between two saves
_PROGRESS, _SESSION = "progress.json", "session.npz"


class Unfinished:
    """A context manager around the work on a new folder, `output`.

    The files are written to `output` with `SUFFIX`, which becomes `output` when the block ends
    without an error. After an error it stays if it holds a frame, and the next call with the same
    command goes on after the last save.

    Attributes:
      folder: where to write.
      rows: of the table of frames, for those that are done.
      session: file of the session that goes on after these; None to begin.
    """

    def __init__(self, output: Path, command: Mapping[str, Any], resumes: bool = True) -> None:
        """Reads what an earlier call with the same command has left.

        Args:
          output: must not exist, or be an empty folder.
          command: values for JSON that determine the result, by the names of the arguments.
          resumes: whether the same command can go on later; a recording cannot.

        Raises:
          ValueError: `output` holds something, or there is the beginning of another command or of a
            recording.
        """
        if output.exists() and not (output.is_dir() and not any(output.iterdir())):
            raise ValueError(f"{output} already exists; name a new folder or remove it first")
        self.folder = output.absolute().with_name(output.absolute().name + SUFFIX)
        self.rows: list[dict[str, Any]] = []
        self.session: Path | None = None
        self._output, self._command = output, json.loads(json.dumps(command))
        self._resumes, self._saved_at = resumes, time.monotonic()
        if self.folder.exists():
            if not resumes:
                raise ValueError(f"{self.folder} holds a recording that was not finished; remove "
                                 "it, or name another output")
            self._read()

    def _read(self) -> None:
        try:
            progress = json.loads((self.folder / _PROGRESS).read_text(encoding="utf-8"))
            before, rows = dict(progress["command"]), list(progress["frames"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.folder} is not the beginning of a prediction ({error}); "
                             "remove it, or name another output") from error
        other = [key for key, value in self._command.items() if before.get(key) != value]
        if other:
            raise ValueError(f"{self.folder} holds the beginning of a prediction with another "
                             f"{', '.join(other)}; remove it, or name another output")
        if rows and (self.folder / _SESSION).is_file():
            self.rows, self.session = rows, self.folder / _SESSION
        else:   # stopped before the first save
            shutil.rmtree(self.folder)

    def __enter__(self) -> Unfinished:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.session is None:
            self._write_progress()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is None:
            for name in (_PROGRESS, _SESSION):
                (self.folder / name).unlink(missing_ok=True)
            os.replace(self.folder, self._output)   # an empty folder is replaced
        elif not self.rows:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif kind is not KeyboardInterrupt and self._resumes:
            warnings.warn(f"{self.folder} holds {len(self.rows)} frames that are done; the same "
                          "command resumes after the last save", stacklevel=2)

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved_at > EVERY

    def save(self, session: Session | None) -> None:
        """Saves a session whose frames so far are the rows; None before the first mask."""
        if session is not None:
            session.save(self.folder / _SESSION)
            self._write_progress()
        self._saved_at = time.monotonic()

    def _write_progress(self) -> None:
        progress = {"command": self._command, "frames": self.rows}
        with contextlib.suppress(OSError):   # a full disk: the earlier one stays
            atomic.write_text(self.folder / _PROGRESS, json.dumps(progress))


def fingerprint(
    source: Source, masks: Mapping[int, np.ndarray], objects: Mapping[int, Collection[int]]
) -> dict[str, Any]:
    """Returns values that tell videos and masks apart: "video", its name and its size in bytes or
    number of images, and "mask", a hash."""
    digest = hashlib.blake2b(digest_size=16)
    for number, mask in sorted(masks.items()):
        named = objects.get(number)
        digest.update(f"{number} {mask.shape} {named and sorted(named)} ".encode())
        digest.update(mask.tobytes())
    whole = source.whole if isinstance(source, Excerpt) else source
    name, size = whole.path.resolve().name, 0
    if isinstance(whole, ImageFolder):
        size = whole.length
    elif not isinstance(whole, Camera):
        size = whole.path.stat().st_size
    return {"video": [name, size], "mask": digest.hexdigest() if masks else None}
