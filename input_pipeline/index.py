"""The files next to a dataset's shards: its categories, and an index with a line per record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from vseg_jax import atomic

CATEGORIES = "categories.json"


@dataclasses.dataclass(frozen=True)
class Category:
    """A category of a dataset; `id` is its id in the annotation files."""

    id: int
    name: str


@dataclasses.dataclass(frozen=True)
class Object:
    """One object of a video; `id` is its value in the masks (1 to 254)."""

    id: int
    category: str = ""


@dataclasses.dataclass(frozen=True)
class Expression:
    """A referring expression and the object that it names.

    Attributes:
      text: the expression.
      object_id: the object's id, or `UNKNOWN_OBJECT` if a test set does not publish it.
      style: kind of expression, where a dataset has several ("plain", "free").
      differs_in: the attribute in which the object's distractor differs, where it is known.
    """

    text: str
    object_id: int
    style: str = ""
    differs_in: str = ""


@dataclasses.dataclass(frozen=True)
class IndexedObject:
    """An object of the index; `frames` are the annotated frames that show it."""

    id: int
    category: str
    frames: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class IndexEntry:
    """The line of the index for one record."""

    video_id: str
    length: int
    height: int
    width: int
    annotated: tuple[int, ...]
    objects: tuple[IndexedObject, ...]
    expressions: tuple[Expression, ...]


def index_name(split: str) -> str:
    """Returns the file name of a split's index."""
    return f"index-{split}.jsonl"


def read_index(path: Path) -> list[IndexEntry]:
    """Returns the entries of an index file.

    Raises:
      ValueError: a line is not an entry; names path and line.
    """
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entries.append(parse_entry(line))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}, line {number}: not an index entry: {error!r}") from error
    return entries


def parse_entry(line: str) -> IndexEntry:
    """Returns the entry of a line of an index; raises an error if it is not one."""
    value = json.loads(line)
    value["annotated"] = tuple(value["annotated"])
    value["objects"] = tuple(
        IndexedObject(o["id"], o["category"], tuple(o["frames"])) for o in value["objects"]
    )
    value["expressions"] = tuple(Expression(**e) for e in value["expressions"])
    return IndexEntry(**value)


def entry_line(entry: IndexEntry) -> str:
    """Returns an entry as a line of an index, without its end."""
    return json.dumps(dataclasses.asdict(entry), ensure_ascii=False)


def write_categories(folder: Path, categories: Sequence[Category]) -> None:
    """Writes a dataset's categories into its folder."""
    rows = [dataclasses.asdict(category) for category in categories]
    atomic.write_text(folder / CATEGORIES, json.dumps(rows, indent=1) + "\n")


def read_categories(folder: Path) -> tuple[Category, ...]:
    """Returns the categories of a dataset in order of their ids; () if its builder lists none.

    Raises:
      ValueError: the file is damaged; names it.
    """
    path = folder / CATEGORIES
    if not path.is_file():
        return ()
    try:
        found = [Category(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
        return tuple(sorted(found, key=lambda category: category.id))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a list of categories: {error!r}") from error
