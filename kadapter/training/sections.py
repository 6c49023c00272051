"""In which order `--help` shows the flags that programs share, and what is left to `--help_all`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """What a person wants to do, and the flags for it: those of `--help`, then those of `--help_all` alone."""

    title: str
    common: tuple[str, ...]
    rare: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return self.common + self.rare


SECTIONS = (
    Section(
        "Your data",
        ("data_dir", "max_seq_length"),
        ("prepare_only", "preprocessing_num_workers", "cluster", "features_cache", "overwrite_cache"),
    ),
    Section(
        "The model and its knowledge adapters",
        (
            "model_name_or_path",
            "adapter",
            "meta_fac_adaptermodel",
            "meta_lin_adaptermodel",
            "task_adapter",
            "untrained",
            "train_adapters",
            "meta_adapter_model",
            "freeze_bert",
            "fusion_mode",
        ),
        (
            "meta_et_adaptermodel",
            "freeze_adapter",
            "train_layers",
            "train_pooler",
            "no_adapter",
            "untrained_adapter",
            "tokenizer_name",
            "revision",
            "cache_dir",
        ),
    ),
    Section(
        "The run",
        ("do_train", "do_eval", "output_dir", "seed", "overwrite_output_dir"),
        ("data_seed", "task_name", "comment", "restore", "no_cuda"),
    ),
    Section(
        "Training",
        (
            "num_train_epochs",
            "per_gpu_train_batch_size",
            "gradient_accumulation_steps",
            "learning_rate",
            "warmup_steps",
        ),
        (
            "max_steps",
            "warmup_proportion",
            "schedule",
            "schedule_steps",
            "weight_decay",
            "adam_epsilon",
            "correct_bias",
            "max_grad_norm",
            "clip_separately",
            "logging_steps",
        ),
    ),
    Section(
        "Evaluation and checkpoints",
        ("eval_steps", "patience"),
        ("save_steps", "evaluate_during_training", "per_gpu_eval_batch_size", "max_save_checkpoints"),
    ),
    Section(
        "Speed and memory",
        ("bf16", "cache_states"),
        (
            "gradient_checkpointing",
            "max_tokens_per_batch",
            "together",
            "fp16",
            "torch_compile",
            "cache_dtype",
            "cache_max_gb",
            "group_by_length",
            "dataloader_num_workers",
            "attn_implementation",
        ),
    ),
    Section(
        "Bottlenecks (Adapter-BERT)",
        ("bottleneck_size",),
        ("bottleneck_layers", "bottleneck_initializer_range", "frozen_dropout"),
    ),
    Section(
        "The shape of fresh adapters",
        ("adapter_size",),
        (
            "adapter_list",
            "adapter_transformer_layers",
            "adapter_attention_heads",
            "adapter_intermediate_size",
            "adapter_skip_layers",
            "adapter_initializer_range",
            "adapter_dropout",
            "adapter_causal",
        ),
    ),
    Section(
        "What the original did otherwise (docs/deviations.md)",
        (),
        ("attend_padding", "pad_to_max_length", "original_accumulation"),
    ),
)
