"""Relation classification on TACRED with a RoBERTa, frozen knowledge adapters and a fresh head (K-Adapter, 4.3).

    bash run_finetune_tacred_adapter.sh                        # the original's flags and values
    NGPU=4 bash run_finetune_tacred_adapter.sh                 # as published: 4 GPUs, 8 examples each

Data: <data_dir>/{train,dev,test}.json, docs/formats.md; Re-TACRED with --labels. Published for RoBERTa-large with
both adapters, test: P 70.14, R 74.04, F1 72.04 (paper, table 4), about 7 hours on four 16 GB P100. Measured here:
docs/results.md.
"""

from dataclasses import dataclass

from kadapter.console import local_path, run
from kadapter.data.spans import SPANS
from kadapter.tasks.relations import Tacred
from kadapter.training.arguments import parse_recipe
from kadapter.training.flags import flag
from kadapter.training.model_arguments import TaskArguments
from kadapter.training.recipe import finetune


@dataclass(frozen=True, kw_only=True)
class TacredArguments:
    """TACRED."""

    labels: str = flag(
        "JSON file of relations in order, such as Re-TACRED's; default: TACRED's 42", "", type=local_path
    )
    negative: str = flag(
        "the relation that stands for none and does not count in the scores; '' counts all", "no_relation"
    )
    negative_sample: int = flag(
        "training examples of it that are kept (one fewer, as in the original); 0: all", 0, within="[0, inf)"
    )
    original_truncation: bool = flag(
        "cut long texts at their end, and drop examples that lose a marker there, as the original", False
    )
    spans: str = flag(
        "whether the end of a mention is the place behind it (exclusive) or its last one (inclusive)",
        "inclusive",
        choices=SPANS,
    )
    original_spans: bool = flag("write words that two mentions share twice, as in the original", False)
    report_per_class: bool = flag("also print and write scores by relation", False)


def main(argv=None):
    args = parse_recipe(__doc__, TaskArguments, TacredArguments, argv, task_name="tacred", max_seq_length=184)
    task = Tacred.for_folder(
        args.data.data_dir,
        args.own.labels,
        negative=args.own.negative,
        negative_sample=args.own.negative_sample,
        keep_markers=not args.own.original_truncation,
        spans=args.own.spans,
        original_spans=args.own.original_spans,
        report_per_class=args.own.report_per_class,
    )
    return finetune(task, args)


if __name__ == "__main__":
    run(main)
