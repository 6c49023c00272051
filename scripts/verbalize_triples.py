"""Write the triples of a knowledge graph as sentences, to pretrain a domain adapter on what no text states.

    python scripts/verbalize_triples.py --triples graph.tsv --aliases aliases.tsv --templates templates.json \\
        --output data/domain/train.txt --dev_output data/domain/dev.txt
    bash run_pretrain_mlm-adapter.sh --data_dir data/domain

    python scripts/verbalize_triples.py --triples graph.tsv --output data/domain/train.jsonl \\
        --dev_output data/domain/dev.jsonl --facts_per_line 5
    bash run_pretrain_mlm-adapter.sh --data_dir data/domain --mask_spans

--triples and --aliases are those of create_relation_dataset.py; an entity is called by its first alias. A template is
"{subject} was born in {object}.", in JSON ({relation: template}) or lines of a relation, a tab and a template; other
relations are said as "subject relation object." with their names made readable. An output that ends in .jsonl keeps
where the names stand ({"text", "spans", "subject"}), which --mask_spans hides whole; .txt is plain text. --dev_output
takes a seeded share of the lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kadapter.console import COUNT, SEED, SHARE, Parser, absolute, run
from kadapter.data.cleaned import fraction
from kadapter.data.graph_files import read_graph
from kadapter.data.jsonio import to_json
from kadapter.data.verbalize import read_templates, verbalize
from kadapter.storage.files import atomic_files

ENDINGS = (".txt", ".jsonl")


def main(argv: Sequence[str] | None = None) -> dict[str, int]:
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
    parser.add_argument(
        "--templates",
        type=absolute,
        help="file of sentences for relations: JSON, or lines of a relation, a tab and a template",
    )
    parser.add_argument("--output", type=absolute, required=True, help="file to write, .txt or .jsonl")
    parser.add_argument(
        "--dev_output", type=absolute, help="file for a part of the lines, as dev, with the same ending"
    )
    parser.add_argument("--dev_fraction", type=SHARE, default=0.1, help="share of that part")
    parser.add_argument("--facts_per_line", type=COUNT, default=1, help="facts of one subject in each line")
    parser.add_argument("--language", default="en", help="language of names in RDF")
    parser.add_argument("--seed", type=SEED, default=42, help="seed of the choice of that part")
    args = parser.parse_args(argv)
    outputs = [args.output] + [args.dev_output] * bool(args.dev_output)
    if (
        len({path.suffix for path in outputs}) > 1
        or args.output.suffix not in ENDINGS
        or len({*outputs}) < len(outputs)
    ):
        parser.error("give --output and --dev_output different names that end both in .txt or both in .jsonl.")
    templates = read_templates(args.templates) if args.templates else {}
    graph, counts = read_graph(args.triples, args.aliases, args.language), Counter[str]()
    with atomic_files("the sentences") as temporary:
        streams = [temporary(path).open("x", encoding="utf-8", newline="\n") for path in outputs]
        for line in verbalize(graph, templates, args.facts_per_line, counts):
            in_dev = len(streams) > 1 and fraction(args.seed, line["text"]) < args.dev_fraction
            counts["lines of dev"] += in_dev
            streams[in_dev].write((to_json(line) if args.output.suffix == ".jsonl" else line["text"]) + "\n")
        for stream in streams:
            stream.close()
        if not counts["lines"]:
            raise ValueError(f"{args.triples[0]}: no triple has names for both its ends; give --aliases for its ids.")
        if args.dev_output and not 0 < counts["lines of dev"] < counts["lines"]:
            raise ValueError(
                f"{counts['lines']} lines leave train or dev empty; give another --dev_fraction or --seed."
            )
    for name, count in counts.items():
        print(f"{count:>12,}  {name}")
    return counts


if __name__ == "__main__":
    run(main)
