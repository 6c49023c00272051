"""What a task adds to a backbone, as `TaskModel.save_task` writes it: bottlenecks with their norms, fusion, head.

In the file the set of bottlenecks is called "default", whatever its name was, and can be loaded under any other.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from kadapter.configuration import DEFAULT_BOTTLENECKS, FUSION_MODES, KAdapterConfig, checked_task
from kadapter.models.heads import build_head
from kadapter.models.modeling import KAdapterModel
from kadapter.models.named import NamedModules
from kadapter.shapes import BottleneckConfig, HeadConfig
from kadapter.storage import checkpoint
from kadapter.storage.files import atomic_folder
from kadapter.storage.reading import check_link, read_object

TASK_CONFIG = "task_config.json"
TASK_WEIGHTS = "task_model.safetensors"
TASK_KEYS = ("backbone", "bottleneck", "adapters", "head")
OPTIONAL_KEYS = ("fusion_mode", "task")  # which files of before them lack
_SET = re.compile(r"\.(bottlenecks|norms)\.(\w+)\.")


def name_in_file(name: str, of_set: str | None) -> str:
    """A weight's name in a task's file, where the set of bottlenecks is the default one."""
    return name if of_set is None else renamed(name, of_set, DEFAULT_BOTTLENECKS)


def renamed(name: str, old: str, new: str) -> str:
    """The name that a weight of the set `old` has in the set `new`."""
    old, new = NamedModules.key(old), NamedModules.key(new)
    return _SET.sub(lambda match: f".{match[1]}.{new if match[2] == old else match[2]}.", name)


@dataclass(frozen=True)
class SavedTask:
    """A task's folder, compared with the encoder that it is for.

    adapters: names of the knowledge adapters whose fused states the head reads.
    fusion_mode: how they are fused; a file that does not say it takes the encoder's.
    task: as in `KAdapterConfig`.
    state: weights by the names of a `TaskModel` with the default set of bottlenecks.
    """

    bottleneck: BottleneckConfig | None
    adapters: list[str]
    fusion_mode: str
    head: HeadConfig
    task: dict[str, Any] | None
    state: checkpoint.State

    @classmethod
    def read(cls, folder: str | os.PathLike, encoder: KAdapterModel) -> SavedTask:
        """Read a folder.

        Raises:
            FileNotFoundError, ValueError: nothing there, or not for a backbone of this family, or damaged.
        """
        path = Path(folder)
        if not (path / TASK_CONFIG).is_file():
            check_link(path / TASK_CONFIG)
            raise FileNotFoundError(f"{path / TASK_CONFIG} is missing; give a folder that save_task wrote.")
        values = read_object(path / TASK_CONFIG, "save the task again.", TASK_KEYS)
        state = checkpoint.read_state_dict(path / TASK_WEIGHTS)
        bottleneck, head = _configs(values, encoder, path / TASK_CONFIG)
        if bottleneck is not None:
            state = {_of_before(name): value for name, value in state.items()}
        _check_sizes(bottleneck, head, state, encoder, path / TASK_CONFIG)
        task = checked_task(values.get("task"), path / TASK_CONFIG)
        fusion_mode = values.get("fusion_mode", encoder.config.fusion_mode)
        return cls(bottleneck, values["adapters"], fusion_mode, head, task, state)

    def write(self, folder: str | os.PathLike, family: str) -> None:
        """Write the two files of a folder; `family` is that of the backbone."""
        bottleneck = None if self.bottleneck is None else self.bottleneck.to_dict()
        values = {"backbone": family, "bottleneck": bottleneck, "adapters": self.adapters}
        values |= {"fusion_mode": self.fusion_mode, "head": self.head.to_dict(), "task": self.task}
        with atomic_folder(folder, "the task's part of a model") as path:
            checkpoint.save_tensors(checkpoint.cpu_copies(self.state), path / TASK_WEIGHTS)
            (path / TASK_CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _of_before(name: str) -> str:
    """The name that a weight has now, of a file from before bottlenecks had names."""
    if not name.startswith("encoder.backbone.") or _SET.search(name):
        return name
    if ".dropout.adapter." in name:
        return name.replace(".dropout.adapter.", f".dropout.bottlenecks.{DEFAULT_BOTTLENECKS}.")
    site, _, parameter = name.rpartition(".")
    return f"{site}.norms.{DEFAULT_BOTTLENECKS}.{parameter}"


def fresh_head(head: HeadConfig, encoder: KAdapterModel) -> nn.Module:
    dropout = getattr(encoder.config.backbone_config, "hidden_dropout_prob", 0.1)
    embeddings: Any = encoder.get_input_embeddings()
    return build_head(head, encoder.config.hidden_size, dropout, embeddings.weight.shape[1])


def saved_head(source: object, found: PreTrainedConfig, asked: HeadConfig | None) -> HeadConfig | None:
    """The head that a model was saved with; raises ValueError where it has none and none is asked for, or another."""
    saved = found.head_config() if isinstance(found, KAdapterConfig) and found.head is not None else None
    if saved is None and asked is None:
        raise ValueError(f"{source} is a {found.model_type} without a head; give head=HeadConfig(...) for a task.")
    if None not in (saved, asked) and saved != asked:
        raise ValueError(
            f"{source} was saved with {saved}, not with {asked}; leave head out, or put this one on its encoder: "
            "TaskModel.from_encoder(KAdapterModel.from_pretrained(...), head)."
        )
    return saved


def pretrained_pooler(encoder: KAdapterModel) -> nn.Linear | None:
    """The dense layer of a pooler that came with the backbone's weights."""
    pooler = getattr(encoder.backbone, "pooler", None)
    dense = getattr(pooler, "dense", pooler)
    fresh = getattr(encoder.backbone.config, "fresh_pooler", True)
    return dense if isinstance(dense, nn.Linear) and not fresh else None


