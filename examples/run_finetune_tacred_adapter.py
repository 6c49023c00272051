"""Relation classification on TACRED with a RoBERTa, frozen knowledge adapters and a fresh head (K-Adapter, 4.3).

    bash run_finetune_tacred_adapter.sh                        # the original's flags and values
    NGPU=4 bash run_finetune_tacred_adapter.sh                 # as published: 4 GPUs, 8 examples each

Data: <data_dir>/{train,dev,test}.json, docs/formats.md; Re-TACRED with --labels. Published for RoBERTa-large with
both adapters, test: P 70.14, R 74.04, F1 72.04 (paper, table 4), about 7 hours on four 16 GB P100. Measured here:
docs/results.md.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from kadapter import HeadConfig
from kadapter.console import local_path, run
from kadapter.data.labels import TACRED_LABELS, read_labels
from kadapter.tasks.metrics import tacred_scores
from kadapter.tasks.relations import relation_source
from kadapter.tasks.reports import relation_rows, write_per_class
from kadapter.training.arguments import DataArguments, TaskArguments, TrainingArguments, flag, parse
from kadapter.training.recipe import finetune
from kadapter.training.task import Task
from kadapter.training.tracking import start_accelerator


@dataclass(frozen=True, kw_only=True)
class TacredArguments:
    """TACRED."""

    labels: str = flag(
        "JSON file of relations in order, such as Re-TACRED's; default: TACRED's 42", "", type=local_path
    )
    negative: str = flag("the relation that stands for none and does not count in the scores", "no_relation")
    negative_sample: int = flag(
        "keep so many training examples of it, less one, as the original; 0 keeps all", 0, within="[0, inf)"
    )
    original_truncation: bool = flag("cut at the right and drop examples that lose a marker there", False)
    report_per_class: bool = flag("print and write a table of scores by relation", False)


def score(predictions, features, negative):
    return tacred_scores(np.array([p["logits"].argmax() for p in predictions]), np.array(features["labels"]), negative)


def main(argv=None):
    groups = [TaskArguments, DataArguments, TrainingArguments, TacredArguments]
    arguments = parse(__doc__, groups, argv, task_name="tacred", max_seq_length=184)
    *_, args, tacred = arguments
    labels = read_labels(tacred.labels) if tacred.labels else list(TACRED_LABELS)
    if tacred.negative not in labels:
        raise ValueError(f"--negative is {tacred.negative!r}, which is not among the {len(labels)} labels.")
    kept = {"negative": tacred.negative, "negative_sample": tacred.negative_sample}
    task = Task(
        source=relation_source(labels, train=kept, keep_markers=not tacred.original_truncation),
        head=HeadConfig("relation", len(labels), tuple(labels)),
        score=partial(score, negative=labels.index(tacred.negative)),
        rows=partial(relation_rows, labels=labels),
        metric="f1",
        report=partial(write_per_class, labels=labels) if tacred.report_per_class else None,
    )
    return finetune(start_accelerator(args), task, arguments)


if __name__ == "__main__":
    run(main)
