"""Make relation examples of your own from a knowledge graph and text, by distant supervision (Mintz et al. 2009).

    python scripts/create_relation_dataset.py --triples graph.tsv --aliases aliases.tsv --text corpus/ \\
        --output data/kg-cleaned.jsonl
    python scripts/create_relation_dataset.py --triples wikidata5m_transductive_train.txt \\
        --aliases wikidata5m_entity.txt wikidata5m_relation.txt --text wikidata5m_text.txt --text_form id_lines \\
        --output data/wikidata5m-cleaned.jsonl --negatives 0.3

A sentence that names both ends of a triple becomes an example of its relation. --triples is .tsv, .csv, .txt (tabs),
JSON lines, Parquet or Arrow, with ids or names, N-Triples or Turtle; --aliases has an id and its names in each line
(entities and relations), --text is a file or folder of plain text, tables or JSON lines; all of them also with .gz or
.zst. An alias that names several entities is resolved where one of them alone has a fact in the sentence. Rules keep
aliases out that are short, function words, or too frequent in this text; all is counted.

Writes cleaned examples, which create_subdataset-relation-classification.py chooses from and splits, and beside them a
report (-report.md, -report.json) and a plot of relations (-relations.png). Text is read as a stream by several
processes or the workers of a Dask cluster; killed and started again, it goes on with the pieces that are left. The
same input gives the same bytes, wherever and by how many workers it is done. docs/own_knowledge.md leads through it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from kadapter.console import COUNT, SEED, Number, Parser, absolute, run
from kadapter.data.aliases import CASES, AliasRules, function_words
from kadapter.data.distant import AlignOptions
from kadapter.data.distant_run import Inputs, create
from kadapter.data.executors import add_worker_flags
from kadapter.data.texts import FORMS, TextOptions
from kadapter.storage.reading import read_lines

SHARE = Number(float, "(0, 1]")


def _parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument(
        "--triples",
        type=absolute,
        nargs="+",
        required=True,
        help="files of the graph: a subject, a relation and an object in each line",
    )
    parser.add_argument(
        "--aliases", type=absolute, nargs="*", default=[], help="files with the names of entities and relations"
    )
    parser.add_argument("--text", type=absolute, nargs="+", required=True, help="files or folders of text")
    parser.add_argument("--output", type=absolute, required=True, help="JSON-lines file to write")
    parser.add_argument("--language", default="en", help="language of names in RDF")
    add_worker_flags(parser)
    text = parser.add_argument_group("text")
    text.add_argument("--text_form", choices=FORMS, default="lines", help="what a document is in plain text")
    text.add_argument("--text_field", default="text", help="field of tables and JSON that holds the text")
    text.add_argument(
        "--id_field", default="", help="field of tables and JSON that names a document; default: docid, doc_id or id"
    )
    text.add_argument(
        "--sentences",
        choices=("split", "given"),
        default="split",
        help="split: cut documents into sentences; given: each document is one sentence",
    )
    text.add_argument("--max_words", type=COUNT, default=128, help="words of the longest sentence that is kept")
    rules = parser.add_argument_group("aliases")
    rules.add_argument(
        "--case",
        choices=CASES,
        default="smart",
        help="whether case counts when aliases are looked for (docs/own_knowledge.md)",
    )
    rules.add_argument("--min_characters", type=COUNT, default=3, help="letters and digits that an alias must have")
    rules.add_argument(
        "--max_share",
        type=SHARE,
        default=0.05,
        help="share of sentences that an alias may be in; more frequent ones are not used",
    )
    rules.add_argument(
        "--max_readings",
        type=COUNT,
        default=16,
        help="entities that an alias may name; more ambiguous ones are not used",
    )
    rules.add_argument("--stop_aliases", type=absolute, help="file of aliases that are not used, one on each line")
    rules.add_argument(
        "--negatives",
        type=Number(float, "[0, inf)"),
        default=0.0,
        help="pairs without a fact for each example with one",
    )
    rules.add_argument("--seed", type=SEED, default=42, help="seed of those pairs and of the examples in the report")
    return parser


def _options(args: argparse.Namespace) -> tuple[AliasRules, AlignOptions]:
    stop = function_words()
    if args.stop_aliases:
        stop |= {line.strip().lower() for _, line in read_lines(args.stop_aliases) if line.strip()}
    rules = AliasRules(args.case, args.min_characters, args.max_share, args.max_readings, stop)
    texts = TextOptions(args.text_form, args.text_field, args.id_field, args.sentences == "split")
    return rules, AlignOptions(texts, args.case, args.negatives, args.seed, args.max_words)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = _parser()
    args = parser.parse_args(argv)
    if args.output.suffix != ".jsonl":
        parser.error(f"--output is {args.output}; give it a name that ends in .jsonl.")
    inputs = Inputs(args.triples, args.aliases, args.text, args.language)
    report = create(inputs, args.output, *_options(args), args.workers, args.cluster)
    for name, count in {**report["graph"], **report["counts"]}.items():
        print(f"{count:>12,}  {name}")
    for name, (found, total) in report["coverage"].items():
        print(f"{found:>12,}  {name}, of {total:,} ({found / max(1, total):.1%})")
    for reason, kept in report["aliases not used"].items():
        print(f"{kept['count']:>12,}  aliases not used: {reason}, such as {', '.join(kept['examples'])}")
    lone = report["relations with one example"]
    print(f"{len(lone):>12,}  relations with one example{': ' * bool(lone)}{', '.join(lone[:10])}")
    for text in report["examples"][:5]:
        print(f"  {text}")
    print(f"The whole report: {args.output.with_name(args.output.stem + '-report.md')}")
    return report


if __name__ == "__main__":
    run(main)
