"""kadapter: infuse knowledge into pretrained encoders with adapters (K-Adapter, Wang et al., 2021)."""

from kadapter.adapter import KnowledgeAdapter, TransformerAdapter
from kadapter.configuration import AdapterConfig, HeadConfig, KAdapterConfig
from kadapter.modeling import KAdapterModel, RobertawithAdapter
from kadapter.original import load_original
from kadapter.task_model import TaskModel

__all__ = [
    "AdapterConfig",
    "HeadConfig",
    "KAdapterConfig",
    "KAdapterModel",
    "KnowledgeAdapter",
    "RobertawithAdapter",
    "TaskModel",
    "TransformerAdapter",
    "load_original",
]
