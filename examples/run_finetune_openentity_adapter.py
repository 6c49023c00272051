"""Entity typing on OpenEntity with a RoBERTa, frozen knowledge adapters and a fresh head (K-Adapter, section 4.1).

    bash run_finetune_openentity_adapter.sh                    # the original's flags and values
    NGPU=2 bash run_finetune_openentity_adapter.sh             # several processes, by torchrun

Data: <data_dir>/{train,dev,test}.json, docs/formats.md. Published for RoBERTa-large with both adapters, test:
P 79.0, R 76.3, F1 77.6 (the original's README, which names rate, warm-up and hours for one adapter alone: 2 on a 16 GB
P100). Measured here: docs/results.md.
"""

from dataclasses import dataclass

from kadapter.console import local_path, run
from kadapter.data.spans import SPANS
from kadapter.tasks.entity_typing import OpenEntity
from kadapter.training.arguments import parse_recipe
from kadapter.training.flags import flag
from kadapter.training.model_arguments import TaskArguments
from kadapter.training.recipe import finetune


@dataclass(frozen=True, kw_only=True)
class TypingArguments:
    """Entity typing."""

    labels: str = flag("JSON file of label names in order; default: OpenEntity's nine", "", type=local_path)
    spans: str = flag(
        "whether the end of a mention is the place behind it (exclusive) or its last one (inclusive)",
        "exclusive",
        choices=SPANS,
    )


def main(argv=None):
    args = parse_recipe(__doc__, TaskArguments, TypingArguments, argv, task_name="entity_type")
    task = OpenEntity.for_folder(args.data.data_dir, args.own.labels, spans=args.own.spans)
    return finetune(task, args)


if __name__ == "__main__":
    run(main)
