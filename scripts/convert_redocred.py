"""Make trex-rc examples for the factual adapter from Re-DocRED (or DocRED) documents.

    python scripts/convert_redocred.py --input dev_revised.json --output_dir data/redocred-rc \
        [--dev_fraction 0.1] [--seed 42] [--min_examples 1] [--max_per_relation N]

Each fact gives one example for every sentence that mentions both entities; span ends are inclusive.
The split is by document, so that no sentence of dev.json is seen in training. Writes train.json,
dev.json and relations.json ({relation: id}, the most frequent relation first, then by name).
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kadapter.data.jsonio import read_records, write_json, write_json_list

Example = dict[str, Any]
Span = tuple[int, int]  # word indices in a sentence, the end exclusive


class Document:
    """A checked Re-DocRED document; raises ValueError with the place, the value and the mend."""

    def __init__(self, place: str, record: dict[str, Any]) -> None:
        self.place = place
        for key, kind in (("title", str), ("sents", list), ("vertexSet", list), ("labels", list)):
            if not isinstance(record.get(key), kind):
                raise self._error(f"{key!r} is missing or not a {kind.__name__}; give an annotated document")
        self.title: str = record["title"]
        self.sents: list[list[str]] = record["sents"]
        for number, sent in enumerate(self.sents):
            if not isinstance(sent, list) or not all(isinstance(word, str) for word in sent):
                raise self._error(f"sentence {number} is not a list of words; give one list a sentence")
        self.mentions = [self._mentions(index, entity) for index, entity in enumerate(record["vertexSet"])]
        self.facts = [self._fact(label) for label in record["labels"]]

    def _error(self, detail: str) -> ValueError:
        return ValueError(f"{self.place}: {detail}.")

    def _mentions(self, index: int, entity: Any) -> dict[int, list[Span]]:
        """The spans of an entity by sentence number, in the order of the text."""
        if not isinstance(entity, list):
            raise self._error(f"entity {index} is not a list of mentions; give one list an entity")
        found: dict[int, list[Span]] = {}
        for mention in entity:
            try:
                sent_id, (start, end) = mention["sent_id"], mention["pos"]
                whole = all(isinstance(number, int) for number in (sent_id, start, end))
                inside = whole and sent_id >= 0 and 0 <= start < end <= len(self.sents[sent_id])
            except (TypeError, KeyError, ValueError, IndexError):
                inside = False
            if not inside:
                raise self._error(
                    f"entity {index} has the mention {mention!r}; "
                    "give it a sent_id and a pos [start, end) inside that sentence"
                )
            found.setdefault(sent_id, []).append((start, end))
        return {sent_id: sorted(spans) for sent_id, spans in found.items()}

    def _fact(self, label: Any) -> tuple[str, int, int]:
        """A (relation, head entity, tail entity) whose entities exist."""
        if isinstance(label, dict) and isinstance(label.get("r"), str):
            head, tail = label.get("h"), label.get("t")
            if all(isinstance(entity, int) and 0 <= entity < len(self.mentions) for entity in (head, tail)):
                return label["r"], label["h"], label["t"]
        raise self._error(
            f"the label {label!r} does not fit; give r as a name, h and t as entity numbers below {len(self.mentions)}"
        )


def _disjoint_spans(heads: list[Span], tails: list[Span]) -> tuple[Span, Span] | None:
    """The first mention of each that do not overlap, or None."""
    for head, tail in product(heads, tails):
        if head[1] <= tail[0] or tail[1] <= head[0]:
            return head, tail
    return None


def document_examples(document: Document, counts: Counter[str]) -> list[Example]:
    """The examples of a document, in the order of its facts; what is left out is counted."""
    examples: list[Example] = []
    seen: set[tuple[Any, ...]] = set()
    relations_of: Counter[tuple[Any, ...]] = Counter()
    for relation, head, tail in document.facts:
        counts["facts"] += 1
        shared = sorted(document.mentions[head].keys() & document.mentions[tail].keys())
        if not shared:
            counts["facts without a shared sentence"] += 1
        for sent_id in shared:
            spans = _disjoint_spans(document.mentions[head][sent_id], document.mentions[tail][sent_id])
            if spans is None:
                counts["sentences dropped for overlapping spans"] += 1
                continue
            pair = (tuple(document.sents[sent_id]), spans, head, tail)
            if (*pair, relation) in seen:
                counts["exact duplicates dropped"] += 1
                continue
            seen.add((*pair, relation))
            relations_of[pair] += 1
            examples.append(_example(document, sent_id, relation, (head, tail), spans))
    counts["examples that share their spans with another relation"] += sum(
        number for number in relations_of.values() if number > 1
    )
    return examples


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


def read_examples(path: Path, counts: Counter[str]) -> list[Example]:
    """The examples of all documents of a file."""
    examples: list[Example] = []
    titles: set[str] = set()
    # disable=None: a bar on a terminal only, so that logs stay readable.
    for number, record in tqdm(read_records(path), unit=" documents", disable=None):
        document = Document(f"{path}, record {number}", record)
        if document.title in titles:
            # Entities are named by title and number, which two documents must not share.
            raise ValueError(
                f"{path}, record {number}: the title {document.title!r} is used before; remove or rename one."
            )
        titles.add(document.title)
        counts["documents"] += 1
        examples.extend(document_examples(document, counts))
    counts["examples found"] = len(examples)
    return examples


def choose(
    examples: list[Example], min_examples: int, max_per_relation: int | None, seed: int, counts: Counter[str]
) -> list[Example]:
    """Drop rare relations and cap frequent ones by a seeded draw; the order of the examples is kept."""
    by_relation: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        by_relation.setdefault(example["relation"], []).append(index)
    draw = random.Random(seed)
    chosen: list[int] = []
    for relation in sorted(by_relation):
        indices = by_relation[relation]
        if len(indices) < min_examples:
            counts["relations dropped as too rare"] += 1
            counts["examples dropped with rare relations"] += len(indices)
            continue
        if max_per_relation is not None and len(indices) > max_per_relation:
            counts["examples dropped over --max_per_relation"] += len(indices) - max_per_relation
            indices = draw.sample(indices, max_per_relation)
        chosen.extend(indices)
    return [examples[index] for index in sorted(chosen)]


def split_by_document(examples: list[Example], dev_fraction: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Train and dev examples; each document is wholly in one of them and neither is empty."""
    titles = sorted({example["docid"] for example in examples})
    if len(titles) < 2:
        raise ValueError(
            f"{len(titles)} documents with examples cannot be split into train and dev; "
            "give more documents or lower --min_examples."
        )
    random.Random(seed).shuffle(titles)
    size = min(max(1, round(len(titles) * dev_fraction)), len(titles) - 1)
    dev_titles = set(titles[:size])
    train = [example for example in examples if example["docid"] not in dev_titles]
    dev = [example for example in examples if example["docid"] in dev_titles]
    return train, dev


