"""Entity typing on OpenEntity with a RoBERTa, frozen knowledge adapters and a fresh head (K-Adapter, section 4.1).

    bash run_finetune_openentity_adapter.sh                    # the original's flags and values
    NGPU=2 bash run_finetune_openentity_adapter.sh             # several processes, by torchrun

Data: <data_dir>/{train,dev,test}.json, docs/formats.md. Published for RoBERTa-large with both adapters, test:
P 79.0, R 76.3, F1 77.6 (the original's README), about 2 hours on one 16 GB P100. Measured here: docs/results.md.
"""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from kadapter import HeadConfig, TaskModel
from kadapter.arguments import DataArguments, TaskArguments, TrainingArguments, flag, parse
from kadapter.data.entity_typing import (
    OPENENTITY_LABELS,
    TYPING_SCHEMA,
    encode_entity_typing,
    read_entity_typing,
)
from kadapter.data.relations import read_labels
from kadapter.metrics import entity_typing_scores
from kadapter.recipe import check_length, fit, load_data, load_task_encoder, load_tokenizer, split_path
from kadapter.tracking import Run, run_name, start_accelerator

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TypingArguments:
    """Entity typing."""

    labels: str = flag("JSON file of label names in order; default: OpenEntity's nine", "")


def score(predictions, features):
    return entity_typing_scores(np.stack([p["logits"] for p in predictions]), np.array(features["labels"]))


def rows(predictions, features, labels):
    for prediction, gold, record in zip(predictions, features["labels"], features["record"], strict=True):
        logits = prediction["logits"]
        yield {
            "record": record,
            "labels": [name for name, present in zip(labels, gold, strict=True) if present],
            "predicted": [name for name, logit in zip(labels, logits, strict=True) if logit > 0],
            "logits": [round(float(logit), 4) for logit in logits],
        }


def main(argv=None):
    groups = [TaskArguments, DataArguments, TrainingArguments, TypingArguments]
    model_args, data_args, args, typing_args = parse(__doc__, groups, argv, task_name="entity_type")
    accelerator = start_accelerator(args)
    labels = read_labels(typing_args.labels) if typing_args.labels else list(OPENENTITY_LABELS)
    check_length(model_args, data_args.max_seq_length)
    tokenizer = load_tokenizer(model_args)
    wanted = {
        "train": args.do_train,
        "dev": args.do_eval or args.evaluate_during_training,
        "test": args.do_eval and Path(split_path(data_args.data_dir, "test")).is_file(),
    }
    if args.do_eval and not wanted["test"]:
        logger.warning("%s has no test split: only dev is reported.", data_args.data_dir)
    data = load_data(
        accelerator,
        [split for split in wanted if wanted[split]],
        data_args,
        tokenizer,
        read_entity_typing,
        TYPING_SCHEMA,
        encode_entity_typing,
        reader_options={"labels": labels},
        encoder_options={"labels": labels},
    )
    encoder = load_task_encoder(model_args)
    model = TaskModel.from_encoder(encoder, HeadConfig("entity_typing", len(labels), tuple(labels)))
    name = run_name(args, data_args.max_seq_length, "-".join(encoder.adapters) or "none")
    run = Run(accelerator, Path(args.output_dir) / name, [model_args, data_args, args, typing_args])
    return fit(accelerator, run, model, tokenizer, data, args, data_args, score, partial(rows, labels=labels), "f1")


if __name__ == "__main__":
    main()
