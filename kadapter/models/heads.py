"""Heads and losses: pretraining of adapters and the tasks.

Shapes: B = batch, S = sequence, N = positions that a head reads, H = width, C = labels.
R = sequences: B, or more where an example is a group of them. Parameter names are the original's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertAttention

from kadapter.models.head import Head, HeadOutput, Kept, cross_entropy
from kadapter.models.masks import bidirectional_mask
from kadapter.models.question_heads import OpenQAHead, SpanHead
from kadapter.shapes import IGNORE, HeadConfig


class MarkerHead(Head):
    """States at the first marker of each mention, side by side, or at the first token -> labels [B, C]."""

    places: ClassVar[int] = 1

    def __init__(self, config: HeadConfig, hidden_size: int, dropout: float):
        super().__init__()
        self.dense = nn.Linear(self.places * hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(hidden_size, config.num_labels)

    def compute(self, features: torch.Tensor, **inputs: Any) -> HeadOutput:
        """`features` [B, places, H]."""
        return HeadOutput(logits=self.out_proj(self.dropout(self.hidden(features.flatten(1)))))

    def hidden(self, features: torch.Tensor) -> torch.Tensor:
        return self.dense(features)


class RelationHead(MarkerHead):
    """Subject and object -> relation (fac-adapter.py; also TACRED); cross-entropy, `labels` [B]."""

    places = 2

    def summed_loss(self, output: HeadOutput, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | int]:
        assert output.logits is not None
        return cross_entropy(output.logits, labels)


class EntityTypingHead(MarkerHead):
    """A mention -> any number of types (run_finetune_openentity_adapter.py).

    Binary cross-entropy, the mean over all labels of an example; `labels` [B, C] of 0 and 1.
    """

    def summed_loss(self, output: HeadOutput, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | int]:
        assert output.logits is not None
        logits = output.logits.float()
        total = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum") / logits.shape[-1]
        return total, len(labels)


class ClassificationHead(MarkerHead):
    """State at the first token -> BERT's pooler (dense, tanh) -> label or number (adapter-bert run_classifier.py).

    Cross-entropy; with one label the squared error. `labels` [B], IGNORE where they are kept back.

    class_weights: [C], a factor of each label's loss; None for none. It belongs to training and is not saved.
    """

    class_weights: torch.Tensor | None

    def __init__(self, config: HeadConfig, hidden_size: int, dropout: float):
        super().__init__(config, hidden_size, dropout)
        self.register_buffer("class_weights", None, persistent=False)

    def hidden(self, features: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.dense(features))

    def summed_loss(self, output: HeadOutput, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | int]:
        assert output.logits is not None
        if output.logits.shape[-1] > 1:
            return cross_entropy(output.logits, labels, self.class_weights)
        known = labels != IGNORE  # not an index, for whose size the host would wait
        errors = (output.logits[:, 0].float() - labels.float()) ** 2
        return torch.where(known, errors, 0).sum(), known.sum()


class MultiLabelHead(ClassificationHead):
    """The same, for any number of labels: binary cross-entropy, the mean over all labels of an example.

    `labels` [B, C] of 0 and 1, rows of IGNORE where they are kept back; `class_weights` are factors of the positives.
    """

    def summed_loss(self, output: HeadOutput, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | int]:
        assert output.logits is not None
        known = labels[:, :1] != IGNORE
        logits, gold = output.logits.float(), labels.float()
        costs = F.binary_cross_entropy_with_logits(logits, gold, reduction="none", pos_weight=self.class_weights)
        return torch.where(known, costs, 0).sum() / logits.shape[-1], known.sum()


class TaggingHead(Head):
    """States at the words that are tagged -> a tag for each of them; cross-entropy, `labels` [B, N]."""

    places = None

    def __init__(self, config: HeadConfig, hidden_size: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, config.num_labels)

    def compute(self, features: torch.Tensor, **inputs: Any) -> HeadOutput:
        """`features` [B, N, H] -> `logits` [B, N, C]."""
        return HeadOutput(logits=self.classifier(self.dropout(features)))

    def summed_loss(self, output: HeadOutput, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | int]:
        assert output.logits is not None
        return cross_entropy(output.logits, labels)

    @staticmethod
    def kept(output: HeadOutput, batch: Mapping[str, torch.Tensor]) -> dict[str, Kept]:
        """For each word the likeliest tag."""
        assert output.logits is not None
        return {"predicted": Kept(output.logits.argmax(-1), (batch["labels"] != IGNORE).sum(1))}


class DependencyHead(Head):
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

    def compute(self, features: torch.Tensor, attention_mask: torch.Tensor | None = None, **inputs: Any) -> HeadOutput:
        """`features` [B, S, H] -> `logits` [B, S, C], `attention` [B, S, S]."""
        mask = bidirectional_mask(self.attention_config, features, attention_mask)
        context, attention = self.self_attention(features, mask)
        return HeadOutput(logits=self.out_proj(self.dropout(self.dense(context))), attention=attention[:, 0])

    def summed_loss(self, output: HeadOutput, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | int]:
        """`labels` [B, S] positions -> cross-entropy over labelled words."""
        assert output.logits is not None
        return cross_entropy(output.logits, labels)

    @staticmethod
    def kept(output: HeadOutput, batch: Mapping[str, torch.Tensor]) -> dict[str, Kept]:
        """For each token the governor's position, by the classifier and by the most attended."""
        assert output.logits is not None
        assert output.attention is not None
        lengths = batch["attention_mask"].sum(1)
        found = {"predicted": output.logits, "attended": output.attention}
        return {name: Kept(scores.argmax(-1), lengths) for name, scores in found.items()}


