"""What a run is made of beside its arguments, as digests: two runs of the same content are the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from kadapter.data.encoding import Encoding
from kadapter.data.features import tokenizer_digest
from kadapter.data.splits import data_digest, file_digest, files_of
from kadapter.models.modeling import KAdapterModel
from kadapter.training.task import Task

DECISIVE = ("train", "dev")  # splits that training or the choice of the best depends on
WEIGHTS = ("*.safetensors", "*.bin", "config.json")


def run_content(
    parts: Mapping[str, tuple[Task, str]],
    encoding: Encoding,
    encoder: KAdapterModel,
    loaded: Iterable[str],
    model: str,
) -> dict[str, str]:
    """What it is -> digest.

    Args:
        parts: name -> task and the folder of its data; a single one is called "".
        encoder: the encoder, whose adapters `loaded` came from files or are untrained; `model` is where it came from
            itself.
    """
    content: dict[str, str] = {}
    for name, (task, folder) in parts.items():
        content |= {f"{what} of {name}" if name else what: digest for what, digest in _of_task(task, folder).items()}
    content["the tokenizer"] = tokenizer_digest(encoding.tokenizer)
    content[f"the model {model}"] = model_digest(model, encoder)
    for name in loaded:
        content[f"the adapter {name!r}"] = state_digest(encoder.adapters[name].state_dict())
    return content


def _of_task(task: Task, folder: str) -> dict[str, str]:
    """Of a task's data and labels."""
    paths = {split: task.path(folder, split) for split in DECISIVE}
    content = {f"the {split} data": data_digest(path) for split, path in paths.items() if files_of(path)}
    content |= task.content(folder)
    return {**content, "the labels": hashlib.sha256(json.dumps(task.labels).encode()).hexdigest()}


def model_digest(source: str, encoder: KAdapterModel) -> str:
    """Of a local folder its weights and configuration; of a model on the hub its commit."""
    folder = Path(source)
    if not folder.is_dir():
        return getattr(encoder.config.backbone_config, "_commit_hash", None) or source
    files = sorted({path for pattern in WEIGHTS for path in folder.glob(pattern)})
    return hashlib.sha256(json.dumps([(path.name, file_digest(path)) for path in files]).encode()).hexdigest()


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