def _configs(
    values: Mapping[str, Any], encoder: KAdapterModel, source: Path
) -> tuple[BottleneckConfig | None, HeadConfig]:
    family = encoder.config.backbone_config.model_type
    try:
        if unknown := sorted(values.keys() - {*TASK_KEYS, *OPTIONAL_KEYS}):
            raise ValueError(f"unknown keys {unknown}; known are {list(TASK_KEYS)}.")
        if values.get("fusion_mode", "concat") not in FUSION_MODES:
            raise ValueError(f"fusion_mode is {values['fusion_mode']!r}; choose one of {list(FUSION_MODES)}.")
        if values["backbone"] != family:
            raise ValueError(f"it belongs to a backbone of the family {values['backbone']!r}, not {family!r}.")
        adapters = values["adapters"]
        if not isinstance(adapters, list) or not all(isinstance(name, str) for name in adapters):
            raise ValueError(f"adapters is {adapters!r}; give a list of names.")
        given = values["bottleneck"]
        return None if given is None else BottleneckConfig.from_saved(given), HeadConfig.from_saved(values["head"])
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _check_sizes(
    bottleneck: BottleneckConfig | None, head: HeadConfig, state: checkpoint.State, encoder: KAdapterModel, source: Path
) -> None:
    """Compare what a task's file says with its weights, before anything is built."""
    with torch.device("meta"):
        expected = {f"head.{name}": value.shape for name, value in fresh_head(head, encoder).state_dict().items()}
    for name in state:
        if bottleneck is not None and ".bottlenecks." in name and name.endswith(".down_project.weight"):
            expected[name] = torch.Size([bottleneck.size, state[name].shape[-1]])
    wrong = [
        f"{name}: {list(shape)} instead of {list(state[name].shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    if wrong:
        raise ValueError(f"{source} does not describe {TASK_WEIGHTS} ({'; '.join(wrong[:3])}); save the task again.")
