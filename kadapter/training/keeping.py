"""How trained models are kept: a task model whole, or the one adapter that was pretrained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from kadapter.models.task_model import TaskModel
from kadapter.storage import checkpoint
from kadapter.storage.card import write_card
from kadapter.storage.original import load_original, original_name


@dataclass(frozen=True)
class ModelFiles:
    """Writes and reads the folders of a run's models.

    adapter_alone: of a task model only its one adapter is kept, with fusion and head in a file of their own.
    """

    accelerator: Accelerator
    tokenizer: PreTrainedTokenizerBase
    adapter_alone: bool

    def save(self, module: torch.nn.Module, folder: Path) -> None:
        """A task model whole, and in `task/` what it adds to a backbone where that has bottlenecks; or its adapter."""
        state = self.accelerator.get_state_dict(module)  # all processes meet here where parameters are sharded
        if self.accelerator.is_main_process:
            model: Any = self.accelerator.unwrap_model(module)
            if self.adapter_alone:
                self._save_adapter(model, state, folder)
            else:
                model.save_pretrained(folder, state_dict=dict(state))  # which it empties
                self.tokenizer.save_pretrained(folder)
                if model.encoder.active_bottlenecks is not None:
                    model.save_task(folder / "task", state)
        self.accelerator.wait_for_everyone()

    @staticmethod
    def _save_adapter(model: TaskModel, state: Mapping[str, torch.Tensor], folder: Path) -> None:
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
        """Read back what `save` wrote."""
        model: Any = self.accelerator.unwrap_model(module)
        if self.adapter_alone:
            files = (folder / name for name in (checkpoint.ADAPTER_WEIGHTS, checkpoint.PRETRAINING_HEAD))
            load_original(
                model, {key: value for file in files for key, value in checkpoint.read_state_dict(file).items()}
            )
        else:
            checkpoint.load_strict(model, checkpoint.read_state_dict(folder / "model.safetensors"), folder)

    def write_cards(
        self,
        model: TaskModel,
        folder: Path,
        data: str,
        sizes: Mapping[str, int],
        report: Mapping[str, Any],
        sample: str,
    ) -> None:
        """Cards of the best model, with its scores, and of the final one, with them where it is the best.

        Args:
            data, sizes: name of the data, and split -> number of examples.
            report: what metrics.json holds.
            sample: an input of the task, in Python.
        """
        if not self.accelerator.is_main_process:
            return
        adapter = next(iter(model.encoder.adapters)) if self.adapter_alone else None
        best, scores = folder / "best", {split: report[split] for split in sizes if split in report}
        if best.is_dir():
            write_card(best, folder.name, model.config, adapter, (data, sizes), scores, sample)
        if "steps" in report:
            same = not best.is_dir() or report.get("best", {}).get("step") == report["steps"]
            write_card(folder, folder.name, model.config, adapter, (data, sizes), scores if same else {}, sample)
