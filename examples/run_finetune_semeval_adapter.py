"""Relation classification on SemEval-2010 Task 8 with a RoBERTa, frozen knowledge adapters and a fresh head.

    bash run_finetune_semeval_adapter.sh
    bash run_finetune_semeval_adapter.sh --meta_lin_adaptermodel=      # fac alone

Data: <data_dir>/train.txt and test.txt, the task's TRAIN_FILE.TXT and TEST_FILE_FULL.TXT; without a dev.txt beside
them, a tenth of train is held out. The original reads this task but publishes no score for it. Measured here:
docs/results.md.
"""

from dataclasses import asdict, dataclass

from kadapter.console import run
from kadapter.tasks.semeval import Semeval
from kadapter.training.arguments import parse_recipe
from kadapter.training.flags import flag
from kadapter.training.model_arguments import TaskArguments
from kadapter.training.recipe import finetune


@dataclass(frozen=True, kw_only=True)
class SemevalArguments:
    """SemEval-2010 Task 8."""

    dev_share: float = flag("share of train that is held out as dev where there is no dev.txt", 0.1, within="(0, 1)")
    split_seed: int = flag("seed of that choice", 42, within="[0, inf)")
    report_per_class: bool = flag("also print and write scores by relation", False)


def main(argv=None):
    args = parse_recipe(__doc__, TaskArguments, SemevalArguments, argv, task_name="semeval", max_seq_length=184)
    return finetune(Semeval.for_folder(args.data.data_dir, **asdict(args.own)), args)


if __name__ == "__main__":
    run(main)
