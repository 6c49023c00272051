"""A question with its paragraphs into sequences: `<question, paragraph>` in the tokenizer's own template for pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kadapter.data.answers import bears_answer, find_answers
from kadapter.data.encoding import Encoding, Feature, Template
from kadapter.data.windows import Tokens, pair_windows, tokens_of
from kadapter.shapes import IGNORE

CUT = "the question was cut to half of max_seq_length"


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
    found = tokens_of(encoding.tokenizer, texts)
    for example in examples:
        question = next(found).ids
        room = encoding.max_seq_length - template.size
        kept = question[: room // 2]
        rows = _Rows(template, kept, room - len(kept), stride, encoding.causal)
        for number, text in enumerate(example["paragraphs"]):
            tokens, answers = next(found), example["answers"]
            bears = are_patterns or bears_answer([text], answers)
            places = find_answers(text, answers, are_patterns) if bears and answers else []
            rows.add(number, tokens, _token_spans(tokens, places, max_answer_tokens))
        yield rows.feature(CUT if len(kept) < len(question) else "")


def _token_spans(tokens: Tokens, places: Sequence[tuple[int, int]], longest: int) -> list[tuple[int, int]]:
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
        self.sequences, self.paragraphs = list[Feature](), list[int]()
        self.positions, self.labels, self.starts, self.ends = (list[int]() for _ in range(4))

    def add(self, number: int, tokens: Tokens, places: Sequence[tuple[int, int]]) -> None:
        """The windows of a paragraph, with the places of answers in its tokens."""
        if not tokens.ids:
            return
        for window in pair_windows(self.question, tokens.ids, self.template, self.room, self.stride, self.causal):
            own, shift = window.own, window.begin - window.own.start
            for first, last in places:
                if own.start <= first and last < own.stop:
                    self.labels += [len(self.sequences), first + shift, last + shift]
            self.positions += [window.summary, window.begin, own.stop - 1 + shift]
            self.starts += tokens.starts[own].tolist()
            self.ends += tokens.ends[own].tolist()
            self.sequences.append(window.feature)
            self.paragraphs.append(number)

    def feature(self, note: str) -> Feature:
        feature: Feature = {"input_ids": [one["input_ids"] for one in self.sequences]}
        if self.template.typed:
            feature["token_type_ids"] = [one["token_type_ids"] for one in self.sequences]
        feature |= {"positions": self.positions, "labels": self.labels or [IGNORE] * 3, "paragraphs": self.paragraphs}
        feature |= {"starts": self.starts, "ends": self.ends, "note": note}
        return feature
