"""Heads and losses: pretraining of adapters and the tasks.

Shapes: B = batch, S = sequence, N = positions that a head reads, H = width, C = labels.
Parameter names are the original's. A head declares which features it reads (`reads`): the states at marked
positions, or all of them; the model fuses only those. `predictions` gives what is kept of an output at evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.bert.modeling_bert import BertAttention
from transformers.utils import ModelOutput

from kadapter.configuration import IGNORE, HeadConfig


@dataclass
class HeadOutput(ModelOutput):
    """`loss` (scalar, None without labels); `logits` [B, C], [B, N, C] or [B, S, C].

    `attention` [B, S, S] and `losses` [B, N], each position's own, where a head has them.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    attention: torch.Tensor | None = None
    losses: torch.Tensor | None = None


def _normalized(total: torch.Tensor, mean_over: torch.Tensor | int, num_items: float | None) -> torch.Tensor:
    """Sum of losses -> mean over this batch, or over `num_items` when the caller knows the whole step's count."""
    return total / (mean_over if num_items is None else num_items)


class MarkerHead(nn.Module):
    """States at the first marker of each mention, side by side, or at the first token -> labels."""

    reads = "positions"
    mentions = 1
    summed_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of logits and labels

    def __init__(self, config: HeadConfig, hidden_size: int, dropout: float):
        super().__init__()
        self.dense = nn.Linear(self.mentions * hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(hidden_size, config.num_labels)

    def forward(
        self,
        features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items: float | None = None,
    ) -> HeadOutput:
        """`features` [B, mentions, H] -> `logits` [B, C], and the mean loss where there are `labels`."""
        logits = self.out_proj(self.dropout(self.hidden(features.flatten(1))))
        if labels is None:
            return HeadOutput(logits=logits)
        return HeadOutput(_normalized(self.summed_loss(logits.float(), labels), len(labels), num_items), logits)

    def hidden(self, features: torch.Tensor) -> torch.Tensor:
        return self.dense(features)

    def predictions(self, output: HeadOutput) -> dict[str, torch.Tensor | None]:
        return {"logits": output.logits}


class RelationHead(MarkerHead):
    """Subject and object -> relation (fac-adapter.py; also TACRED); cross-entropy, `labels` [B]."""

    mentions = 2

    @staticmethod
    def summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, labels, reduction="sum")


class EntityTypingHead(MarkerHead):
    """A mention -> any number of types (run_finetune_openentity_adapter.py).

    Binary cross-entropy, the mean over all labels of an example; `labels` [B, C] of 0 and 1.
    """

    @staticmethod
    def summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum") / logits.shape[-1]


class ClassificationHead(MarkerHead):
    """State at the first token -> BERT's pooler (dense, tanh) -> label or number (adapter-bert run_classifier.py).

    Cross-entropy; with one label the squared error. `labels` [B], IGNORE where they are kept back.
    """

    def hidden(self, features: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.dense(features))

    @staticmethod
    def summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if logits.shape[-1] > 1:
            return F.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORE)
        known = labels != IGNORE
        return F.mse_loss(logits[known, 0], labels[known].float(), reduction="sum")


class DependencyHead(nn.Module):
    """All states -> position of each word's governor (lin-adapter.py); C is max_seq_length."""

    reads = "sequence"

    def __init__(self, config: HeadConfig, hidden_size: int, dropout: float):
        super().__init__()
        # lin-adapter.py: attentionConfig (one head, dropout 0.1); its probabilities are a result, hence eager.
        self.attention_config = BertConfig(
            hidden_size=hidden_size,
            num_attention_heads=1,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            layer_norm_eps=1e-5,
        )
        self.attention_config._attn_implementation = "eager"
        self.self_attention = BertAttention(self.attention_config)
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(hidden_size, config.num_labels)

    def forward(
        self,
        features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items: float | None = None,
    ) -> HeadOutput:
        """`features` [B, S, H]; `labels` [B, S] positions or -100 -> cross-entropy over labelled words."""
        mask = create_bidirectional_mask(self.attention_config, features, attention_mask)
        context, attention = self.self_attention(features, mask)
        logits = self.out_proj(self.dropout(self.dense(context)))
        output = HeadOutput(logits=logits, attention=attention[:, 0])
        if labels is not None:
            total = F.cross_entropy(
                logits.float().flatten(0, 1), labels.flatten(), reduction="sum", ignore_index=IGNORE
            )
            output.loss = _normalized(total, (labels != IGNORE).sum(), num_items)
        return output

    def predictions(self, output: HeadOutput) -> dict[str, torch.Tensor | None]:
        """For each position the governor's, by the classifier and by the most attended: [B, S] each."""
        assert output.logits is not None
        assert output.attention is not None
        return {"predicted": output.logits.argmax(-1), "attended": output.attention.argmax(-1)}


