"""Relation classification on SemEval-2010 Task 8 with a RoBERTa, frozen knowledge adapters and a fresh head.

    bash run_finetune_semeval_adapter.sh
    bash run_finetune_semeval_adapter.sh --meta_lin_adaptermodel=      # fac alone

Data: <data_dir>/train.txt and test.txt, the task's TRAIN_FILE.TXT and TEST_FILE_FULL.TXT; without a dev.txt beside
them, a tenth of train is held out. The original reads this task but publishes no score for it. Measured here:
docs/results.md.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from kadapter import HeadConfig
from kadapter.console import run
from kadapter.tasks.metrics import semeval_scores
from kadapter.tasks.reports import relation_rows, write_per_class
from kadapter.tasks.semeval import LABELS, semeval_source
from kadapter.training.arguments import DataArguments, TaskArguments, TrainingArguments, flag, parse
from kadapter.training.recipe import finetune
from kadapter.training.task import Task
from kadapter.training.tracking import start_accelerator


@dataclass(frozen=True, kw_only=True)
class SemevalArguments:
    """SemEval-2010 Task 8."""

    dev_share: float = flag("share of train that is held out as dev where there is no dev.txt", 0.1, within="(0, 1)")
    split_seed: int = flag("seed of that choice", 42, within="[0, inf)")
    report_per_class: bool = flag("print and write a table of scores by relation", False)


def score(predictions, features):
    return semeval_scores(np.array([p["logits"].argmax() for p in predictions]), np.array(features["labels"]), LABELS)


def main(argv=None):
    groups = [TaskArguments, DataArguments, TrainingArguments, SemevalArguments]
    arguments = parse(__doc__, groups, argv, task_name="semeval", max_seq_length=184)
    _, data_args, args, semeval = arguments
    task = Task(
        source=semeval_source(data_args.data_dir, dev_share=semeval.dev_share, seed=semeval.split_seed),
        head=HeadConfig("relation", len(LABELS), LABELS),
        score=score,
        rows=partial(relation_rows, labels=LABELS),
        metric="macro_f1",
        report=partial(write_per_class, labels=LABELS) if semeval.report_per_class else None,
    )
    return finetune(start_accelerator(args), task, arguments)


if __name__ == "__main__":
    run(main)
