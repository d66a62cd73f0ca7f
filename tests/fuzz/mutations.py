"""Damages files and texts at random, reproducibly."""

import numpy as np

NUMBERS = ("-1", "0", "1e400", "NaN", "null", "99999999999999999999", "[]", "{}", '""', "true")


def damaged(data, random):
    """Returns `data` with one to three mutations; never `data` itself."""
    new = data
    while new == data:
        for _ in range(random.integers(1, 4)):
            new = MUTATIONS[random.integers(len(MUTATIONS))](new, random)
    return new


def _place(data, random, longest=64):
    start = int(random.integers(len(data) + 1))
    return start, start + int(random.integers(1, longest))


def _cut_off(data, random):
    return data[:random.integers(len(data) + 1)]


def _without_beginning(data, random):
    return data[random.integers(min(len(data), 64) + 1):]


def _flip_bits(data, random):
    new = bytearray(data)
    for at in random.integers(len(data), size=random.integers(1, 5)) if data else ():
        new[at] ^= 1 << int(random.integers(8))
    return bytes(new)


def _overwritten(data, random):
    start, end = _place(data, random)
    new = (random.bytes(end - start), bytes(end - start), b"\xff" * (end - start))
    return data[:start] + new[random.integers(3)] + data[end:]


def _left_out(data, random):
    start, end = _place(data, random)
    return data[:start] + data[end:]


def _repeated(data, random):
    start, end = _place(data, random)
    return data[:end] + data[start:end] * int(random.integers(1, 4)) + data[end:]


def _moved(data, random):
    start, end = _place(data, random)
    to = int(random.integers(len(data) + 1))
    rest = data[:start] + data[end:]
    return rest[:to] + data[start:end] + rest[to:]


def _another_number(data, random):
    """Replaces a run of digits, as in a text."""
    digits = np.isin(np.frombuffer(data, np.uint8), np.frombuffer(b"0123456789", np.uint8))
    starts = np.flatnonzero(digits & ~np.roll(digits, 1))
    if not len(starts):
        return _flip_bits(data, random)
    start = end = int(starts[random.integers(len(starts))])
    while end < len(data) and digits[end]:
        end += 1
    return data[:start] + NUMBERS[random.integers(len(NUMBERS))].encode() + data[end:]


MUTATIONS = (_cut_off, _without_beginning, _flip_bits, _overwritten, _left_out, _repeated, _moved,
             _another_number)
