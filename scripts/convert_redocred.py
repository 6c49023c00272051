"""Make trex-rc examples for the factual adapter from Re-DocRED (or DocRED) documents.

    python scripts/convert_redocred.py --input dev_revised.json --output_dir data/redocred-rc
    python scripts/convert_redocred.py ... --min_examples 20 --max_per_relation 400 --dev_fraction 0.1 --seed 42
    python scripts/convert_redocred.py ... --documents 401-500 --dev_fraction 0.5 --shots 5   # few shots, others unseen

--input is a file, a folder of shards or a pattern, in any form that is read (docs/formats.md); labels may be columns
({"head": [...], "tail": [...], "relation_id": [...]}), as hubs have them. Each fact gives one example for every
sentence that mentions both entities; span ends are inclusive. All examples go into cleaned.jsonl; these are chosen and
split as by scripts/create_subdataset-relation-classification.py, here by document, so that no sentence of dev.jsonl is
seen in training: train.jsonl, dev.jsonl, relations.json, two plots. types.json are the entities' types, for
scripts/create_subdataset-entity-typing.py --types, of documents whose mentions have types.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kadapter.console import Parser, absolute, run
from kadapter.data.cleaned import Example
from kadapter.data.jsonio import shorten, whole, write_json
from kadapter.data.spans import Span, is_blank, nested, spans_cross
from kadapter.data.subset import convert_corpus
from kadapter.data.subset_options import add_subset_flags
from kadapter.data.tables import read_rows


class Document:
    """A checked Re-DocRED document; raises ValueError with the place, the value and the mend."""

    def __init__(self, place: str, record: dict[str, Any]) -> None:
        self.place = place
        record = {**record, "labels": self._labels(record.get("labels"))}
        for key, kind in (("title", str), ("sents", list), ("vertexSet", list), ("labels", list)):
            if not isinstance(record.get(key), kind):
                raise self._error(f"{key!r} is missing or not a {kind.__name__}; give an annotated document")
        self.title: str = record["title"]
        self.sents: list[list[str]] = record["sents"]
        for number, sent in enumerate(self.sents):
            if not isinstance(sent, list) or not all(isinstance(word, str) for word in sent):
                raise self._error(f"sentence {number} is not a list of words; give one list a sentence")
        self.mentions = [self._mentions(index, entity) for index, entity in enumerate(record["vertexSet"])]
        self.types = [self._types(index, entity) for index, entity in enumerate(record["vertexSet"])]
        self.facts = [self._fact(label) for label in record["labels"]]

    def _error(self, detail: str) -> ValueError:
        return ValueError(f"{self.place}: {detail}.")

    def _labels(self, labels: Any) -> Any:
        """A list of facts; none in DocRED's test file, and columns in the hubs' form."""
        if labels is None:
            return []
        if not isinstance(labels, dict):
            return labels
        columns = [labels.get(name) for name in ("relation_id", "head", "tail")]
        sizes = {len(column) if isinstance(column, list) else None for column in columns}
        if len(sizes) > 1 or None in sizes:
            raise self._error(f"labels is {shorten(labels)}; give relation_id, head and tail as lists of one length")
        return [dict(zip(("r", "h", "t"), values, strict=True)) for values in zip(*columns, strict=True)]

    def _mentions(self, index: int, entity: Any) -> dict[int, list[Span]]:
        """The spans of an entity by sentence number, in the order of the text."""
        if not isinstance(entity, list):
            raise self._error(f"entity {index} is not a list of mentions; give one list an entity")
        found: dict[int, list[Span]] = {}
        for mention in entity:
            try:
                sent_id, start, end = map(whole, (mention["sent_id"], *mention["pos"]))
            except (TypeError, KeyError, ValueError):
                sent_id = start = end = None
            if (
                sent_id is None
                or start is None
                or end is None
                or not 0 <= sent_id < len(self.sents)
                or not 0 <= start < end <= len(self.sents[sent_id])
            ):
                raise self._error(
                    f"entity {index} has the mention {shorten(mention)}; "
                    "give it a sent_id and a pos [start, end) inside that sentence"
                )
            if is_blank("".join(self.sents[sent_id][start:end])):
                raise self._error(f"entity {index} has the mention {shorten(mention)}, which is blank; mend its words")
            found.setdefault(sent_id, []).append((start, end))
        return {sent_id: sorted(spans) for sent_id, spans in found.items()}

    def _types(self, index: int, entity: list[dict[str, Any]]) -> list[str]:
        """The types of an entity's mentions, each once."""
        types = dict.fromkeys(mention["type"] for mention in entity if mention.get("type") is not None)
        if wrong := [name for name in types if not isinstance(name, str) or is_blank(name)]:
            raise self._error(f"entity {index} has the type {shorten(wrong[0])}; give a name, or none")
        return list(types)

    def _fact(self, label: Any) -> tuple[str, int, int]:
        """A (relation, head entity, tail entity) whose entities exist."""
        if isinstance(label, dict) and isinstance(label.get("r"), str):
            head, tail = whole(label.get("h")), whole(label.get("t"))
            if head is not None and tail is not None and max(head, tail) < len(self.mentions) and min(head, tail) >= 0:
                return label["r"], head, tail
        raise self._error(
            f"the label {shorten(label)} does not fit; "
            f"give r as a name, h and t as entity numbers below {len(self.mentions)}"
        )


