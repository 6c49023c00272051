"""Raw T-REx documents to relation examples (scripts/clean_T_REx.py of the original).

A document: {"docid", "text", "sentences_boundaries", "words_boundaries", "triples": [{"sentence_id", "subject":
{"boundaries", "uri"}, "object": {...}, "predicate": {"uri"}}]}; boundaries are [start, end) in characters of the text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from kadapter.data.jsonio import check_keys

KEYS = ("docid", "text", "sentences_boundaries", "words_boundaries", "triples")


def clean_document(document: dict[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """For each triple either ("", example) or (why it is dropped, None).

    A triple is kept when its subject and its object both begin and end where words of its sentence do. Linear in the
    number of words, while the original looks through all words of the document for each triple.

    Raises:
        ValueError: a document or triple of another form.
    """
    check_keys(document, KEYS, where)
    try:
        words = [(start, end) for start, end in document["words_boundaries"]]
        starts = [start for start, _ in words]
        begins, ends = {start: i for i, start in enumerate(starts)}, {end: i for i, (_, end) in enumerate(words)}
        for triple in document["triples"]:
            first, last = document["sentences_boundaries"][triple["sentence_id"]]
            span = bisect_left(starts, first), bisect_left(starts, last)
            yield _clean(triple, document, words, span, begins, ends)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{where}: this is no T-REx document ({type(error).__name__}: {error}); fetch the file again."
        ) from error


def _clean(
    triple: dict[str, Any],
    document: dict[str, Any],
    words: list[tuple[int, int]],
    span: tuple[int, int],
    begins: dict[int, int],
    ends: dict[int, int],
) -> tuple[str, dict[str, Any] | None]:
    low, high = span
    example: dict[str, Any] = {}
    for name, role in (("subj", "subject"), ("obj", "object")):
        boundaries = triple[role]["boundaries"]
        if boundaries is None:
            return f"the {role} stands nowhere in the text", None
        first, last = begins.get(boundaries[0], -1), ends.get(boundaries[1], -1)
        if not low <= first <= last < high:
            return f"the {role} does not begin and end with words of its sentence", None
        example |= {f"{name}_start": first - low, f"{name}_end": last - low}
    text = document["text"]
    return "", {
        "docid": _name(document["docid"]),
        "token": [text[start:end] for start, end in words[low:high]],
        "relation": _name(triple["predicate"]["uri"]),
        **example,
        "subj_label": _name(triple["subject"]["uri"]),
        "obj_label": _name(triple["object"]["uri"]),
    }


def _name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]
