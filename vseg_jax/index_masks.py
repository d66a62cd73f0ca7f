"""The values of index masks: 0 is background, 1 to 254 are object ids, 255 is void."""

from __future__ import annotations

import functools

LARGEST = 254  # id of an object
VOID = 255  # pixels of which nothing is known: never trained on, never scored as an object


@functools.cache
def palette() -> tuple[int, ...]:
    """Returns the palette of DAVIS' and PASCAL VOC's index PNGs in PIL's layout: r, g, b, r, ..."""
    values = []
    for index in range(256):
        for channel in range(3):
            # Bits `channel`, `channel` + 3, ... of the index become the channel's highest bits.
            value = sum(((index >> (3 * place + channel)) & 1) << (7 - place) for place in range(3))
            values.append(value)
    return tuple(values)
