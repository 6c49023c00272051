"""Records of other corpora and toolkits as the tasks read them.

Spans follow the form: OpenNRE's `pos` and the `mentions` of AFET, NFGEC and FIGER's training sets have exclusive ends,
by their definition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, pairwise
from typing import Any

from kadapter.data.jsonio import OnError, check_keys, converted_rows, shorten, whole
from kadapter.data.tables import Row

Record = dict[str, Any]
Span = tuple[int, int]  # the end exclusive


def converted(
    rows: Iterable[Row], convert: Callable[[Record, str], Iterable[Record]], on_error: OnError | None = None
) -> Iterator[Row]:
    """Rows with the records, any number, that `convert(record, where)` makes of each; faults as in `checked`."""
    each = converted_rows(rows, lambda record, where, number: list(convert(record, where)), on_error)
    return (Row(number, where, one) for number, where, found in each for one in found)


# -- relations --------------------------------------------------------------------------------------------------


def is_opennre(record: Record) -> bool:
    """Whether a record has OpenNRE's form: {"token": [...] or "text": str, "h": {"pos": [start, end)}, "t": ...}."""
    return isinstance(record.get("h"), dict) and isinstance(record.get("t"), dict) and "subj_start" not in record


def relation_record(record: Record, where: str, exclusive: bool = False) -> Record:
    """OpenNRE's record as TACRED's, with h as its subject; another stays as it is.

    A text becomes words at its blanks, and where a mention begins or ends.

    Args:
        exclusive: write ends as the word behind the mention, instead of its last word.

    Raises:
        ValueError: a `pos` that lies outside of the words or the text.
    """
    if not is_opennre(record):
        return record
    text, spans = _opennre(record, where)
    if isinstance(text, str):
        words = list[str]()
        at = {0: 0}
        for begin, end in pairwise(sorted({0, len(text), *spans[0], *spans[1]})):
            words += text[begin:end].split()
            at[end] = len(words)
        spans = [(at[start], at[end]) for start, end in spans]
        if any(start == end for start, end in spans):
            raise ValueError(f"{where}: a mention of {shorten(text)} is blank; mend its pos.")
        text = words
    found = {key: value for key, value in record.items() if key not in ("h", "t", "text")} | {"token": text}
    for role, (start, end) in zip(("subj", "obj"), spans, strict=True):
        found |= {f"{role}_start": start, f"{role}_end": end - (not exclusive)}
    return found


def named_relation(record: Record, where: str, labels: tuple[str, ...]) -> Record:
    """The record with the name of its relation in the place of a number, which counts in the labels' order.

    Raises:
        ValueError: there is no label of that number.
    """
    number = whole(record.get("relation"))
    if number is None:
        return record
    if not 0 <= number < len(labels):
        raise ValueError(
            f"{where}: relation is {shorten(number)}, but the {len(labels)} labels are numbered from 0; mend it or "
            "give the right --labels."
        )
    return {**record, "relation": labels[number]}


def semeval_lines(record: Record, where: str, number: int) -> list[str]:
    """The first two lines of a SemEval-2010 example: of OpenNRE's form, h being e1, or of a tagged "sentence".

    Raises:
        ValueError: a record of another form.
    """
    if is_opennre(record):
        text, spans = _opennre(record, where)
        if not isinstance(text, str):
            ends = [*accumulate(len(word) + 1 for word in text)]
            spans = [(ends[start - 1] if start else 0, ends[end - 1] - 1) for start, end in spans]
            text = " ".join(text)
        sentence = _tagged(text, spans)
    else:
        check_keys(record, ("sentence", "relation"), where)
        sentence = record["sentence"]
    if not isinstance(sentence, str) or not isinstance(record.get("relation"), str):
        shown = ", ".join(shorten(record.get(key)) for key in ("sentence", "relation"))
        raise ValueError(f"{where}: sentence and relation are {shown}; give a text and the name of a relation.")
    return [f'{number}\t"{" ".join(sentence.splitlines())}"', record["relation"]]


def _tagged(text: str, spans: list[Span]) -> str:
    """The text with <e1> and <e2> around its spans, properly nested where one contains the other."""
    tags = []
    for i, (start, end) in enumerate(spans, start=1):
        tags += [(start, 1, -end, f"<e{i}>"), (end, 0, -start, f"</e{i}>")]
    tags.sort()
    cuts = [0, *(place for place, *_ in tags), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(cuts)]
    return "".join(piece + tag for piece, tag in zip(pieces, [*(tag[-1] for tag in tags), ""], strict=True))


def _opennre(record: Record, where: str) -> tuple[str | list[str], list[Span]]:
    """Text or words, and the spans of h and t in them; where both are given, `pos` is of the text, as in OpenNRE."""
    text, words = record.get("text"), record.get("token")
    if text is None and isinstance(words, list) and all(isinstance(word, str) for word in words):
        text = words
    elif not isinstance(text, str):
        shown = f"{shorten(text)} and {shorten(words)}"
        raise ValueError(f"{where}: text and token are {shown}; give text as a text, or token as a list of words.")
    spans = []
    for key in ("h", "t"):
        pos = record[key].get("pos")
        start, end = map(whole, pos) if isinstance(pos, list) and len(pos) == 2 else (None, None)
        if start is None or end is None or not 0 <= start < end <= len(text):
            unit = "characters" if isinstance(text, str) else "words"
            raise ValueError(
                f"{where}: the pos of {key} is {shorten(pos)} in {len(text)} {unit}; it is [start, end], counted from "
                "0, the end exclusive."
            )
        spans.append((start, end))
    return text, spans


# -- entity typing ----------------------------------------------------------------------------------------------


def typing_records(record: Record, where: str) -> Iterator[Record]:
    """One record {"sent", "start", "end", "labels"} for each of the `mentions` in `tokens`; another stays as it is.

    Raises:
        ValueError: tokens or mentions of another form.
    """
    if "mentions" not in record or "sent" in record:
        yield record
        return
    words, mentions = record.get("tokens"), record["mentions"]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{where}: tokens is {shorten(words)}; give a list of words.")
    if not isinstance(mentions, list):
        raise ValueError(f"{where}: mentions is {shorten(mentions)}; give a list.")
    starts = [0, *accumulate(len(word) + 1 for word in words)]
    for number, mention in enumerate(mentions, start=1):
        place = f"{where}, mention {number}"
        if not isinstance(mention, dict):
            raise ValueError(f"{place}: {shorten(mention)} is not an object; give start, end and labels.")
        check_keys(mention, ("start", "end", "labels"), place)
        start, end = whole(mention["start"]), whole(mention["end"])
        if start is None or end is None or not 0 <= start < end <= len(words):
            shown = " and ".join(shorten(mention[key]) for key in ("start", "end"))
            raise ValueError(
                f"{place}: start and end are {shown} in {len(words)} words; both count from 0, the end is exclusive."
            )
        span = {"start": starts[start], "end": starts[end] - 1}
        yield {"sent": " ".join(words), **span, "labels": mention["labels"]}
