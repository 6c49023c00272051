"""Checkpoints of a run: what is trained, optimizer, schedule, random states, position.

A checkpoint is written aside, with a manifest of sizes and digests, and renamed, so that a folder `checkpoint-<step>`
is whole unless something happened to it later. Then it is passed over for an older one: a run without its random
states, say, would go on silently to another result. What is frozen is not in it: the same command loads that from
where it came.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from kadapter.storage.checkpoint import fill, read_state_dict, save_tensors
from kadapter.storage.errors import writing
from kadapter.storage.files import sync
from kadapter.storage.manifest import MANIFEST, find_fault, write_manifest
from kadapter.storage.reading import read_object

logger = logging.getLogger(__name__)

TRAINED = "trained.safetensors"
STATE = "state.json"
OPTIMIZERS = ("optimizer.bin", "optimizer_0", "pytorch_model")  # of whole parameters, of FSDP, of DeepSpeed
ANEW = "give --overwrite_output_dir to start anew."
T = TypeVar("T")


def checkpoints(folder: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def trained_state(accelerator: Accelerator, model: nn.Module) -> dict[str, torch.Tensor]:
    """Name -> whole tensor of what is trained, in the main process; all processes meet here."""
    state = accelerator.get_state_dict(model)
    inner = accelerator.unwrap_model(model)
    return {name: state[name] for name, p in inner.named_parameters() if p.requires_grad and name in state}


def save_checkpoint(
    accelerator: Accelerator, folder: Path, model: nn.Module, schedule: Any, progress: Any, keep: int
) -> None:
    """Write `checkpoint-<progress.step>` and delete all but the newest `keep`, and those of later steps.

    Of later steps are those that were passed over when the run was resumed.
    """
    target, temporary = folder / f"checkpoint-{progress.step}", folder / f".checkpoint-{progress.step}.tmp"
    try:
        with writing(temporary, "a checkpoint"):
            _write(accelerator, temporary, model, schedule, progress)
    except BaseException:
        if accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    if accelerator.is_main_process:
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
        sync(folder)
        found = checkpoints(folder)
        at = found.index(target) + 1
        for other in (*found[: max(0, at - keep)], *found[at:]):
            shutil.rmtree(other)
    accelerator.wait_for_everyone()


def _write(accelerator: Accelerator, temporary: Path, model: nn.Module, schedule: Any, progress: Any) -> None:
    """All of a checkpoint into a new folder, and on disk."""
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
    accelerator.wait_for_everyone()
    # Weights are ours to write, so that frozen ones are left out.
    with accelerator.register_save_state_pre_hook(lambda models, weights, output: weights.clear()):
        accelerator.save_state(str(temporary))
    trained = trained_state(accelerator, model)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        save_tensors({name: value.contiguous() for name, value in trained.items()}, temporary / TRAINED)
        state = {
            "progress": asdict(progress),
            "schedule": schedule.state_dict(),
            "processes": accelerator.num_processes,
        }
        (temporary / STATE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")
        write_manifest(temporary)
        for path in (*temporary.rglob("*"), temporary):
            sync(path)


def find_checkpoint(accelerator: Accelerator, folder: Path) -> Path | None:
    """The newest checkpoint that is whole, None where the run has none at all; the main process looks for all.

    Raises:
        ValueError: there are checkpoints, but none of them is whole.
    """
    answer: list[Path | ValueError | None] = [None]
    if accelerator.is_main_process:
        try:
            answer = [_newest_whole(folder)]
        except ValueError as error:
            answer = [error]
    (found,) = broadcast_object_list(answer)
    if isinstance(found, ValueError):
        raise found
    return found


def _newest_whole(folder: Path) -> Path | None:
    faults: list[str] = []
    for path in reversed(checkpoints(folder)):
        fault = _fault(path)
        if fault is None:
            if faults:
                logger.warning("%s: passed over for %s, which is whole.", "; ".join(faults), path.name)
            return path
        faults.append(f"{path}: {fault}")
    if faults:
        raise ValueError(f"no checkpoint of this run is whole ({'; '.join(faults)}); {ANEW}")
    return None


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, None where it is whole.

    Those of before manifests are taken where all that a resumed run reads is there and can be read: trained weights,
    position, the optimizer's state, and the random states of every process.
    """
    with_manifest = (path / MANIFEST).is_file()
    try:
        if with_manifest and (fault := find_fault(path, (TRAINED, STATE))):
            return fault
        state = read_object(path / STATE, "it is damaged.", ("progress", "schedule", "processes"))
        names = [TRAINED, *(f"random_states_{i}.pkl" for i in range(int(state["processes"])))]
        if missing := [name for name in names if not (path / name).is_file()]:
            return f"{missing[0]} is missing"
        if not any((path / name).exists() for name in OPTIMIZERS):
            return f"{OPTIMIZERS[0]} is missing"
        if not with_manifest:
            read_state_dict(path / TRAINED)
            for name in (name for pattern in ("*.pkl", "*.bin", "*.pt") for name in path.glob(pattern)):
                with zipfile.ZipFile(name) as archive:  # as torch.save writes them, with check sums
                    if archive.testzip() is not None:
                        return f"{name.name} was changed"
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        return str(error).removeprefix(f"{path}/")
    return None


def load_checkpoint(
    accelerator: Accelerator, folder: Path, model: nn.Module, schedule: Any, progress: type[T]
) -> T | None:
    """Go back to the newest checkpoint that is whole; None where there is none at all.

    Raises:
        ValueError: none is whole, or it was made by a model with other trained parameters.
    """
    path = find_checkpoint(accelerator, folder)
    if path is None:
        return None
    inner = accelerator.unwrap_model(model)
    trained = {name: p for name, p in inner.named_parameters() if p.requires_grad}
    saved = read_state_dict(path / TRAINED)
    wrong = sorted(
        name
        for name in trained.keys() | saved.keys()
        if name not in trained or name not in saved or trained[name].shape != saved[name].shape
    )
    if wrong:
        raise ValueError(f"{path} was made by another model ({', '.join(wrong[:5])} differ); {ANEW}")
    with accelerator.register_load_state_pre_hook(lambda models, source: models.clear()):
        accelerator.load_state(str(path))
    fill(inner, saved)
    state = read_object(path / STATE, ANEW)
    schedule.load_state_dict(state["schedule"])
    if state["processes"] != accelerator.num_processes:
        logger.warning(
            "%s was made by %d processes, now there are %d: dropout will differ.",
            path,
            state["processes"],
            accelerator.num_processes,
        )
    logger.info("going on from %s", path)
    known = {f.name for f in fields(progress)}  # type: ignore[arg-type]
    try:
        return progress(**{name: value for name, value in state["progress"].items() if name in known})
    except TypeError as error:
        raise ValueError(f"{path / STATE} was written by another version ({error}); {ANEW}") from None
