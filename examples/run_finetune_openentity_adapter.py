"""Entity typing on OpenEntity with a RoBERTa, frozen knowledge adapters and a fresh head (K-Adapter, section 4.1).

    bash run_finetune_openentity_adapter.sh                    # the original's flags and values
    NGPU=2 bash run_finetune_openentity_adapter.sh             # several processes, by torchrun

Data: <data_dir>/{train,dev,test}.json, docs/formats.md. Published for RoBERTa-large with both adapters, test:
P 79.0, R 76.3, F1 77.6 (the original's README), about 2 hours on one 16 GB P100. Measured here: docs/results.md.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from kadapter import HeadConfig
from kadapter.console import local_path, run
from kadapter.data.labels import read_labels
from kadapter.tasks.entity_typing import OPENENTITY_LABELS, typing_source
from kadapter.tasks.metrics import entity_typing_scores
from kadapter.tasks.reports import typing_rows
from kadapter.training.arguments import DataArguments, TaskArguments, TrainingArguments, flag, parse
from kadapter.training.recipe import finetune
from kadapter.training.task import Task
from kadapter.training.tracking import start_accelerator


@dataclass(frozen=True, kw_only=True)
class TypingArguments:
    """Entity typing."""

    labels: str = flag("JSON file of label names in order; default: OpenEntity's nine", "", type=local_path)


def score(predictions, features):
    return entity_typing_scores(np.stack([p["logits"] for p in predictions]), np.array(features["labels"]))


def main(argv=None):
    groups = [TaskArguments, DataArguments, TrainingArguments, TypingArguments]
    arguments = parse(__doc__, groups, argv, task_name="entity_type")
    *_, args, typing_args = arguments
    labels = read_labels(typing_args.labels) if typing_args.labels else list(OPENENTITY_LABELS)
    task = Task(
        source=typing_source(labels),
        head=HeadConfig("entity_typing", len(labels), tuple(labels)),
        score=score,
        rows=partial(typing_rows, labels=labels),
        metric="f1",
    )
    return finetune(start_accelerator(args), task, arguments)


if __name__ == "__main__":
    run(main)
