"""Several tasks trained together on one encoder, each with a head of its own.

`MultiTaskModel` is for tasks that were trained apart and are asked together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from kadapter.models.head import HeadOutput
from kadapter.models.modeling import KAdapterModel
from kadapter.models.named import NamedModules
from kadapter.models.task_model import TaskModel
from kadapter.shapes import HeadConfig


class JointModel(nn.Module):
    """One encoder under the heads of several tasks; a call is of one of them.

    Args:
        encoder: shared by all tasks.
        heads: task -> its head, which is fresh.
    """

    def __init__(self, encoder: KAdapterModel, heads: Mapping[str, HeadConfig]):
        super().__init__()
        self.encoder = encoder
        self.tasks = NamedModules({name: TaskModel.from_encoder(encoder, head) for name, head in heads.items()})

    def forward(self, task: str, **batch: Any) -> HeadOutput | tuple:
        """What `TaskModel.forward` gives for a batch of that task."""
        return self.tasks[task](**batch)

    def parts(self) -> dict[str, list[str]]:
        """Part -> names of its parameters, those of the encoder once."""
        found: dict[str, list[str]] = {"backbone": []}
        for name, _ in self.named_parameters():
            in_task = name.startswith("tasks.")
            found.setdefault(f"{name.split('.')[1]} head" if in_task else "backbone", []).append(name)
        return found
