"""What the builders share: reading the files of a download so that errors name them."""

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

from vseg_jax.index_masks import VOID

SHOWN = 3  # names of missing things that a message lists before it only counts


def require(module: str) -> types.ModuleType:
    """Imports a reader that only some datasets need.

    Raises:
      ImportError: it is not installed; says which extra brings it.
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
    """'3 of 10 (a, b, c)': how many, and the first few."""
    names = [str(name) for name in names]
    count = f"{len(names)} of {of}" if of is not None else str(len(names))
    dots = ", ..." if len(names) > SHOWN else ""
    return f"{count} ({', '.join(names[:SHOWN])}{dots})"


def read_rows(
    path: Path, columns: Sequence[str], header: bool
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file as (where, {column: value}); `where` is 'path, line n'.

    Raises:
      ValueError: no such file, another header, a row with more or fewer columns, not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); see docs/data.md") from error
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
            raise ValueError(f"{where}: wants {len(columns)} columns "
                             f"({', '.join(columns)}), got {len(row)}: {row}")
        yield where, dict(zip(columns, row, strict=True))


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
      ValueError: no such file, not JSON (names the path and the place in it).
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); see docs/data.md") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); it may be cut off: extract or download "
                         "it again") from error


def whole_number(text: str, where: str, what: str) -> int:
    """`int(text)`, or a ValueError that says where and what."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{where}: {what} should be a whole number, got '{text}'") from None


def sentence(text: str, where: str) -> str:
    """The sentence with its spaces tidied; a ValueError where it is empty."""
    tidy = " ".join(text.split())
    if not tidy:
        raise ValueError(f"{where}: the query is empty")
    return tidy


def read_image(path: Path) -> tuple[bytes, Image.Image]:
    """The bytes of an image file and the image, decoded to its last pixel.

    Pillow, not OpenCV: it keeps palette indices and refuses a file that is cut off.

    Raises:
      ValueError: names the path.
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
    """An index mask uint8 [H, W] of a palette or gray PNG; gray 0 and 255 alone: one object, 1.

    Raises:
      ValueError: it cannot be read, or has colors instead of indices; names the path.
    """
    _, image = read_image(path)
    if image.mode not in ("P", "L", "1"):
        raise ValueError(
            f"{path} has the mode {image.mode}; index masks are palette or gray PNGs of 8 bits "
            "(extract again; programs that re-save them as colors lose the ids)"
        )
    values = np.asarray(image).astype(np.uint8)
    if image.mode == "L" and not ((values > 0) & (values < 255)).any():
        return (values > 0).astype(np.uint8)
    return values


def check_ids(path: Path, mask: np.ndarray, known: Container[int]) -> None:
    """ValueError where a mask has a value that is neither 0, void nor one of the known ids."""
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    if unknown := [int(v) for v in values if v not in (0, VOID) and int(v) not in known]:
        raise ValueError(f"{path} has the ids {unknown}, which the annotation of its video does "
                         f"not name; it names {known}")


def check_size(path: Path, size: tuple[int, int], wanted: tuple[int, int], of: object) -> None:
    """ValueError unless `size` (height, width) of `path` is that of the frame `of`."""
    if tuple(size) != tuple(wanted):
        raise ValueError(f"{path} is {size[0]}x{size[1]} (height x width), but {of} is "
                         f"{wanted[0]}x{wanted[1]}; a mask and its frame must have one size")


def is_whole(path: Path) -> bool:
    """Whether a file is there, not empty, and begins and ends as its kind does (quick check)."""
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


def numbered(folder: Path, suffix: str) -> dict[int, Path]:
    """{number: path} of the files of a folder that are named by a number, in order.

    Raises:
      ValueError: a file with this suffix is not named by a number.
    """
    paths = [p for p in folder.glob(f"*{suffix}") if not p.name.startswith(".")]
    found = {whole_number(p.stem, str(p), "the file's name"): p for p in paths}
    return dict(sorted(found.items()))


def gaps(numbers: Iterable[int], first: int) -> list[int]:
    """The numbers missing from a run that should start at `first`."""
    present = set(numbers)
    return [n for n in range(first, max(present, default=first)) if n not in present]


def draw(names: Iterable[str], count: int, seed: int) -> list[str]:
    """`count` of the names, the same ones on every machine, in order of their names.

    Those whose BLAKE2b hash (8 bytes) of "<seed> <name>" comes first: nothing but the names and
    the seed decides, and a name that is missing changes no other's place.

    Raises:
      ValueError: fewer names than `count`.
    """
    names = sorted(names)
    if not 0 <= count <= len(names):
        raise ValueError(f"{count} videos are to be drawn of {len(names)}")
    return sorted(sorted(
        names, key=lambda n: hashlib.blake2b(f"{seed} {n}".encode(), digest_size=8).digest()
    )[:count])


def paint(masks: Sequence[tuple[int, np.ndarray]], shape: tuple[int, int]) -> np.ndarray:
    """Objects' masks [(id, bool [H, W])] as one index mask uint8 [H, W].

    Where two overlap the smaller one keeps the pixel: it is most often the one in front.
    """
    index = np.zeros(shape, np.uint8)
    for object_id, mask in sorted(masks, key=lambda item: -int(item[1].sum())):
        index[mask] = object_id
    return index
