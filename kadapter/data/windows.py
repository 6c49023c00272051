"""Long texts in windows that overlap, so that every word is read once, where it has the most context."""

from __future__ import annotations

from collections.abc import Sequence


def window_begins(length: int, size: int, overlap: int) -> list[int]:
    """Where windows of `size` tokens begin that cover `length` tokens; the last one ends with them."""
    if length <= size:
        return [0]
    return [*range(0, length - size, max(1, size - overlap)), length - size]


def best_windows(places: Sequence[int], begins: Sequence[int], size: int, length: int) -> list[int]:
    """For each place the number of the window in which the nearer end of it is farthest away.

    The ends of the text itself cut nothing off. Numbers do not fall from one place to the next.
    """
    found, window = [], 0
    for place in places:
        while window + 1 < len(begins) and _context(place, begins[window + 1], size, length) >= _context(
            place, begins[window], size, length
        ):
            window += 1
        found.append(window)
    return found


def _context(place: int, begin: int, size: int, length: int) -> int:
    """Tokens between a place and the nearer end of a window, negative outside of it."""
    before = place - begin if begin else length
    after = begin + size - 1 - place if begin + size < length else length
    if place < begin or place >= begin + size:
        return -1
    return min(before, after)
