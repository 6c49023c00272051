"""The last layer of BERT's kind where it is read alone.

Whoever reads a few states of a sequence needs no others of the last layer: queries, the attention's output and the
feed-forward layer are computed at these positions, keys and values for all tokens. This changes no number but by
rounding, and leaves out up to ten twelfths of the layer, forward and backward.

Shapes: B = batch, S = sequence, N = positions, H = width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import eager_attention_forward

from kadapter.models.positions import at_positions

# Families whose layers are BERT's, module by module; tests/test_last_layer.py compares each with the whole layer.
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
KERNELS = ("sdpa", "eager")  # those for sequences that are packed expect as many queries as keys
READ_AT = "read_at"  # the keyword that a backbone hands down to its layers, of which the last alone knows it


def is_readable_at(config: PreTrainedConfig, positions: torch.Tensor | None, length: int) -> bool:
    """Whether the last of such layers can be computed at these positions [B, N] alone, and whether that is less."""
    return (
        positions is not None
        and 0 < positions.shape[1] < length
        and config.model_type in FAMILIES
        and not config.is_decoder
        and config._attn_implementation in KERNELS
    )


def layer_at(
    layer: nn.Module, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, positions: torch.Tensor
) -> torch.Tensor:
    """What a layer of BERT's kind makes of its input [B, S, H] at positions [B, N], as [B, N, H].

    Args:
        attention_mask: as the attention kernel takes it, [B or 1, 1, S or 1, S], or None.
    """
    parts = cast(Any, layer)
    attention = parts.attention.self
    read = at_positions(hidden_states, positions)
    query, key, value = (
        project(states).unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)
        for project, states in (
            (attention.query, read),
            (attention.key, hidden_states),
            (attention.value, hidden_states),
        )
    )
    kernel = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager_attention_forward)
    dropout = attention.dropout.p if attention.training else 0.0
    context, _ = kernel(
        attention, query, key, value, _rows(attention_mask, positions), dropout=dropout, scaling=attention.scaling
    )
    attended = parts.attention.output(context.flatten(2), read)
    return parts.output(parts.intermediate(attended), attended)


def _rows(mask: torch.Tensor | None, positions: torch.Tensor) -> torch.Tensor | None:
    """The rows of a mask [B or 1, heads or 1, S or 1, S] that belong to the queries at positions [B, N]."""
    if mask is None or mask.shape[2] == 1:
        return mask
    index = positions[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
    return mask.expand(positions.shape[0], -1, -1, -1).gather(2, index)  # len() would fix the batch in an export


class _LayerForward:
    """Stands for the `forward` of a backbone's last layer; told where it is read, it computes no more than that.

    An object, since a model with it can be copied and pickled, which a function within a function cannot.
    """

    def __init__(self, layer: nn.Module):
        self.layer = layer

    def __call__(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *args: Any,
        read_at: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        if read_at is None:
            return type(self.layer).forward(self.layer, hidden_states, attention_mask, *args, **kwargs)
        return layer_at(self.layer, hidden_states, attention_mask, read_at)


def let_last_layer_be_read_at(backbone: PreTrainedModel) -> None:
    """Let the last layer of a backbone of `FAMILIES` take `read_at`; others stay as they are."""
    if backbone.config.model_type in FAMILIES:
        last = cast(Any, backbone).encoder.layer[-1]
        last.forward = _LayerForward(last)
