"""Quantised backbones: what is trained beside them stays as it is, and the backbone alone says that it is quantised."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.quantizers import AutoQuantizationConfig

# What stays as it is where a backbone is quantised: all that is trained beside it, and the pooler, which a head takes.
NOT_QUANTISED = r"(.*\.)?(adapters|fusion|head|bottlenecks|norms|pooler)"
# What transformers notes on a model that it quantised.
QUANTISED_MARKS = {"is_quantized", "hf_quantizer", "quantization_method", "is_loaded_in_8bit", "is_loaded_in_4bit"}


def is_quantised(model: nn.Module) -> bool:
    """Whether transformers quantised the model, or one within it, while loading."""
    return any(getattr(module, "hf_quantizer", None) is not None for module in model.modules())


def of_backbone_alone(options: Mapping[str, Any], build: Callable[[], nn.Module] = nn.Identity) -> dict[str, Any]:
    """The options with a `quantization_config` that leaves out what is ours; the one given is not changed.

    Args:
        build: the model to be loaded, where it has bottlenecks already. A quantiser puts layers of its own in the place
            of linear ones, and would lose bottlenecks that hang on one (DistilBERT's, Llama's).
    """
    given = options.get("quantization_config")
    if given is None:
        return dict(options)
    config: Any = AutoQuantizationConfig.from_dict(dict(given)) if isinstance(given, Mapping) else copy.deepcopy(given)
    # bitsandbytes' has a name of its own for what torchao's and Quanto's call modules_to_not_convert.
    names = [name for name in ("llm_int8_skip_modules", "modules_to_not_convert") if hasattr(config, name)]
    if not names:
        raise ValueError(
            f"quantization_config is a {type(config).__name__}, which cannot leave modules out; take a "
            "BitsAndBytesConfig, TorchAoConfig or QuantoConfig, so that adapters and heads stay as they are."
        )
    with torch.device("meta"):
        modules = build().named_modules()
    sites = [name for name, module in modules if isinstance(module, nn.Linear) and any(module.children())]
    for name in names:
        setattr(config, name, [*(getattr(config, name) or []), NOT_QUANTISED, *map(re.escape, sites)])
    return {**options, "quantization_config": config}


def say_of_backbone(model: PreTrainedModel) -> None:
    """Let the backbone be what is quantised, as where it was loaded alone; a Trainer would refuse the whole model."""
    backbone = getattr(model, "encoder", model).backbone
    for name in QUANTISED_MARKS & model.__dict__.keys():
        setattr(backbone, name, model.__dict__.pop(name))
