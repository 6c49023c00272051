"""Make trex-rc examples for the factual adapter from FewRel.

    python scripts/convert_fewrel.py --input train_wiki.json val_wiki.json --output_dir data/fewrel-rc

A file is {relation: [{"tokens": [...], "h": [name, id, [[word numbers], ...]], "t": the same}, ...]}; the first mention
of each entity is taken. All examples go into cleaned.jsonl; these are chosen and split as by
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
from kadapter.data.jsonio import read_json, shorten, whole
from kadapter.data.spans import cross, is_blank
from kadapter.data.subset import add_subset_flags, convert_corpus


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
    if not reason and cross(*spans):
        reason = "crossing mentions"
    return reason, example


def read_examples(paths: Sequence[Path], counts: Counter[str]) -> Iterator[Example]:
    """The examples of all files, in order; what is left out is counted.

    Raises:
        ValueError: names file, relation, record and mend.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        relations = read_json(path)
        if not isinstance(relations, dict) or not all(isinstance(records, list) for records in relations.values()):
            raise ValueError(
                f"{path} is not {{relation: [record, ...]}}; give FewRel's train_wiki.json or val_wiki.json."
            )
        for relation, records in relations.items():
            if relation in seen:
                raise ValueError(f"{path}: the relation {relation} is in {seen[relation]} too; give each once.")
            seen[relation] = path
            for number, record in enumerate(records, start=1):
                try:
                    reason, example = clean(record)
                except ValueError as error:
                    raise ValueError(f"{path}, relation {relation}, record {number}: {error}; mend it.") from None
                counts[f"dropped for {reason}" if reason else "kept"] += 1
                if not reason:
                    yield {"docid": f"fewrel/{relation}/{number}", "relation": relation, **example}


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--input", type=absolute, nargs="+", required=True, help="FewRel's files")
    parser.add_argument("--output_dir", type=absolute, required=True)
    add_subset_flags(parser, drop=(), min_examples=1)
    args = parser.parse_args(argv)
    counts: Counter[str] = Counter()
    convert_corpus(args, read_examples(args.input, counts), counts)


if __name__ == "__main__":
    run(main)
