"""Pretrain the factual adapter: relation classification on T-REx, backbone frozen (K-Adapter, section 3.3).

    bash run_pretrain_fac-adapter.sh                           # the original's flags and values
    NGPU=4 bash run_pretrain_fac-adapter.sh                    # as published: 4 GPUs, 64 examples each
    bash run_pretrain_fac-adapter.sh --objective entity_typing --data_dir data/trex-et   # types of entities instead

Data: <data_dir>/{train,dev}.json, docs/formats.md. Leaves an adapter folder that every task takes as
--meta_fac_adaptermodel (typing: --meta_et_adaptermodel). Measured here: docs/results.md.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from kadapter import HeadConfig
from kadapter.console import local_path, run
from kadapter.data.labels import read_labels
from kadapter.tasks.entity_typing import typing_source
from kadapter.tasks.metrics import entity_typing_scores, relation_scores
from kadapter.tasks.relations import relation_source
from kadapter.tasks.reports import relation_rows, typing_rows
from kadapter.training.arguments import DataArguments, PretrainingArguments, TrainingArguments, flag, parse
from kadapter.training.recipe import pretrain
from kadapter.training.task import Task
from kadapter.training.tracking import start_accelerator


@dataclass(frozen=True, kw_only=True)
class RelationArguments:
    """What is learned of T-REx."""

    objective: str = flag(
        "relations of two entities, or types of one", "relation", choices=("relation", "entity_typing")
    )
    labels: str = flag(
        "JSON file of labels in order; default: relations.json or labels.json in the data folder", "", type=local_path
    )


def score(predictions, features, scores):
    return scores(np.stack([p["logits"] for p in predictions]), np.array(features["labels"]))


# objective -> adapter, labels in the data folder, how data are read, scores, the one that chooses, rows of predictions
OBJECTIVES = {
    "relation": ("fac", "relations.json", relation_source, relation_scores, "accuracy", relation_rows),
    "entity_typing": ("et", "labels.json", typing_source, entity_typing_scores, "f1", typing_rows),
}


def main(argv=None):
    groups = [PretrainingArguments, DataArguments, TrainingArguments, RelationArguments]
    arguments = parse(__doc__, groups, argv, task_name="trex", max_seq_length=64)
    _, data_args, args, relation_args = arguments
    objective = relation_args.objective
    name, file, source, scores, metric, rows = OBJECTIVES[objective]
    labels = read_labels(relation_args.labels or Path(data_args.data_dir) / file)
    task = Task(
        source=source(labels),
        head=HeadConfig(objective, len(labels), tuple(labels)),
        score=partial(score, scores=scores),
        rows=partial(rows, labels=labels),
        metric=metric,
    )
    return pretrain(start_accelerator(args), task, arguments, name)


if __name__ == "__main__":
    run(main)
