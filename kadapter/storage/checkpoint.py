"""Reading and writing weights.

Loading is strict: what is missing, unexpected or misshapen is listed in the error. Pickles are read with
`weights_only=True` alone, so a file that holds more than tensors is refused. Writing is atomic.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.tensor import DTensor
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging as transformers_logging

from kadapter.configuration import AdapterConfig
from kadapter.storage.errors import writing
from kadapter.storage.files import atomic_folder

State = dict[str, torch.Tensor]

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PRETRAINING_HEAD = "pretraining_head.safetensors"


# -- strict reading ---------------------------------------------------------------------------------------------


def read_state_dict(path: str | os.PathLike) -> State:
    """The tensors of a `.safetensors` file or of one written by `torch.save`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, foreign, or holding anything but a dictionary of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; give a checkpoint's file or folder.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is refused: it is not a checkpoint of tensors alone ({str(error).splitlines()[0]}); "
            "only files that torch.load(weights_only=True) can read are safe to open."
        ) from None
    except Exception as error:  # foreign bytes make the unpickler raise anything
        raise ValueError(
            f"{path} cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            "it is truncated or no checkpoint: fetch or write it again."
        ) from None
    wrong = (
        [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
        if isinstance(state, Mapping)
        else ["the whole file"]
    )
    if wrong:
        raise ValueError(f"{path} does not hold a dictionary of tensors ({wrong[:5]}); give a model's weights.")
    return dict(state)


def load_strict(
    module: nn.Module, state: Mapping[str, torch.Tensor], source: object, ignore: re.Pattern[str] | None = None
) -> None:
    """Fill `module` with `state`, all of it and nothing else.

    Args:
        source: named in the error.
        ignore: names that may be present without being read.

    Raises:
        ValueError: lists the missing, unexpected and misshapen names; the module is left as it was.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own and not (ignore and ignore.match(name))]
    misshapen = [
        f"{name} ({list(state[name].shape)} instead of {list(own[name].shape)})"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems = [
        f"{len(names)} {kind}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
        if names
    ]
    if problems:
        title = getattr(module, "title", type(module).__name__)
        raise ValueError(f"{source} does not fit this {title}: {'; '.join(problems)}.")
    fill(module, {name: state[name] for name in own})


def fill(module: nn.Module, state: State) -> None:
    """Copy whole tensors into parameters, which may be sharded over processes; other parameters stay."""
    if any(isinstance(parameter, DTensor) for parameter in module.parameters()):
        whole: dict[str, Any] = {name: value for name, value in state.items() if not isinstance(value, DTensor)}
        set_model_state_dict(module, whole, options=StateDictOptions(full_state_dict=True, strict=False))
    else:
        module.load_state_dict(state, strict=False)


def save_tensors(state: State, path: Path) -> None:
    """Write a `.safetensors` file; raises WriteError where the place is full or unwritable."""
    size = sum(value.numel() * value.element_size() for value in state.values())
    with writing(path, "tensors", size):
        save_file(state, path, metadata={"format": "pt"})


# -- adapters alone ---------------------------------------------------------------------------------------------


def save_adapter(
    state: Mapping[str, torch.Tensor], config: AdapterConfig, folder: str | os.PathLike, head: State | None = None
) -> None:
    """Write an adapter's folder; `head` (what pretraining had on top of it) goes into a file of its own."""
    with atomic_folder(folder, "an adapter") as path:
        save_tensors(plain(state), path / ADAPTER_WEIGHTS)
        if head:
            save_tensors(plain(head), path / PRETRAINING_HEAD)
        (path / ADAPTER_CONFIG).write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")


def read_own_adapter(config: Path, weights: Path) -> tuple[AdapterConfig, State]:
    """What `save_adapter` wrote."""
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{config} cannot be read ({error}); save the adapter again.") from None
    return AdapterConfig.from_dict(values), read_state_dict(weights)


def plain(state: Mapping[str, torch.Tensor]) -> State:
    """Copies on the CPU that share no memory, as safetensors wants them."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


# -- backbones --------------------------------------------------------------------------------------------------


@contextmanager
def untold() -> Iterator[None]:
    """Without the table of keys by which transformers tells of the pooler and of unused heads at each loading."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def load_backbone(source: str | os.PathLike, **kwargs: Any) -> PreTrainedModel:
    """An encoder of transformers with all its weights; only a pooler may be fresh, which its `fresh_pooler` tells.

    Raises:
        ValueError: weights are missing or misshapen, which transformers would only warn of.
    """
    with untold():
        backbone, info = AutoModel.from_pretrained(source, output_loading_info=True, **kwargs)
    lacking = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    lacking += sorted(str(key) for key in info["mismatched_keys"])
    if lacking:
        raise ValueError(
            f"{source} lacks weights of a {type(backbone).__name__}: {', '.join(lacking[:8])}"
            f"{', ...' if len(lacking) > 8 else ''}; give a complete checkpoint of this architecture."
        )
    backbone.fresh_pooler = any(key.startswith("pooler.") for key in info["missing_keys"])
    return backbone
