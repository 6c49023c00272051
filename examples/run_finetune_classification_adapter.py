"""Classification of your own texts, or pairs of texts, with frozen knowledge adapters and a fresh head.

    bash run_finetune_classification_adapter.sh --data_dir data/mine --adapter kg=output/kg/best
    bash run_finetune_classification_adapter.sh --data_dir data/mine --label_separator ";" --class_weights balanced

Data: <data_dir>/train.csv (or .tsv, .jsonl, .parquet) with named columns, dev and test beside it if there are any;
without dev a tenth of train is held out. Columns, and whether the labels are one for each text, several, or a number,
are found in the file and said in the log, where the flags do not say it (docs/own_tasks.md). The best checkpoint is
that of the highest macro F1 on dev (several labels: micro F1; numbers: Spearman's correlation). Measured here:
docs/results.md.
"""

from dataclasses import asdict, dataclass

from kadapter.console import local_path, run
from kadapter.tasks.classification import BALANCED, Classification
from kadapter.tasks.own_columns import PROBLEM_TYPES
from kadapter.training.arguments import parse_recipe
from kadapter.training.devices import start_logging
from kadapter.training.flags import flag
from kadapter.training.model_arguments import TaskArguments
from kadapter.training.recipe import finetune


@dataclass(frozen=True, kw_only=True)
class ClassificationArguments:
    """Texts and labels."""

    text_column: str = flag("column of the texts; default: by the header", "")
    pair_column: str = flag("column of the second texts, where texts come in pairs", "")
    label_column: str = flag("column of the labels; default: by the header", "")
    problem_type: str = flag("what the labels are; default: by the labels of train", "", choices=("", *PROBLEM_TYPES))
    label_separator: str = flag('what separates the labels in a cell that holds several, such as ";"', "")
    labels: str = flag("JSON file of the labels in order; default: those of train", "", type=local_path)
    class_weights: str = flag("balanced: rare labels weigh more in the loss", "", choices=("", BALANCED))
    dev_share: float = flag("share of train that is held out as dev where there is no dev file", 0.1, within="(0, 1)")
    split_seed: int = flag("seed of that choice", 42, within="[0, inf)")


def main(argv=None):
    args = parse_recipe(
        __doc__, TaskArguments, ClassificationArguments, argv, task_name="classification", max_seq_length=128
    )
    start_logging()  # before the file is looked at
    return finetune(Classification.for_folder(args.data.data_dir, **asdict(args.own)), args)


if __name__ == "__main__":
    run(main)
