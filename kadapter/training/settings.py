"""Settings that are trained together: a JSON list of objects, flag -> value, in place of as many command lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kadapter.storage.reading import read_json

# What a frozen backbone and the batches do not depend on.
MAY_DIFFER = (
    *("seed", "comment", "output_dir", "fusion_mode", "freeze_adapter", "gradient_checkpointing"),
    *("learning_rate", "weight_decay", "adam_epsilon", "correct_bias", "max_grad_norm", "clip_separately"),
    *("num_train_epochs", "max_steps", "warmup_steps", "warmup_proportion", "schedule", "schedule_steps", "patience"),
    *("logging_steps", "save_steps", "eval_steps", "max_save_checkpoints", "evaluate_during_training"),
    *("adapter_size", "adapter_list", "adapter_skip_layers", "adapter_transformer_layers", "adapter_attention_heads"),
    *("adapter_intermediate_size", "adapter_initializer_range", "adapter_dropout", "adapter_causal"),
    *("meta_adapter_model", "no_adapter", "untrained_adapter"),
    *("meta_fac_adaptermodel", "meta_lin_adaptermodel", "meta_et_adaptermodel"),
    *("task_adapter", "adapter", "untrained", "train_adapters"),
)


def read_settings(path: str) -> dict[str, list[str]]:
    """The flags of each setting in a file, as words of a command line; the keys begin messages about them.

    Raises:
        FileNotFoundError, ValueError: no such file, no list of objects, or a flag that must be the same for all.
    """
    found = read_json(path)
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        raise ValueError(
            f"{path} is not a JSON list of settings; write an object of flags for each, such as "
            '[{"seed": 1}, {"seed": 2, "adapter_size": 64}].'
        )
    return {f"{path}, setting {i}: ": list(_words(one, f"{path}, setting {i}")) for i, one in enumerate(found, 1)}


def _words(setting: Mapping[str, Any], where: str) -> Iterator[str]:
    for name, value in setting.items():
        name = name.removeprefix("--").replace("-", "_")
        if name not in MAY_DIFFER:
            raise ValueError(
                f"{where}: --{name} must be the same for all, or is no flag; settings may differ in "
                f"{', '.join(MAY_DIFFER)}."
            )
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, str | int | float):
                raise ValueError(f"{where}: {name} is {one!r}; write a number, a text, true, false, or a list of them.")
            yield f"--{name}={one}"
