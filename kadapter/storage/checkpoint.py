"""Reading and writing weights.

Loading is strict: what is missing, unexpected or misshapen is listed in the error. Pickles are read with
`weights_only=True` alone, so a file that holds more than tensors is refused. Writing is atomic.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.tensor import DTensor

from kadapter.shapes import AdapterConfig
from kadapter.storage.errors import writing
from kadapter.storage.files import atomic_folder
from kadapter.storage.reading import check_link, read_object, wrong_download

State = dict[str, torch.Tensor]

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PRETRAINING_HEAD = "pretraining_head.safetensors"


# Attributes of torch's modules, and of ours that hold others by name (`kadapter.models.named`).
_TAKEN = {*dir(nn.Module()), "key", "keys", "items", "values", "active", "choose", "change"}


def module_key(name: str) -> str:
    """What a part of that name is registered as: with an underscore where the name, but for those, is an attribute."""
    return f"{name}_" if name.rstrip("_") in _TAKEN or name in _TAKEN else name


def weights_names(variant: str | None = None) -> str:
    """Regular expression for the names of a whole model's files of weights: one or many, safetensors or pickles.

    Args:
        variant: as in transformers, whose files are others.
    """
    mark = "" if variant is None else rf"\.{re.escape(variant)}"
    stem, shard, kind = "(pytorch_)?model", r"-\d+-of-\d+", r"\.(safetensors|bin)"
    return rf"{stem}({mark}({shard})?|{shard}{mark}){kind}|{stem}{kind}\.index{mark}\.json"


# -- strict reading ---------------------------------------------------------------------------------------------


def read_state_dict(path: str | os.PathLike) -> State:
    """The tensors of a `.safetensors` file or of one written by `torch.save`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, foreign, holding anything but a dictionary of tensors, or a number that is not finite.
    """
    path = Path(path)
    if not path.is_file():
        check_link(path)
        raise FileNotFoundError(f"{path} is not a file; give a checkpoint's file or folder.")
    state = _read_tensors(path)
    wrong = (
        [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
        if isinstance(state, Mapping)
        else ["the whole file"]
    )
    if wrong:
        raise ValueError(f"{path} does not hold a dictionary of tensors ({wrong[:5]}); give a model's weights.")
    check_finite(state, path)
    return dict(state)


def _read_tensors(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise PermissionError(f"{path} may not be read; change its permissions.") from None
    except Exception as error:  # foreign bytes make the unpickler raise anything
        if instead := wrong_download(path):
            raise ValueError(f"{path} cannot be read: it is {instead}.") from None
        if isinstance(error, pickle.UnpicklingError):
            raise ValueError(
                f"{path} is refused: it is not a checkpoint of tensors alone ({str(error).splitlines()[0]}); "
                "only files that torch.load(weights_only=True) can read are safe to open."
            ) from None
        raise ValueError(
            f"{path} cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            "it is truncated or no checkpoint: fetch or write it again."
        ) from None


def check_finite(state: Mapping[str, torch.Tensor], source: object) -> None:
    """Refuse weights with NaN or infinity, which would make every feature NaN.

    Raises:
        ValueError: names the source, the first tensors and how many values they are.
    """
    bad = {}
    for name, value in state.items():
        plain = type(value) in (torch.Tensor, nn.Parameter)  # a quantised one is whole numbers and their scale
        if not plain or value.is_meta or not value.is_floating_point():
            continue
        value = value if value.element_size() > 1 else value.float()  # PyTorch cannot add floats of 8 bits
        if not value.sum().isfinite() and (count := int((~value.isfinite()).sum())):  # a finite sum may overflow
            bad[name] = count
    if bad:
        raise ValueError(
            f"{source} holds {sum(bad.values()):,} values that are NaN or infinite, in {', '.join(list(bad)[:3])}"
            f"{f' and {len(bad) - 3} more tensors' if len(bad) > 3 else ''}; "
            "fetch it again, or train it again with a lower learning rate."
        )


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
    check_names(own, state, source, getattr(module, "title", type(module).__name__), ignore)
    fill(module, {name: state[name] for name in own})


def check_names(
    own: Mapping[str, torch.Tensor],
    state: Mapping[str, torch.Tensor],
    source: object,
    title: str,
    ignore: re.Pattern[str] | None = None,
) -> None:
    """Raise ValueError where `state` has other names or shapes than `own`, which a `title` has; see `load_strict`."""
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
        raise ValueError(f"{source} does not fit this {title}: {'; '.join(problems)}.")


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
    with atomic_folder(folder, "an adapter", replaced=PRETRAINING_HEAD) as path:
        save_tensors(cpu_copies(state), path / ADAPTER_WEIGHTS)
        if head:
            save_tensors(cpu_copies(head), path / PRETRAINING_HEAD)
        (path / ADAPTER_CONFIG).write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")


def read_own_adapter(config: Path, weights: Path) -> tuple[AdapterConfig, State]:
    """What `save_adapter` wrote.

    Raises:
        FileNotFoundError, ValueError: names the file that is missing or damaged, or where the two contradict.
    """
    values = read_object(config, "save or fetch the adapter again.")
    try:
        found = AdapterConfig.from_saved(values)
    except ValueError as error:
        raise ValueError(f"{config}: {error}") from None
    state = read_state_dict(weights)
    check_shape(found, {name: value.shape for name, value in state.items()}, config, weights)
    return found, state


def shape_of(shapes: Mapping[str, Sequence[int]], prefix: str = "") -> dict[str, int]:
    """Of the tensors of an adapter, the sizes that its configuration has too; {} where it is none of K-Adapter's."""
    found = shapes.get(f"{prefix}adapter.0.encoder.layer.0.intermediate.dense.weight", ())
    if len(found) != 2:
        return {}
    names = [name.removeprefix(prefix).split(".") for name in shapes if name.startswith(f"{prefix}adapter.")]
    return {
        "adapter_list": len({parts[1] for parts in names}),
        "adapter_size": found[1],
        "adapter_transformer_layers": len({parts[4] for parts in names if parts[1:4] == ["0", "encoder", "layer"]}),
        "intermediate_size": found[0],
    }


def check_shape(
    config: AdapterConfig, shapes: Mapping[str, Sequence[int]], source: object, weights: object, prefix: str = ""
) -> None:
    """Compare an adapter's configuration with its weights, so that nothing larger than these is ever built.

    Args:
        shapes: name -> shape of the tensors, of which the adapter's begin with `prefix`.
        source, weights: the two files, named in the error.
    """
    found = shape_of(shapes, prefix)
    said = {name: getattr(config, name) for name in found}
    if config.adapter_list is None:  # follows the backbone's depth, which is known where it is loaded
        said["adapter_list"] = found.get("adapter_list")
    elif found:
        said["adapter_list"] = len(config.adapter_list)
    wrong = [
        f"{'entries of ' * (name == 'adapter_list')}{name}: {said[name]} instead of {size}"
        for name, size in found.items()
        if said[name] != size
    ]
    if wrong or not found:
        reason = "; ".join(wrong) or "there is no adapter of K-Adapter in the weights"
        raise ValueError(f"{source} does not describe {weights} ({reason}); take both from the same save.")


def digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of names and values, whatever the type in which they are held."""
    found = hashlib.sha256()
    for name in sorted(state):
        found.update(name.encode())
        found.update(state[name].detach().to("cpu", torch.float32).contiguous().numpy().data)
    return found.hexdigest()


def cpu_copies(state: Mapping[str, torch.Tensor]) -> State:
    """Copies on the CPU that share no memory, as safetensors wants them."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
