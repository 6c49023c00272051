"""Questions on a context, SQuAD 1.1 and 2.0, with frozen knowledge adapters and a fresh head.

    bash run_finetune_squad_adapter.sh --data_dir data/squad
    python examples/answer_question.py --model RUN/best --question "Who wrote it?" --input passages.jsonl

Data: <data_dir>/{train,dev}-v1.1.json or -v2.0.json, the official files, or {train,dev,test}.jsonl, .parquet, ... with
rows as hubs have them (docs/formats.md). Where train holds questions without an answer, that is an answer too, and the
threshold for it is found on dev. The best checkpoint is that of the highest F1 on dev. Published for RoBERTa-large
without adapters, dev: exact match 88.9, F1 94.6 (1.1); 86.5, 89.4 (2.0) (Liu et al., 2019, table 6).
"""

from dataclasses import asdict, dataclass

from kadapter.console import run
from kadapter.tasks.squad import Squad
from kadapter.training.arguments import parse_recipe
from kadapter.training.devices import start_logging
from kadapter.training.flags import flag
from kadapter.training.model_arguments import TaskArguments
from kadapter.training.recipe import finetune


@dataclass(frozen=True, kw_only=True)
class SquadArguments:
    """Questions and contexts."""

    doc_stride: int = flag("tokens that two windows of a long context share", 128, within="[0, inf)")
    max_query_length: int = flag("tokens of a question; longer ones are cut", 64, within="[1, inf)")
    max_answer_tokens: int = flag("tokens of the longest answer", 30, ("--max_answer_length",), within="[1, inf)")
    n_best_size: int = flag("spans of a context that are considered as answers", 20, within="[1, inf)")


def main(argv=None):
    defaults = {"task_name": "squad", "max_seq_length": 384}
    args = parse_recipe(__doc__, TaskArguments, SquadArguments, argv, **defaults)
    start_logging()  # before the file is looked at
    return finetune(Squad.for_folder(args.data.data_dir, **asdict(args.own)), args)


if __name__ == "__main__":
    run(main)