def _marked_spans(heads: list[Span], tails: list[Span]) -> tuple[Span, Span] | None:
    """The first mention of each that do not overlap, or else of which one contains the other, or None."""
    pairs = [pair for pair in product(heads, tails) if not spans_cross(*pair)]
    return next((pair for pair in pairs if not nested(*pair)), pairs[0] if pairs else None)


def document_examples(document: Document, counts: Counter[str]) -> Iterator[Example]:
    """The examples of a document, in the order of its facts; what is left out is counted."""
    seen: set[tuple[Any, ...]] = set()
    relations_of: Counter[tuple[Any, ...]] = Counter()
    for relation, head, tail in document.facts:
        counts["facts"] += 1
        shared = sorted(document.mentions[head].keys() & document.mentions[tail].keys())
        counts["facts without a shared sentence"] += not shared
        for sent_id in shared:
            spans = _marked_spans(document.mentions[head][sent_id], document.mentions[tail][sent_id])
            if spans is None:
                counts["sentences dropped for crossing spans"] += 1
                continue
            pair = (tuple(document.sents[sent_id]), spans, head, tail)
            if (*pair, relation) in seen:
                counts["exact duplicates dropped"] += 1
                continue
            seen.add((*pair, relation))
            relations_of[pair] += 1
            yield _example(document, sent_id, relation, (head, tail), spans)
    counts["examples that share their spans with another relation"] += sum(
        number for number in relations_of.values() if number > 1
    )


def _example(
    document: Document, sent_id: int, relation: str, entities: tuple[int, int], spans: tuple[Span, Span]
) -> Example:
    """One trex-rc example; the ends become inclusive here."""
    (subj_start, subj_end), (obj_start, obj_end) = spans
    return {
        "docid": document.title,
        "token": document.sents[sent_id],
        "relation": relation,
        "subj_start": subj_start,
        "subj_end": subj_end - 1,
        "obj_start": obj_start,
        "obj_end": obj_end - 1,
        "subj_label": f"{document.title}#{entities[0]}",
        "obj_label": f"{document.title}#{entities[1]}",
    }


def read_examples(
    path: Path, counts: Counter[str], wanted: range | None = None, types: dict[str, list[str]] | None = None
) -> Iterator[Example]:
    """The examples of the documents of a file.

    Args:
        wanted: the documents, from 1; None: all.
        types: takes the types of their entities, where they have any.
    """
    titles: dict[str, int] = {}
    last = 0
    # disable=None: a bar on a terminal only, so that logs stay readable.
    for last, (number, where, record) in enumerate(tqdm(read_rows(path), unit=" documents", disable=None), start=1):
        if wanted is not None and last not in wanted:
            continue
        document = Document(where, record)
        first = titles.setdefault(document.title, number)
        if first != number:
            # Entities are named by title and number, which two documents must not share.
            raise ValueError(
                f"{where}: the title {document.title!r:.60} is used before, by record {first}; remove or rename one."
            )
        counts["documents"] += 1
        counts["documents without labels"] += not document.facts
        if types is not None:
            types.update({f"{document.title}#{i}": found for i, found in enumerate(document.types) if found})
        yield from document_examples(document, counts)
    if wanted is not None and last < wanted[-1]:
        raise ValueError(f"--documents ends with {wanted[-1]:,}, but {path} holds {last:,}; give those that are there.")
    if not counts["facts"]:
        raise ValueError(f"{path}: none of the {len(titles):,} documents has labels; give an annotated file.")


def document_range(text: str) -> range:
    """A flag's type: "401-500" are the 401st to the 500th."""
    first, dash, last = text.partition("-")
    if not (dash and first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
        raise argparse.ArgumentTypeError(f"it is {text!r}; write the first and the last of them, such as 401-500")
    if not 1 <= int(first) <= int(last):
        raise argparse.ArgumentTypeError(f"it is {text!r}; the first counts from 1 and is not behind the last")
    return range(int(first), int(last) + 1)


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--input", type=absolute, required=True, help="Re-DocRED or DocRED file with labels")
    parser.add_argument(
        "--documents", type=document_range, metavar="FIRST-LAST", help="these alone, such as 401-500; default: all"
    )
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write")
    add_subset_flags(parser, drop=(), min_examples=1, split_by="document")
    args = parser.parse_args(argv)
    counts: Counter[str] = Counter()
    types: dict[str, list[str]] = {}
    convert_corpus(args, read_examples(args.input, counts, args.documents, types), counts)
    if types:
        write_json(args.output_dir / "types.json", types)


if __name__ == "__main__":
    run(main)
