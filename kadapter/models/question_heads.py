"""Heads of questions on texts: a span of a context, and an answer among many paragraphs.

Shapes: as in `head.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from kadapter.models import openqa
from kadapter.models.head import Head, HeadOutput, Kept
from kadapter.shapes import IGNORE, HeadConfig


class SpanHead(Head):
    """All states -> where a span starts and where it ends, as in BERT's reader (Devlin et al., 2019, section 4.2).

    No answer is a span too, that of the first token, where `context_mask` has it. Like BERT's, the head has no dropout
    unless its configuration says one, and its weights have the names of transformers' models for question answering.
    """

    reads = "sequence"

    def __init__(self, config: HeadConfig, hidden_size: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(config.dropout or 0.0)
        self.qa_outputs = nn.Linear(hidden_size, config.num_labels)

    def compute(
        self,
        features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        context_mask: torch.Tensor | None = None,
        **inputs: Any,
    ) -> HeadOutput:
        """`features` [B, S, H] -> `logits` [B, S, 2] of start and end.

        Args:
            context_mask: [B, S], 1 where a span may start and end; elsewhere logits are -inf. None: anywhere but in
                padding.
        """
        logits = self.qa_outputs(self.dropout(features))
        allowed = attention_mask if context_mask is None else context_mask
        if allowed is not None:
            logits = logits.masked_fill(~allowed.bool()[..., None], -torch.inf)
        return HeadOutput(logits=logits)

    def summed_loss(self, output: HeadOutput, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | int]:
        """`labels` [B, 2], first and last token -> the mean of both cross-entropies over the sequence's tokens."""
        assert output.logits is not None
        total = F.cross_entropy(output.logits.float(), labels, reduction="sum", ignore_index=IGNORE)
        return total / 2, (labels != IGNORE).sum() / 2

    @staticmethod
    def kept(output: HeadOutput, batch: Mapping[str, torch.Tensor]) -> dict[str, Kept]:
        """The logits of each token, padding left out."""
        assert output.logits is not None
        lengths = batch["attention_mask"].sum(1)
        start, end = output.logits.unbind(-1)
        return {"start": Kept(start, lengths), "end": Kept(end, lengths)}


class OpenQAHead(SpanHead):
    """All states of a question's paragraphs -> start and end of answers, and a score of each paragraph.

    The score is of the state that stands for the whole sequence. `labels` [B, 3n] are the places of answers, as
    `openqa.places_of` takes them; questions without any cost nothing.

    reading: how it is trained and read. chunk_tokens: the most tokens that are computed at once, whatever the number
        of paragraphs (`chunks.in_chunks`). Both belong to a run and are not saved.
    """

    def __init__(self, config: HeadConfig, hidden_size: int, dropout: float):
        super().__init__(config, hidden_size, dropout)
        self.selector = nn.Linear(hidden_size, 1)
        self.reading, self.chunk_tokens = openqa.Reading(), 2048

    def compute(  # type: ignore[override]
        self,
        features: torch.Tensor,
        positions: torch.Tensor | None = None,
        group_sizes: torch.Tensor | None = None,
        **inputs: Any,
    ) -> HeadOutput:
        """`features` [R, S, H], `positions` [R, 3], `group_sizes` [B] -> `logits` [R, S, 2], `scores` [B, paragraphs].

        Args:
            positions: of each sequence the token that stands for it, and the first and the last of its paragraph,
                outside of which logits are -inf.
        """
        return self.of_sequences(*self.outputs(features, positions), group_sizes)

    def outputs(self, features: torch.Tensor, positions: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """[R, S, H] -> logits [R, S, 2] and scores [R]: each sequence for itself."""
        if positions is None or positions.shape[1] != 3:
            raise ValueError(
                "a head of the kind 'openqa' reads three positions of each sequence: the token that stands for it, the "
                "first and the last of its paragraph; give them."
            )
        logits = (
            super().compute(features, context_mask=openqa.paragraph_mask(positions[:, 1:], features.shape[1])).logits
        )
        first = features[torch.arange(len(features), device=features.device), positions[:, 0]]
        assert logits is not None
        return logits, self.selector(self.dropout(first))[:, 0]

    @staticmethod
    def of_sequences(logits: torch.Tensor, scores: torch.Tensor, group_sizes: torch.Tensor | None) -> HeadOutput:
        """The output, from what each sequence has."""
        sizes = torch.ones(len(scores), dtype=torch.long, device=scores.device) if group_sizes is None else group_sizes
        return HeadOutput(logits=logits, scores=openqa.grouped(scores, sizes))

    def summed_loss(self, output: HeadOutput, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | int]:
        assert output.logits is not None
        assert output.scores is not None
        if not (labels != IGNORE).any():
            return output.logits.new_zeros(()), 0
        losses = openqa.question_losses(output.logits, output.scores, labels, self.reading)
        return losses.sum(), len(losses)

    def kept(self, output: HeadOutput, batch: Mapping[str, torch.Tensor]) -> dict[str, Kept]:  # type: ignore[override]
        return openqa_kept(output, self.reading)


def openqa_kept(output: HeadOutput, reading: openqa.Reading) -> dict[str, Kept]:
    """For each paragraph log P(p | q); and of its best spans, one after the other, log P(span | q, p), first and last.

    The names are "selected", "spans", "starts" and "ends".
    """
    assert output.logits is not None
    assert output.scores is not None
    present = ~output.scores.isneginf()
    sizes, log_probs = present.sum(1), openqa.reader_log_probs(output.logits)
    found = openqa.best_spans(log_probs, openqa.BEST_SPANS, reading.max_answer_tokens)
    kept = {"selected": Kept(openqa.selector_log_probs(output.scores), sizes)}
    for name, values in zip(("spans", "starts", "ends"), found, strict=True):
        table = values.new_zeros((*present.shape, openqa.BEST_SPANS))
        table[present] = values
        kept[name] = Kept(table.flatten(1), sizes * openqa.BEST_SPANS)
    return kept
