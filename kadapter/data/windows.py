"""Long texts in windows that overlap, so that every word is read once, where it has the most context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kadapter.data.encoding import Feature, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokens(NamedTuple):
    """The tokens of a text, and where they begin and end in it, in characters."""

    ids: list[int]
    starts: np.ndarray
    ends: np.ndarray


class PairWindow(NamedTuple):
    """A part of a text behind a question, as one sequence.

    own: which of the text's tokens it has. begin: where these begin in the sequence. summary: the token that stands for
    the sequence.
    """

    own: slice
    feature: Feature
    begin: int
    summary: int


def tokens_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[Tokens]:
    """The tokens of each text, without special ones; one call of the tokenizer for all of them."""
    found = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    for ids, offsets in zip(found["input_ids"], found["offset_mapping"], strict=True):
        yield Tokens(ids, *np.array(offsets, dtype=np.int64).reshape(-1, 2).T)


def pair_windows(
    question: list[int], ids: list[int], template: Template, room: int, overlap: int, causal: bool
) -> Iterator[PairWindow]:
    """A question with each part of a text of those tokens, `<question, part>` in the tokenizer's own template.

    Args:
        room: tokens of the text in a window.
        overlap: tokens of it that two windows share.
    """
    begin = len(template.fixed[0]) + len(question) + len(template.fixed[1])
    for first in window_begins(len(ids), room, overlap):
        own = slice(first, min(first + room, len(ids)))
        feature = template.join(question, ids[own])
        yield PairWindow(own, feature, begin, template.summary(len(feature["input_ids"]), causal))


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
