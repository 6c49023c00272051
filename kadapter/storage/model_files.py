"""The files of a model at hand, and errors of one sentence that name them.

A damaged file lets transformers raise whatever its reader raises.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from kadapter.storage.checkpoint import read_state_dict
from kadapter.storage.hub import HUB_ARGUMENTS, OF_MODELS, on_this_machine
from kadapter.storage.reading import check_link, read_object

AGAIN = "save or fetch the model again."
# What transformers reads of a folder; a run's folder holds other files too.
OF_TRANSFORMERS = re.compile(
    r"config\.json|(special_tokens_map|added_tokens|tokenizer|tokenizer_config|vocab)\.json"
    r"|model.*\.safetensors|pytorch_model.*\.bin|.*\.index\.json"
)
UNKNOWN_ARGUMENT = re.compile(r"__init__\(\) got an unexpected keyword argument '(\w+)'")


@contextmanager
def naming_files(source: str | os.PathLike, hub: Mapping[str, Any]) -> Iterator[None]:
    """Turn what a damaged file raises inside transformers into one sentence that names the file."""
    try:
        yield
    except (ImportError, MemoryError, torch.OutOfMemoryError):
        raise  # no fault of the files
    except Exception as error:  # KeyError, TypeError, AttributeError, whatever a wrong value leads to
        if torch.empty(0).device.type == "meta":
            raise  # transformers refuses to load into no memory, and says so
        unknown = UNKNOWN_ARGUMENT.search(str(error)) if isinstance(error, TypeError) else None
        if unknown and unknown[1] in hub:
            raise TypeError(_no_argument(unknown[1], hub.get("config"))) from None
        for path in _files(source, hub):
            check_readable(path)
        if isinstance(error, OSError) or (isinstance(error, ValueError) and str(source) in str(error)):
            raise  # names what is wrong
        said = textwrap.shorten(str(error), 300, placeholder=" ...")
        said = said if isinstance(error, ValueError) else f"cannot be loaded ({type(error).__name__}: {said}); {AGAIN}"
        raise ValueError(f"{source}: {said}") from error


def _no_argument(name: str, config: PreTrainedConfig | None) -> str:
    """What to say of a keyword that neither `from_pretrained` nor a configuration knows."""
    known = {*inspect.signature(PreTrainedModel.from_pretrained).parameters, "dtype", "device_map", "head", "adapters"}
    known |= {"adapter_config", "fusion_mode", "bottleneck", "output_loading_info", "attn_implementation"}
    for part in (config, getattr(config, "backbone_config", None)):
        known |= set() if part is None else part.to_dict().keys()
    near = difflib.get_close_matches(name, [*known, *HUB_ARGUMENTS], n=3)
    mend = f"did you mean {', '.join(near)}?" if near else "leave it out."
    return f"{name!r} is no argument of from_pretrained and no setting of the model's configuration; {mend}"


def check_links(source: str | os.PathLike, options: Mapping[str, Any], names: re.Pattern[str]) -> None:
    """Raise FileNotFoundError for a symbolic link to nothing, which transformers takes for no file and passes by."""
    check_link(source)
    folder = Path(source) / (options.get("subfolder") or "")
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if names.fullmatch(path.name):
            check_link(path)


def _files(source: str | os.PathLike, hub: Mapping[str, Any]) -> list[Path]:
    """The files at hand of a folder or of a hub repository that was downloaded."""
    folder = Path(source)
    if not folder.is_dir():
        found = on_this_machine(source, OF_MODELS, hub)
        if found is None:
            return []
        folder = found.parent
    elif subfolder := hub.get("subfolder"):
        folder = folder / subfolder
    return sorted(path for path in folder.iterdir() if OF_TRANSFORMERS.fullmatch(path.name))


def check_readable(path: Path) -> None:
    """Raise ValueError or OSError where a file cannot be read."""
    check_link(path)
    if path.name.endswith(".index.json"):
        shards = read_object(path, AGAIN, ["weight_map"])["weight_map"]
        if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
            raise ValueError(f"{path}: weight_map does not say which file holds which tensor; {AGAIN}")
        if missing := sorted({shard for shard in shards.values() if not path.with_name(shard).is_file()}):
            check_link(path.with_name(missing[0]))
            raise FileNotFoundError(f"{path.with_name(missing[0])} is missing, which {path.name} names; {AGAIN}")
    elif path.suffix == ".json":
        read_object(path, AGAIN)
    else:
        read_state_dict(path)
