"""Make trex-rc examples for the factual adapter from FewRel.

    python scripts/convert_fewrel.py --input train_wiki.json val_wiki.json --output_dir data/fewrel-rc

A file is {relation: [{"tokens": [...], "h": [name, id, [[word numbers], ...]], "t": the same}, ...]}, or rows as hubs
have them, in any form that is read (docs/formats.md): {"relation", "tokens", "head": {"text", "type", "indices"},
"tail"}, also with columns such as head.indices. The first mention of each entity is taken.

All examples go into cleaned.jsonl; these are chosen and split as by
scripts/create_subdataset-relation-classification.py, with the same flags. FewRel names no documents, so each sentence
is one: fewrel/<relation>/<number>.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kadapter.console import Parser, absolute, run
from kadapter.data.cleaned import Example
from kadapter.data.jsonio import shorten, whole
from kadapter.data.jsonobject import COLUMNS, KEYED, json_layout
from kadapter.data.spans import is_blank, spans_cross
from kadapter.data.splits import form_of
from kadapter.data.subset import convert_corpus
from kadapter.data.subset_options import add_subset_flags
from kadapter.data.tables import read_rows


def first_mention(entity: Any, words: Sequence[str]) -> tuple[str, list[int]]:
    """Id and word numbers of an entity's first mention, in order.

    Raises:
        ValueError: what is given has another form or lies outside the sentence.
    """
    try:
        _, name, (numbers, *_) = entity
        found = [number for number in map(whole, numbers) if number is not None and 0 <= number < len(words)]
        inside = 0 < len(numbers) == len(found)
    except (TypeError, ValueError):
        inside = False
    if not inside or not isinstance(name, str):
        raise ValueError(f"{shorten(entity)} is not [name, id, [[word number, ...], ...]] within {len(words)} words")
    return name, sorted(found)


def clean(record: dict[str, Any]) -> tuple[str, Example]:
    """(why it is dropped or "", example without docid and relation).

    Raises:
        ValueError: a record of another form.
    """
    words = record.get("tokens") if isinstance(record, dict) else None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError("tokens is missing or no list of words")
    example: Example = {"token": words}
    reason, spans = "", []
    for key, role in (("h", "subj"), ("t", "obj")):
        name, numbers = first_mention(record.get(key), words)
        if numbers != list(range(numbers[0], numbers[-1] + 1)):
            reason = "mention with a gap"
        elif is_blank("".join(words[numbers[0] : numbers[-1] + 1])):
            raise ValueError(f"the mention {shorten(record.get(key))} is blank")
        spans.append((numbers[0], numbers[-1] + 1))
        example |= {f"{role}_start": numbers[0], f"{role}_end": numbers[-1], f"{role}_label": name}
    if not reason and spans_cross(*spans):
        reason = "crossing mentions"
    return reason, example


def read_examples(paths: Sequence[Path], counts: Counter[str]) -> Iterator[Example]:
    """The examples of all files, in order; what is left out is counted.

    Raises:
        ValueError: names file, relation, record and mend.
    """
    source: dict[str, int] = {}  # relation -> which of the paths it is from
    numbers: Counter[str] = Counter()
    for i, path in enumerate(paths):
        for relation, where, record in _records(path):
            if source.setdefault(relation, i) != i:
                first = paths[source[relation]]
                raise ValueError(f"{path}: the relation {relation} is in {first} too; give each once.")
            numbers[relation] += 1
            try:
                reason, example = clean(record)
            except ValueError as error:
                raise ValueError(f"{where}: {error}; mend it.") from None
            counts[f"dropped for {reason}" if reason else "kept"] += 1
            if not reason:
                yield {"docid": f"fewrel/{relation}/{numbers[relation]}", "relation": relation, **example}


def _records(path: Path) -> Iterator[tuple[str, str, Any]]:
    """(relation, place, record) of FewRel's own files, or of rows with a relation each."""
    form = "{relation: [record, ...]}, nor rows with a relation each; give FewRel's train_wiki.json or val_wiki.json."
    kind, relations = json_layout(path) if path.is_file() and form_of(path) == ".json" else ("", {})
    if kind in (KEYED, COLUMNS) and not {"tokens", "relation"} & relations.keys():
        for relation, records in relations.items():
            if not isinstance(records, list):
                raise ValueError(f"{path} is not {form}")
            for number, record in enumerate(records, start=1):
                yield relation, f"{path}, relation {relation}, record {number}", record
        return
    for _, where, record in read_rows(path):
        name = record.get("relation")
        if not isinstance(name, str):
            raise ValueError(f"{path} is not {form}")
        mentions = {old: _mention(record, new) for old, new in (("h", "head"), ("t", "tail"))}
        yield name, where, record | {key: value for key, value in mentions.items() if value}


def _mention(record: dict[str, Any], key: str) -> list[Any] | None:
    """An entity of the hubs' form, {"text", "type", "indices"} or columns such as head.indices, in FewRel's."""
    entity = record.get(key)
    if not isinstance(entity, dict):
        entity = {name.removeprefix(f"{key}."): record[name] for name in record if name.startswith(f"{key}.")}
    return [entity.get(name) for name in ("text", "type", "indices")] if entity else None


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--input", type=absolute, nargs="+", required=True, help="FewRel's files")
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write")
    add_subset_flags(parser, drop=(), min_examples=1)
    args = parser.parse_args(argv)
    counts: Counter[str] = Counter()
    convert_corpus(args, read_examples(args.input, counts), counts)


if __name__ == "__main__":
    run(main)
