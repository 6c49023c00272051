"""Entity typing on FIGER with a RoBERTa, frozen knowledge adapters and a fresh head (K-Adapter, section 4.1).

    bash run_finetune_figer_adapter.sh                         # the original's flags and values
    NGPU=4 bash run_finetune_figer_adapter.sh --gradient_accumulation_steps 128     # the paper's batch of 2048

Data: <data_dir>/{train,dev,test}.json or .jsonl, docs/formats.md; labels.json is written there unless it is there.
Published for RoBERTa-large with both adapters, test: accuracy 61.81, macro F1 84.87, micro F1 80.54 (paper, table 2).
Measured here: docs/results.md.
"""

from functools import partial

import numpy as np

from kadapter import HeadConfig
from kadapter.console import run
from kadapter.data.jsonio import split_path
from kadapter.tasks.entity_typing import collect_labels, typing_source
from kadapter.tasks.metrics import entity_typing_scores
from kadapter.tasks.reports import typing_rows
from kadapter.training.arguments import DataArguments, TaskArguments, TrainingArguments, parse
from kadapter.training.recipe import finetune
from kadapter.training.task import Task
from kadapter.training.tracking import start_accelerator


def score(predictions, features):
    logits, labels = np.stack([p["logits"] for p in predictions]), np.array(features["labels"])
    in_loop = entity_typing_scores(logits, labels, top_if_none=True)
    return {**entity_typing_scores(logits, labels), **{f"top_{name}": value for name, value in in_loop.items()}}


def main(argv=None):
    arguments = parse(__doc__, [TaskArguments, DataArguments, TrainingArguments], argv, task_name="figer")
    _, data_args, args = arguments
    accelerator = start_accelerator(args)
    with accelerator.main_process_first():
        train, *others = [split_path(data_args.data_dir, split) for split in ("train", "dev", "test")]
        labels = collect_labels(data_args.data_dir, train, others)
    task = Task(
        source=typing_source(labels),
        head=HeadConfig("entity_typing", len(labels), tuple(labels)),
        score=score,
        rows=partial(typing_rows, labels=labels),
        metric="f1",
    )
    return finetune(accelerator, task, arguments)


if __name__ == "__main__":
    run(main)
