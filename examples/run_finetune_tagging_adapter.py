"""Tagging of words, such as entities, with frozen knowledge adapters and a fresh head.

    bash run_finetune_tagging_adapter.sh --data_dir data/mine --adapter kg=output/kg/best
    bash run_finetune_tagging_adapter.sh --data_dir data/mine --tag_column 2       # of several columns another one

Data: <data_dir>/{train,dev,test}.conll (or .txt, .tsv), word and tag on a line, BIO, IOB1 or BIOES; or .jsonl with
{"text": str, "entities": [{"start", "end", "label"}, ...]}, offsets in characters (docs/own_tasks.md). The best
checkpoint is that of the highest F1 of entities on dev; of plain tags, accuracy. Measured here: docs/results.md.
"""

from dataclasses import asdict, dataclass

from kadapter.console import local_path, run
from kadapter.tasks.tagging import Tagging
from kadapter.training.arguments import parse_recipe
from kadapter.training.devices import start_logging
from kadapter.training.flags import flag
from kadapter.training.model_arguments import TaskArguments
from kadapter.training.recipe import finetune


@dataclass(frozen=True, kw_only=True)
class TaggingArguments:
    """Words and tags."""

    word_column: int = flag("column of the words in CoNLL files, from 1", 1, within="-1 or [1, inf)")
    tag_column: int = flag("column of the tags; -1 is the last", -1, within="-1 or [1, inf)")
    labels: str = flag("JSON file of the types in order; default: those of train", "", type=local_path)
    stride: int = flag("tokens that two windows of a long text share", 32, within="[0, inf)")


def main(argv=None):
    args = parse_recipe(__doc__, TaskArguments, TaggingArguments, argv, task_name="tagging", max_seq_length=128)
    start_logging()  # before the file is looked at
    return finetune(Tagging.for_folder(args.data.data_dir, **asdict(args.own)), args)


if __name__ == "__main__":
    run(main)
