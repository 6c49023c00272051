"""Bottleneck adapters inside a backbone (Houlsby et al., ICML 2019, https://arxiv.org/abs/1902.00751, figure 2).

    x + W2 gelu(W1 x + b1) + b2

stands twice in every layer, after the attention's output and after the feed-forward output, each time behind the
dropout and before residual and LayerNorm. The layers stay those of transformers: `insert_bottlenecks` puts the
adapter behind the dropout of an output module, so that its weights are named
`encoder.layer.0.attention.output.dropout.adapter.down_project.weight` and move, save and copy with the backbone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from kadapter.shapes import BottleneckConfig

SITES = ("attention.output", "output")  # of a layer
PARTS = {"dense", "dropout", "LayerNorm"}  # of a site: LayerNorm(dropout(dense(x)) + residual)


class TruncatedLinear(nn.Linear):
    """A linear layer whose first weights are N(0, initializer_range) cut off at two deviations, its biases zero."""

    def __init__(self, in_features: int, out_features: int, initializer_range: float):
        self.initializer_range = initializer_range
        super().__init__(in_features, out_features)

    def reset_parameters(self) -> None:
        std = self.initializer_range
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)  # as TensorFlow's truncated normal
        nn.init.zeros_(self.bias)


class BottleneckAdapter(nn.Module):
    """Down, non-linearity, up, residual (adapter-bert modeling.py: feedforward_adapter)."""

    def __init__(self, config: BottleneckConfig, hidden_size: int):
        super().__init__()
        self.down_project = TruncatedLinear(hidden_size, config.size, config.initializer_range)
        self.activation = ACT2FN[config.hidden_act]
        self.up_project = TruncatedLinear(config.size, hidden_size, config.initializer_range)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """[..., H] -> [..., H]."""
        return hidden_states + self.up_project(self.activation(self.down_project(hidden_states)))


def insert_bottlenecks(backbone: PreTrainedModel, config: BottleneckConfig) -> None:
    """Put fresh adapters into every layer of a backbone of BERT's kind, at both sites.

    Raises:
        ValueError: its layers are built in another way.
    """
    sites = [module for name, module in backbone.named_modules() if name.endswith(SITES) and _is_site(module)]
    if len(sites) != len(SITES) * backbone.config.num_hidden_layers:
        raise ValueError(
            f"bottlenecks cannot be put into {backbone.config.model_type}, whose layers are not built like BERT's; "
            "take a backbone of BERT's or RoBERTa's family (bert, roberta, xlm-roberta, camembert, electra, deberta)."
        )
    for site in sites:
        weight = site.dense.weight
        adapter = BottleneckAdapter(config, weight.shape[0]).to(weight.device, weight.dtype)
        for module in adapter.modules():  # real weights are not to be drawn anew by the rule of the backbone's family
            module._is_hf_initialized = not weight.is_meta  # type: ignore[assignment]
        site.dropout = nn.Sequential(OrderedDict(dropout=site.dropout, adapter=adapter))


def _is_site(module: nn.Module) -> bool:
    return {name for name, _ in module.named_children()} == PARTS


def bottleneck_names(module: nn.Module) -> Iterator[str]:
    """Names of the parameters of bottleneck adapters."""
    for name, part in module.named_modules():
        if isinstance(part, BottleneckAdapter):
            yield from (f"{name}.{key}" for key, _ in part.named_parameters())


def norm_names(module: nn.Module) -> Iterator[str]:
    """Names of the parameters of LayerNorm and its kin, which go by type, since families name them differently."""
    for name, part in module.named_modules():
        if type(part).__name__.endswith("Norm"):
            yield from (f"{name}.{key}" for key, _ in part.named_parameters(recurse=False))