def relation_ids(examples: Iterable[Example]) -> dict[str, int]:
    """An id for each relation: the most frequent first, then by name."""
    counts = Counter(example["relation"] for example in examples)
    ordered = sorted(counts, key=lambda relation: (-counts[relation], relation))
    return {relation: number for number, relation in enumerate(ordered)}


def convert(args: argparse.Namespace) -> Counter[str]:
    """Convert one file into the three files of the output folder and return the counts."""
    counts: Counter[str] = Counter()
    found = read_examples(args.input, counts)
    examples = choose(found, args.min_examples, args.max_per_relation, args.seed, counts)
    train, dev = split_by_document(examples, args.dev_fraction, args.seed)
    relations = relation_ids(examples)
    counts["relations"] = len(relations)
    counts["relations only in dev"] = len(relations.keys() - {example["relation"] for example in train})
    counts["train examples"] = len(train)
    counts["dev examples"] = len(dev)
    write_json_list(args.output_dir / "train.json", train)
    write_json_list(args.output_dir / "dev.json", dev)
    write_json(args.output_dir / "relations.json", relations)
    return counts


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _fraction(text: str) -> float:
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not between 0 and 1")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--input", type=Path, required=True, help="Re-DocRED or DocRED file with labels")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for the three files")
    parser.add_argument("--dev_fraction", type=_fraction, default=0.1, help="share of documents for dev")
    parser.add_argument("--seed", type=int, default=42, help="of the split and of --max_per_relation")
    parser.add_argument("--min_examples", type=_positive, default=1, help="drop relations with fewer")
    parser.add_argument("--max_per_relation", type=_positive, help="keep at most this many a relation")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Convert the file named on the command line; leaves with one sentence on a bad input."""
    args = _parser().parse_args(argv)
    try:
        counts = convert(args)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{args.output_dir}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
