"""What a recipe's flags say of its model: tokenizer, and backbone with adapters, frozen as they say."""

from __future__ import annotations

import logging
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from kadapter.configuration import KAdapterConfig, longest_sequence
from kadapter.models.modeling import KAdapterModel
from kadapter.shapes import AdapterConfig
from kadapter.storage.pretrained import padded, read_config, read_tokenizer
from kadapter.training.model_arguments import ModelArguments, PretrainingArguments, TaskArguments

logger = logging.getLogger(__name__)


def backbone_config(args: ModelArguments) -> PreTrainedConfig:
    """The backbone's configuration, of a model of ours or of transformers; raises ValueError where it cannot be one."""
    config = read_config(args.model_name_or_path, revision=args.revision, cache_dir=args.cache_dir)
    config = config if isinstance(config, KAdapterConfig) else KAdapterConfig(backbone_config=config)
    return config.backbone_config


def check_length(backbone: PreTrainedConfig, max_seq_length: int) -> None:
    """Raise ValueError where sequences are longer than the backbone's positions, before anything is tokenized."""
    positions = longest_sequence(backbone)
    if positions is not None and positions < max_seq_length:
        raise ValueError(
            f"--max_seq_length is {max_seq_length}, but this {backbone.model_type} has {positions} positions; lower it."
        )


def load_tokenizer(args: ModelArguments) -> PreTrainedTokenizerBase:
    """The backbone's tokenizer, or the one of --tokenizer_name."""
    source = args.tokenizer_name or args.model_name_or_path
    return padded(read_tokenizer(source, **hub_names(args)))


def load_task_encoder(args: TaskArguments) -> KAdapterModel:
    """The backbone with pretrained adapters, frozen as the flags say, and the task's own adapter, which is trained."""
    encoder = KAdapterModel.from_pretrained(
        args.model_name_or_path,
        adapters=args.sources(),
        fusion_mode=args.fusion_mode,
        adapter_config=args.adapter_config(),
        bottlenecks=args.bottlenecks(),
        **_hub(args),
    )
    if args.bottleneck_size:
        encoder.freeze("backbone_but_bottlenecks")
    if args.train_layers:
        encoder.train_layers(args.trained_layers())
    if args.freeze_adapter or args.train_adapters:
        encoder.train_adapters(args.trained_adapters())
    for name, source in args.untrained_sources().items():
        _add_untrained(encoder, name, source, args)
    if args.task_adapter:
        encoder.add_adapter(args.task_adapter, args.adapter_config())
        _warn_of_width(encoder, args.task_adapter)
    encoder = _prepared(encoder, args)
    encoder.frozen_dropout = args.frozen_dropout
    if args.train_pooler and (pooler := getattr(encoder.backbone, "pooler", None)) is not None:
        pooler.requires_grad_(True)  # which the head takes over, if it reads one (`TaskModel.from_encoder`)
    return encoder


def _add_untrained(encoder: KAdapterModel, name: str, source: str, args: TaskArguments) -> None:
    """A fresh adapter that is not trained, the paper's "w/o knowledge"; of the shape of the one in `source`, if any."""
    config = args.adapter_config()
    if source:
        encoder.load_adapter(source, name, config, cache_dir=args.cache_dir)  # which checks that it fits
        config = encoder.config.adapter_config(name)
        encoder.delete_adapter(name)
    encoder.add_adapter(name, config)
    encoder.freeze(name)
    if not source:
        _warn_of_width(encoder, name)


def load_pretraining_encoder(args: PretrainingArguments, name: str) -> KAdapterModel:
    """The backbone with one adapter to train, fresh or from --meta_adapter_model; for a baseline untrained, or none.

    A saved model's own adapters stay as they are (continual infusion).

    Raises:
        ValueError: --untrained_adapter beside a flag that leaves no fresh adapter.
    """
    if args.untrained_adapter and (args.no_adapter or args.meta_adapter_model):
        raise ValueError("--untrained_adapter is a fresh one; leave out --no_adapter and --meta_adapter_model.")
    source: str | AdapterConfig = args.meta_adapter_model or args.adapter_config()
    adapters = {} if args.no_adapter else {name: source}
    encoder = KAdapterModel.from_pretrained(
        args.model_name_or_path,
        adapters=adapters,
        adapter_config=args.adapter_config(),
        fusion_mode=args.fusion_mode,
        **_hub(args),
    )
    encoder.train_adapters([] if args.untrained_adapter else list(adapters))
    if adapters and not args.meta_adapter_model:
        _warn_of_width(encoder, name)
    return _prepared(encoder, args)


def load_plain_encoder(args: ModelArguments) -> KAdapterModel:
    """A backbone without adapters; raises ValueError where the model has some, or bottlenecks."""
    encoder = KAdapterModel.from_pretrained(args.model_name_or_path, adapters={}, **_hub(args))
    if encoder.adapters or encoder.bottlenecks():
        raise ValueError(
            f"{args.model_name_or_path} has adapters {[*encoder.adapters, *encoder.bottlenecks()]}, which would not be "
            "kept with the backbone; give the backbone that they stand on."
        )
    return _prepared(encoder, args)


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


def _warn_of_width(encoder: KAdapterModel, name: str) -> None:
    """The default width is that of an adapter beside RoBERTa-large."""
    size, hidden = encoder.config.adapter_config(name).adapter_size, encoder.config.hidden_size
    if size > hidden:
        counts = (sum(p.numel() for p in part.parameters()) for part in (encoder.adapters[name], encoder.backbone))
        logger.warning(
            "--adapter_size is %d, but the backbone's hidden states have %d units: adapter %r has %s parameters, the "
            "backbone %s; give a smaller one unless that is meant.",
            *(size, hidden, name, *(f"{count:,}" for count in counts)),
        )


def _hub(args: ModelArguments) -> dict[str, Any]:
    options = {**hub_names(args), "dtype": torch.float32}
    return options | ({"attn_implementation": args.attn_implementation} if args.attn_implementation else {})


def hub_names(args: ModelArguments) -> dict[str, Any]:
    return {"revision": args.revision, "cache_dir": args.cache_dir}
