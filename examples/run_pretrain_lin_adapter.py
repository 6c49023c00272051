"""Pretrain the linguistic adapter: find each word's head, backbone frozen (K-Adapter, section 3.4).

    bash run_pretrain_lin-adapter.sh                           # the original's flags and values
    NGPU=4 bash run_pretrain_lin-adapter.sh                    # as published: 4 GPUs, 32 examples each

Data: <data_dir>/{train,dev}.json, docs/formats.md. Leaves an adapter folder that every task takes as
--meta_lin_adaptermodel. Measured here: docs/results.md.
"""

from dataclasses import dataclass
from pathlib import Path

from kadapter import HeadConfig, TaskModel
from kadapter.arguments import DataArguments, PretrainingArguments, TrainingArguments, flag, parse
from kadapter.data.dependencies import DEPENDENCY_SCHEMA, encode_dependencies, read_dependencies
from kadapter.metrics import head_scores
from kadapter.recipe import check_length, fit, load_data, load_pretraining_encoder, load_tokenizer
from kadapter.tracking import Run, run_name, start_accelerator


@dataclass(frozen=True, kw_only=True)
class DependencyArguments:
    """Dependency heads."""

    original_labels: bool = flag("label positions as the original does (docs/deviations.md, 3)", False)


def score(predictions, features):
    return head_scores([p["predicted"] for p in predictions], [p["attended"] for p in predictions], features["labels"])


def rows(predictions, features):
    for prediction, gold, record in zip(predictions, features["labels"], features["record"], strict=True):
        yield {
            "record": record,
            "heads": gold,
            "predicted": prediction["predicted"].astype(int).tolist(),
            "attended": prediction["attended"].astype(int).tolist(),
        }


def main(argv=None):
    groups = [PretrainingArguments, DataArguments, TrainingArguments, DependencyArguments]
    model_args, data_args, args, head_args = parse(__doc__, groups, argv, task_name="find_head", max_seq_length=64)
    accelerator = start_accelerator(args)
    check_length(model_args, data_args.max_seq_length)
    tokenizer = load_tokenizer(model_args)
    splits = ["train", "dev"] if args.do_train else ["dev"]
    data = load_data(
        accelerator,
        splits,
        data_args,
        tokenizer,
        read_dependencies,
        DEPENDENCY_SCHEMA,
        encode_dependencies,
        encoder_options={"original_labels": head_args.original_labels},
    )
    encoder = load_pretraining_encoder(model_args, "lin")
    # The original ties the classifier's width to max_seq_length: one class a position.
    model = TaskModel.from_encoder(encoder, HeadConfig("dependency", data_args.max_seq_length))
    name = run_name(args, data_args.max_seq_length, "-".join(encoder.adapters) or "none")
    run = Run(accelerator, Path(args.output_dir) / name, [model_args, data_args, args, head_args])
    return fit(accelerator, run, model, tokenizer, data, args, data_args, score, rows, "accuracy")


if __name__ == "__main__":
    main()
