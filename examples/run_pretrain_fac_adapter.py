"""Pretrain the factual adapter: relation classification on T-REx, backbone frozen (K-Adapter, section 3.3).

    bash run_pretrain_fac-adapter.sh                           # the original's flags and values
    NGPU=4 bash run_pretrain_fac-adapter.sh                    # as published: 4 GPUs, 64 examples each

Data: <data_dir>/{train,dev}.json, docs/formats.md. Leaves an adapter folder that every task takes as
--meta_fac_adaptermodel. Measured here: docs/results.md.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from kadapter import HeadConfig
from kadapter.arguments import DataArguments, PretrainingArguments, TrainingArguments, flag, parse
from kadapter.data.labels import read_labels
from kadapter.data.relations import RELATION_SCHEMA, encode_relations, read_relations
from kadapter.metrics import relation_scores
from kadapter.recipe import pretrain
from kadapter.reports import relation_rows
from kadapter.task import Task
from kadapter.tracking import start_accelerator


@dataclass(frozen=True, kw_only=True)
class RelationArguments:
    """Relation classification."""

    labels: str = flag("JSON file of relations in order; default: relations.json in the data folder", "")


def score(predictions, features):
    return relation_scores(np.stack([p["logits"] for p in predictions]), np.array(features["labels"]))


def main(argv=None):
    groups = [PretrainingArguments, DataArguments, TrainingArguments, RelationArguments]
    arguments = parse(__doc__, groups, argv, task_name="trex", max_seq_length=64)
    _, data_args, args, relation_args = arguments
    labels = read_labels(relation_args.labels or Path(data_args.data_dir) / "relations.json")
    task = Task(
        read=read_relations,
        schema=RELATION_SCHEMA,
        encode=encode_relations,
        read_options={"labels": labels},
        encode_options={"labels": labels},
        head=HeadConfig("relation", len(labels), tuple(labels)),
        score=score,
        rows=partial(relation_rows, labels=labels),
        metric="accuracy",
    )
    return pretrain(start_accelerator(args), task, arguments, "fac")


if __name__ == "__main__":
    main()
