"""A question with its paragraphs into sequences: `<question, paragraph>` in the tokenizer's own template for pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kadapter.data.answers import bears_answer, find_answers
from kadapter.data.encoding import Encoding, Feature, Template
from kadapter.data.windows import window_begins
from kadapter.shapes import IGNORE

CUT = "the question was cut to half of max_seq_length"


class _Pieces(NamedTuple):
    """A text's tokens, and where they begin and end in it, in characters."""

    ids: list[int]
    starts: np.ndarray
    ends: np.ndarray


def question_features(
    examples: Sequence[Mapping[str, Any]],
    encoding: Encoding,
    stride: int,
    are_patterns: bool,
    max_answer_tokens: int,
) -> Iterator[Feature]:
    """A group of sequences for each question: its paragraphs, those that are too long in windows.

    - `positions`: three for each sequence: the token that stands for it, the first and the last of its paragraph.
    - `labels`: three for each place of an answer: sequence, first and last token; IGNORE three times where there is
      none. A place stands in every window that holds it whole; one of more than `max_answer_tokens` is none.
    - `paragraphs`: for each sequence the number of its paragraph; those of which the tokenizer makes nothing have none.
    - `starts`, `ends`: of the tokens of all sequences' paragraphs, one after the other, in characters.

    Args:
        examples: with question, answers and paragraphs.
        stride: tokens that two windows share, at most half of what a window holds.
        are_patterns: answers are regular expressions.
    """
    template = Template.of(encoding.tokenizer, 2)
    texts = [text for example in examples for text in (example["question"], *example["paragraphs"])]
    found = encoding.tokenizer(
        texts,
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    pieces = (
        _Pieces(ids, *np.array(offsets, dtype=np.int64).reshape(-1, 2).T)
        for ids, offsets in zip(found["input_ids"], found["offset_mapping"], strict=True)
    )
    for example in examples:
        question = next(pieces).ids
        room = encoding.max_seq_length - template.size
        kept = question[: room // 2]
        rows = _Rows(template, kept, room - len(kept), stride, encoding.causal)
        for number, text in enumerate(example["paragraphs"]):
            tokens, answers = next(pieces), example["answers"]
            bears = are_patterns or bears_answer([text], answers)
            places = find_answers(text, answers, are_patterns) if bears and answers else []
            rows.add(number, tokens, _token_spans(tokens, places, max_answer_tokens))
        yield rows.feature(CUT if len(kept) < len(question) else "")


def _token_spans(tokens: _Pieces, places: Sequence[tuple[int, int]], longest: int) -> list[tuple[int, int]]:
    """The first and last tokens that have a character of each place, each pair once; no longer ones."""
    found = set()
    for start, end in places:
        first = int(np.searchsorted(tokens.ends, start, side="right"))
        last = int(np.searchsorted(tokens.starts, end, side="left")) - 1
        if first <= last < first + longest:
            found.add((first, last))
    return sorted(found)


class _Rows:
    """The sequences of one question."""

    def __init__(self, template: Template, question: list[int], room: int, stride: int, causal: bool):
        self.template, self.question, self.causal = template, question, causal
        self.room, self.stride = room, min(stride, room // 2)
        self.before = len(template.fixed[0]) + len(question) + len(template.fixed[1])
        self.sequences, self.paragraphs = list[Feature](), list[int]()
        self.positions, self.labels, self.starts, self.ends = (list[int]() for _ in range(4))

    def add(self, number: int, tokens: _Pieces, places: Sequence[tuple[int, int]]) -> None:
        """The windows of a paragraph, with the places of answers in its tokens."""
        if not tokens.ids:
            return
        for begin in window_begins(len(tokens.ids), self.room, self.stride):
            end = min(begin + self.room, len(tokens.ids))
            shift = self.before - begin
            for first, last in places:
                if begin <= first and last < end:
                    self.labels += [len(self.sequences), first + shift, last + shift]
            sequence = self.template.join(self.question, tokens.ids[begin:end])
            summary = self.template.summary(len(sequence["input_ids"]), self.causal)
            self.positions += [summary, self.before, end - 1 + shift]
            self.starts += tokens.starts[begin:end].tolist()
            self.ends += tokens.ends[begin:end].tolist()
            self.sequences.append(sequence)
            self.paragraphs.append(number)

    def feature(self, note: str) -> Feature:
        feature: Feature = {"input_ids": [one["input_ids"] for one in self.sequences]}
        if self.template.typed:
            feature["token_type_ids"] = [one["token_type_ids"] for one in self.sequences]
        feature |= {"positions": self.positions, "labels": self.labels or [IGNORE] * 3, "paragraphs": self.paragraphs}
        feature |= {"starts": self.starts, "ends": self.ends, "note": note}
        return feature
