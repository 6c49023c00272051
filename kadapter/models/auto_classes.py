"""What the Auto classes of transformers load: task models whose head is of the kind that the Auto class stands for."""

from __future__ import annotations

from transformers import (
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from kadapter.configuration import KAdapterConfig
from kadapter.models.task_model import TaskModel


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


AutoModelForSequenceClassification.register(KAdapterConfig, TaskModelForSequenceClassification, exist_ok=True)
AutoModelForTokenClassification.register(KAdapterConfig, TaskModelForTokenClassification, exist_ok=True)
AutoModelForMultipleChoice.register(KAdapterConfig, TaskModelForMultipleChoice, exist_ok=True)
AutoModelForMaskedLM.register(KAdapterConfig, TaskModelForMaskedLM, exist_ok=True)
