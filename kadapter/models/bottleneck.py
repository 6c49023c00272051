"""Bottleneck adapters inside a backbone (Houlsby et al., ICML 2019, https://arxiv.org/abs/1902.00751, figure 2).

    x + W2 gelu(W1 x + b1) + b2

stands twice in every layer, after the attention's output and after the feed-forward output, each time behind the
dropout and before residual and LayerNorm. A backbone may hold several sets of them (`kadapter.models.routing`): weights
of the set "rte" are named `encoder.layer.0.attention.output.dropout.bottlenecks.rte.down_project.weight`.
A set has norms of its own too, which are trained with it (`….LayerNorm.norms.rte.weight`) and begin as the backbone's.
"""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from kadapter.models.routing import Named
from kadapter.shapes import BottleneckConfig

BERT_SITES = ("attention.output.dropout", "output.dropout")
BERT_PARTS = {"dense", "dropout", "LayerNorm"}  # around such a site: LayerNorm(dropout(dense(x)) + residual)
# Family -> the modules of a layer whose outputs are adapted. The layers of BERT's kind are known by their parts.
SITES: dict[str, tuple[str, str]] = {
    "distilbert": ("attention.out_lin", "ffn"),  # there is no dropout behind the attention's output
    "albert": ("attention.output_dropout", "ffn_output"),  # nor here behind the feed-forward output
    "mpnet": ("attention.dropout", "output.dropout"),
    "modernbert": ("attn.out_drop", "mlp"),
    "gpt2": ("attn.resid_dropout", "mlp.dropout"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), ("self_attn.o_proj", "mlp.down_proj")),
}


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
    """Down, non-linearity, up, residual (adapter-bert modeling.py: feedforward_adapter).

    It computes in the type of its weights, float32 whatever the backbone's, and gives back the backbone's.
    """

    def __init__(self, config: BottleneckConfig, hidden_size: int):
        super().__init__()
        self.down_project = TruncatedLinear(hidden_size, config.size, config.initializer_range)
        self.activation = ACT2FN[config.hidden_act]
        self.up_project = TruncatedLinear(config.size, hidden_size, config.initializer_range)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """[..., H] -> [..., H]."""
        states = hidden_states.to(self.down_project.weight.dtype)
        change = self.up_project(self.activation(self.down_project(states)))
        return (states + change).to(hidden_states.dtype)


class Bottlenecks(Named):
    """The bottlenecks of several sets at one site."""


class Norms(Named):
    """The norms of several sets in the place of one; they are float32, as all that is trained."""

    def change(self, name: str, states: torch.Tensor) -> torch.Tensor:
        norm = cast(nn.LayerNorm, self[name])
        return norm(states.to(norm.weight.dtype)).to(states.dtype)


