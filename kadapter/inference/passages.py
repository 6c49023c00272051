"""One question over many passages: BM25 finds those that share its words, and a reader looks for answers in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from kadapter.data.answers import normalize_answer
from kadapter.data.tagged import word_spans
from kadapter.data.texts import TextOptions, documents, find_texts, text_pieces
from kadapter.inference.predictor import WINDOW, Predictor


class Passage(NamedTuple):
    """A text and what it is called: its id, or file and line."""

    name: str
    text: str


class FoundAnswer(NamedTuple):
    """An answer to a question over passages.

    score: its share among all spans that were looked at. start, end: its place in the passage's text, in characters,
    the end exclusive. passages: how many of those that were read give the same answer, in SQuAD's normalised form.
    """

    answer: str
    score: float
    passage: Passage
    start: int
    end: int
    passages: int


def read_passages(place: Path, text_field: str = "text") -> list[Passage]:
    """The passages of a file or of all files in a folder: records, or paragraphs of .txt, separated by blank lines.

    Raises:
        FileNotFoundError, ValueError: name file, record, value and mend.
    """
    options = TextOptions("paragraphs", text_field)
    return [
        Passage(name, text)
        for path, called in find_texts([place]).items()
        for piece in text_pieces(path, options)
        for name, text in documents(piece, called, options)
    ]


def retrieve(question: str, passages: Sequence[Passage], count: int) -> list[Passage]:
    """The passages that fit the question best by BM25 (Lucene's form), the best first; none without a shared word.

    Words are runs of letters or digits, in lower case; in scripts without blanks, single characters.

    Raises:
        ImportError: bm25s is missing; the sentence tells how to install it.
    """
    try:
        import bm25s
    except ImportError as error:
        raise ImportError(
            f"BM25 needs bm25s, which is missing ({error}): pip install 'kadapter[retrieval]', or let all passages be "
            "read."
        ) from None
    index = bm25s.BM25()
    index.index([_words(passage.text) for passage in passages], show_progress=False)
    scores = index.get_scores(_words(question))
    best = np.argsort(-scores, kind="stable")[:count]
    return [passages[i] for i in best if scores[i] > 0]


def _words(text: str) -> list[str]:
    lowered = text.lower()
    return [word for start, end in word_spans(lowered) if (word := lowered[start:end]).isalnum()]


def answer_question(predict: Predictor, question: str, passages: Sequence[Passage]) -> list[FoundAnswer]:
    """The answers that a reader finds in passages, the best first; none if "no answer" scores best.

    Spans are compared by their logits, without a softmax over each passage (Yang et al., 2019, BERTserini), minus that
    of no answer if the reader knows it. Answers that are equal in SQuAD's normalised form count once, with the best.

    Raises:
        ValueError: the model does not find spans, or the question is blank.
    """
    if predict.task.head != "span":
        raise ValueError(
            f"the model was trained for {predict.task.name!r}; give one that finds answers in a context, such as "
            "run_finetune_squad_adapter.sh trains."
        )
    spans = [
        (passage, span)
        for passage, found in zip(passages, _answers(predict, question, passages), strict=True)
        for span in found["best"]
    ]
    shares = softmax([span["logit"] for _, span in spans]) if spans else []
    least = -getattr(predict.task, "null_threshold", 0.0) if getattr(predict.task, "no_answer", False) else -np.inf
    groups: dict[str, list[tuple[float, Passage, dict[str, Any]]]] = {}
    for (passage, span), share in zip(spans, shares, strict=True):
        if span["logit"] >= least:
            groups.setdefault(normalize_answer(span["answer"]), []).append((float(share), passage, span))
    found = [_found(group) for group in groups.values()]
    return sorted(found, key=lambda one: -one.score)


def _answers(predict: Predictor, question: str, passages: Sequence[Passage]) -> Iterator[dict[str, Any]]:
    """The answer on each passage, by whose name messages call it."""
    size = WINDOW * predict.batch_size
    for begin in range(0, len(passages), size):
        own = passages[begin : begin + size]
        inputs = [{"question": question, "context": passage.text} for passage in own]
        yield from predict.answers(inputs, [passage.name for passage in own])  # type: ignore[misc]  # none is left out


def _found(group: Sequence[tuple[float, Passage, dict[str, Any]]]) -> FoundAnswer:
    """The best of spans with one answer."""
    share, passage, span = max(group, key=lambda one: one[0])
    count = len({one.name for _, one, _ in group})
    return FoundAnswer(span["answer"], share, passage, span["start"], span["end"], count)
