"""Pretrain the linguistic adapter: find each word's head, backbone frozen (K-Adapter, section 3.4).

    bash run_pretrain_lin-adapter.sh                           # the original's flags and values
    NGPU=4 bash run_pretrain_lin-adapter.sh                    # as published: 4 GPUs, 32 examples each

Data: <data_dir>/{train,dev}.json, docs/formats.md. Leaves an adapter folder that every task takes as
--meta_lin_adaptermodel. Measured here: docs/results.md.
"""

from dataclasses import asdict, dataclass

from kadapter.console import run
from kadapter.tasks.dependencies import DependencyHeads
from kadapter.training.arguments import parse_recipe
from kadapter.training.flags import flag
from kadapter.training.model_arguments import PretrainingArguments
from kadapter.training.recipe import pretrain


@dataclass(frozen=True, kw_only=True)
class DependencyArguments:
    """Dependency heads."""

    original_labels: bool = flag("label positions as the original does (docs/deviations.md, 3)", False)


def main(argv=None):
    args = parse_recipe(
        __doc__, PretrainingArguments, DependencyArguments, argv, task_name="find_head", max_seq_length=64
    )
    return pretrain(DependencyHeads(**asdict(args.own)), args, name="lin")


if __name__ == "__main__":
    run(main)
