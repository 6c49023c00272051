"""Task models: an encoder with adapters and a head on top.

Shapes: B = batch, S = sequence, N = positions that the head reads, H = width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from kadapter.configuration import HeadConfig, KAdapterConfig
from kadapter.heads import HeadOutput, build_head
from kadapter.modeling import KAdapterModel, KAdapterPreTrainedModel


class TaskModel(KAdapterPreTrainedModel):
    """An encoder with adapters and the head that `config.head` describes: pretraining and tasks alike.

    Args:
        config: with a head.
        encoder: a `KAdapterModel` to put the head on; None builds one from the configuration.
    """

    def __init__(self, config: KAdapterConfig, encoder: KAdapterModel | None = None):
        super().__init__(config)
        self.encoder = KAdapterModel(config) if encoder is None else encoder
        dropout = getattr(config.backbone_config, "hidden_dropout_prob", 0.1)
        self.head = build_head(config.head_config(), config.hidden_size, dropout)
        pooler = getattr(self.encoder.backbone, "pooler", None)
        if pooler is not None:
            pooler.requires_grad_(False)  # no head reads it, and distributed training must not wait for it
        self.post_init()

    @classmethod
    def from_encoder(cls, encoder: KAdapterModel, head: HeadConfig) -> TaskModel:
        """Put a fresh head on a loaded encoder."""
        values = {name: getattr(encoder.config, name) for name in ("backbone_config", "adapters", "fusion_mode")}
        config = KAdapterConfig(**values, head=head)
        encoder.config = config
        return cls(config, encoder=encoder)

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items: float | None = None,
    ) -> HeadOutput:
        """Features where the head reads them, then the head.

        Args:
            input_ids, attention_mask: [B, S]; or [B, choices, S], each choice a sequence of its own.
            positions: [B, N] positions that the head reads; None for heads that read the whole sequence.
            labels: as the head takes them; None gives no loss.
            num_items: what to divide the summed loss by, where the caller knows the count of a whole step
                over micro-batches and processes; None means this batch's own count.
        """
        if input_ids.dim() == 3:
            choices = input_ids.shape[1]
            input_ids = input_ids.flatten(0, 1)
            attention_mask = None if attention_mask is None else attention_mask.flatten(0, 1)
            positions = None if positions is None else positions.repeat_interleave(choices, dim=0)
        features = self.encoder(input_ids, attention_mask=attention_mask, positions=positions).last_hidden_state
        return self.head(features, attention_mask=attention_mask, labels=labels, num_items=num_items)

    def predictions(self, output: HeadOutput, batch: Mapping[str, torch.Tensor]) -> list[dict[str, np.ndarray]]:
        """What evaluation keeps of an output, one dictionary an example; without the padding of sequences."""
        head: Any = self.head
        kept = {name: value.float().cpu().numpy() for name, value in head.predictions(output).items()}
        ends: list[int | None] = [None] * len(batch["input_ids"])
        if head.reads == "sequence":
            ends = batch["attention_mask"].sum(1).tolist()
        return [{name: value[i, :end] for name, value in kept.items()} for i, end in enumerate(ends)]
