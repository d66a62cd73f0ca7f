"""What is listed beside a dataset's shards: its categories, and a line of JSON a record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

CATEGORIES = "categories.json"


@dataclasses.dataclass(frozen=True)
class Category:
    """A category of a dataset; `id` is that of its annotation files."""

    id: int
    name: str


@dataclasses.dataclass(frozen=True)
class Object:
    """One object of a video; `id` is its value in the masks (1 to 254)."""

    id: int
    category: str = ""


@dataclasses.dataclass(frozen=True)
class Expression:
    """A sentence and the object that it names.

    `object_id` is `UNKNOWN_OBJECT` where a test set keeps it to itself.
    `style` tells kinds of sentences of one dataset apart (first-frame or full-video annotators);
    `differs_in` says what sets the object apart from its nearest distractor, where that is known.
    """

    text: str
    object_id: int
    style: str = ""
    differs_in: str = ""


@dataclasses.dataclass(frozen=True)
class IndexedObject:
    """An object of the index; `frames` are the annotated frames in which it can be seen."""

    id: int
    category: str
    frames: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class IndexEntry:
    """What the index tells of one record."""

    video_id: str
    length: int
    height: int
    width: int
    annotated: tuple[int, ...]
    objects: tuple[IndexedObject, ...]
    expressions: tuple[Expression, ...]


def index_name(split: str) -> str:
    """File name of a split's index."""
    return f"index-{split}.jsonl"


def read_index(path: Path) -> list[IndexEntry]:
    """The entries of an index file.

    Raises:
      ValueError: a line that is no entry; names path and line.
    """
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            value = json.loads(line)
            value["annotated"] = tuple(value["annotated"])
            value["objects"] = tuple(
                IndexedObject(o["id"], o["category"], tuple(o["frames"])) for o in value["objects"]
            )
            value["expressions"] = tuple(Expression(**e) for e in value["expressions"])
            entries.append(IndexEntry(**value))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}, line {number}: not an index entry: {error!r}") from error
    return entries


def write_categories(folder: Path, categories: Sequence[Category]) -> None:
    """Writes a dataset's categories into its folder."""
    rows = [dataclasses.asdict(category) for category in categories]
    (folder / CATEGORIES).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def read_categories(folder: Path) -> tuple[Category, ...]:
    """The categories of a dataset, in order of their ids; () where its builder lists none.

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
