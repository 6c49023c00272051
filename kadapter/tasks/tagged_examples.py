"""Examples of tagging, of CoNLL sentences and of records with spans: what is wrong with them, and their BIO tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from kadapter.data.jsonio import shorten, whole
from kadapter.data.spans import is_blank
from kadapter.data.tagged import (
    BIO,
    OUTSIDE,
    PLAIN,
    Entity,
    bio_tags,
    entities_in,
    odd_prefixes,
    split_tag,
    word_spans,
)

NAMES = ("entities", "spans", "labels", "label")  # under which tools for annotation write spans
JUMP = "an entity begins with I-, which counts as its beginning, as conlleval and seqeval have it"
WIDENED = "a span begins or ends within a word and counts as the whole word"


def text_record(text: Any, where: str) -> dict[str, Any]:
    """A text as an example without entities; raises ValueError where it is none, or blank."""
    if not isinstance(text, str) or is_blank(text):
        raise ValueError(f"{where}: the text is {shorten(text)}; give a text or take the record out.")
    spans = word_spans(text)
    if not spans:
        raise ValueError(f"{where}: the text {shorten(text)} has no words; take the record out.")
    starts, ends = zip(*spans, strict=True)
    return {"text": text, "starts": [*starts], "ends": [*ends], "labels": ["O"] * len(spans), "note": "", "record": 0}


def entities_of(
    record: Mapping[str, Any], text: str, words: Sequence[tuple[int, int]], where: str
) -> tuple[list[Entity], str]:
    """A record's entities in words, and a note where one begins or ends within a word.

    A span is {"start", "end", "label"} or [start, end, label]; characters from 0, the end exclusive.

    Raises:
        ValueError: a span of another form, outside of the text, blank, or over another one.
    """
    given = next((record[name] for name in NAMES if name in record), None)
    if not isinstance(given, list):
        raise ValueError(f"{where}: there is no list of spans under {', '.join(NAMES)}; give an empty one for none.")
    spans = sorted(_span(span, text, where) for span in given)
    found: list[Entity] = []
    note, before = "", Entity(0, 0, "")
    for span in spans:
        if span.start < before.end:
            raise ValueError(
                f"{where}: the spans {before.start} to {before.end} ({before.label}) and {span.start} to {span.end} "
                f"({span.label}) overlap, but a word has one tag; keep one of them."
            )
        covered = [i for i, (start, end) in enumerate(words) if start < span.end and span.start < end]
        run = Entity(covered[0], covered[-1] + 1, span.label)
        if (words[run.start][0], words[run.end - 1][1]) != (span.start, span.end):
            note = WIDENED
        if found and run.start < found[-1].end:
            raise ValueError(
                f"{where}: the spans {before.start} to {before.end} and {span.start} to {span.end} are parts of one "
                "word, which has one tag; keep one of them."
            )
        found.append(run)
        before = span
    return found, note


def _span(span: Any, text: str, where: str) -> Entity:
    if isinstance(span, Mapping):
        parts = [span.get("start"), span.get("end"), span.get("label", span.get("type"))]
    else:
        parts = list(span) if isinstance(span, list | tuple) and len(span) == 3 else [None, None, None]
    start, end, label = whole(parts[0]), whole(parts[1]), parts[2]
    if start is None or end is None or not isinstance(label, str) or not label.strip():
        raise ValueError(f'{where}: {shorten(span)} is not a span; write {{"start", "end", "label"}}.')
    if not 0 <= start < end <= len(text):
        raise ValueError(
            f"{where}: the span {start} to {end} lies outside of the text, which has {len(text)} characters; offsets "
            "count from 0, the end is exclusive."
        )
    if is_blank(text[start:end]):
        raise ValueError(f"{where}: the span {start} to {end} is blank; mend it.")
    return Entity(start, end, label.strip())


# -- examples -----------------------------------------------------------------------------------------------------


def sentence(
    words: list[str], tags: list[str], where: str, number: int, scheme: str, known: frozenset[str]
) -> dict[str, Any]:
    """The example of a sentence of CoNLL columns; its text is the words, separated by blanks."""
    if not words or any(is_blank(word) for word in words):
        raise ValueError(f"{where}: a word of the sentence is blank; mend it.")
    note = ""
    if scheme != PLAIN:
        try:
            entities = entities_in(tags)
        except ValueError as error:
            raise ValueError(f"{where}: {error}; mend it or give another --tag_column.") from None
        note = JUMP if scheme == BIO and odd_prefixes(tags)[0] else ""
        tags = bio_tags(len(words), entities)
    _check_known(tags, known, where)
    ends = list(accumulate(len(word) + 1 for word in words))
    starts = [0, *ends[:-1]]
    places = {"starts": starts, "ends": [end - 1 for end in ends]}
    return {"text": " ".join(words), **places, "labels": tags, "note": note, "record": number}


def tags_in(record: Mapping[str, Any]) -> list[str] | None:
    """The tags of a record of words; None where it has none, or not as texts."""
    tags = next((record[name] for name in ("tags", "ner_tags") if name in record), None)
    return tags if isinstance(tags, list) and all(isinstance(tag, str) for tag in tags) else None


def record_example(
    record: Mapping[str, Any], where: str, number: int, scheme: str, known: frozenset[str]
) -> dict[str, Any]:
    """The example of a text with spans of characters, or of words with tags."""
    words = next((record[name] for name in ("tokens", "words") if name in record), None)
    tags = next((record[name] for name in ("tags", "ner_tags") if name in record), None)
    if isinstance(words, list) and isinstance(tags, list):
        if len(words) != len(tags) or not all(isinstance(part, str) for part in (*words, *tags)):
            raise ValueError(f"{where}: {len(words)} words have {len(tags)} tags; give as many, all of them as texts.")
        return sentence(words, tags, where, number, scheme, known)
    found = text_record(record.get("text", record.get("sent")), where)
    spans = [*zip(found["starts"], found["ends"], strict=True)]
    runs, note = entities_of(record, found["text"], spans, where)
    tags = bio_tags(len(spans), runs)
    _check_known(tags, known, where)
    return {**found, "labels": tags, "note": note, "record": number}


def _check_known(tags: Sequence[str], known: frozenset[str], where: str) -> None:
    """Raise ValueError where a tag is none of train's; any is taken as long as these are not known."""
    if known and (unknown := [tag for tag in tags if tag not in known]):
        kind = unknown[0] if OUTSIDE not in known else split_tag(unknown[0])[1]
        raise ValueError(
            f"{where}: {kind[:60]!r} is not among the types of train; mend it, or name all in a file of --labels."
        )
