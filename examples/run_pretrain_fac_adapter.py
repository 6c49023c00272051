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

from kadapter import HeadConfig, TaskModel
from kadapter.arguments import DataArguments, PretrainingArguments, TrainingArguments, flag, parse
from kadapter.data.relations import RELATION_SCHEMA, encode_relations, read_labels, read_relations
from kadapter.metrics import relation_scores
from kadapter.recipe import check_length, fit, load_data, load_pretraining_encoder, load_tokenizer
from kadapter.tracking import Run, run_name, start_accelerator


@dataclass(frozen=True, kw_only=True)
class RelationArguments:
    """Relation classification."""

    labels: str = flag("JSON file of relations in order; default: relations.json in the data folder", "")


def score(predictions, features):
    return relation_scores(np.stack([p["logits"] for p in predictions]), np.array(features["labels"]))


def rows(predictions, features, labels):
    for prediction, gold, record in zip(predictions, features["labels"], features["record"], strict=True):
        best = int(prediction["logits"].argmax())
        yield {
            "record": record,
            "relation": labels[gold],
            "predicted": labels[best],
            "logit": round(float(prediction["logits"][best]), 4),
        }


def main(argv=None):
    groups = [PretrainingArguments, DataArguments, TrainingArguments, RelationArguments]
    model_args, data_args, args, relation_args = parse(__doc__, groups, argv, task_name="trex", max_seq_length=64)
    accelerator = start_accelerator(args)
    labels = read_labels(relation_args.labels or Path(data_args.data_dir) / "relations.json")
    check_length(model_args, data_args.max_seq_length)
    tokenizer = load_tokenizer(model_args)
    splits = ["train", "dev"] if args.do_train else ["dev"]
    data = load_data(
        accelerator,
        splits,
        data_args,
        tokenizer,
        read_relations,
        RELATION_SCHEMA,
        encode_relations,
        reader_options={"labels": labels},
        encoder_options={"labels": labels},
    )
    encoder = load_pretraining_encoder(model_args, "fac")
    model = TaskModel.from_encoder(encoder, HeadConfig("relation", len(labels), tuple(labels)))
    name = run_name(args, data_args.max_seq_length, "-".join(encoder.adapters) or "none")
    run = Run(accelerator, Path(args.output_dir) / name, [model_args, data_args, args, relation_args])
    return fit(
        accelerator, run, model, tokenizer, data, args, data_args, score, partial(rows, labels=labels), "accuracy"
    )


if __name__ == "__main__":
    main()
