"""Multiple choice on CosmosQA with a RoBERTa, frozen knowledge adapters and a fresh head (K-Adapter, section 4.2).

    bash run_finetune_cosmosqa_adapter.sh                      # the original's flags and values
    bash run_finetune_cosmosqa_adapter.sh --do_test            # predictions.lst for the leaderboard

Data: <data_dir>/{train,valid,test}.jsonl, docs/formats.md. Published for RoBERTa-large with both adapters: dev 80.9,
test 81.83 (the original's README; paper, table 3), about 8 hours on one 16 GB P100. Measured here: docs/results.md.
"""

from dataclasses import dataclass, replace

from kadapter.console import run
from kadapter.data.splits import files_of, missing
from kadapter.tasks.multiple_choice import CosmosQA
from kadapter.training.arguments import parse_recipe
from kadapter.training.flags import flag
from kadapter.training.model_arguments import TaskArguments
from kadapter.training.recipe import finetune

READERS = ("read_examples_origin", "read_examples_add_evidence")


@dataclass(frozen=True, kw_only=True)
class CosmosArguments:
    """CosmosQA."""

    preprocess_type: str = flag(
        "whether evidence that was searched for each answer is read too", READERS[0], choices=READERS
    )
    train_steps: int = flag(
        "batches to train on, as the original counts; sets max_steps; -1: it does not", -1, within="-1 or [1, inf)"
    )
    do_test: bool = flag("predict the test split, whose labels are kept back", False)
    print_error_analysis: bool = flag("also write the questions of dev that were answered wrongly", False)
    original_padding: bool = flag("pad with id 0, as the original (it matters with --attend_padding alone)", False)


def main(argv=None):
    defaults = {"task_name": "cosmosqa", "fusion_mode": "nested_concat", "adam_epsilon": 1e-6}
    args = parse_recipe(__doc__, TaskArguments, CosmosArguments, argv, **defaults)
    folder, training = args.data.data_dir, args.training
    if args.own.train_steps > 0:
        steps = -(-args.own.train_steps // training.gradient_accumulation_steps)
        training = replace(training, max_steps=steps)
    task = CosmosQA(
        evidence=args.own.preprocess_type == READERS[1],
        original_padding=args.own.original_padding,
        errors_of=folder if args.own.print_error_analysis else "",
    )
    if args.own.do_test:
        training = replace(training, do_eval=True)
        if not files_of(test := task.path(folder, "test")):
            raise FileNotFoundError(
                f"{test} is missing; put the test split there or leave --do_test out. {missing(test)}"
            )
    splits = [split for split in task.splits if split != "test" or args.own.do_test]
    return finetune(task, replace(args, training=training), splits)


if __name__ == "__main__":
    run(main)
