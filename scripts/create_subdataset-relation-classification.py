"""Choose relations of cleaned T-REx and split it: cleaned examples to data/trex-rc.

    python scripts/create_subdataset-relation-classification.py --input trex-cleaned.jsonl --output_dir data/trex-rc
    python scripts/create_subdataset-relation-classification.py ... --count pairs --split_by pair --max_per_relation 900

Drops P31 ("instance of") and rare relations: fewer than 50 examples, as the original's code counts, or fewer than 50
entity pairs, as the paper says (--count pairs). Splits 90/10 by a seeded hash of each example, or of its entity pair
or document, so that dev holds pairs or documents that training never shows. --shots leaves few examples of each
relation in train, and --shuffle_labels makes a control of it. Reads the file twice and keeps counts alone in memory,
with either of these flags train as well. Several processes, or the workers of a Dask cluster (--cluster), read pieces
of a large JSON-lines file; what is written does not depend on it. Writes train.jsonl, dev.jsonl, relations.json, and
plots of examples by relation and of sentence lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kadapter.console import Parser, absolute, run
from kadapter.data.executors import add_worker_flags
from kadapter.data.labels import read_labels
from kadapter.data.subset import make_subset, summary
from kadapter.data.subset_options import add_subset_flags, subset_options

ORIGINAL_LABELS = Path(__file__).with_name("trex_rc_labels.json")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = Parser(__doc__)
    parser.add_argument("--input", type=absolute, required=True, help="cleaned examples, JSON lines or a JSON list")
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write")
    parser.add_argument(
        "--labels",
        choices=("frequency", "original"),
        default="frequency",
        help="order of the relations in relations.json",
    )
    parser.add_argument(
        "--original_spans",
        action="store_true",
        help="keep examples whose two mentions overlap, for the recipe's --original_spans",
    )
    add_subset_flags(parser)
    add_worker_flags(parser)
    args = parser.parse_args(argv)
    labels = read_labels(ORIGINAL_LABELS) if args.labels == "original" else None
    options = subset_options(args, labels, args.original_spans)
    report = make_subset(args.input, args.output_dir, options, args.workers, args.cluster)
    print(f"{args.output_dir}: {summary(report)}")
    return report


if __name__ == "__main__":
    run(main)
