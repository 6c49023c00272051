"""Entity typing on FIGER with a RoBERTa, frozen knowledge adapters and a fresh head (K-Adapter, section 4.1).

    bash run_finetune_figer_adapter.sh                         # the original's flags and values
    NGPU=4 bash run_finetune_figer_adapter.sh --gradient_accumulation_steps 128     # the paper's batch of 2048

Data: <data_dir>/{train,dev,test}.json or .jsonl, docs/formats.md; labels.json is written there unless it is there.
Published for RoBERTa-large with both adapters, test: accuracy 61.81, macro F1 84.87, micro F1 80.54 (paper, table 2).
Measured here: docs/results.md.
"""

from dataclasses import dataclass

from kadapter.console import run
from kadapter.data.spans import SPANS
from kadapter.tasks.entity_typing import Figer
from kadapter.training.arguments import parse_recipe
from kadapter.training.flags import flag
from kadapter.training.model_arguments import TaskArguments
from kadapter.training.recipe import finetune


@dataclass(frozen=True, kw_only=True)
class FigerArguments:
    """Entity typing."""

    spans: str = flag(
        "whether the end of a mention is the place behind it (exclusive) or its last one (inclusive)",
        "exclusive",
        choices=SPANS,
    )


def main(argv=None):
    args = parse_recipe(__doc__, TaskArguments, FigerArguments, argv, task_name="figer")
    return finetune(Figer.with_collected_labels(args.data.data_dir, spans=args.own.spans), args)


if __name__ == "__main__":
    run(main)
