"""Two mentions in a text: the five pieces around and inside them, the text with markers, its ids, and what it shows.

The pieces of mentions apart are: before, first, between, second, after; of nested ones: before, outer, inner, outer,
after.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from kadapter.data.encoding import Feature, Template, dropped_feature, marker, tokenize_pieces, window
from kadapter.data.spans import Span, WordSigns, excerpt, nested

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARKERS = ("@", "#")  # around the subject and around the object


def original_pieces(words: Sequence[str], subject: Span, object_: Span) -> dict[str, Any]:
    """The original's pieces, in which words that both mentions share stand twice."""
    (start1, end1), (start2, end2) = (subject, object_) if subject[0] < object_[0] else (object_, subject)
    cuts = [words[:start1], words[start1:end1], words[end1:start2], words[start2:end2], words[end2:]]
    pieces = [" ".join(cut) for cut in cuts]
    return {"pieces": pieces, "subject_first": subject[0] < object_[0], "nested": False}


def five_pieces(text: Sequence[str] | str, subject: Span, object_: Span) -> dict[str, Any]:
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


def encode_relations(
    examples: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    labels: Sequence[str],
    markers: tuple[str, str] = MARKERS,
    bare: bool = True,
    keep_markers: bool = False,
    causal: bool = False,
) -> list[Feature]:
    """Ids with markers around subject and object; positions of the first of each, causal: of the closing one.

    Args:
        bare: markers are the tokens themselves, as for T-REx and TACRED; else what the tokenizer makes of them, as
            for SemEval (in RoBERTa's case with a space before).
        keep_markers: where a cut at the right would lose a marker, take a window that holds both; else, or where
            no window does, the example is dropped, as in the original's T-REx (utils_glue.py), and counted.
    """
    index = {label: i for i, label in enumerate(labels)}
    pieces = tokenize_pieces(tokenizer, [piece for example in examples for piece in example["pieces"]])
    subject, object_ = (marker(tokenizer, token, bare) for token in markers)
    template = Template.of(tokenizer)
    size = max_seq_length - template.size
    features: list[Feature] = []
    for i, example in enumerate(examples):
        mark, other = (subject, object_) if example["subject_first"] else (object_, subject)
        ids, starts, ends = _insert(pieces[5 * i : 5 * i + 5], mark, other, example.get("nested", False))
        at = ends if causal else starts
        label = index[example["relation"]]
        first, last = starts[0], max(ends)
        span = (first, last) if last - first < size else (min(at), max(at))
        begin = window(len(ids), *span, size) if keep_markers else 0
        if fault := example.get("fault", ""):
            features.append(dropped_feature(fault, label, [0, 0]))
            continue
        if max(at) - begin >= size:
            features.append(dropped_feature("a marker lies beyond max_seq_length", label, [0, 0]))
            continue
        found = [template.before + position - begin for position in at]
        features.append(
            {
                "input_ids": template.join(ids[begin : begin + size])["input_ids"],
                "positions": found if example["subject_first"] else found[::-1],
                "labels": label,
                "note": "a window was taken that holds both markers" if begin else "",
            }
        )
    return features


def _insert(
    pieces: Sequence[list[int]], mark: list[int], other: list[int], is_nested: bool
) -> tuple[list[int], list[int], list[int]]:
    """Ids of the five pieces with markers, and where the opening and the closing ones of `mark` and `other` are."""
    parts = [pieces[0], mark, pieces[1], mark, pieces[2], other, pieces[3], other, pieces[4]]
    places = ((1, 5), (3, 7))
    if is_nested:
        parts = [pieces[0], mark, pieces[1], other, pieces[2], other, pieces[3], mark, pieces[4]]
        places = ((1, 3), (7, 5))
    ends = list(accumulate(map(len, parts)))
    opening, closing = places
    ids = [token for part in parts for token in part]
    return ids, [ends[position - 1] for position in opening], [ends[position] - 1 for position in closing]
