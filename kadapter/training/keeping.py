"""How trained models are kept: a task model whole, the one adapter that was pretrained, or the backbone alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from kadapter.configuration import KAdapterConfig
from kadapter.models.joint import JointModel
from kadapter.models.task_model import TaskModel
from kadapter.storage import checkpoint
from kadapter.storage.card import write_card
from kadapter.storage.files import atomic_folder
from kadapter.storage.original import load_original, original_name

BACKBONE = "encoder.backbone."
POOLER = "pooler."


@dataclass(frozen=True)
class ModelFiles(ABC):
    """Writes and reads the folders of a run's models."""

    accelerator: Accelerator
    tokenizer: PreTrainedTokenizerBase

    def save(self, module: torch.nn.Module, folder: Path) -> None:
        """Write the model into `folder`, in the main process; all processes meet here where parameters are sharded."""
        state = self.accelerator.get_state_dict(module)
        if self.accelerator.is_main_process:
            self.write(self.accelerator.unwrap_model(module), state, folder)
        self.accelerator.wait_for_everyone()

    @abstractmethod
    def write(self, model: Any, state: checkpoint.State, folder: Path) -> None:
        """Write what is kept of a model whose whole weights are `state`."""

    @abstractmethod
    def load(self, module: torch.nn.Module, folder: Path) -> None:
        """Read back what `write` wrote."""

    def card(self, model: Any) -> tuple[KAdapterConfig, str | None]:
        """The configuration that the card describes, and the adapter that the folder holds; None: the whole model."""
        return model.config, None

    def next_step(self, model: Any, folder: Path) -> str:
        """What may be done with a folder next."""
        return f"predict: python examples/run_predict.py --model {folder} --input FILE --output predictions.jsonl"

    def write_cards(
        self, model: Any, folder: Path, data: str, sizes: Mapping[str, int], report: Mapping[str, Any], sample: str
    ) -> None:
        """Cards of the best model, with its scores, and of the final one, with them where it is the best.

        Args:
            data, sizes: name of the data, and split -> number of examples; of several tasks "task split" -> number.
            report: what metrics.json holds.
            sample: an input of the task, in Python.
        """
        if not self.accelerator.is_main_process:
            return
        config, adapter = self.card(model)
        splits = {name.split()[-1] for name in sizes}
        best, scores = folder / "best", {name: found for name, found in report.items() if name in splits}
        if best.is_dir():
            write_card(best, folder.name, config, adapter, (data, sizes), scores, sample)
        if "steps" in report:
            same = not best.is_dir() or report.get("best", {}).get("step") == report["steps"]
            write_card(folder, folder.name, config, adapter, (data, sizes), scores if same else {}, sample)


class WholeModel(ModelFiles):
    """A task model whole, and in `task/` what it adds to a backbone where that has bottlenecks."""

    def write(self, model: TaskModel, state: checkpoint.State, folder: Path) -> None:
        model.save_pretrained(folder, state_dict=dict(state))  # which it empties
        self.tokenizer.save_pretrained(folder)
        if model.encoder.active_bottlenecks is not None:
            model.save_task(folder / "task", state)

    def load(self, module: torch.nn.Module, folder: Path) -> None:
        model: Any = self.accelerator.unwrap_model(module)
        checkpoint.load_strict(model, checkpoint.read_state_dict(folder / "model.safetensors"), folder)


class OneAdapter(ModelFiles):
    """Of a task model its one adapter, with fusion and head in a file of their own."""

    def write(self, model: TaskModel, state: checkpoint.State, folder: Path) -> None:
        (name,) = model.encoder.adapters
        prefix = f"encoder.adapters.{checkpoint.module_key(name)}."
        adapter = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        head = {
            original_name(key, pretraining=True): value
            for key, value in state.items()
            if key.startswith(("head.", "encoder.fusion."))
        }
        checkpoint.save_adapter(adapter, model.config.adapter_config(name), folder, head)

    def load(self, module: torch.nn.Module, folder: Path) -> None:
        model: Any = self.accelerator.unwrap_model(module)
        files = (folder / name for name in (checkpoint.ADAPTER_WEIGHTS, checkpoint.PRETRAINING_HEAD))
        load_original(model, {key: value for file in files for key, value in checkpoint.read_state_dict(file).items()})

    def card(self, model: TaskModel) -> tuple[KAdapterConfig, str | None]:
        return model.config, next(iter(model.encoder.adapters))

    def next_step(self, model: TaskModel, folder: Path) -> str:
        (name,) = model.encoder.adapters
        return f"give the adapter to any fine-tuning recipe: --adapter {name}={folder}"


class BackboneAlone(ModelFiles):
    """Of a model of several tasks the backbone, as transformers saves it, with the heads in a file of their own.

    A pooler that came without weights is left out, so that it stays fresh for whoever loads the folder.
    """

    def write(self, model: JointModel, state: checkpoint.State, folder: Path) -> None:
        names = self._kept(model)
        with atomic_folder(folder, "a backbone", replaced=checkpoint.weights_names()) as path:
            backbone: Any = model.encoder.backbone
            backbone.save_pretrained(path, state_dict={name: state[BACKBONE + name] for name in names})
            self.tokenizer.save_pretrained(path)
            heads = {name: state[name] for name in self._heads(model)}
            checkpoint.save_tensors(checkpoint.cpu_copies(heads), path / checkpoint.PRETRAINING_HEAD)

    def load(self, module: torch.nn.Module, folder: Path) -> None:
        model: Any = self.accelerator.unwrap_model(module)
        backbone = checkpoint.read_state_dict(folder / "model.safetensors")
        found = {BACKBONE + name: value for name, value in backbone.items()}
        found |= checkpoint.read_state_dict(folder / checkpoint.PRETRAINING_HEAD)
        own = model.state_dict()
        names = [*(BACKBONE + name for name in self._kept(model)), *self._heads(model)]
        checkpoint.check_names({name: own[name] for name in names}, found, folder, "backbone with heads")
        checkpoint.fill(model, found)

    def card(self, model: JointModel) -> tuple[KAdapterConfig, str | None]:
        return model.encoder.config, None

    def next_step(self, model: JointModel, folder: Path) -> str:
        return f"give the backbone to any recipe: --model_name_or_path {folder}"

    @staticmethod
    def _kept(model: JointModel) -> list[str]:
        """Names of the backbone's weights that are written."""
        backbone: Any = model.encoder.backbone
        fresh = getattr(backbone.config, "fresh_pooler", False)
        return [name for name in backbone.state_dict() if not (fresh and name.startswith(POOLER))]

    @staticmethod
    def _heads(model: JointModel) -> list[str]:
        return [name for name in model.state_dict() if name.startswith("tasks.") and ".head." in name]
