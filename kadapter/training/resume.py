"""Checkpoints of a run: what is trained, optimizer, schedule, random states, position.

A checkpoint is written aside and renamed, so that a folder `checkpoint-<step>` is always whole. What is frozen is
not in it: the same command loads that from where it came.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import nn

from kadapter.storage.checkpoint import fill, read_state_dict, save_tensors
from kadapter.storage.errors import writing
from kadapter.storage.files import sync

logger = logging.getLogger(__name__)

TRAINED = "trained.safetensors"
STATE = "state.json"
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
    """Write `checkpoint-<progress.step>` and delete all but the newest `keep`."""
    target, aside = folder / f"checkpoint-{progress.step}", folder / f".checkpoint-{progress.step}.tmp"
    try:
        with writing(aside, "a checkpoint"):
            _write(accelerator, aside, model, schedule, progress)
    except BaseException:
        if accelerator.is_main_process:
            shutil.rmtree(aside, ignore_errors=True)
        raise
    if accelerator.is_main_process:
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
        sync(folder)
        for old in checkpoints(folder)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def _write(accelerator: Accelerator, aside: Path, model: nn.Module, schedule: Any, progress: Any) -> None:
    """All of a checkpoint into a new folder, and on disk."""
    if accelerator.is_main_process:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
    accelerator.wait_for_everyone()
    # Weights are ours to write, so that frozen ones are left out.
    with accelerator.register_save_state_pre_hook(lambda models, weights, output: weights.clear()):
        accelerator.save_state(str(aside))
    trained = trained_state(accelerator, model)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        save_tensors({name: value.contiguous() for name, value in trained.items()}, aside / TRAINED)
        state = {
            "progress": asdict(progress),
            "schedule": schedule.state_dict(),
            "processes": accelerator.num_processes,
        }
        (aside / STATE).write_text(json.dumps(state), encoding="utf-8")
        for path in aside.rglob("*"):
            sync(path)


def load_checkpoint(
    accelerator: Accelerator, folder: Path, model: nn.Module, schedule: Any, progress: type[T]
) -> T | None:
    """Go back to the newest checkpoint; None where there is none.

    Raises:
        ValueError: it was made by a model with other trained parameters.
    """
    found = checkpoints(folder)
    if not found:
        return None
    path = found[-1]
    inner = accelerator.unwrap_model(model)
    trained = {name: p for name, p in inner.named_parameters() if p.requires_grad}
    saved = read_state_dict(path / TRAINED)
    wrong = sorted(
        name
        for name in trained.keys() | saved.keys()
        if name not in trained or name not in saved or trained[name].shape != saved[name].shape
    )
    if wrong:
        raise ValueError(
            f"{path} was made by another model ({', '.join(wrong[:5])} differ); "
            "give --overwrite_output_dir to start anew."
        )
    with accelerator.register_load_state_pre_hook(lambda models, source: models.clear()):
        accelerator.load_state(str(path))
    fill(inner, saved)
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    schedule.load_state_dict(state["schedule"])
    if state["processes"] != accelerator.num_processes:
        logger.warning(
            "%s was made by %d processes, now there are %d: dropout will differ.",
            path,
            state["processes"],
            accelerator.num_processes,
        )
    logger.info("going on from %s", path)
    return progress(**state["progress"])
