"""The nouns by which people call the objects of a category.

No object of a clip may be called by the noun of an expression except the one that it names. What
counts is therefore every noun that a category could have, not only the one that is used.
"""

from __future__ import annotations

from collections.abc import Collection

# Names and synonyms of one category, as VOC, COCO and YouTube-VIS spell them; words glued together
# or joined by "_" are never written into an expression.
SYNONYMS = (
    ("person", "human being", "figure"),
    ("dog", "canine"), ("cat", "feline"), ("horse", "steed"), ("cow",), ("sheep",), ("bird",),
    ("elephant",), ("bear",), ("zebra",), ("giraffe",), ("rabbit",), ("deer",), ("fox",),
    ("monkey",), ("tiger",), ("lion",), ("leopard",), ("giant panda", "panda"), ("duck",),
    ("car", "automobile"), ("bus", "coach"), ("train",), ("truck", "lorry"), ("boat",),
    ("motorbike", "motorcycle"), ("bicycle", "bike"), ("airplane", "aeroplane", "plane"),
    ("sofa", "couch"), ("chair", "seat"), ("dining table", "diningtable", "table"), ("bench",),
    ("potted plant", "pottedplant", "plant"), ("bottle",), ("ball", "sports ball"),
    ("television", "tvmonitor", "tv", "tv monitor", "screen"), ("skateboard",), ("surfboard",),
    ("umbrella",), ("backpack",), ("cup",), ("book",), ("laptop",), ("bed",), ("kite",),
)
# More general nouns, and their members by the first name of each.
GROUPS = {
    "person": ("man", "woman", "boy", "girl", "child"),
    "animal": ("dog", "cat", "horse", "cow", "sheep", "bird", "elephant", "bear", "zebra",
               "giraffe", "rabbit", "deer", "fox", "monkey", "tiger", "lion", "leopard",
               "giant panda", "duck"),
    "pet": ("dog", "cat"),
    "vehicle": ("car", "bus", "train", "truck", "boat", "motorbike", "bicycle", "airplane"),
    "piece of furniture": ("sofa", "chair", "dining table", "bench", "bed"),
}
PEOPLE = frozenset({*SYNONYMS[0], *GROUPS["person"]})
_GLUED = frozenset({"diningtable", "pottedplant", "tvmonitor"})


def plain(category: str) -> str:
    """Returns the noun of a category: its name in words, in lower case."""
    name = category.replace("_", " ").lower()
    return _synonyms(name)[0] if name in _GLUED else name


def nouns(category: str) -> frozenset[str]:
    """Returns every noun by which an object of a category can rightly be called."""
    name = plain(category)
    return frozenset({name, *_synonyms(name), *_groups(name)})


def possible_nouns(category: str) -> frozenset[str]:
    """Returns the nouns with those that might be right: a "person" may be a "woman"."""
    found = nouns(category)
    return found.union(*(GROUPS[noun] for noun in found & GROUPS.keys()
                         if noun in _synonyms(plain(category))))


def usable(category: str, others: Collection[str]) -> tuple[str, ...]:
    """Returns the nouns that an expression may use, the plain one first.

    Of a category that is not in the tables it is not known whether it is, say, an animal, so in its
    presence only plain names are used.

    Args:
      category: of the named object.
      others: the categories of all objects of the clip.
    """
    name = plain(category)
    if not all(_known(plain(other)) for other in others):
        return (name,)
    more = sorted({*_synonyms(name), *_groups(name)} - {name} - _GLUED)
    return (name, *more)


def _synonyms(name: str) -> tuple[str, ...]:
    return next((names for names in SYNONYMS if name in names), (name,))


def _groups(name: str) -> tuple[str, ...]:
    first = _synonyms(name)[0]
    return tuple(group for group, members in GROUPS.items() if first in members)


def _known(name: str) -> bool:
    return bool(_groups(name)) or any(name in names for names in SYNONYMS)
