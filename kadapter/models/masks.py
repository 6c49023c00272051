"""Attention masks that the host does not wait for.

Shapes: B = batch, S = sequence.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.masking_utils import create_bidirectional_mask

from kadapter.models.last_layer import FAMILIES, KERNELS


def bidirectional_mask(config: PreTrainedConfig, states: torch.Tensor, attention_mask: torch.Tensor | None) -> Any:
    """The mask of states [B, S, ...] as the attention kernel of `config` takes it, from one of tokens [B, S].

    On a CPU, None where nothing is padded. To know that of a mask on a GPU the host would wait for all that was asked
    of it before, so there it is always made.
    """
    skip = _can_be_read(states)
    return create_bidirectional_mask(config, states, attention_mask, allow_is_bidirectional_skip=skip)


def _can_be_read(tensor: torch.Tensor) -> bool:
    """Whether the host knows its numbers without waiting."""
    return tensor.device.type == "cpu"


def backbone_mask(
    config: PreTrainedConfig, states: torch.Tensor, dtype: torch.dtype, attention_mask: torch.Tensor | None
) -> torch.Tensor | None:
    """What a backbone is given as mask: on a GPU that of `bidirectional_mask`, if it is of a family that takes it.

    Args:
        states: its input, [B, S] tokens or [B, S, E].
        dtype: of its embeddings.
        attention_mask: [B, S] of tokens.
    """
    takes_it = config.model_type in FAMILIES and config._attn_implementation in KERNELS and not config.is_decoder
    if attention_mask is None or attention_mask.dim() != 2 or _can_be_read(states) or not takes_it:
        return attention_mask
    return bidirectional_mask(config, states.new_empty((*states.shape[:2], 0), dtype=dtype), attention_mask)
