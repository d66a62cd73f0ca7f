"""Shared by the builders: reading the files of a download, with errors that name them."""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import itertools
import types
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from vseg_jax import text_files, urls
from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.mask_files import index_of
from vseg_jax.text_files import read_text

FRAMES = (".jpg", ".jpeg", ".png")  # endings of frames, in capitals too
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
        text = read_text(path)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); see {urls.DATASETS}") from error
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
        return text_files.read_json(path)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); see {urls.DATASETS}") from error
    except ValueError as error:
        raise ValueError(f"{error}; it may be cut off: extract or download it again") from error


def read_categories(path: Path, of: str) -> dict[str, dict[int, str]]:
    """Returns {name: {object id: category}} of a file `categories.json`.

    Args:
      path: {"<name>": {"1": "dog", ...}, ...}.
      of: what is named, for errors.

    Raises:
      ValueError: the file has another form, or an empty category; names the entry.
    """
    content = read_json(path)
    form = f'{path} should hold {{{of}: {{"1": category, ...}}}}'
    if not isinstance(content, dict):
        raise ValueError(f"{form}, got {type(content).__name__}")
    found = {}
    for name, entry in content.items():
        where = f"{path}, '{name}'"
        if not isinstance(entry, dict) or not all(isinstance(v, str) for v in entry.values()):
            raise ValueError(f"{form}, got {entry!r} for '{name}'")
        if not all(v.strip() for v in entry.values()):
            raise ValueError(f"{where}: a category is empty; name it, or leave the object out")
        found[name] = {whole_number(key, where, "an object's id"): tidy(v, where)
                       for key, v in entry.items()}
    return found


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
    """Returns the bytes of an image file and the fully decoded image, turned as its EXIF says.

    Uses Pillow because it keeps palette indices and rejects truncated files; OpenCV does neither.

    Raises:
      ValueError: it cannot be read; names the path.
    """
    try:
        data = path.read_bytes()
        image = Image.open(io.BytesIO(data))
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as an image ({error}); extract or download it again"
        ) from error
    return data, image


def read_mask(path: Path) -> np.ndarray:
    """Returns the index mask uint8 [H, W] of an image file; see `index_of`.

    Raises:
      ValueError: it cannot be read, or is not an index mask; names the path.
    """
    _, image = read_image(path)
    return index_of(image, str(path))


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
    suffix = path.suffix.lower()
    if suffix == ".png":
        return head == b"\x89PNG\r\n\x1a\n" and b"IEND" in tail
    if suffix in (".jpg", ".jpeg"):
        return head[:2] == b"\xff\xd8" and tail.rstrip(b"\0").endswith(b"\xff\xd9")
    if suffix == ".h5":
        return head == b"\x89HDF\r\n\x1a\n"
    if suffix == ".mp4":
        return head[4:] == b"ftyp"
    return bool(head)


def broken(paths: Sequence[Path], split: str = "") -> list[str]:
    """Returns a problem that lists the files that are not whole; [] if there are none."""
    if lost := [path for path in paths if not is_whole(path)]:
        return [f"{split and f'{split}: '}files cut off or of another type: "
                f"{first_names(lost, len(paths))}"]
    return []


def numbered(folder: Path, *suffixes: str) -> dict[int, Path]:
    """Returns {number: path} of the files in a folder that are named by numbers, in order.

    Numbers may have any zeros in front, suffixes any case; hidden files are ignored.

    Raises:
      ValueError: a file with such a suffix is not named by a number, or two have one number.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        number = whole_number(path.stem, str(path), "the file's name")
        if number in found:
            raise ValueError(f"{folder} holds {found[number].name} and {path.name}, two files with "
                             f"the number {number}; leave one")
        found[number] = path
    return dict(sorted(found.items()))


def gaps(numbers: Iterable[int], first: int | None = None) -> list[int]:
    """Returns the numbers that are missing from a sequence that should start at `first`.

    None takes any start and the smallest step between numbers: 1, 2, 3 and 0, 5, 10 lack nothing.
    """
    present = sorted(set(numbers))
    if first is None:
        first = min(present, default=0)
        step = min((b - a for a, b in itertools.pairwise(present)), default=1)
    else:
        step = 1
    return sorted(set(range(first, max(present, default=first), step)) - set(present))


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
