"""Heads and losses: pretraining of adapters and the tasks.

Shapes: B = batch, S = sequence, N = positions that a head reads, H = width, C = labels.
R = sequences: B, or more where an example is a group of them. Parameter names are the original's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.bert.modeling_bert import BertAttention
from transformers.utils import ModelOutput

from kadapter.configuration import IGNORE
from kadapter.models import openqa
from kadapter.shapes import HeadConfig


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
                group_sizes [B] (how many sequences each example has) and embeddings [C, E], for those heads that need
                them.
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


def _cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of `logits` [..., C] and `labels` [...]: the sum over those that count, and their number."""
    rows = logits.float().flatten(0, -2)
    total = F.cross_entropy(rows, labels.flatten(), weights, reduction="sum", ignore_index=IGNORE)
    return total, (labels != IGNORE).sum()


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
        return _cross_entropy(output.logits, labels)


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
            return _cross_entropy(output.logits, labels, self.class_weights)
        known = labels != IGNORE
        total = F.mse_loss(output.logits[known, 0].float(), labels[known].float(), reduction="sum")
        return total, known.sum()


class MultiLabelHead(ClassificationHead):
    """The same, for any number of labels: binary cross-entropy, the mean over all labels of an example.

    `labels` [B, C] of 0 and 1, rows of IGNORE where they are kept back; `class_weights` are factors of the positives.
    """

    def summed_loss(self, output: HeadOutput, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | int]:
        assert output.logits is not None
        known = labels[:, 0] != IGNORE
        logits, gold = output.logits[known].float(), labels[known].float()
        total = F.binary_cross_entropy_with_logits(logits, gold, reduction="sum", pos_weight=self.class_weights)
        return total / output.logits.shape[-1], known.sum()


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
        return _cross_entropy(output.logits, labels)

    @staticmethod
    def kept(output: HeadOutput, batch: Mapping[str, torch.Tensor]) -> dict[str, Kept]:
        """For each word the likeliest tag."""
        assert output.logits is not None
        return {"predicted": Kept(output.logits.argmax(-1), (batch["labels"] != IGNORE).sum(1))}


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
        mask = create_bidirectional_mask(self.attention_config, features, attention_mask)
        context, attention = self.self_attention(features, mask)
        return HeadOutput(logits=self.out_proj(self.dropout(self.dense(context))), attention=attention[:, 0])

    def summed_loss(self, output: HeadOutput, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | int]:
        """`labels` [B, S] positions -> cross-entropy over labelled words."""
        assert output.logits is not None
        return _cross_entropy(output.logits, labels)

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

    def compute(self, features: torch.Tensor, group_sizes: torch.Tensor | None = None, **inputs: Any) -> HeadOutput:
        """`features` [R, 1, H] of all choices -> `logits` [B, most choices], -inf where an example has fewer."""
        if group_sizes is None:
            raise ValueError(
                "a multiple-choice head needs to know which sequences belong together; give input_ids of shape "
                "[batch, choices, sequence], or group_sizes."
            )
        scores = self.classifier(self.dropout(features[:, 0]))[:, 0]
        most: Any = group_sizes.max().item()  # int() would fix it where the model is exported
        torch._check(most >= 0)
        present = torch.arange(most, device=scores.device) < group_sizes[:, None]
        return HeadOutput(logits=scores.new_full(present.shape, -torch.inf).masked_scatter(present, scores))

    def summed_loss(self, output: HeadOutput, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | int]:
        """`labels` [B], number of the right choice -> cross-entropy over an example's choices."""
        assert output.logits is not None
        return _cross_entropy(output.logits, labels)

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
        logits = super().compute(features, context_mask=openqa.inside(positions[:, 1:], features.shape[1])).logits
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
