"""The steps that all recipes share: tokenizer, data, encoder, head, run.

`examples/` describes each recipe as a `Task`; `fitting` trains and reports it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from kadapter.configuration import AdapterConfig, KAdapterConfig, is_causal
from kadapter.data.features import Source, load_features
from kadapter.models.modeling import KAdapterModel
from kadapter.models.task_model import TaskModel
from kadapter.training.arguments import (
    DataArguments,
    ModelArguments,
    PretrainingArguments,
    TaskArguments,
    TrainingArguments,
)
from kadapter.training.fitting import fit
from kadapter.training.task import Task
from kadapter.training.tracking import Run, run_name

logger = logging.getLogger(__name__)

ROBERTA_KIND = ("roberta", "xlm-roberta", "camembert", "mpnet", "roberta-prelayernorm", "xlm-roberta-xl", "longformer")


def pretrain(accelerator: Accelerator, task: Task, arguments: Sequence[Any], name: str) -> dict[str, Any]:
    """Train adapter `name` and the task's head on a frozen backbone; as `finetune` otherwise."""
    encoder = partial(load_pretraining_encoder, name=name)
    return _run(accelerator, task, arguments, ("train", "dev"), encoder, adapter_alone=True)


def finetune(
    accelerator: Accelerator,
    task: Task,
    arguments: Sequence[Any],
    splits: Sequence[str] = ("train", "dev", "test"),
) -> dict[str, Any]:
    """Train the task's head on the encoder and its adapters, frozen as the flags say.

    Args:
        arguments: model, data, training and the recipe's own.
        splits: all there are; others than train and dev are only read where their files are there.

    Returns:
        What metrics.json holds.
    """
    return _run(accelerator, task, arguments, splits, load_task_encoder)


def _run(
    accelerator: Accelerator,
    task: Task,
    arguments: Sequence[Any],
    splits: Sequence[str],
    load_encoder: Callable,
    adapter_alone: bool = False,
) -> dict[str, Any]:
    model_args, data_args, args = arguments[:3]
    backbone = backbone_config(model_args)
    check_length(backbone, data_args.max_seq_length)
    tokenizer = load_tokenizer(model_args)
    data = load_data(accelerator, task.source, splits, tokenizer, data_args, args, is_causal(backbone))
    encoder = load_encoder(model_args)
    model = TaskModel.from_encoder(encoder, task.head)
    if task.start is not None:
        task.start(model)
    bottleneck = encoder.config.bottleneck_config()
    inside = [f"bottleneck{bottleneck.size}"] if bottleneck else []
    name = run_name(args, data_args.max_seq_length, "-".join([*inside, *encoder.adapters]) or "none")
    adapter_alone = adapter_alone and len(encoder.adapters) == 1 and encoder.backbone_is_frozen
    with Run(accelerator, Path(args.output_dir) / name, arguments) as run:
        return fit(accelerator, run, model, tokenizer, data, task, args, data_args, adapter_alone)


def load_tokenizer(args: ModelArguments) -> PreTrainedTokenizerBase:
    """The backbone's tokenizer, or the one of --tokenizer_name."""
    tokenizer = AutoTokenizer.from_pretrained(
        args.tokenizer_name or args.model_name_or_path, revision=args.revision, cache_dir=args.cache_dir
    )
    if tokenizer.pad_token is None:  # decoders' have none; what is padded with is masked anyway
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.bos_token
    return tokenizer


def load_data(
    accelerator: Accelerator,
    source: Source,
    splits: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    data_args: DataArguments,
    args: TrainingArguments,
    causal: bool = False,
) -> dict[str, Dataset]:
    """Features of those splits that the run needs; one process tokenizes, the others wait.

    Args:
        causal: the backbone's states know only what stands before them.
    """
    wanted = {split: args.do_eval and source.path(data_args.data_dir, split).is_file() for split in splits}
    if args.do_eval and (missing := [split for split in splits[2:] if not wanted[split]]):
        logger.warning("%s has no %s split: it is not reported.", data_args.data_dir, " and no ".join(missing))
    wanted["train"] = args.do_train
    wanted["dev"] = args.do_eval or (args.do_train and args.evaluate_during_training)
    data = {}
    for split in [split for split in splits if wanted[split]]:
        load = partial(
            load_features,
            source,
            data_args.data_dir,
            split,
            tokenizer,
            encode_options={"max_seq_length": data_args.max_seq_length} | ({"causal": True} if causal else {}),
            cache_dir=data_args.features_cache,
            num_workers=data_args.preprocessing_num_workers,
        )
        with accelerator.main_process_first():
            data[split] = load(overwrite=data_args.overwrite_cache and accelerator.is_main_process)
    return data


