"""What all heads share: their outputs, the mean loss, what evaluation keeps.

Shapes: B = batch, S = sequence, N = positions that a head reads, H = width, C = labels.
R = sequences: B, or more where an example is a group of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from kadapter.shapes import IGNORE


@dataclass
class HeadOutput(ModelOutput):
    """`loss` (scalar, None without labels); `logits` [B, C], [B, N, C] or [B, S, C]; of spans [B, S, 2].

    `attention` [B, S, S], `losses` [B, N], each position's own, and `scores` [B, sequences], each sequence's own, where
    a head has them. `hidden_states` and `attentions` are the backbone's, where they were asked for.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    attention: torch.Tensor | None = None
    losses: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass(frozen=True)
class Kept:
    """What is kept of an output at evaluation.

    values: [B, ...]; with sizes [B, longest, ...].
    sizes: [B], how many of an example's values count where they are filled up; None where all do.
    """

    values: torch.Tensor
    sizes: torch.Tensor | None = None


class Head(nn.Module, ABC):
    """What all heads share: `compute` gives the logits, `summed_loss` what they cost; the mean loss is taken here.

    reads: "positions", the states at marked positions, or "sequence", all of them; the model fuses only those.
    """

    reads: ClassVar[str] = "positions"
    places: ClassVar[int | None] = 1
    """How many positions of a sequence it reads; None: as many as it is given."""

    def forward(
        self,
        features: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items: float | None = None,
        **inputs: Any,
    ) -> HeadOutput:
        """Logits, and the mean loss where there are labels.

        Args:
            features: [R, N, H] states at N positions of R sequences, or [R, S, H].
            labels: as the head takes them; those that are IGNORE do not count.
            num_items: what the summed loss is divided by where the caller knows the count of a whole step, over
                micro-batches and processes; None means this batch's own.
            inputs: attention_mask [R, S], context_mask [R, S] (where spans may start and end), positions [R, N],
                group_sizes [B] (how many sequences each example has), largest_group (the largest of these) and
                embeddings [C, E], for those heads that need them.
        """
        # A head's weights are float32 where the backbone's are not; a head without weights takes what comes.
        dtype = next((p.dtype for p in self.parameters()), features.dtype)
        return self.with_loss(self.compute(features.to(dtype), **inputs), labels, num_items)

    def with_loss(self, output: HeadOutput, labels: torch.Tensor | None, num_items: float | None) -> HeadOutput:
        """The output of `compute` with the mean loss, where there are labels."""
        if labels is None:
            return output
        total, count = self.summed_loss(output, labels)
        loss = total / (count if num_items is None else num_items)
        # In a tuple the loss is the first.
        return HeadOutput(loss, **{name: value for name, value in output.items() if name != "loss"})

    @abstractmethod
    def compute(self, features: torch.Tensor, **inputs: Any) -> HeadOutput:
        """The output without a loss."""

    @abstractmethod
    def summed_loss(self, output: HeadOutput, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | int]:
        """The sum over all items with a label, and their count."""

    @staticmethod
    def kept(output: HeadOutput, batch: Mapping[str, torch.Tensor]) -> dict[str, Kept]:
        """What evaluation keeps of an output, by name."""
        assert output.logits is not None
        return {"logits": Kept(output.logits)}


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of `logits` [..., C] and `labels` [...]: the sum over those that count, and their number."""
    rows = logits.float().flatten(0, -2)
    total = F.cross_entropy(rows, labels.flatten(), weights, reduction="sum", ignore_index=IGNORE)
    return total, (labels != IGNORE).sum()