class MultipleChoiceHead(nn.Module):
    """State at the first token of each choice -> one score (run_finetune_cosmosqa_adapter.py)."""

    reads = "positions"

    def __init__(self, config: HeadConfig, hidden_size: int, dropout: float):
        super().__init__()
        self.choices = config.num_labels
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, 1)

    def forward(
        self,
        features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items: float | None = None,
    ) -> HeadOutput:
        """`features` [B * C, 1, H]; `labels` [B] -> cross-entropy over the choices, `logits` [B, C]."""
        logits = self.classifier(self.dropout(features[:, 0])).view(-1, self.choices)
        if labels is None:
            return HeadOutput(logits=logits)
        total = F.cross_entropy(logits.float(), labels, reduction="sum", ignore_index=IGNORE)
        return HeadOutput(_normalized(total, len(labels), num_items), logits)

    def predictions(self, output: HeadOutput) -> dict[str, torch.Tensor | None]:
        return {"logits": output.logits}


class MaskedLMHead(nn.Module):
    """States at hidden tokens -> these tokens; the last layer's weights are the input embeddings (E wide).

    The head of BERT and RoBERTa, so that a pretrained one can be taken over (`language_model.py`).
    """

    reads = "positions"

    def __init__(self, config: HeadConfig, hidden_size: int, dropout: float, embedding_size: int):
        super().__init__()
        self.dense = nn.Linear(hidden_size, embedding_size)
        self.layer_norm = nn.LayerNorm(embedding_size)
        self.bias = nn.Parameter(torch.zeros(config.num_labels))

    def forward(
        self,
        features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items: float | None = None,
        *,
        embeddings: torch.Tensor,
    ) -> HeadOutput:
        """`features` [B, N, H], `embeddings` [C, E] -> `logits` [B, N, C]; `labels` [B, N] tokens, or IGNORE."""
        logits = F.linear(self.layer_norm(F.gelu(self.dense(features))), embeddings, self.bias)
        output = HeadOutput(logits=logits)
        if labels is not None:
            losses = F.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none", ignore_index=IGNORE)
            output.loss, output.losses = _normalized(losses.sum(), (labels != IGNORE).sum(), num_items), losses
        return output

    def predictions(self, output: HeadOutput) -> dict[str, torch.Tensor | None]:
        """For each position the likeliest token and the loss, [B, N] each."""
        assert output.logits is not None
        return {"predicted": output.logits.argmax(-1), "losses": output.losses}


HEADS: dict[str, type[nn.Module]] = {
    "relation": RelationHead,
    "dependency": DependencyHead,
    "entity_typing": EntityTypingHead,
    "multiple_choice": MultipleChoiceHead,
    "classification": ClassificationHead,
    "masked_lm": MaskedLMHead,
}


def build_head(config: HeadConfig, hidden_size: int, dropout: float, embedding_size: int) -> nn.Module:
    """The head that `config.kind` names; `dropout` is used where the configuration leaves it open."""
    tied = {"embedding_size": embedding_size} if config.kind == "masked_lm" else {}
    return HEADS[config.kind](config, hidden_size, dropout if config.dropout is None else config.dropout, **tied)