def backbone_config(args: ModelArguments) -> PreTrainedConfig:
    """The backbone's configuration, of a model of ours or of transformers; raises ValueError where it cannot be one."""
    config = AutoConfig.from_pretrained(args.model_name_or_path, revision=args.revision, cache_dir=args.cache_dir)
    config = config if isinstance(config, KAdapterConfig) else KAdapterConfig(backbone_config=config)
    return config.backbone_config


def check_length(backbone: PreTrainedConfig, max_seq_length: int) -> None:
    """Refuse sequences that the backbone has no positions for, before anything is tokenized."""
    positions = getattr(backbone, "max_position_embeddings", None) or 0
    if not getattr(backbone, "position_biased_input", True):
        positions = 0  # DeBERTa-v3's are relative and have no end
    if backbone.model_type in ROBERTA_KIND:
        positions -= backbone.pad_token_id + 1  # the first positions stand for padding
    if 0 < positions < max_seq_length:
        raise ValueError(
            f"--max_seq_length is {max_seq_length}, but this {backbone.model_type} has {positions} positions; lower it."
        )


def load_task_encoder(args: TaskArguments) -> KAdapterModel:
    """Backbone and pretrained adapters, frozen as the flags say, and the task's own adapter, which is trained."""
    encoder = KAdapterModel.from_pretrained(
        args.model_name_or_path,
        adapters=args.sources(),
        fusion_mode=args.fusion_mode,
        adapter_config=args.adapter_config(),
        bottleneck=args.bottleneck_config(),
        **_hub(args),
    )
    if args.bottleneck_size:
        encoder.freeze("backbone_but_bottlenecks")
    if args.freeze_adapter or args.train_adapters:
        encoder.train_adapters(args.trained_adapters())
    if args.task_adapter:
        encoder.add_adapter(args.task_adapter, args.adapter_config())
    encoder = _prepared(encoder, args)
    if args.train_pooler and (pooler := getattr(encoder.backbone, "pooler", None)) is not None:
        pooler.requires_grad_(True)  # which the head takes over, if it reads one (`TaskModel.from_encoder`)
    return encoder


def load_pretraining_encoder(args: PretrainingArguments, name: str) -> KAdapterModel:
    """Backbone with one adapter to train, fresh or from --meta_adapter_model; or none, for the baseline.

    A saved model's own adapters stay as they are (continual infusion).
    """
    source: str | AdapterConfig = args.meta_adapter_model or args.adapter_config()
    adapters = {} if args.no_adapter else {name: source}
    encoder = KAdapterModel.from_pretrained(
        args.model_name_or_path,
        adapters=adapters,
        adapter_config=args.adapter_config(),
        fusion_mode=args.fusion_mode,
        **_hub(args),
    )
    encoder.train_adapters(list(adapters))
    return _prepared(encoder, args)


def _hub(args: ModelArguments) -> dict[str, Any]:
    options = {"revision": args.revision, "cache_dir": args.cache_dir, "dtype": torch.float32}
    return options | ({"attn_implementation": args.attn_implementation} if args.attn_implementation else {})


def _prepared(encoder: KAdapterModel, args: ModelArguments) -> KAdapterModel:
    if args.freeze_bert:
        encoder.freeze("backbone")
    if args.gradient_checkpointing:
        encoder.activation_checkpointing_enable()
    if args.attend_padding:
        logger.info(
            "adapters attend to padding: features depend on it, so give --pad_to_max_length for the original's."
        )
    return encoder