def _adapt(site: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    """The forward hook of a site with bottlenecks."""
    return cast(Bottlenecks, site.bottlenecks).choose(output, _same)


def _same(states: torch.Tensor) -> torch.Tensor:
    return states


class _NormForward:
    """Stands for the `forward` of a norm that has others in its place, so that only one of them is computed.

    An object, since a model with it can be copied and pickled, which a function within a function cannot.
    """

    def __init__(self, site: nn.Module):
        self.site = site

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return cast(Norms, self.site.norms).choose(states, partial(type(self.site).forward, self.site))


# -- bottlenecks ------------------------------------------------------------------------------------------------


def insert_bottlenecks(backbone: PreTrainedModel, name: str, config: BottleneckConfig) -> None:
    """Put a fresh set of bottlenecks into the layers of a backbone that `config` names, at both sites.

    Raises:
        ValueError: its layers are built in a way that is not known here, or it has not so many, or one for all.
    """
    sites = _sites(backbone)
    for place, site in sites.items():
        if config.layers is not None and layer_number(place) not in config.layers:
            continue
        if not hasattr(site, "bottlenecks"):
            site.bottlenecks = Bottlenecks()
            site.register_forward_hook(_adapt)
        parameter = next(backbone.parameters())
        adapter = BottleneckAdapter(config, backbone.config.hidden_size).to(parameter.device)
        for module in adapter.modules():  # real weights are not to be drawn anew by the rule of the backbone's family
            module._is_hf_initialized = not parameter.is_meta  # type: ignore[assignment]
        cast(Bottlenecks, site.bottlenecks)[name] = adapter
    insert_norms(backbone, name, _norms_of(backbone, config))


def _norms_of(backbone: PreTrainedModel, config: BottleneckConfig) -> list[str]:
    """The norms of the layers with bottlenecks, and those above all layers; of all layers, the embeddings' norm too."""
    places = list(norm_modules(backbone))
    if config.layers is None:
        return places
    if backbone.config.model_type == "albert" or max(config.layers) >= backbone.config.num_hidden_layers:
        raise ValueError(
            f"the bottleneck's layers are {list(config.layers)}, but this {backbone.config.model_type} has "
            f"{backbone.config.num_hidden_layers} layers, numbered from 0, and each needs weights of its own."
        )
    last = max(i for i, place in enumerate(places) if layer_number(place) is not None)
    return [place for i, place in enumerate(places) if layer_number(place) in config.layers or i > last]


def names_of_layers(backbone: PreTrainedModel, layers: Sequence[int]) -> list[str]:
    """Names of the parameters of those layers, from 0, and of what stands behind all layers, such as a pooler.

    Raises:
        ValueError: the backbone has not these layers, or passes several times through the weights of one.
    """
    names = [name for name, _ in backbone.named_parameters()]
    there = {layer_number(name) for name in names} - {None}
    if missing := [layer for layer in layers if layer not in there]:
        raise ValueError(
            f"layer {missing[0]} cannot be trained: this {backbone.config.model_type} has the layers "
            f"{sorted(there)} with weights of their own; choose of them."  # type: ignore[type-var]
        )
    last = max(i for i, name in enumerate(names) if layer_number(name) is not None)
    return [name for i, name in enumerate(names) if layer_number(name) in layers or i > last]


def layer_number(place: str) -> int | None:
    """The number of the layer where a module stands, None outside of all layers."""
    found = re.search(r"(?:^|\.)(\d+)\.", place)
    return int(found[1]) if found else None


def _sites(backbone: PreTrainedModel) -> dict[str, nn.Module]:
    """The modules whose outputs are adapted, by their names in the backbone."""
    config = backbone.config
    paths = SITES.get(config.model_type, BERT_SITES)
    ends = tuple(f".{path}" for path in paths)
    found = {name: module for name, module in backbone.named_modules() if name.endswith(ends)}
    if paths is BERT_SITES:
        found = {
            f"{name}.dropout": cast(nn.Module, site.dropout)
            for name, site in backbone.named_modules()
            if name.endswith((".attention.output", ".output")) and _is_of_bert(site)
        }
    layers = config.num_hidden_layers
    if config.model_type == "albert":
        layers = config.num_hidden_groups * config.inner_group_num  # each of which is passed through several times
    if len(found) != len(paths) * layers:
        raise ValueError(
            f"bottlenecks cannot be put into {config.model_type}, whose layers are not built like BERT's; take a "
            f"backbone of BERT's or RoBERTa's family (bert, roberta, xlm-roberta, camembert, electra, deberta), or one "
            f"of {', '.join(SITES)}."
        )
    return found


def _is_of_bert(site: nn.Module) -> bool:
    return {name for name, _ in site.named_children()} == BERT_PARTS


def named_parts(backbone: nn.Module) -> Iterator[tuple[str, Named]]:
    """Where sets of bottlenecks stand: the name of the place among the backbone's modules, and what is there."""
    return ((place, part) for place, part in backbone.named_modules() if isinstance(part, Named))


def set_names(backbone: nn.Module, name: str, kind: type[Named]) -> Iterator[str]:
    """Names of the parameters of one set, of its `Bottlenecks` or of its `Norms`."""
    for place, part in named_parts(backbone):
        if isinstance(part, kind) and name in part:
            yield from (f"{place}.{part.key(name)}.{key}" for key, _ in part[name].named_parameters())


# -- norms ------------------------------------------------------------------------------------------------------


def norm_names(module: nn.Module) -> Iterator[str]:
    """Names of the parameters of LayerNorm and its kin, which go by type, since families name them differently."""
    for name, part in module.named_modules():
        if type(part).__name__.endswith("Norm"):
            yield from (f"{name}.{key}" for key, _ in part.named_parameters(recurse=False))


def norm_modules(backbone: nn.Module) -> dict[str, nn.Module]:
    """The backbone's own norms by name, without those that sets have in their places."""
    own = {name: part for name, part in backbone.named_modules() if ".norms." not in name}
    return {name: part for name, part in own.items() if type(part).__name__.endswith("Norm")}


def insert_norms(backbone: PreTrainedModel, name: str, places: Iterable[str]) -> None:
    """Give norms of the backbone copies of that name."""
    norms = norm_modules(backbone)
    for place in places:
        site = norms[place]
        if not hasattr(site, "norms"):
            site.norms = Norms()
            site.forward = _NormForward(site)  # type: ignore[method-assign]
        cast(Norms, site.norms)[name] = _bare_copy(site)


def _bare_copy(norm: nn.Module) -> nn.Module:
    """The norm in float32, without the others that stand at its place."""
    bare = copy.copy(norm)
    bare._parameters = {key: _float32_copy(value) for key, value in norm._parameters.items()}
    bare._modules, bare._forward_hooks, bare._forward_pre_hooks = {}, OrderedDict(), OrderedDict()
    bare.__dict__.pop("forward", None)
    return bare


def _float32_copy(parameter: nn.Parameter | None) -> nn.Parameter | None:
    return None if parameter is None else nn.Parameter(parameter.detach().to(torch.float32, copy=True))
