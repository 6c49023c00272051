"""What the Auto classes of transformers load: task models whose head is of the kind that the Auto class stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from kadapter.configuration import KAdapterConfig
from kadapter.models.task_model import TaskModel
from kadapter.shapes import IGNORE


class TaskModelForSequenceClassification(TaskModel):
    """What `AutoModelForSequenceClassification` loads: a head that reads the first token."""

    head_kinds = ("classification", "multi_label")


class TaskModelForTokenClassification(TaskModel):
    """What `AutoModelForTokenClassification` loads: a head that tags words, or without positions every token."""

    head_kinds = ("tagging",)


class TaskModelForMultipleChoice(TaskModel):
    """What `AutoModelForMultipleChoice` loads."""

    head_kinds = ("multiple_choice",)


class TaskModelForMaskedLM(TaskModel):
    """What `AutoModelForMaskedLM` loads."""

    head_kinds = ("masked_lm",)


@dataclass
class SpanOutput(QuestionAnsweringModelOutput):
    """transformers' output, whose logits are also together [B, S, 2], as other parts of ours read them."""

    @property
    def logits(self) -> torch.Tensor:
        assert self.start_logits is not None
        assert self.end_logits is not None
        return torch.stack([self.start_logits, self.end_logits], dim=-1)


class TaskModelForQuestionAnswering(TaskModel):
    """What `AutoModelForQuestionAnswering` loads: a head for spans, with the names that transformers has for it."""

    head_kinds = ("span",)

    def forward(  # type: ignore[override]
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> SpanOutput | tuple:
        """As in `TaskModel`, with first and last token [B] as labels; what lies outside of the sequence does not count.

        Returns:
            `loss` and, [B, S] each, `start_logits` and `end_logits`; -inf in padding, or where `context_mask` is 0.
        """
        labels = inputs.pop("labels", None)
        if start_positions is not None and end_positions is not None:
            labels = torch.stack([start_positions.flatten(), end_positions.flatten()], dim=1)
            given = inputs["inputs_embeds"] if input_ids is None else input_ids
            labels = labels.masked_fill((labels < 0) | (labels >= given.shape[1]), IGNORE)
        found: Any = super().forward(
            input_ids, attention_mask, token_type_ids, labels=labels, return_dict=True, **inputs
        )
        start, end = (logits.contiguous() for logits in found.logits.unbind(-1))
        output = SpanOutput(found.loss, start, end, found.hidden_states, found.attentions)
        use_dict = self.config.return_dict if return_dict is None else return_dict
        return output if use_dict else output.to_tuple()


AutoModelForSequenceClassification.register(KAdapterConfig, TaskModelForSequenceClassification, exist_ok=True)
AutoModelForTokenClassification.register(KAdapterConfig, TaskModelForTokenClassification, exist_ok=True)
AutoModelForMultipleChoice.register(KAdapterConfig, TaskModelForMultipleChoice, exist_ok=True)
AutoModelForMaskedLM.register(KAdapterConfig, TaskModelForMaskedLM, exist_ok=True)
AutoModelForQuestionAnswering.register(KAdapterConfig, TaskModelForQuestionAnswering, exist_ok=True)
