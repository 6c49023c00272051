"""What the original wrote and reads: the names in its files, filling our models from them, and the way back."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import cached_file

from kadapter.shapes import AdapterConfig
from kadapter.storage.checkpoint import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    State,
    cpu_copies,
    fill,
    load_strict,
    read_own_adapter,
    read_state_dict,
    shape_of,
)
from kadapter.storage.hub import reach
from kadapter.storage.reading import check_link

ORIGINAL_WEIGHTS = "pytorch_model.bin"
ORIGINAL_BACKBONE = "pytorch_pretrained_model.bin"  # beside ORIGINAL_WEIGHTS of the original's task models

# In the original's files, but nothing that its models ever read: the heads of pretraining when only the adapter
# is wanted, fusion layers of adapters that are absent (one adapter, or "add"), and a buffer.
PRETRAINING_HEAD_NAMES = re.compile(r"(com_dense|dense|out_proj|self_attention)\.")
UNUSED_FUSION_NAMES = re.compile(r"task_dense(_\w+)?\.|.*position_ids$")


def original_adapter_config(
    state: Mapping[str, torch.Tensor], source: object, config: AdapterConfig | None
) -> AdapterConfig:
    """The shape of an adapter of the original, which its file tells but for taps, skip and heads (see `config`)."""
    found = shape_of({name: value.shape for name, value in state.items()})
    if not found:
        raise ValueError(f"{source} holds no adapter of K-Adapter; its names begin with {sorted(state)[:3]}.")
    size, taps = found["adapter_size"], found.pop("adapter_list")
    given = config or AdapterConfig(adapter_size=size)
    if given.adapter_list is not None and len(given.adapter_list) != taps:
        raise ValueError(
            f"{source} has {taps} adapter layers, but adapter_list {list(given.adapter_list)} names "
            f"{len(given.adapter_list)}; name {taps} hidden states."
        )
    values = {**given.to_dict(), **found}
    if given.adapter_size != size and given.num_attention_heads == max(1, given.adapter_size // 64):
        values["num_attention_heads"] = None  # it was not chosen, but followed from the other width
    return AdapterConfig.from_dict(values)


def count_taps(state: Mapping[str, torch.Tensor]) -> int:
    """How many adapter layers these weights of one adapter have, each with its own tap."""
    return len({name.split(".")[1] for name in state if name.startswith("adapter.")})


def read_adapter(
    source: str | os.PathLike, config: AdapterConfig | None = None, **hub: Any
) -> tuple[AdapterConfig, State]:
    """Configuration and weights of one adapter, from any place that `KAdapterModel.load_adapter` takes."""
    path = Path(source)
    for place in (path, path / ADAPTER_CONFIG, path / ORIGINAL_WEIGHTS):
        check_link(place)
    hub_name = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", str(source))
    if path.is_dir() and (path / ADAPTER_CONFIG).is_file():
        return read_own_adapter(path / ADAPTER_CONFIG, path / ADAPTER_WEIGHTS)
    if path.name == ADAPTER_WEIGHTS and path.is_file():
        return read_own_adapter(path.with_name(ADAPTER_CONFIG), path)
    if hub_name and path.suffix not in (".bin", ".safetensors") and not path.exists():
        hub |= {"revision": hub_name[2]} if hub_name[2] else {}
        hub = reach(hub_name[1], hub, "adapter", (ADAPTER_CONFIG,))
        try:
            files = [cached_file(hub_name[1], name, **hub) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)]
        except OSError as error:
            raise FileNotFoundError(
                f"adapter {source} is neither a local file or folder nor a reachable hub repository with "
                f"{ADAPTER_CONFIG} and {ADAPTER_WEIGHTS} ({str(error).splitlines()[0]})."
            ) from None
        return read_own_adapter(Path(str(files[0])), Path(str(files[1])))
    if path.is_dir():
        path = path / ORIGINAL_WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(
            f"adapter {source} is not there; give a folder with {ADAPTER_CONFIG}, a {ORIGINAL_WEIGHTS} of K-Adapter "
            "(the README says where to get the released ones), or leave the option empty."
        )
    state = read_state_dict(path)
    weights = {name: value for name, value in state.items() if not PRETRAINING_HEAD_NAMES.match(name)}
    return original_adapter_config(weights, path, config), weights


def original_name(name: str, pretraining: bool) -> str:
    """The original's name of a parameter of ours.

    Args:
        pretraining: the file of a pretraining script, where the one adapter stands at the top and the fusion is
            `com_dense`; else a task model's or a RobertaModelwithAdapter's.
    """
    name = name.removeprefix("encoder.")
    if pretraining:
        name = re.sub(r"^adapters\.\w+\.", "", name)
        name = re.sub(r"^fusion\.task_dense_\w+\.", "com_dense.", name)
    name = re.sub(r"^adapters\.(\w+)\.", r"\1_adapter.", name)
    name = re.sub(r"^fusion\.own_dense_(\w+)\.", r"\1_adapter.task_dense.", name)
    name = re.sub(r"^backbone\.", "model.", name)
    return re.sub(r"^(fusion|head)\.", "", name)


def read_original(source: str | os.PathLike) -> State:
    """The tensors of a file or folder of the original; a task model's two files are joined."""
    path = Path(source)
    if not path.is_dir():
        return read_state_dict(path)
    state = read_state_dict(path / ORIGINAL_WEIGHTS)
    check_link(path / ORIGINAL_BACKBONE)
    if (path / ORIGINAL_BACKBONE).is_file():
        state.update(read_state_dict(path / ORIGINAL_BACKBONE))
    return state


