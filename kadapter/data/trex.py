"""Raw T-REx documents to relation examples (scripts/clean_T_REx.py of the original).

A document: {"docid", "text", "sentences_boundaries", "words_boundaries", "triples": [{"sentence_id", "subject":
{"boundaries", "surfaceform", "uri"}, "object": {...}, "predicate": {"uri"}}]}; boundaries are [start, end) in
characters of the text.
"""

from __future__ import annotations

import zipfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kadapter.data.jsonio import read_records, whole, write_json, write_jsonl
from kadapter.data.spans import Span, is_blank
from kadapter.data.splits import JSON, form_of

ROLES = (("subj", "subject"), ("obj", "object"))


def clean_document(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """For each triple either ("", example) or (why it is dropped, None); one reason for a document that is no use.

    A triple is kept when its subject and its object both begin and end where words of its sentence do. Linear in the
    number of words, while the original looks through all words of the document for each triple, and leaves out a
    whole file where one triple has no sentence.
    """
    for key, kind in (("docid", str), ("text", str), ("sentences_boundaries", list), ("triples", list)):
        if not isinstance(document.get(key), kind):
            yield f"the document has no {key}", None
            return
    words = _spans(document.get("words_boundaries"), len(document["text"]))
    starts = [start for start, _ in words]
    if not words:
        yield "the document has no words_boundaries within its text", None
    elif starts != sorted(starts):
        yield "the document's words are not in order", None
    else:
        for triple in document["triples"]:
            yield _clean(triple, document, words, starts)


def _spans(boundaries: Any, size: int) -> list[Span]:
    """Spans within a text of `size` characters; none where one of them is no such span."""
    if not isinstance(boundaries, list):
        return []
    spans = [_span(pair, size) for pair in boundaries]
    return [span for span in spans if span] if None not in spans else []


def _span(pair: Any, size: int) -> Span | None:
    if not isinstance(pair, list) or len(pair) != 2:
        return None
    start, end = map(whole, pair)
    return (start, end) if start is not None and end is not None and 0 <= start < end <= size else None


def _clean(
    triple: Any, document: dict[str, Any], words: list[Span], starts: list[int]
) -> tuple[str, dict[str, Any] | None]:
    """The example of a triple; `starts` are the words' first characters, which ascend."""
    if reason := _lacks(triple):
        return reason, None
    text, sentences, number = document["text"], document["sentences_boundaries"], whole(triple.get("sentence_id"))
    if number is None or not 0 <= number < len(sentences):
        return "the triple has no sentence", None
    sentence = _span(sentences[number], len(text))
    if sentence is None:
        return "the sentence does not lie in the text", None
    low, high = (bisect_left(starts, position) for position in sentence)
    found: dict[str, int] = {}
    for name, role in ROLES:
        span = _span(triple[role]["boundaries"], len(text))
        if span is None:
            return f"the {role} does not lie in the text", None
        i, j = bisect_left(starts, span[0], low, high), bisect_left(starts, span[1], low, high) - 1
        if not low <= i <= j or starts[i] != span[0] or words[j][1] != span[1]:
            return f"the {role} does not begin and end with words of its sentence", None
        if is_blank(text[slice(*span)]):
            return f"the {role} is blank", None
        found |= {f"{name}_start": i - low, f"{name}_end": j - low}
    return "", {
        "docid": _name(document["docid"]),
        "token": [text[start:end] for start, end in words[low:high]],
        "relation": _name(triple["predicate"]["uri"]),
        **found,
        **{f"{name}_label": _label(triple[role]) for name, role in ROLES},
    }


def _lacks(triple: Any) -> str:
    """What a triple cannot be used without, as a reason; "" where nothing is missing."""
    if not isinstance(triple, dict):
        return "the triple is not an object"
    for role in ("subject", "object", "predicate"):
        entity = triple.get(role)
        if not isinstance(entity, dict) or not isinstance(entity.get("uri"), str) or not _name(entity["uri"]).strip():
            return f"the {role} has no uri"
        if role != "predicate" and entity.get("boundaries") is None:
            return f"the {role} stands nowhere in the text"
    return ""


def _label(entity: dict[str, Any]) -> str:
    """The name of an entity; of a literal, such as 1970-01-22T00:00:00Z^^http://.../XMLSchema#dateTime, its value."""
    literal, is_literal, _ = entity["uri"].partition("^^")
    return literal if is_literal else _name(literal)


def _name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]


def clean_file(file: tuple[str, Path], raw: Path, skip_broken: bool = False) -> dict[str, Any]:
    """Write the examples of one file and return the counts, which are kept beside them.

    Args:
        file: its name in `raw`, and where its examples are written.
        skip_broken: of a file that cannot be read to its end return what is wrong with it, as "broken", and write
            nothing.

    Raises:
        ValueError: such a file, without `skip_broken`.
    """
    try:
        return _clean_file(raw, *file)
    except ValueError as error:
        if skip_broken:
            return {"broken": str(error)}
        raise ValueError(f"{error} With --skip_broken_files the other files are cleaned without it.") from error


def _source(raw: Path, name: str) -> Any:
    """The path of a file in a folder, in a zip archive, or of the one file that `raw` is."""
    if raw.is_dir():
        return raw / name
    return raw if form_of(raw) in JSON else zipfile.Path(raw, name)


def _clean_file(raw: Path, name: str, part: Path) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    relations: Counter[str] = Counter()

    def examples() -> Iterator[dict[str, Any]]:
        for _, document in read_records(_source(raw, name)):
            counts["documents"] += 1
            for reason, example in clean_document(document):
                counts[f"dropped: {reason}" if example is None else "kept"] += 1
                if example is not None:
                    relations[example["relation"]] += 1
                    yield example

    write_jsonl(part, examples())
    report = {"counts": counts, "relations": relations}
    write_json(part.with_suffix(".counts"), report)  # its presence says that the part is whole
    return report
