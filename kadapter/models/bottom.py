"""The frozen bottom of a backbone: the embeddings and the lowest layers, up to the first that is trained.

Where bottlenecks stand in the upper layers alone (AdapterDrop, Rücklé et al., EMNLP 2021,
https://arxiv.org/abs/2010.11918), nothing below them changes: no gradient is computed there, and what the bottom makes
of a text may be kept. A call then begins at the first layer above it. A backbone that is frozen as a whole is all
bottom.

Shapes: B = batch, S = sequence, N = positions asked for, H = the backbone's width.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from kadapter.models.bottleneck import layer_number
from kadapter.models.last_layer import FAMILIES, READ_AT
from kadapter.models.masks import bidirectional_mask


def check_family(config: PreTrainedConfig) -> None:
    """Raise ValueError where layers of a backbone cannot run without those below them."""
    if config.model_type not in FAMILIES or getattr(config, "is_decoder", False):
        raise ValueError(
            f"the upper layers of {config.model_type} cannot run apart from its frozen lower ones here; take an "
            f"encoder of one of the families {', '.join(FAMILIES)}, or let all layers run and drop out."
        )


def frozen_layers(backbone: PreTrainedModel) -> int:
    """How many of the lowest layers belong to the frozen bottom, 0 where anything below all layers is trained."""
    parameters = [(layer_number(name), parameter.requires_grad) for name, parameter in backbone.named_parameters()]
    last = max(i for i, (number, _) in enumerate(parameters) if number is not None)
    # What belongs to no layer stands below all of them, such as embeddings, or above, such as a pooler.
    trained = [number or 0 for number, is_trained in parameters[: last + 1] if is_trained]
    return min(trained, default=backbone.config.num_hidden_layers)


def bottom_modules(backbone: PreTrainedModel, layers: int) -> list[nn.Module]:
    """The modules of a bottom of so many layers, of a backbone of `FAMILIES`."""
    parts = cast(Any, backbone)
    below = [parts.embeddings, *([parts.embeddings_project] if hasattr(parts, "embeddings_project") else [])]
    return [*below, *parts.encoder.layer[:layers]] if layers else []


def run_layers(
    backbone: PreTrainedModel,
    states: torch.Tensor,
    attention_mask: torch.Tensor | None,
    layers: range,
    wanted: Collection[int] = (),
    positions: torch.Tensor | None = None,
) -> dict[int, torch.Tensor]:
    """What consecutive layers of a backbone of `FAMILIES` make of the hidden state [B, S, H] that enters the first.

    Args:
        attention_mask: [B, S], 0 for padding.
        layers: their numbers, from 0.
        wanted: numbers of hidden states that are returned beside the one behind the last of these layers.
        positions: [B, N] where the state behind the backbone's last layer is read, as [B, N, H]; None for all of it.
    """
    all_layers = cast(Any, backbone).encoder.layer
    states = states.to(backbone.dtype)  # which may have been kept in fewer bits
    mask = bidirectional_mask(backbone.config, states, attention_mask)
    found = {}
    for number in layers:
        if number in wanted:
            found[number] = states
        is_read = positions is not None and number == len(all_layers) - 1
        states = all_layers[number](states, mask, **({READ_AT: positions} if is_read else {}))
    return {**found, layers.stop: states}
