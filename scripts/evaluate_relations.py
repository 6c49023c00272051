"""Precision and recall of distant supervision on text whose facts people annotated.

    python scripts/evaluate_relations.py --redocred dev_revised.json --output_dir output/evaluate-redocred
    python scripts/evaluate_relations.py --fewrel val_wiki.json --output_dir output/evaluate-fewrel

Makes a graph of the annotation: entities with the names that their mentions have (of Re-DocRED the longest name with
the type stands for an entity in all documents), and all facts. scripts/create_relation_dataset.py aligns it with the
sentences, and its examples are compared with the facts whose ends a sentence mentions. The figures are in
docs/results.md.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import create_relation_dataset

from kadapter.console import Parser, absolute, run
from kadapter.data.jsonio import write_jsonl
from kadapter.data.tables import read_rows
from kadapter.storage.reading import read_json

Triple = tuple[str, str, str]


class Annotated(NamedTuple):
    """A sentence: its text, its facts, and those for which it is the evidence."""

    text: str
    facts: set[Triple]
    stated: set[Triple]


def redocred(path: Path) -> Iterator[tuple[list[Annotated], list[Triple], list[tuple[str, str]]]]:
    """Of each document its sentences, all facts, and all names."""
    for document in read_json(path):
        vertices = document["vertexSet"]
        names = [[" ".join(mention["name"].split()) for mention in vertex] for vertex in vertices]
        ids = [f"{max(own, key=lambda n: (len(n), n))}#{v[0]['type']}" for own, v in zip(names, vertices, strict=True)]
        facts = [(ids[f["h"]], f["r"], ids[f["t"]], set(f["evidence"]), f["h"], f["t"]) for f in document["labels"]]
        facts = [fact for fact in facts if fact[0] != fact[2]]
        sentences = []
        for number, words in enumerate(document["sents"]):
            here = {i for i, vertex in enumerate(vertices) if any(m["sent_id"] == number for m in vertex)}
            own = [fact for fact in facts if {fact[4], fact[5]} <= here]
            stated = {fact[:3] for fact in own if number in fact[3]}
            sentences.append(Annotated(" ".join(words), {fact[:3] for fact in own}, stated))
        named = [(i, name) for i, own_names in zip(ids, names, strict=True) for name in own_names]
        yield sentences, [fact[:3] for fact in facts], named


def fewrel(path: Path) -> Iterator[tuple[list[Annotated], list[Triple], list[tuple[str, str]]]]:
    """As `redocred`; a document is a sentence with one fact, which it states."""
    for relation, rows in read_json(path).items():
        for row in rows:
            ends = [(end[1], " ".join(row["tokens"][i] for i in end[2][0])) for end in (row["h"], row["t"])]
            fact = (ends[0][0], relation, ends[1][0])
            yield [Annotated(" ".join(row["tokens"]), {fact}, {fact})], [fact], ends


def write(documents: Iterator, out: Path) -> list[Annotated]:
    """text.jsonl, triples.tsv and aliases.tsv; gives all sentences, whose places are the ids of the texts."""
    sentences: list[Annotated] = []
    triples: dict[Triple, None] = {}
    names: dict[str, dict[str, None]] = {}
    for own, facts, named in documents:
        sentences += own
        triples |= dict.fromkeys(facts)
        for entity, name in named:
            names.setdefault(entity, {})[name] = None
    write_jsonl(out / "text.jsonl", ({"docid": str(i), "text": found.text} for i, found in enumerate(sentences)))
    for file, rows in (("triples.tsv", triples), ("aliases.tsv", ((name, *own) for name, own in names.items()))):
        (out / file).write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return sentences


def compare(sentences: Sequence[Annotated], examples: Path) -> dict[str, float]:
    """Precision and recall, against all facts and against those that their sentence states."""
    found: dict[tuple[int, Triple], int] = {}
    for row in read_rows(examples):
        example: dict[str, Any] = row.record
        key = (int(example["docid"]), (example["subj_label"], example["relation"], example["obj_label"]))
        found[key] = max(example["subj_readings"], example["obj_readings"])
    wanted = {(i, fact) for i, sentence in enumerate(sentences) for fact in sentence.facts}
    stated = {(i, fact) for i, sentence in enumerate(sentences) for fact in sentence.stated}
    one = {key for key, readings in found.items() if readings == 1}
    several = found.keys() - one
    return {
        "wanted": len(wanted),
        "wanted and stated": len(stated),
        "found": len(found),
        "precision": len(wanted & found.keys()) / len(found),
        "recall": len(wanted & found.keys()) / len(wanted),
        "precision, stated": len(stated & found.keys()) / len(found),
        "recall, stated": len(stated & found.keys()) / len(stated),
        "precision, one reading": len(wanted & one) / max(1, len(one)),
        "precision, several readings": len(wanted & several) / max(1, len(several)),
    }


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = Parser(__doc__)
    corpus = parser.add_mutually_exclusive_group(required=True)
    corpus.add_argument("--redocred", type=absolute, help="Re-DocRED's JSON file")
    corpus.add_argument("--fewrel", type=absolute, help="FewRel's JSON file")
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write; it is emptied first")
    args = parser.parse_args(argv)
    out: Path = args.output_dir
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    sentences = write(redocred(args.redocred) if args.redocred else fewrel(args.fewrel), out)
    files = ["--triples", out / "triples.tsv", "--aliases", out / "aliases.tsv", "--text", out / "text.jsonl"]
    create_relation_dataset.main([*map(str, files), "--output", str(out / "found.jsonl"), "--sentences", "given"])
    scores = compare(sentences, out / "found.jsonl")
    print(json.dumps(scores, indent=2))
    return scores


if __name__ == "__main__":
    run(main)
