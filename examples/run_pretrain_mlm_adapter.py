"""Pretrain a domain adapter: masked language modelling on plain text, backbone frozen.

    bash run_pretrain_mlm-adapter.sh                           # RoBERTa-large, data/domain
    NGPU=4 bash run_pretrain_mlm-adapter.sh --line_by_line     # 4 GPUs; each line stands for itself

Data: <data_dir>/{train,dev}.txt, a sentence or paragraph a line. Lines are strung together and cut into blocks of
max_seq_length, as by transformers' run_mlm. The model begins as the backbone alone, with its own pretrained head where
it has one, so that the first dev score is the backbone's. Leaves an adapter folder that every task takes as
--adapter name=folder. Measured here: docs/results.md.
"""

from dataclasses import dataclass
from functools import partial

from kadapter import HeadConfig
from kadapter.console import run
from kadapter.models.language_model import start_from_backbone
from kadapter.tasks.masking import Masking, text_source
from kadapter.tasks.metrics import masked_lm_scores
from kadapter.training.arguments import DataArguments, PretrainingArguments, TrainingArguments, flag, parse
from kadapter.training.recipe import backbone_config, load_tokenizer, pretrain
from kadapter.training.task import Task
from kadapter.training.tracking import start_accelerator


@dataclass(frozen=True, kw_only=True)
class LanguageModelArguments:
    """Masked language modelling."""

    line_by_line: bool = flag("cut each line for itself instead of stringing lines together", False)
    mlm_probability: float = flag("share of the tokens that are hidden", 0.15, within="(0, 1)")


def score(predictions, features):
    return masked_lm_scores(
        [p["predicted"] for p in predictions], [p["losses"] for p in predictions], features["labels"]
    )


def rows(predictions, features, tokenizer):
    for prediction, gold, record in zip(predictions, features["labels"], features["record"], strict=True):
        predicted = prediction["predicted"][: len(gold)].astype(int).tolist()
        tokens = (tokenizer.convert_ids_to_tokens(ids) for ids in (gold, predicted))
        yield {"record": record, **dict(zip(("hidden", "predicted"), tokens, strict=True))}


def main(argv=None):
    groups = [PretrainingArguments, DataArguments, TrainingArguments, LanguageModelArguments]
    arguments = parse(__doc__, groups, argv, task_name="mlm", max_seq_length=128)
    model_args, _, args, text_args = arguments
    hub = {"revision": model_args.revision, "cache_dir": model_args.cache_dir}
    tokenizer = load_tokenizer(model_args)
    task = Task(
        source=text_source(text_args.line_by_line, text_args.mlm_probability),
        head=HeadConfig("masked_lm", backbone_config(model_args).vocab_size),
        score=score,
        rows=partial(rows, tokenizer=tokenizer),
        metric="log_likelihood",
        augment=Masking.of(tokenizer, text_args.mlm_probability, args.seed),
        start=partial(start_from_backbone, source=model_args.model_name_or_path, **hub),
    )
    return pretrain(start_accelerator(args), task, arguments, "mlm")


if __name__ == "__main__":
    run(main)
