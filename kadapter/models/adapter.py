"""Knowledge adapters: chains of small transformers beside a backbone (K-Adapter, section 3.1, figure 2).

Shapes: B = batch, S = sequence, N = positions, H = the backbone's width, D = the adapter's width.
Parameter names are the original's, so that its released files fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import BertConfig
from transformers.masking_utils import create_causal_mask
from transformers.models.bert.modeling_bert import BertEncoder

from kadapter.models.last_layer import is_readable_at, layer_at
from kadapter.models.masks import bidirectional_mask
from kadapter.models.positions import at_positions
from kadapter.shapes import AdapterConfig


def encoder_config(config: AdapterConfig, attn_implementation: str | None = None) -> BertConfig:
    """The configuration of an adapter layer's transformer: post-norm BERT layers of width D."""
    assert config.num_attention_heads is not None
    assert config.intermediate_size is not None
    transformer = BertConfig(
        hidden_size=config.adapter_size,
        num_hidden_layers=config.adapter_transformer_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        hidden_act=config.hidden_act,
        hidden_dropout_prob=config.hidden_dropout_prob,
        attention_probs_dropout_prob=config.attention_probs_dropout_prob,
        layer_norm_eps=config.layer_norm_eps,
        is_decoder=config.causal,
    )
    transformer._attn_implementation = attn_implementation or "sdpa"
    return transformer


class Projection(nn.Linear):
    """A linear layer that starts near zero, so that an adapter layer starts near the identity."""

    def __init__(self, in_features: int, out_features: int, initializer_range: float):
        self.initializer_range = initializer_range
        super().__init__(in_features, out_features)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.initializer_range)
        nn.init.zeros_(self.bias)


class TransformerAdapter(nn.Module):
    """One adapter layer: `input + up_project(encoder(down_project(input)))`.

    The original calls it `Adapter` (fac-adapter.py).
    """

    def __init__(self, config: AdapterConfig, hidden_size: int, transformer: BertConfig):
        super().__init__()
        self.down_project = Projection(hidden_size, config.adapter_size, config.initializer_range)
        self.encoder = BertEncoder(transformer)
        self.up_project = Projection(config.adapter_size, hidden_size, config.initializer_range)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """[B, S, H] -> [B, S, H], or [B, N, H] at positions [B, N].

        Args:
            attention_mask: as the encoder's attention wants it, or None for no mask.
        """
        states = self.down_project(hidden_states)
        if positions is None:
            encoded = self.encoder(states, attention_mask=attention_mask).last_hidden_state
            return hidden_states + self.up_project(encoded)
        for layer in self.encoder.layer[:-1]:
            states = layer(states, attention_mask)
        states = layer_at(self.encoder.layer[-1], states, attention_mask, positions)
        return at_positions(hidden_states, positions) + self.up_project(states)


class KnowledgeAdapter(nn.Module):
    """A chain of adapter layers over the tapped hidden states; the original calls it `AdapterModel`.

    Args:
        config: the shape, with its taps resolved (`AdapterConfig.resolved`).
        hidden_size: H.
        attn_implementation: any of transformers' ("sdpa", "eager", "flash_attention_2", ...).
    """

    def __init__(self, config: AdapterConfig, hidden_size: int, attn_implementation: str | None = None):
        super().__init__()
        if config.adapter_list is None:
            raise ValueError("adapter_list is not set; call AdapterConfig.resolved(num_hidden_layers) first.")
        self.config = config
        self.taps: tuple[int, ...] = config.adapter_list
        self.transformer_config = encoder_config(config, attn_implementation)
        self.adapter = nn.ModuleList(
            TransformerAdapter(config, hidden_size, self.transformer_config) for _ in config.adapter_list
        )

    def forward(
        self,
        hidden_states: Sequence[torch.Tensor] | Mapping[int, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Run the chain.

        Args:
            hidden_states: the backbone's states, indexed by tap, each [B, S, H].
            attention_mask: [B, S], 1 for tokens and 0 for padding; None means that nothing is padded.
            positions: [B, N] where the output is read; None reads all.

        Returns:
            The last layer's output, [B, S, H] or [B, N, H], in the type of the adapter's weights.
        """
        dtype = next(self.parameters()).dtype  # float32 whatever the backbone's, unless it was asked for
        hidden_states = {tap: hidden_states[tap].to(dtype) for tap in self.taps}
        mask = self._mask(hidden_states[self.taps[0]], None if self.config.attend_padding else attention_mask)
        skip, last = self.config.adapter_skip_layers, len(self.taps)
        early = is_readable_at(self.transformer_config, positions, hidden_states[self.taps[0]].shape[1])
        outputs: list[torch.Tensor] = []
        state: torch.Tensor | None = None
        for count, (tap, layer) in enumerate(zip(self.taps, self.adapter, strict=True), start=1):
            read = positions if early and count == last else None
            state = layer(hidden_states[tap] if state is None else hidden_states[tap] + state, mask, read)
            outputs.append(state)
            if skip and count % skip == 0:
                # K-Adapter fac-adapter.py: the index counts skips, not layers; kept for its numbers.
                earlier = outputs[count // skip]
                state = state + (earlier if read is None or earlier is state else at_positions(earlier, read))
        assert state is not None
        return state if early or positions is None else at_positions(state, positions)

    def _mask(self, states: torch.Tensor, attention_mask: torch.Tensor | None) -> Any:
        """As the attention kernel wants it; None where there is nothing to hide, or the kernel itself is causal."""
        if self.config.causal:
            return create_causal_mask(self.transformer_config, states, attention_mask, past_key_values=None)
        if attention_mask is None:
            return None
        return bidirectional_mask(self.transformer_config, states, attention_mask)
