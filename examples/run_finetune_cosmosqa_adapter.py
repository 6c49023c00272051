"""Multiple choice on CosmosQA with a RoBERTa, frozen knowledge adapters and a fresh head (K-Adapter, section 4.2).

    bash run_finetune_cosmosqa_adapter.sh                      # the original's flags and values
    bash run_finetune_cosmosqa_adapter.sh --do_test            # predictions.lst for the leaderboard

Data: <data_dir>/{train,valid,test}.jsonl, docs/formats.md. Published for RoBERTa-large with both adapters: dev 80.9,
test 81.83 (the original's README; paper, table 3), about 8 hours on one 16 GB P100. Measured here: docs/results.md.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from kadapter import HeadConfig
from kadapter.console import run
from kadapter.tasks.multiple_choice import CHOICES, cosmosqa_source
from kadapter.tasks.reports import choice_rows, write_choices
from kadapter.training.arguments import DataArguments, TaskArguments, TrainingArguments, flag, parse
from kadapter.training.recipe import finetune
from kadapter.training.task import Task
from kadapter.training.tracking import start_accelerator

READERS = ("read_examples_origin", "read_examples_add_evidence")


@dataclass(frozen=True, kw_only=True)
class CosmosArguments:
    """CosmosQA."""

    preprocess_type: str = flag("whether answers' searched evidence is read", READERS[0], choices=READERS)
    train_steps: int = flag(
        "micro-batches to train on, as the original counts; sets max_steps; -1 does not", -1, within="-1 or [1, inf)"
    )
    do_test: bool = flag("predict the test split, whose labels are kept back", False)
    print_error_analysis: bool = flag("write the wrong ones of dev with their scores", False)
    original_padding: bool = flag("pad with id 0, as the original (it matters with --attend_padding alone)", False)


def score(predictions, features):
    chosen = np.array([p["logits"].argmax() for p in predictions])
    return {"accuracy": float((chosen == np.array(features["labels"])).mean())}


def main(argv=None):
    groups = [TaskArguments, DataArguments, TrainingArguments, CosmosArguments]
    defaults = {"task_name": "cosmosqa", "fusion_mode": "nested_concat", "adam_epsilon": 1e-6}
    model_args, data_args, args, cosmos = parse(__doc__, groups, argv, **defaults)
    if cosmos.train_steps > 0:
        args = replace(args, max_steps=-(-cosmos.train_steps // args.gradient_accumulation_steps))
    source = cosmosqa_source(evidence=cosmos.preprocess_type == READERS[1])
    if cosmos.do_test:
        args = replace(args, do_eval=True)
        if not (test := source.path(data_args.data_dir, "test")).is_file():
            raise FileNotFoundError(f"{test} is missing; put the test split there or leave --do_test out.")
    valid = source.path(data_args.data_dir, "dev")
    task = Task(
        source=source,
        pad_token_id=0 if cosmos.original_padding else None,
        head=HeadConfig("multiple_choice", CHOICES),
        score=score,
        rows=choice_rows,
        metric="accuracy",
        report=partial(write_choices, errors_of=valid if cosmos.print_error_analysis else None),
    )
    splits = ("train", "dev", "test") if cosmos.do_test else ("train", "dev")
    return finetune(start_accelerator(args), task, (model_args, data_args, args, cosmos), splits)


if __name__ == "__main__":
    run(main)
