"""Pretrain the linguistic adapter: find each word's head, backbone frozen (K-Adapter, section 3.4).

    bash run_pretrain_lin-adapter.sh                           # the original's flags and values
    NGPU=4 bash run_pretrain_lin-adapter.sh                    # as published: 4 GPUs, 32 examples each

Data: <data_dir>/{train,dev}.json, docs/formats.md. Leaves an adapter folder that every task takes as
--meta_lin_adaptermodel. Measured here: docs/results.md.
"""

from dataclasses import dataclass

from kadapter import HeadConfig
from kadapter.console import run
from kadapter.tasks.dependencies import dependency_source
from kadapter.tasks.metrics import head_scores
from kadapter.training.arguments import DataArguments, PretrainingArguments, TrainingArguments, flag, parse
from kadapter.training.recipe import pretrain
from kadapter.training.task import Task
from kadapter.training.tracking import start_accelerator


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
    arguments = parse(__doc__, groups, argv, task_name="find_head", max_seq_length=64)
    _, data_args, args, head_args = arguments
    task = Task(
        source=dependency_source(head_args.original_labels),
        # The original ties the classifier's width to max_seq_length: one class a position.
        head=HeadConfig("dependency", data_args.max_seq_length),
        score=score,
        rows=rows,
        metric="accuracy",
    )
    return pretrain(start_accelerator(args), task, arguments, "lin")


if __name__ == "__main__":
    run(main)
