"""Pretrain a domain adapter: masked language modelling on plain text, backbone frozen.

    bash run_pretrain_mlm-adapter.sh                           # RoBERTa-large, data/domain
    NGPU=4 bash run_pretrain_mlm-adapter.sh --line_by_line     # 4 GPUs; each line stands for itself

Data: <data_dir>/{train,dev}.txt, a sentence or paragraph a line; with --mask_spans {train,dev}.jsonl, whose spans are
hidden whole: what scripts/verbalize_triples.py writes, or cleaned relation examples. Lines are joined and cut into
blocks of max_seq_length, as by transformers' run_mlm. The model begins as the backbone alone, with its own pretrained
head where it has one, so that the first dev score is the backbone's. Leaves an adapter folder that every task takes as
--adapter name=folder. With --fusion_alone the adapter of --meta_adapter_model and the head stay as they are, and the
fusion alone is trained, so that scripts/probe_lama.py can ask what the adapter knows. Measured here: docs/results.md.
"""

from dataclasses import asdict, dataclass

from kadapter.console import run
from kadapter.tasks.masked_lm import MaskedLM
from kadapter.training.arguments import parse_recipe
from kadapter.training.flags import flag
from kadapter.training.model_arguments import PretrainingArguments
from kadapter.training.recipe import pretrain


@dataclass(frozen=True, kw_only=True)
class LanguageModelArguments:
    """Masked language modelling."""

    line_by_line: bool = flag("keep lines apart instead of joining them into blocks", False)
    mlm_probability: float = flag("share of the tokens that are hidden", 0.15, within="(0, 1)")
    mask_spans: bool = flag("hide whole spans that the data mark (docs/own_knowledge.md)", False)
    fusion_alone: bool = flag("train the fusion beside a finished adapter, to probe it (docs/probing.md)", False)


def main(argv=None):
    args = parse_recipe(
        __doc__, PretrainingArguments, LanguageModelArguments, argv, task_name="mlm", max_seq_length=128
    )
    options = asdict(args.own)
    fusion_alone = options.pop("fusion_alone")
    return pretrain(MaskedLM(**options), args, name="mlm", fusion_alone=fusion_alone)


if __name__ == "__main__":
    run(main)
