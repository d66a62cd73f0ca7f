"""Text files as editors write them: UTF-8 with or without a byte order mark, and UTF-16."""

from __future__ import annotations

import codecs
import json
import os
from pathlib import Path
from typing import Any


def read_text(path: str | os.PathLike) -> str:
    """Returns the content of a text file, without its byte order mark.

    Raises:
      ValueError: it is neither UTF-8 nor UTF-16 with a byte order mark; names the path.
      OSError: it cannot be read.
    """
    data = Path(path).read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error


def read_json(path: str | os.PathLike) -> Any:
    """Returns the content of a JSON file.

    Raises:
      ValueError: it is not JSON; names the path and the position.
      OSError: it cannot be read.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error
