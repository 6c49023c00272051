"""Two mentions in a text: the five pieces around and inside them, the text with markers, and what it shows.

The pieces of mentions apart are: before, first, between, second, after; of nested ones: before, outer, inner, outer,
after.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from kadapter.data.spans import Span, WordSigns, excerpt, nested


def doubled(words: Sequence[str], subject: Span, object_: Span) -> dict[str, Any]:
    """The original's pieces, in which words that both mentions share stand twice."""
    (start1, end1), (start2, end2) = (subject, object_) if subject[0] < object_[0] else (object_, subject)
    cuts = [words[:start1], words[start1:end1], words[end1:start2], words[start2:end2], words[end2:]]
    pieces = [" ".join(cut) for cut in cuts]
    return {"pieces": pieces, "subject_first": subject[0] < object_[0], "nested": False}


def arranged(text: Sequence[str] | str, subject: Span, object_: Span) -> dict[str, Any]:
    """The five pieces of words (joined by blanks) or of a text around two mentions that do not cross.

    Of two mentions of the same words the subject is the outer one.
    """
    within = nested(subject, object_)
    first = subject[0] < object_[0]
    if within:
        first = subject[1] - subject[0] >= object_[1] - object_[0]
    (start1, end1), (start2, end2) = (subject, object_) if first else (object_, subject)
    places = [start1, start2, end2, end1] if within else [start1, end1, start2, end2]
    cuts = [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]
    pieces = [cut if isinstance(cut, str) else " ".join(cut) for cut in cuts]
    return {"pieces": pieces, "subject_first": first, "nested": within}


class RelationSigns(WordSigns):
    """Signs of mentions that are a word too long, in examples of relations."""

    def add(self, example: dict[str, Any]) -> bool:
        parts = [piece.split() for piece in example["pieces"]]
        at = [0, *accumulate(map(len, parts))]
        spans = [(at[1], at[4]), (at[2], at[3])] if example["nested"] else [(at[1], at[2]), (at[3], at[4])]
        return self.add_words(example["record"], [word for part in parts for word in part], spans)


def marked_text(example: dict[str, Any], subject: str, object_: str) -> str:
    """The text with markers around both mentions, as the model sees it, but for what is far from them."""
    before, one, two, three, after = (piece.strip() for piece in example["pieces"])
    mark, other = (subject, object_) if example["subject_first"] else (object_, subject)
    if example["nested"]:
        parts = [mark, one, other, two, other, three, mark]
    else:
        parts = [mark, one, mark, two, other, three, other]
    return excerpt(before, " ".join(part for part in parts if part), after)
