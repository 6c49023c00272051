"""kadapter: infuse knowledge into pretrained encoders with adapters (K-Adapter, Wang et al., 2021)."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kadapter.auto import register as _register

if TYPE_CHECKING:
    from kadapter.configuration import KAdapterConfig
    from kadapter.inference.predictor import Predictor
    from kadapter.models.adapter import KnowledgeAdapter, TransformerAdapter
    from kadapter.models.auto_classes import (
        TaskModelForMaskedLM,
        TaskModelForMultipleChoice,
        TaskModelForQuestionAnswering,
        TaskModelForSequenceClassification,
        TaskModelForTokenClassification,
    )
    from kadapter.models.modeling import KAdapterModel, RobertawithAdapter
    from kadapter.models.multitask import MultiTaskModel
    from kadapter.models.task_model import TaskModel
    from kadapter.shapes import AdapterConfig, BottleneckConfig, HeadConfig
    from kadapter.storage.original import load_original

# Public name -> the module that defines it.
_MODULES = {
    "AdapterConfig": "shapes",
    "BottleneckConfig": "shapes",
    "HeadConfig": "shapes",
    "KAdapterConfig": "configuration",
    "KAdapterModel": "models.modeling",
    "KnowledgeAdapter": "models.adapter",
    "MultiTaskModel": "models.multitask",
    "Predictor": "inference.predictor",
    "RobertawithAdapter": "models.modeling",
    "TaskModel": "models.task_model",
    "TaskModelForMaskedLM": "models.auto_classes",
    "TaskModelForMultipleChoice": "models.auto_classes",
    "TaskModelForQuestionAnswering": "models.auto_classes",
    "TaskModelForSequenceClassification": "models.auto_classes",
    "TaskModelForTokenClassification": "models.auto_classes",
    "TransformerAdapter": "models.adapter",
    "load_original": "storage.original",
}
__all__ = [
    "AdapterConfig",
    "BottleneckConfig",
    "HeadConfig",
    "KAdapterConfig",
    "KAdapterModel",
    "KnowledgeAdapter",
    "MultiTaskModel",
    "Predictor",
    "RobertawithAdapter",
    "TaskModel",
    "TaskModelForMaskedLM",
    "TaskModelForMultipleChoice",
    "TaskModelForQuestionAnswering",
    "TaskModelForSequenceClassification",
    "TaskModelForTokenClassification",
    "TransformerAdapter",
    "load_original",
]

_register(sys.modules[__name__])


def __getattr__(name: str) -> Any:
    """The public names on first use: scripts that only prepare data do not wait seconds for torch and transformers."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
