"""kadapter: infuse knowledge into pretrained encoders with adapters (K-Adapter, Wang et al., 2021)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kadapter.adapter import KnowledgeAdapter, TransformerAdapter
    from kadapter.configuration import AdapterConfig, BottleneckConfig, HeadConfig, KAdapterConfig
    from kadapter.modeling import KAdapterModel, RobertawithAdapter
    from kadapter.original import load_original
    from kadapter.task_model import TaskModel

__all__ = [
    "AdapterConfig",
    "BottleneckConfig",
    "HeadConfig",
    "KAdapterConfig",
    "KAdapterModel",
    "KnowledgeAdapter",
    "RobertawithAdapter",
    "TaskModel",
    "TransformerAdapter",
    "load_original",
]


def __getattr__(name: str) -> Any:
    """The public names on first use: scripts that only prepare data do not wait seconds for torch and transformers."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    names = ("configuration", "adapter", "modeling", "original", "task_model")
    modules = [import_module(f"{__name__}.{module}") for module in names]  # all, so that AutoModel knows ours
    return next(getattr(module, name) for module in modules if hasattr(module, name))


def __dir__() -> list[str]:
    return [*globals(), *__all__]