def load_original(module: nn.Module, source: str | os.PathLike | Mapping[str, torch.Tensor]) -> None:
    """Fill a `KnowledgeAdapter`, `KAdapterModel` or `TaskModel` from what the original wrote.

    Args:
        source: a file, a folder, or a state dictionary with the original's names. A pretraining file fills a
            pretraining model but for its backbone, which such files do not hold.

    Raises:
        ValueError: lists the missing, unexpected and misshapen names, in the original's spelling.
    """
    state = dict(source) if isinstance(source, Mapping) else read_original(source)
    label = "the state dictionary" if isinstance(source, Mapping) else str(source)
    own = module.state_dict()
    if not any(name.startswith(("backbone.", "encoder.")) for name in own):
        load_strict(module, state, label, ignore=PRETRAINING_HEAD_NAMES)
        return
    pretraining = any(name.startswith("adapter.") for name in state)
    renamed = {original_name(name, pretraining): name for name in own}
    if pretraining:
        state = {name: own[ours] for name, ours in renamed.items() if name.startswith("model.")} | state
    view = _Renamed(module, renamed)
    load_strict(view, state, label, ignore=UNUSED_FUSION_NAMES)


class _Renamed(nn.Module):
    """A module seen under other parameter names, so that errors speak the file's language."""

    def __init__(self, module: nn.Module, renamed: Mapping[str, str]):
        super().__init__()
        self.__dict__["module"], self.__dict__["renamed"] = module, renamed
        self.title = type(module).__name__

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        own = self.__dict__["module"].state_dict()
        return {name: own[ours] for name, ours in self.__dict__["renamed"].items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        renamed = self.__dict__["renamed"]
        fill(self.__dict__["module"], {renamed[name]: value for name, value in state_dict.items()})


def original_state(module: nn.Module, pretraining: bool = False) -> tuple[State, State]:
    """A model of ours under the original's names: (adapters, fusion, head; backbone).

    Fusion layers that the original builds but does not use with one adapter are added as zeros, since it loads
    strictly.
    """
    state = {original_name(name, pretraining): value for name, value in module.state_dict().items()}
    backbone = {name: value for name, value in state.items() if name.startswith("model.")}
    rest = {name: value for name, value in state.items() if name not in backbone}
    one = [value for name, value in rest.items() if re.match(r"task_dense_\w+\.weight", name)]
    if one and "task_dense.weight" not in rest:
        rest["task_dense.weight"] = torch.zeros_like(one[0])
        rest["task_dense.bias"] = torch.zeros(one[0].shape[0])
    return cpu_copies(rest), cpu_copies(backbone)
