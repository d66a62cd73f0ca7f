"""Shared by the builders: reading the files of a download, with errors that name them."""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import json
import types
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vseg_jax import urls
from vseg_jax.index_masks import VOID

SHOWN = 3  # names that a message lists; of the rest it gives only the number


def require(module: str) -> types.ModuleType:
    """Imports and returns a reader that only some datasets need.

    Raises:
      ImportError: it is not installed; names the extra that contains it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"this dataset is read with {package}, which is not installed: "
            "pip install 'vseg_jax[data]'"
        ) from error


def first_names(names: Iterable[object], of: int | None = None) -> str:
    """Returns "5 of 10 (a, b, c, ...)": the number of names, and the first few."""
    names = [str(name) for name in names]
    count = f"{len(names)} of {of}" if of is not None else str(len(names))
    dots = ", ..." if len(names) > SHOWN else ""
    return f"{count} ({', '.join(names[:SHOWN])}{dots})"


def read_rows(
    path: Path, columns: Sequence[str], header: bool
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the rows of a CSV file as (where, {column: value}); `where` is 'path, line n'.

    Raises:
      ValueError: no such file, not UTF-8, another header, a row with more or fewer columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); see {urls.DATASETS}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); download it again") from error
    reader = csv.reader(io.StringIO(text))
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if header:
            header = False
            if row != list(columns):
                raise ValueError(f"{where}: the header should be '{','.join(columns)}', got {row}")
            continue
        if not row:
            continue
        if len(row) != len(columns):
            raise ValueError(f"{where}: expected {len(columns)} columns "
                             f"({', '.join(columns)}), got {len(row)}: {row}")
        yield where, dict(zip(columns, row, strict=True))


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file.

    Raises:
      ValueError: no such file, or not JSON; names the path and the position.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); see {urls.DATASETS}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); it may be cut off: extract or download "
                         "it again") from error


def whole_number(text: str, where: str, what: str) -> int:
    """Returns `int(text)`, or raises a ValueError that names `where` and `what`."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{where}: {what} should be a whole number, got '{text}'") from None


def tidy(text: str, where: str) -> str:
    """Returns an expression with single spaces; raises a ValueError if it is empty."""
    words = text.split()
    if not words:
        raise ValueError(f"{where}: the expression is empty")
    return " ".join(words)


def read_image(path: Path) -> tuple[bytes, Image.Image]:
    """Returns the bytes of an image file and the fully decoded image.

    Uses Pillow because it keeps palette indices and rejects truncated files; OpenCV does neither.

    Raises:
      ValueError: it cannot be read; names the path.
    """
    try:
        data = path.read_bytes()
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as an image ({error}); extract or download it again"
        ) from error
    return data, image


def read_mask(path: Path) -> np.ndarray:
    """Returns the index mask uint8 [H, W] of a palette or gray PNG.

    A gray mask with only 0 and 255 holds one object, which gets the id 1.

    Raises:
      ValueError: it cannot be read, or has colors instead of indices; names the path.
    """
    _, image = read_image(path)
    if image.mode not in ("P", "L", "1"):
        raise ValueError(
            f"{path} has the mode {image.mode}; index masks are palette or gray PNGs of 8 bits "
            "(extract it again; programs that save it in color lose the ids)"
        )
    values = np.asarray(image).astype(np.uint8)
    if image.mode == "L" and not ((values > 0) & (values < 255)).any():
        return (values > 0).astype(np.uint8)
    return values


def check_ids(path: Path, mask: np.ndarray, known: Container[int]) -> None:
    """Raises a ValueError if a mask has a value that is neither 0, void nor a known id."""
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    if unknown := [int(v) for v in values if v not in (0, VOID) and int(v) not in known]:
        raise ValueError(f"{path} has the ids {unknown}, which the annotation of its video does "
                         f"not name; it names {known}")


def check_size(path: Path, size: tuple[int, int], wanted: tuple[int, int], of: object) -> None:
    """Raises a ValueError unless `path` has the `wanted` size (height, width) of the frame `of`."""
    if tuple(size) != tuple(wanted):
        raise ValueError(f"{path} is {size[0]}x{size[1]} (height x width), but {of} is "
                         f"{wanted[0]}x{wanted[1]}; a mask and its frame must have the same size")


def is_whole(path: Path) -> bool:
    """Returns whether a file exists and starts and ends as its type requires (a quick check)."""
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            file.seek(-min(16, path.stat().st_size), 2)
            tail = file.read()
    except OSError:
        return False
    if path.suffix == ".png":
        return head == b"\x89PNG\r\n\x1a\n" and b"IEND" in tail
    if path.suffix == ".jpg":
        return head[:2] == b"\xff\xd8" and tail.rstrip(b"\0").endswith(b"\xff\xd9")
    if path.suffix == ".h5":
        return head == b"\x89HDF\r\n\x1a\n"
    if path.suffix == ".mp4":
        return head[4:] == b"ftyp"
    return bool(head)


def broken(paths: Sequence[Path], split: str = "") -> list[str]:
    """Returns a problem that lists the files that are not whole; [] if there are none."""
    if lost := [path for path in paths if not is_whole(path)]:
        return [f"{split and f'{split}: '}files cut off or of another type: "
                f"{first_names(lost, len(paths))}"]
    return []


def numbered(folder: Path, suffix: str) -> dict[int, Path]:
    """Returns {number: path} of the files in a folder that are named by numbers, in order.

    Raises:
      ValueError: a file with this suffix is not named by a number.
    """
    paths = [p for p in folder.glob(f"*{suffix}") if not p.name.startswith(".")]
    found = {whole_number(p.stem, str(p), "the file's name"): p for p in paths}
    return dict(sorted(found.items()))


def gaps(numbers: Iterable[int], first: int) -> list[int]:
    """Returns the numbers that are missing from a sequence that should start at `first`."""
    present = set(numbers)
    return [n for n in range(first, max(present, default=first)) if n not in present]


def draw(names: Iterable[str], count: int, seed: int) -> list[str]:
    """Draws `count` names, the same ones on every machine; returns them in order.

    Takes the names with the lowest BLAKE2b hash (8 bytes) of "<seed> <name>". The result depends
    only on names and seed, and a missing name does not change the rank of another one.

    Raises:
      ValueError: fewer names than `count`.
    """
    names = sorted(names)
    if not 0 <= count <= len(names):
        raise ValueError(f"cannot draw {count} of {len(names)} videos")
    return sorted(sorted(
        names, key=lambda n: hashlib.blake2b(f"{seed} {n}".encode(), digest_size=8).digest()
    )[:count])


def paint(masks: Sequence[tuple[int, np.ndarray]], shape: tuple[int, int]) -> np.ndarray:
    """Returns objects' masks [(id, bool [H, W])] as one index mask uint8 [H, W].

    Where two overlap, the smaller one gets the pixel: it is usually the one in front.
    """
    index = np.zeros(shape, np.uint8)
    for object_id, mask in sorted(masks, key=lambda item: -int(item[1].sum())):
        index[mask] = object_id
    return index
