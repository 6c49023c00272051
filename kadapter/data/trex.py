"""Raw T-REx documents to relation examples (scripts/clean_T_REx.py of the original).

A document: {"docid", "text", "sentences_boundaries", "words_boundaries", "triples": [{"sentence_id", "subject":
{"boundaries", "uri"}, "object": {...}, "predicate": {"uri"}}]}; boundaries are [start, end) in characters of the text.
"""

from __future__ import annotations

import zipfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kadapter.data.jsonio import check_keys, read_records, write_json, write_jsonl

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
        starts = [start for start, _ in document["words_boundaries"]]
        ordered = starts == sorted(starts)
        for triple in document["triples"]:
            yield _clean(triple, document, starts) if ordered else ("the document's words are not in order", None)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{where}: this is no T-REx document ({type(error).__name__}: {error}); fetch the file again."
        ) from error


def _clean(triple: dict[str, Any], document: dict[str, Any], starts: list[int]) -> tuple[str, dict[str, Any] | None]:
    """The example of a triple; `starts` are the words' first characters, which ascend."""
    words, text = document["words_boundaries"], document["text"]
    first, last = document["sentences_boundaries"][triple["sentence_id"]]
    low, high = bisect_left(starts, first), bisect_left(starts, last)
    spans: dict[str, int] = {}
    for name, role in (("subj", "subject"), ("obj", "object")):
        if triple[role]["boundaries"] is None:
            return f"the {role} stands nowhere in the text", None
        start, end = triple[role]["boundaries"]
        i, j = bisect_left(starts, start, low, high), bisect_left(starts, end, low, high) - 1
        if not low <= i <= j or starts[i] != start or words[j][1] != end:
            return f"the {role} does not begin and end with words of its sentence", None
        spans |= {f"{name}_start": i - low, f"{name}_end": j - low}
    return "", {
        "docid": _name(document["docid"]),
        "token": [text[start:end] for start, end in words[low:high]],
        "relation": _name(triple["predicate"]["uri"]),
        **spans,
        "subj_label": _name(triple["subject"]["uri"]),
        "obj_label": _name(triple["object"]["uri"]),
    }


def _name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]


def clean_file(raw: Path, name: str, part: Path) -> dict[str, Any]:
    """Write the examples of one file to `part` and return the counts, which are kept beside it."""
    counts: Counter[str] = Counter()
    relations: Counter[str] = Counter()

    def examples() -> Iterator[dict[str, Any]]:
        source: Any = raw / name if raw.is_dir() else zipfile.Path(raw, name)
        for number, document in read_records(source):
            counts["documents"] += 1
            for reason, example in clean_document(document, f"{raw / name}, record {number}"):
                counts[f"dropped: {reason}" if example is None else "kept"] += 1
                if example is not None:
                    relations[example["relation"]] += 1
                    yield example

    write_jsonl(part, examples())
    report = {"counts": counts, "relations": relations}
    write_json(part.with_suffix(".counts"), report)  # its presence says that the part is whole
    return report
