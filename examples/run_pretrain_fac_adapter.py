"""Pretrain the factual adapter: relation classification on T-REx, backbone frozen (K-Adapter, section 3.3).

    bash run_pretrain_fac-adapter.sh                           # the original's flags and values
    NGPU=4 bash run_pretrain_fac-adapter.sh                    # as published: 4 GPUs, 64 examples each
    bash run_pretrain_fac-adapter.sh --objective entity_typing --data_dir data/trex-et   # types of entities instead

Data: <data_dir>/{train,dev}.json, docs/formats.md. Leaves an adapter folder that every task takes as
--meta_fac_adaptermodel (typing: --meta_et_adaptermodel). Measured here: docs/results.md.
"""

from dataclasses import dataclass
from typing import Any

from kadapter.console import local_path, run
from kadapter.data.spans import SPANS
from kadapter.tasks.entity_typing import TrexTyping
from kadapter.tasks.relations import TrexRelations
from kadapter.training.arguments import parse_recipe
from kadapter.training.flags import flag
from kadapter.training.model_arguments import PretrainingArguments
from kadapter.training.recipe import pretrain
from kadapter.training.task import Task

OBJECTIVES: dict[str, type[Task]] = {"relation": TrexRelations, "entity_typing": TrexTyping}


@dataclass(frozen=True, kw_only=True)
class RelationArguments:
    """What is learned of T-REx."""

    objective: str = flag("relations of two entities, or types of one", "relation", choices=tuple(OBJECTIVES))
    labels: str = flag(
        "JSON file of labels in order; default: relations.json or labels.json in the data folder", "", type=local_path
    )
    spans: str = flag(
        "whether the end of a mention is the place behind it (exclusive) or its last one (inclusive); default: "
        "inclusive, with --objective entity_typing exclusive",
        "",
        choices=SPANS,
    )
    original_spans: bool = flag("write words that two mentions share twice, as in the original", False)

    def __post_init__(self) -> None:
        if self.original_spans and self.objective != "relation":
            raise ValueError("--original_spans is for two mentions, with --objective relation; leave it out.")

    def options(self) -> dict[str, Any]:
        """Those of the task that are not its own defaults."""
        given = {"spans": self.spans, "original_spans": self.original_spans}
        return {name: value for name, value in given.items() if value}


def main(argv=None):
    args = parse_recipe(__doc__, PretrainingArguments, RelationArguments, argv, task_name="trex", max_seq_length=64)
    task = OBJECTIVES[args.own.objective].for_folder(args.data.data_dir, args.own.labels, **args.own.options())
    return pretrain(task, args, name=task.name)


if __name__ == "__main__":
    run(main)
