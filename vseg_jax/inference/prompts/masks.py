"""Index masks that users give: checked, and their ids mapped to a model's slots.

An index mask is [H, W]: 0 is background, the other values (1 to 254) are the ids of the objects on
whose pixels they stand. A model has slots, 1 to N; objects take them in the order in which they
enter. `ids` are those of the objects in the slots; 0 is a slot that is free again.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.mask_files import RECIPE


def check_mask(
    mask: Any, size: tuple[int, int], frame: int, empty: bool = False
) -> UInt8[np.ndarray, "H W"]:
    """Returns the mask of frame number `frame`, which has `size` (height, width), as uint8.

    True in a bool mask is object 1; integers of any type are accepted. Only if it may be `empty`,
    it needs no object.

    Raises:
      ValueError: the mask has the wrong shape, type or values; the message says what is wanted.
    """
    mask, name = np.asarray(mask), f"the mask of frame {frame}"
    if mask.ndim != 2:
        raise ValueError(f"{name} is {mask.dtype} {mask.shape}{_other_form(mask.shape, size)}")
    if mask.dtype.kind not in "biu":
        raise ValueError(f"{name} is {mask.dtype}; a mask holds integers: 0 for background and an "
                         "object's id on its pixels")
    if mask.shape != size:
        raise ValueError(f"{name} is {mask.shape[1]} x {mask.shape[0]}, its frame {size[1]} x "
                         f"{size[0]}; give it at the frame's size (resize with nearest neighbors)")
    low, high = int(mask.min()), int(mask.max())
    if high == VOID:
        raise ValueError(f"{name} has the value 255, which stands for unknown (void); write the "
                         "object as 1, and unknown pixels as 0")
    if low < 0 or high > VOID:
        raise ValueError(f"{name} has the value {low if low < 0 else high}; ids are 1 to 254")
    if high == 0 and not empty:
        raise ValueError(f"{name} has no object: every pixel is 0; write the object as 1 (name "
                         "objects that are gone in `objects`, or give a folder for each object)")
    return mask.astype(np.uint8)


def _other_form(shape: tuple[int, ...], size: tuple[int, int]) -> str:
    """Returns what an array of this shape may be, and what to do with it, for messages."""
    if len(shape) == 3 and shape[1:] == size:
        return ("; if these are masks of single objects, make one index mask [H, W] of them: for "
                "number, mask in enumerate(masks, 1): index[mask > 0] = number")
    colors = "; this is an image with colors" if len(shape) == 3 else ""
    return f"{colors}: {RECIPE}"


def id_list(ids: Any, name: str) -> list[int]:
    """Returns any collection of ids as a list.

    Raises:
      ValueError: these are not ids; the message says that it is about `name`.
    """
    if not isinstance(ids, Collection) or (isinstance(ids, np.ndarray) and not ids.ndim):
        raise ValueError(f"{name} is {ids!r}; give a list of ids")
    wrong = [i for i in ids if isinstance(i, bool) or not isinstance(i, int | np.integer)
             or not 0 < i < VOID]
    if wrong:
        raise ValueError(f"{name} has {wrong[0]!r}; ids are integers from 1 to 254")
    return [int(i) for i in ids]


class Prompt(NamedTuple):
    """A mask and the ids of the objects that it speaks for; it has pixels of no others."""

    mask: UInt8[np.ndarray, "H W"]
    objects: list[int]


def check_prompt(mask: Any, objects: Any, size: tuple[int, int], frame: int) -> Prompt:
    """Returns what a user gave for frame number `frame`, which has `size` (height, width).

    Args:
      mask: see `check_mask`.
      objects: the ids that it speaks for; None: those that it has. Pixels of others are removed.
      size: see `check_mask`.
      frame: see `check_mask`.

    Raises:
      ValueError: the mask or the ids cannot be used.
    """
    mask = check_mask(mask, size, frame, empty=objects is not None)
    if objects is None:
        return Prompt(mask, object_ids(mask))
    objects = id_list(objects, f"objects of the mask of frame {frame}")
    return Prompt(np.where(np.isin(mask, objects), mask, np.uint8(0)), objects)


def check_prompts(
    masks: Mapping[int, Any], objects: Mapping[int, Any], size: tuple[int, int]
) -> dict[int, Prompt]:
    """Returns the prompts of a whole video by frame number.

    Warns if the ids of all of them have gaps.

    Args:
      masks: by frame number.
      objects: by frame number; see `check_prompt`.
      size: (height, width) of the frames.

    Raises:
      ValueError: see `check_prompt`; or no mask has a pixel of an object.
    """
    prompts = {n: check_prompt(mask, objects.get(n), size, n) for n, mask in masks.items()}
    if missing := sorted(set(objects) - set(masks)):
        raise no_mask(missing[0])
    ids = {i for prompt in prompts.values() for i in object_ids(prompt.mask)}
    for number, prompt in prompts.items():
        check_known(prompt.objects, ids, prompt.mask, number)
    warn_of_gaps(ids)
    return prompts


def in_order(prompts: Iterable[tuple[int, Prompt]]) -> dict[int, Prompt]:
    """Returns the prompts for a session that gets them in this order.

    What they say about objects that have not entered, which is that these are absent, is left out.
    """
    known: set[int] = set()
    found = {}
    for number, (mask, objects) in prompts:
        known.update(object_ids(mask))
        if said := [i for i in objects if i in known]:
            found[number] = Prompt(mask, said)
    return found


def no_mask(frame: int) -> ValueError:
    """Returns the error for objects without a mask."""
    return ValueError(f"there are objects but no mask for frame {frame}; give a mask, whose pixels "
                      "are 0 where none of these objects is")


def check_known(
    objects: Collection[int], ids: Collection[int], mask: UInt8[np.ndarray, "H W"], frame: int
) -> None:
    """Raises ValueError if one of the objects is not in `ids`, and has no pixel in the mask."""
    unknown = sorted(set(objects) - set(ids) - set(object_ids(mask)))
    if unknown:
        raise ValueError(f"object {unknown[0]} is unknown and has no pixel in the mask of frame "
                         f"{frame}; an object enters with its pixels")


def check_capacity(masks: Mapping[int, np.ndarray], capacity: int) -> None:
    """Raises ValueError if checked masks, by frame number, name more objects than a model takes."""
    ids: set[int] = set()
    for frame, mask in sorted(masks.items()):
        ids.update(object_ids(mask))
        if len(ids) > capacity:
            raise _too_many(sorted(ids), capacity, frame)


def add_ids(
    ids: tuple[int, ...], mask: UInt8[np.ndarray, "H W"], capacity: int, frame: int
) -> tuple[int, ...]:
    """Returns the ids of slots 1, 2, ...: the known ones, and the new ones of a frame's mask.

    New ones take the slots that are free again, then further ones.

    Raises:
      ValueError: there are more ids than the model has slots.
    """
    new = [i for i in object_ids(mask) if i not in ids]
    slots = [i or (new.pop(0) if new else 0) for i in ids] + new
    found = [i for i in slots if i]
    if len(found) > capacity:
        raise _too_many(found, capacity, frame)
    return tuple(slots)


def _too_many(ids: Sequence[int], capacity: int, frame: int) -> ValueError:
    shown = ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
    return ValueError(
        f"{len(ids)} objects ({shown}) with the mask of frame {frame}, but the model was "
        f"built for {capacity}: give fewer, remove() those that are gone, or build it with a "
        "higher model.objects (a grayscale image is not an index mask)")


def warn_of_gaps(ids: Iterable[int], before: Iterable[int] = ()) -> None:
    """Warns if the ids are not 1, 2, ... without a gap: such a mask is often a photograph.

    Zeros are not counted. If the ids `before` had gaps, the warning has been given.
    """
    found, found_before = (sorted(i for i in x if i) for x in (ids, before))
    gaps, had_gaps = (x != list(range(1, len(x) + 1)) for x in (found, found_before))
    if gaps and not had_gaps:
        warnings.warn(f"the objects' ids have gaps: {', '.join(map(str, found))}; they are kept (a "
                      "grayscale image is not an index mask)", stacklevel=2)


def object_ids(mask: UInt8[np.ndarray, "H W"]) -> list[int]:
    """Returns the ids in a mask in ascending order."""
    return (np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[1:VOID]) + 1).tolist()


def to_slots(
    mask: UInt8[np.ndarray, "H W"], ids: tuple[int, ...]
) -> UInt8[np.ndarray, "H W"]:
    """Returns the mask with each id replaced by the number of its slot."""
    table = np.zeros(256, np.uint8)
    table[list(ids)] = np.arange(1, len(ids) + 1)
    table[0] = 0   # free slots
    return table[mask]
