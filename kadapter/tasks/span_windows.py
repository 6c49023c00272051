"""Questions with their contexts into windows, answers from characters to tokens and back, and the best spans of logits.

Shapes: S = tokens of a sequence, C = tokens of the context in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np

from kadapter.data.encoding import Encoding, Feature, Template
from kadapter.data.spans import Span
from kadapter.data.windows import Tokens, pair_windows, tokens_of

CUT_QUESTION = "the question was cut to max_query_length"
NO_TOKENS = "the tokenizer makes nothing of the context"


class FoundSpan(NamedTuple):
    """A span of the context's tokens, both ends inclusive, and the sum of its logits."""

    first: int
    last: int
    score: float


def question_windows(
    pairs: Sequence[tuple[str, str]], encoding: Encoding, stride: int, max_query_length: int
) -> Iterator[list[Feature]]:
    """For each question and context the windows, in order: <question, part of the context> in the tokenizer's own pair.

    A window has `input_ids`, `token_type_ids` where they say anything, and beside them
        context_mask: [S], 1 where a span may start and end: tokens of the context that show something, and the place
            of no answer.
        positions: that place (the first token, or where the tokenizer has its cls token; causal: the last token), and
            where the context begins.
        starts, ends: [C], the context's characters that each of its tokens stands for, without blanks around them.
        note: what was done to a question that is too long.
        dropped: why nothing can be found in it, "" where something can.

    Args:
        stride: tokens of the context that two windows share.
        max_query_length: tokens of a question, which is cut at its right.

    Raises:
        ValueError: a window would not hold more than windows share.
    """
    template = _template(encoding)
    least = encoding.max_seq_length - template.size - max_query_length
    if stride < 0 or least <= stride:
        raise ValueError(
            f"--doc_stride is {stride}, but beside a question of --max_query_length {max_query_length} a window of "
            f"--max_seq_length {encoding.max_seq_length} holds {max(least, 0)} tokens of the context; make doc_stride "
            "smaller than that."
        )
    questions = _tokens(encoding, [question for question, _ in pairs])
    contexts = _tokens(encoding, [context for _, context in pairs])
    for question, context in pairs:
        asked = questions[question].ids
        windows = _cut(asked[:max_query_length], contexts[context], template, encoding, stride)
        windows[0]["note"] = CUT_QUESTION if len(asked) > max_query_length else ""
        yield windows


def _template(encoding: Encoding) -> Template:
    """That of two texts; for a causal backbone it ends with a token that has seen the context."""
    template = Template.of(encoding.tokenizer, 2)
    if encoding.causal and not template.fixed[-1]:
        fixed, types = ((*parts[:-1], parts[1]) for parts in (template.fixed, template.fixed_types))
        return replace(template, fixed=tuple(fixed), fixed_types=tuple(types))
    return template


def _tokens(encoding: Encoding, texts: Sequence[str]) -> dict[str, Tokens]:
    """The tokens of each text, which is tokenized once: a context has several questions."""
    unique = list(dict.fromkeys(texts))
    return {
        text: _trimmed(text, tokens) for text, tokens in zip(unique, tokens_of(encoding.tokenizer, unique), strict=True)
    }


def _trimmed(text: str, tokens: Tokens) -> Tokens:
    """Tokens without blanks around them, which some tokenizers count to the word behind them."""
    starts, ends = tokens.starts.tolist(), tokens.ends.tolist()
    for i in range(len(starts)):
        while starts[i] < ends[i] and text[starts[i]].isspace():
            starts[i] += 1
        while starts[i] < ends[i] and text[ends[i] - 1].isspace():
            ends[i] -= 1
    return Tokens(tokens.ids, np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64))


def _cut(question: list[int], context: Tokens, template: Template, encoding: Encoding, stride: int) -> list[Feature]:
    room = encoding.max_seq_length - template.size - len(question)
    shown = context.starts < context.ends
    windows: list[Feature] = []
    for own, pair, begin, nothing in pair_windows(question, context.ids, template, room, stride, encoding.causal):
        mask = np.zeros(len(pair["input_ids"]), dtype=np.int64)
        mask[begin : begin + len(shown[own])] = shown[own]
        mask[nothing] = 1
        feature: dict[str, Any] = {**pair, "dropped": "" if shown.any() else NO_TOKENS, "note": ""}
        feature |= {"context_mask": mask.tolist(), "positions": [nothing, begin], "block": len(windows)}
        feature |= {"starts": context.starts[own].tolist(), "ends": context.ends[own].tolist()}
        windows.append(cast(Feature, feature))
    return windows


# -- characters and tokens ----------------------------------------------------------------------------------------


def spans_in(windows: Sequence[Feature], start: int, end: int) -> list[Span | None]:
    """For each window of a text the first and last token that stand for those characters; None where it lacks some."""
    found: list[Span | None] = []
    for i, window in enumerate(windows):
        starts, ends, begin = np.asarray(window["starts"]), np.asarray(window["ends"]), window["positions"][1]
        shown = np.flatnonzero(starts < ends)
        touching = shown[(starts[shown] < end) & (ends[shown] > start)]
        if not len(touching):
            found.append(None)
            continue
        first, last = int(touching[0]), int(touching[-1])
        # Only at its edges a window may lack a part; of other characters the tokenizer makes nothing.
        cut_before = i > 0 and first == shown[0] and starts[first] > start
        cut_behind = i + 1 < len(windows) and last == shown[-1] and ends[last] < end
        found.append(None if cut_before or cut_behind else (begin + first, begin + last))
    return found


def best_spans(start: np.ndarray, end: np.ndarray, count: int, longest: int) -> list[FoundSpan]:
    """The spans of the highest sums of start and end, the best first; equal ones in the order of the text.

    Args:
        start, end: [C] logits, or logarithms of probabilities, -inf where no span starts or ends.
        count: how many at most.
        longest: tokens of a span.
    """
    size, longest = len(start), min(longest, len(start))
    if not size:
        return []
    tails = np.concatenate([end, np.full(longest - 1, -np.inf, dtype=end.dtype)])
    scores = start[:, None] + np.lib.stride_tricks.sliding_window_view(tails, longest)[:size]  # [C, tokens - 1]
    # The best spans begin at the tokens whose own best span is among them.
    rows = np.sort(np.argsort(-scores.max(1), kind="stable")[:count])
    flat = scores[rows].ravel()
    best = np.argsort(-flat, kind="stable")[:count]
    found = ((int(rows[i // longest]), int(i % longest), float(flat[i])) for i in best if np.isfinite(flat[i]))
    return [FoundSpan(first, first + more, score) for first, more, score in found]
