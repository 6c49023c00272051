r"""Train the backbone itself on both pretraining tasks: the paper's "RoBERTa + multitask", a control without adapters.

    bash run_pretrain_multitask.sh                             # relations and dependency heads in turn, data/
    NGPU=4 bash run_pretrain_multitask.sh                      # 4 GPUs, 64 examples each
    bash run_finetune_openentity_adapter.sh --meta_fac_adaptermodel= --meta_lin_adaptermodel= \
        --model_name_or_path multitask_output/RUN/best         # as every recipe

Data: <data_dir>/trex-rc and <data_dir>/find_head, docs/formats.md. Steps are of relation classification and of
dependency heads by turns, each with a head of its own; an epoch is one of the larger data. The best checkpoint is that
with the highest mean of both accuracies on dev. Leaves a backbone as transformers saves it, with the heads beside it in
pretraining_head.safetensors. The paper tells neither rate nor batch nor duration of this control (section 4): those of
the run script are the factual adapter's, but for the rate, which is that of fine-tuning. Published: docs/reproduce.md.
"""

from dataclasses import dataclass
from pathlib import Path

from kadapter.console import local_path, run
from kadapter.data.spans import SPANS
from kadapter.tasks.dependencies import DependencyHeads
from kadapter.tasks.relations import TrexRelations
from kadapter.training.arguments import parse_recipe
from kadapter.training.flags import flag
from kadapter.training.model_arguments import ModelArguments
from kadapter.training.recipe import pretrain_backbone


@dataclass(frozen=True, kw_only=True)
class MultitaskArguments:
    """Both tasks."""

    fac_data_dir: str = flag("relations of T-REx; default: trex-rc in --data_dir", "", type=local_path)
    lin_data_dir: str = flag("dependency heads; default: find_head in --data_dir", "", type=local_path)
    labels: str = flag("JSON file of relations in order; default: relations.json of theirs", "", type=local_path)
    spans: str = flag("ends of mentions in the relations' files", "inclusive", choices=SPANS)
    original_spans: bool = flag("write words that two mentions share twice, as the original", False)
    original_labels: bool = flag("label positions of heads as the original does (docs/deviations.md, 3)", False)


def main(argv=None):
    args = parse_recipe(__doc__, ModelArguments, MultitaskArguments, argv, task_name="multitask", max_seq_length=64)
    own, folder = args.own, Path(args.data.data_dir)
    relations, heads = own.fac_data_dir or str(folder / "trex-rc"), own.lin_data_dir or str(folder / "find_head")
    options = {"spans": own.spans, "original_spans": own.original_spans}
    fac = TrexRelations.for_folder(relations, own.labels, **options)
    lin = DependencyHeads(original_labels=own.original_labels)
    return pretrain_backbone({"fac": (fac, relations), "lin": (lin, heads)}, args)


if __name__ == "__main__":
    run(main)
