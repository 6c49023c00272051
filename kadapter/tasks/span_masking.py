"""Spans that masked language modelling hides whole: objects of triples, mentions of entities.

As SpanBERT (Joshi et al. 2020) and ERNIE (Zhang et al. 2019; Sun et al. 2019) hide more than one sub-word at a time:
what a model has to find is then the name, not a part of it. The number of hidden tokens stays that of single ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kadapter.data.cleaned import check_spans, mention_spans
from kadapter.data.jsonio import shorten, whole
from kadapter.data.spans import Span
from kadapter.data.tables import TEXT_COLUMN, read_rows

_MEND = "give text, and spans as [[start, end], ...] in characters with exclusive ends, or cleaned relation examples"


def read_spanned(path: str | Path) -> Iterator[tuple[int, str, list[Span]]]:
    """Numbered texts with the spans in them, in characters, the ends exclusive, in order and apart.

    A record is {"text", "spans"}, as scripts/verbalize_triples.py writes them, or a cleaned relation example, whose
    spans are its mentions; such examples of one sentence that follow each other are one text.

    Raises:
        FileNotFoundError, ValueError: name file, record, value and mend; or no record has a span.
    """
    any_span = False
    waiting: tuple[int, str, list[Span]] | None = None
    for number, where, record in read_rows(path):
        is_example = "token" in record and "subj_start" in record
        text, spans = _of_example(record, where) if is_example else _of_text(record, where)
        any_span |= bool(spans)
        if waiting and is_example and waiting[1] == text:
            waiting[2].extend(spans)
            continue
        if waiting:
            yield waiting[0], waiting[1], merge_overlapping(waiting[2])
        waiting = (number, text, spans)
    if waiting:
        yield waiting[0], waiting[1], merge_overlapping(waiting[2])
    if not any_span:
        raise ValueError(f"{path} holds no spans to hide; {_MEND}, or leave --mask_spans out.")


def _of_example(record: dict[str, Any], where: str) -> tuple[str, list[Span]]:
    words = record["token"]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{where}: token is {shorten(words)}; give a list of words.")
    check_spans(record, where)
    starts = np.cumsum([0, *(len(word) + 1 for word in words)]).tolist()
    return " ".join(words), [(starts[start], starts[end] - 1) for start, end in mention_spans(record)]


def _of_text(record: dict[str, Any], where: str) -> tuple[str, list[Span]]:
    text, given = record.get(TEXT_COLUMN), record.get("spans")
    if not isinstance(text, str) or not isinstance(given, list):
        raise ValueError(f"{where}: text is {shorten(text)} and spans are {shorten(given)}; {_MEND}.")
    spans = []
    for pair in given:
        start, end = map(whole, pair) if isinstance(pair, list) and len(pair) == 2 else (None, None)
        if start is None or end is None or not 0 <= start < end <= len(text):
            size = f"the text's {len(text)} characters"
            raise ValueError(f"{where}: {shorten(pair)} is not a span within {size}; {_MEND}.")
        spans.append((start, end))
    return text, spans


def merge_overlapping(spans: Sequence[Span]) -> list[Span]:
    """The spans in order, those that overlap as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def token_spans(offsets: Sequence[Span], spans: Sequence[Span]) -> list[Span]:
    """Spans in characters as spans of the tokens that overlap them; one that no token overlaps is left out.

    Args:
        offsets: of each token, in characters.
    """
    starts, ends = np.array(offsets).reshape(-1, 2).T
    found = [(int(np.searchsorted(ends, start, "right")), int(np.searchsorted(starts, end))) for start, end in spans]
    return merge_overlapping([(first, last) for first, last in found if first < last])


def choose(
    usable: Sequence[int], spans: Sequence[Span], count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens are hidden, `count` of them: whole spans by lot as long as they fit, and single tokens beside them.

    Where there are several spans, one of them stays: a fact whose names are all hidden tells nothing.

    Args:
        usable: tokens that may be hidden.
        spans: apart from each other.

    Returns:
        The tokens in order, and for each the number of the group that it shares its fate with; both [count].
    """
    allowed = set(usable)
    groups: list[list[int]] = []
    left = count
    for i in rng.permutation(len(spans)).tolist():
        tokens = [token for token in range(*spans[i]) if token in allowed]
        if 0 < len(tokens) <= left and len(groups) < max(1, len(spans) - 1):
            groups.append(tokens)
            left -= len(tokens)
    within = {token for span in spans for token in range(*span)}
    hidden = {token for tokens in groups for token in tokens}
    single = [token for token in usable if token not in within]
    if len(single) < left:  # a text of spans alone
        single = [token for token in usable if token not in hidden]
    groups += [[token] for token in rng.choice(single, left, False).tolist()] if left else []
    pairs = sorted((token, number) for number, tokens in enumerate(groups) for token in tokens)
    return np.array([token for token, _ in pairs]), np.array([number for _, number in pairs])
