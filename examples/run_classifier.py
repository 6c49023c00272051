"""GLUE with bottleneck adapters in a frozen BERT (Houlsby et al., ICML 2019), or with full fine-tuning.

    GLUE_DIR=data/glue bash run_glue_adapter.sh                                # MRPC, the original's flags and values
    GLUE_DIR=data/glue TASK=RTE bash run_glue_adapter.sh --do_predict          # also the files for GLUE's server
    ... --bottleneck_size 0 --learning_rate 2e-5                               # full fine-tuning
    ... --bottleneck_size 0 --freeze_bert                                      # the head alone

Tasks: CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI; data: <data_dir>/{train,dev,test}.tsv of GLUE's download,
or the task's folder as hubs have it (train-00000-of-00001.parquet, validation-...; docs/formats.md).
`--init_checkpoint`, `--bert_config_file` and `--vocab_file` take a name or folder of transformers (or a file in one);
scripts/convert_tf_bert.py makes such a folder of a TensorFlow checkpoint. Published for MRPC on bert-base-uncased: dev
accuracy 85.78, within 2 (the original's README). Measured here: docs/results.md.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from kadapter.console import hub_or_path, run
from kadapter.data.splits import files_of, missing
from kadapter.tasks.glue import glue_task
from kadapter.training.arguments import parse_recipe
from kadapter.training.flags import flag
from kadapter.training.model_arguments import TaskArguments
from kadapter.training.recipe import finetune

DEFAULTS = {
    "model_name_or_path": "bert-base-uncased",
    "bottleneck_size": 64,
    "max_seq_length": 128,
    "per_gpu_train_batch_size": 32,
    "learning_rate": 3e-4,
    "warmup_proportion": 0.1,
    # adapter-bert optimization.py
    "weight_decay": 0.01,
    "adam_epsilon": 1e-6,
    "correct_bias": False,
    "clip_separately": False,
}


@dataclass(frozen=True, kw_only=True)
class ClassifierArguments:
    """The original's names for model and prediction."""

    init_checkpoint: str = flag("the model, as --model_name_or_path", "", type=hub_or_path)
    bert_config_file: str = flag("its configuration, which is read with it", "", type=hub_or_path)
    vocab_file: str = flag("its tokenizer, as --tokenizer_name", "", type=hub_or_path)
    do_predict: bool = flag("predict the test split, and write test_results.tsv and the files for GLUE's server", False)


def with_the_originals(model_args: TaskArguments, given: ClassifierArguments) -> TaskArguments:
    """Model and tokenizer as the original's flags name them; raises ValueError where they are TensorFlow's."""
    model, config, vocabulary = map(_place, (given.init_checkpoint, given.bert_config_file, given.vocab_file))
    if model and config and model != config:
        raise ValueError(
            f"--bert_config_file is {given.bert_config_file}, but {model} brings its own configuration; leave it out."
        )
    return replace(
        model_args,
        model_name_or_path=model or config or model_args.model_name_or_path,
        tokenizer_name=vocabulary or model_args.tokenizer_name,
    )


def _place(value: str) -> str:
    """A name or folder as it is, for a file its folder."""
    path = Path(value)
    if ".ckpt" in path.name or path.name == "bert_config.json":
        raise ValueError(
            f"{value} is TensorFlow's; run scripts/convert_tf_bert.py --input {path.parent} --output <folder> once and "
            "give that folder."
        )
    return str(path.parent) if path.is_file() else value


def main(argv=None):
    args = parse_recipe(__doc__, TaskArguments, ClassifierArguments, argv, **DEFAULTS)
    task = glue_task(args.training.task_name).for_folder(args.data.data_dir)
    args = replace(args, model=with_the_originals(args.model, args.own))
    splits = [split for split in task.splits if args.own.do_predict or not split.startswith("test")]
    if args.own.do_predict:
        args = replace(args, training=replace(args.training, do_eval=True))
        for test in (task.path(args.data.data_dir, split) for split in splits if split.startswith("test")):
            if not files_of(test):
                raise FileNotFoundError(
                    f"{test} is missing; put the test split there or leave --do_predict out. {missing(test)}"
                )
    return finetune(task, args, splits)


if __name__ == "__main__":
    run(main)