class MultipleChoiceHead(Head):
    """State at the first token of each choice -> one score (run_finetune_cosmosqa_adapter.py).

    Examples may have different numbers of choices.
    """

    def __init__(self, config: HeadConfig, hidden_size: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, 1)

    def compute(
        self,
        features: torch.Tensor,
        group_sizes: torch.Tensor | None = None,
        largest_group: int | None = None,
        **inputs: Any,
    ) -> HeadOutput:
        """`features` [R, 1, H] of all choices -> `logits` [B, most choices], -inf where an example has fewer."""
        if group_sizes is None:
            raise ValueError(
                "a multiple-choice head needs to know which sequences belong together; give input_ids of shape "
                "[batch, choices, sequence], or group_sizes."
            )
        scores = self.classifier(self.dropout(features[:, 0]))[:, 0]
        most: Any = largest_group
        if most is None:
            most = group_sizes.max().item()  # int() would fix it where the model is exported
            torch._check(most >= 0)
        present = torch.arange(most, device=scores.device) < group_sizes[:, None]
        return HeadOutput(logits=scores.new_full(present.shape, -torch.inf).masked_scatter(present, scores))

    def summed_loss(self, output: HeadOutput, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | int]:
        """`labels` [B], number of the right choice -> cross-entropy over an example's choices."""
        assert output.logits is not None
        return cross_entropy(output.logits, labels)

    @staticmethod
    def kept(output: HeadOutput, batch: Mapping[str, torch.Tensor]) -> dict[str, Kept]:
        assert output.logits is not None
        return {"logits": Kept(output.logits, batch["group_sizes"])}


class MaskedLMHead(Head):
    """States at hidden tokens -> these tokens; the last layer's weights are the input embeddings (E wide).

    The head of BERT and RoBERTa, so that a pretrained one can be taken over (`language_model.py`).
    """

    places = None

    def __init__(self, config: HeadConfig, hidden_size: int, dropout: float, embedding_size: int):
        super().__init__()
        self.dense = nn.Linear(hidden_size, embedding_size)
        self.layer_norm = nn.LayerNorm(embedding_size)
        self.bias = nn.Parameter(torch.zeros(config.num_labels))

    def resize(self, count: int, mean: bool) -> None:
        """Let it know `count` tokens; new ones get the mean bias, or zero."""
        bias = self.bias.data
        more = bias.new_full((max(0, count - len(bias)),), bias.float().mean().item() if mean else 0.0)
        self.bias.data = torch.cat([bias[:count], more])
        self.bias.grad = None

    def compute(self, features: torch.Tensor, embeddings: torch.Tensor | None = None, **inputs: Any) -> HeadOutput:
        """`features` [B, N, H], `embeddings` [C, E] -> `logits` [B, N, C]."""
        assert embeddings is not None
        states = self.layer_norm(F.gelu(self.dense(features)))
        if embeddings.dtype == states.dtype:
            return HeadOutput(logits=F.linear(states, embeddings, self.bias))
        # The table is large: the states are cast to its type rather than the table to theirs.
        return HeadOutput(logits=F.linear(states.to(embeddings.dtype), embeddings).to(states.dtype) + self.bias)

    def summed_loss(self, output: HeadOutput, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | int]:
        """`labels` [B, N] tokens; the output's `losses` [B, N] are each position's own."""
        assert output.logits is not None
        logits = output.logits.float().transpose(1, 2)
        output.losses = F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORE)
        return output.losses.sum(), (labels != IGNORE).sum()

    @staticmethod
    def kept(output: HeadOutput, batch: Mapping[str, torch.Tensor]) -> dict[str, Kept]:
        """For each hidden token the likeliest one and the loss."""
        assert output.logits is not None
        assert output.losses is not None
        counts = (batch["labels"] != IGNORE).sum(1)
        return {"predicted": Kept(output.logits.argmax(-1), counts), "losses": Kept(output.losses, counts)}


HEADS: dict[str, type[Head]] = {
    "relation": RelationHead,
    "dependency": DependencyHead,
    "entity_typing": EntityTypingHead,
    "multiple_choice": MultipleChoiceHead,
    "classification": ClassificationHead,
    "masked_lm": MaskedLMHead,
    "multi_label": MultiLabelHead,
    "tagging": TaggingHead,
    "span": SpanHead,
    "openqa": OpenQAHead,
}


def build_head(config: HeadConfig, hidden_size: int, dropout: float, embedding_size: int) -> Head:
    """The head that `config.kind` names; `dropout` is used where the configuration leaves it open."""
    tied = {"embedding_size": embedding_size} if config.kind == "masked_lm" else {}
    return HEADS[config.kind](config, hidden_size, dropout if config.dropout is None else config.dropout, **tied)
