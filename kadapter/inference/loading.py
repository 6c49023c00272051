"""From a folder to what predicts: model, task, tokenizer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch

from kadapter.configuration import KAdapterConfig, is_causal
from kadapter.data.encoding import Encoding
from kadapter.inference.exported import ExportedModel, is_exported
from kadapter.models.head import HeadOutput
from kadapter.models.modeling import KAdapterModel
from kadapter.models.saved_task import TASK_CONFIG
from kadapter.models.task_model import TaskModel
from kadapter.storage.pretrained import padded, read_tokenizer
from kadapter.tasks import TASKS
from kadapter.training.task import Task


@dataclass(frozen=True)
class Loaded:
    """What predicts: `model(**batch)` gives a head's output, for batches that the task's encoding makes."""

    model: Callable[..., HeadOutput]
    task: Task
    encoding: Encoding


def load(
    model: str | os.PathLike | TaskModel,
    backbone: str | os.PathLike | None = None,
    tokenizer: Any = None,
    task: Task | None = None,
    dtype: torch.dtype | None = None,
    threads: int | None = None,
    **encoder: Any,
) -> Loaded:
    """A saved task model, an exported one (`scripts/export_model.py`), or a task saved alone with its backbone.

    A task saved alone (`save_task`) goes on the backbone that it was trained on.

    Args:
        backbone: folder or hub name, for a folder of `save_task` alone.
        tokenizer: a tokenizer, or where one is; by default the one beside the model, or beside its backbone.
        task: for a model that does not say what it was trained for.
        dtype: of the backbone.
        threads: of an exported model, see `ExportedModel`.
        encoder: for that backbone, as `KAdapterModel.from_pretrained` takes them: adapters, fusion_mode, ...

    Raises:
        OSError, ValueError: something is missing or damaged, or does not belong together.
    """
    found, place = _model(model, backbone, dtype, threads, encoder)
    chosen = task or task_of(found.config, place)
    source = place if tokenizer is None else tokenizer
    own = padded(read_tokenizer(source) if isinstance(source, str | os.PathLike) else source)
    if len(own) > (known := _vocabulary(found)):
        raise ValueError(
            f"the tokenizer has {len(own)} tokens, but the model {known}; give the one that belongs to it."
        )
    size = found.config.task["max_seq_length"] if found.config.task else chosen.max_seq_length
    if isinstance(found, TaskModel):
        found.eval()
    return Loaded(found, chosen, Encoding(own, size, is_causal(found.config.backbone_config)))


def _model(
    model: str | os.PathLike | TaskModel,
    backbone: str | os.PathLike | None,
    dtype: torch.dtype | None,
    threads: int | None,
    encoder: Mapping[str, Any],
) -> tuple[TaskModel | ExportedModel, str]:
    """The model, and where its tokenizer is; arguments as `load`'s."""
    options: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    exported = not isinstance(model, TaskModel) and is_exported(model)
    if threads is not None and not exported:
        raise ValueError("threads is for exported models; torch's number is set by torch.set_num_threads.")
    if isinstance(model, TaskModel):
        if dtype is not None or backbone is not None:
            raise ValueError("dtype and backbone are for a folder; a model has its own already.")
        return model, getattr(model.config.backbone_config, "_name_or_path", "")
    if exported:
        if dtype is not None or backbone is not None or encoder:
            raise ValueError(
                f"{model} is an exported model; leave {', '.join(['dtype', 'backbone', *encoder])} out, which are for "
                "models of torch."
            )
        found = ExportedModel(model, threads)
        if found.config.head is None:
            raise ValueError(f"{model} is an exported encoder without a head; ExportedModel({str(model)!r}) runs it.")
        return found, str(model)
    if (Path(model) / TASK_CONFIG).is_file():
        if backbone is None:
            raise ValueError(f"{model} holds only what a task adds; give its backbone, backbone='roberta-large' or so.")
        return TaskModel.load_task(model, KAdapterModel.from_pretrained(backbone, **options, **encoder)), str(backbone)
    if backbone is not None or encoder:
        raise ValueError(f"{model} is a whole model; leave {', '.join(['backbone', *encoder])} out.")
    return TaskModel.from_pretrained(model, **options), str(model)


def _vocabulary(model: TaskModel | ExportedModel) -> int:
    if isinstance(model, ExportedModel):
        return model.config.vocab_size
    return len(cast(torch.Tensor, model.get_input_embeddings().weight))


def task_of(config: KAdapterConfig, source: object) -> Task:
    """The task that a configuration says its model was trained for.

    Raises:
        ValueError: it says nothing, or something that is not known here.
    """
    saved: Mapping[str, Any] | None = config.task
    if saved is None:
        raise ValueError(
            f"{source} does not say what it was trained for; give task=, such as TASKS['SST-2'](labels=...)."
        )
    kind = TASKS.get(saved["name"])
    if kind is None:
        raise ValueError(
            f"{source} was trained for {saved['name']!r}, which is not among {', '.join(TASKS)}; load it with "
            "the version of kadapter that trained it."
        )
    options = saved["options"]
    if unknown := sorted(set(options) - {field.name for field in fields(kind)}):
        raise ValueError(
            f"{source}: the task {saved['name']!r} has no options {unknown}; load it with its own version."
        )
    return kind(labels=tuple(config.head_config().labels or ()), **options)
