"""Many tasks on one backbone: each has its bottlenecks, norms, fusion and head; backbone and adapters are there once.

Shapes: B = examples of a batch, R = their sequences (B, or more where examples are groups), S = tokens, H = width,
N = positions that heads read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from kadapter.configuration import DEFAULT_BOTTLENECKS
from kadapter.models.adapter import KnowledgeAdapter
from kadapter.models.bottleneck import insert_bottlenecks, named_parts
from kadapter.models.fusion import Fusion
from kadapter.models.head import Head, HeadOutput
from kadapter.models.heads import MaskedLMHead
from kadapter.models.modeling import KAdapterModel
from kadapter.models.named import NamedModules
from kadapter.models.positions import at_positions, check_positions, positions_of
from kadapter.models.routing import Run, routed, select_rows, side_by_side
from kadapter.models.saved_task import SavedTask, fresh_head
from kadapter.storage import checkpoint
from kadapter.storage.files import atomic_folder
from kadapter.storage.reading import read_object

ENCODER, TASKS = "encoder", "tasks"  # folders
TASKS_FILE = "tasks.json"
OF_GROUPS = ("multiple_choice", "openqa")  # kinds of heads whose examples may be several sequences


@dataclass
class TaskOutputs:
    """What a batch of several tasks gives.

    by_task: task -> the head's output for its examples.
    examples: task -> which examples of the batch these are, in their order.
    """

    by_task: dict[str, HeadOutput]
    examples: dict[str, list[int]]

    @property
    def logits(self) -> list[torch.Tensor]:
        """Of each example of the batch: [C], [N, C] or [S, C]."""
        found: dict[int, torch.Tensor] = {}
        for name, output in self.by_task.items():
            assert output.logits is not None
            found |= zip(self.examples[name], output.logits, strict=True)
        return [found[i] for i in sorted(found)]


class TaskPart(nn.Module):
    """What one task has beside its bottlenecks: the fusion of those adapters that it reads, and its head."""

    fusion: Fusion
    head: Head

    def __init__(self, saved: SavedTask, encoder: KAdapterModel):
        super().__init__()
        self.saved = replace(saved, state={})
        self.fusion = Fusion(saved.adapters, encoder.config.hidden_size, saved.fusion_mode)
        self.head = cast(Head, fresh_head(saved.head, encoder))


class MultiTaskModel(nn.Module):
    """A backbone with any number of tasks, each as `TaskModel.save_task` wrote it.

    ```python
    model = MultiTaskModel(KAdapterModel.from_pretrained("bert-base-uncased"))
    model.add_task("rte", "output/RTE/task")
    model.add_task("cola", "output/CoLA/task")
    model(**batch, task="rte").logits  # [B, C]
    model(**batch, task_names=["rte", "cola", "rte"]).logits  # one tensor for each example
    ```
    The backbone runs once for a batch, whatever tasks its examples have, and a knowledge adapter once for all examples
    whose task reads it. Which task a call takes is told by the call, so that threads may share a model.
    """

    def __init__(self, encoder: KAdapterModel):
        super().__init__()
        self.encoder = encoder
        self.tasks = NamedModules()

    # -- tasks --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def add_task(self, name: str, folder: str | os.PathLike) -> None:
        """Add what a task's folder holds; nothing changes for the tasks that are there.

        Raises:
            FileNotFoundError, ValueError: nothing there, not for this backbone, an adapter that it reads is missing,
                or the name is taken. Then nothing is added.
        """
        if name in self.tasks or name in self.encoder.config.bottlenecks:
            raise ValueError(f"there is a task or a set of bottlenecks {name!r} already; give this one another name.")
        saved = SavedTask.read(folder, self.encoder)
        if missing := [adapter for adapter in saved.adapters if adapter not in self.encoder.adapters]:
            raise ValueError(
                f"{folder} reads adapters {missing}, but the encoder has {list(self.encoder.adapters)}; load these."
            )
        part = TaskPart(saved, self.encoder)
        try:
            self.tasks[name] = part
            if saved.bottleneck is not None:
                insert_bottlenecks(self.encoder.backbone, name, saved.bottleneck)
            own = self._weights(name)
            checkpoint.check_names(own, saved.state, folder, "task")
            for key, tensor in own.items():
                tensor.copy_(saved.state[key])
        except ValueError:
            self._remove(name)
            raise
        part.to(next(self.encoder.parameters()).device).train(self.training)

    def delete_task(self, name: str) -> None:
        """Remove a task with all that is its own; raises ValueError where there is none of that name."""
        self._require([name])
        self._remove(name)

    def _weights(self, name: str) -> dict[str, torch.Tensor]:
        """The task's weights, by their names in a task's folder."""
        part = cast(TaskPart, self.tasks[name])
        found = {f"encoder.fusion.{key}": value for key, value in part.fusion.state_dict().items()}
        found |= {f"head.{key}": value for key, value in part.head.state_dict().items()}
        for place, site in named_parts(self.encoder.backbone):
            if name in site:
                prefix = f"encoder.backbone.{place}.{DEFAULT_BOTTLENECKS}."
                found |= {prefix + key: value for key, value in site[name].state_dict().items()}
        return found

    def _part(self, run: Run) -> TaskPart:
        return cast(TaskPart, self.tasks[str(run.name)])

    def _remove(self, name: str) -> None:
        for place in (self.tasks, *(part for _, part in named_parts(self.encoder.backbone))):
            if name in place:
                del place[name]

    def _require(self, names: Sequence[str]) -> None:
        if unknown := sorted(set(names) - set(self.tasks)):
            raise ValueError(f"there is no task {unknown[0]!r}; the model has {list(self.tasks)}.")

    # -- saving -------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write the encoder into `encoder/`, each task as `save_task` does into `tasks/<name>/`, and `tasks.json`."""
        keys = tuple(f".{kind}.{NamedModules.key(name)}." for name in self.tasks for kind in ("bottlenecks", "norms"))
        state = self.encoder.state_dict()
        bare = {key: value for key, value in state.items() if not any(of_task in key for of_task in keys)}
        with atomic_folder(folder, "a model of several tasks") as path:
            self.encoder.save_pretrained(path / ENCODER, state_dict=bare)
            for name, part in self.tasks.items():
                saved = replace(cast(TaskPart, part).saved, state=self._weights(name))
                saved.write(path / TASKS / name, self.encoder.config.backbone_config.model_type)
            (path / TASKS_FILE).write_text(json.dumps({"tasks": list(self.tasks)}, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike, **options: Any) -> MultiTaskModel:
        """What `save_pretrained` wrote, or a backbone without tasks (folder or hub name).

        Args:
            options: as in `KAdapterModel.from_pretrained`.

        Raises:
            OSError, ValueError: something is missing or damaged.
        """
        path = Path(folder)
        if not (path / TASKS_FILE).is_file():
            return cls(KAdapterModel.from_pretrained(folder, **options)).eval()
        names = read_object(path / TASKS_FILE, "save the model again.", ["tasks"])["tasks"]
        if not isinstance(names, list) or not all(isinstance(name, str) and name.isidentifier() for name in names):
            raise ValueError(f"{path / TASKS_FILE}: tasks is {names!r}; give the names of the folders in {TASKS}/.")
        model = cls(KAdapterModel.from_pretrained(path / ENCODER, **options))
        for name in names:
            model.add_task(name, path / TASKS / name)
        return model.eval()

    # -- forward ------------------------------------------------------------------------------------------------

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        labels: Mapping[str, torch.Tensor] | torch.Tensor | None = None,
        group_sizes: torch.Tensor | None = None,
        task: str | None = None,
        task_names: Sequence[str] | None = None,
    ) -> HeadOutput | TaskOutputs:
        """One task for the whole batch, or one for each example.

        Args:
            input_ids, attention_mask, token_type_ids: [R, S].
            positions: [R, N] what the heads read, N the most that one of them reads; a head takes its first ones.
                None is the first token, for heads that read one place.
            labels: as the task's head takes them; with `task_names` those of each task by its name.
            group_sizes: [B], how many sequences each example has, where it is not one for all of them.
            task: name of the task of all examples.
            task_names: [B] names.

        Raises:
            ValueError: neither or both are given, a name is unknown, or there are not as many as examples.
        """
        if (task is None) == (task_names is None):
            raise ValueError("give either task, for the whole batch, or task_names, one for each example.")
        sizes = [1] * len(input_ids) if group_sizes is None else group_sizes.tolist()
        names = [str(task)] * len(sizes) if task_names is None else list(task_names)
        self._require(names)
        if len(names) != len(sizes) or sum(sizes) != len(input_ids):
            raise ValueError(
                f"task_names has {len(names)} names for {len(sizes)} examples, whose groups add up to {sum(sizes)} of "
                f"the {len(input_ids)} rows of input_ids; give a name for each example, and each row to one of them."
            )
        for name, size in zip(names, sizes, strict=True):
            if size != 1 and cast(TaskPart, self.tasks[name]).saved.head.kind not in OF_GROUPS:
                raise ValueError(f"group_sizes gives task {name!r} {size} sequences for an example; it reads one.")
        self.encoder.check_routable()
        examples = {name: [i for i, other in enumerate(names) if other == name] for name in dict.fromkeys(names)}
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        outputs = self._outputs(
            {**batch, "positions": positions}, examples, names, sizes, group_sizes is not None, labels
        )
        return TaskOutputs(outputs, examples) if task is None else outputs[task]

    def _outputs(
        self,
        batch: Mapping[str, torch.Tensor | None],
        examples: Mapping[str, Sequence[int]],
        names: Sequence[str],
        sizes: Sequence[int],
        grouped: bool,
        labels: Mapping[str, torch.Tensor] | torch.Tensor | None,
    ) -> dict[str, HeadOutput]:
        """Each task's output for its examples. The rows of a task are put side by side, so that they are slices."""
        of_rows = [name for i, size in enumerate(sizes) for name in [names[i]] * size]
        order, runs = side_by_side(of_rows)
        batch = select_rows(batch, order)
        last, adapter_states = self._states({**batch, "positions": None}, runs)
        outputs = {}
        for run in runs:
            own = slice(run.begin, run.end)
            part = self._part(run)
            group_sizes = (
                torch.tensor([sizes[i] for i in examples[str(run.name)]], device=last.device) if grouped else None
            )
            states = {name: adapter_states[name][run] for name in part.fusion.names}
            cut = {name: None if value is None else value[own] for name, value in batch.items()}
            gold = labels.get(str(run.name)) if isinstance(labels, Mapping) else labels
            outputs[str(run.name)] = self._head(part, last[own], states, cut, group_sizes, gold)
        return outputs

    def _states(
        self, batch: Mapping[str, torch.Tensor | None], runs: Sequence[Run]
    ) -> tuple[torch.Tensor, dict[str, dict[Run, torch.Tensor]]]:
        """The backbone's last state of all rows, and each adapter's of those rows whose task reads it."""
        readers: dict[str, list[Run]] = {}
        for run in runs:
            for name in self._part(run).fusion.names:
                readers.setdefault(name, []).append(run)
        inputs: dict[str, Any] = {name: value for name, value in batch.items() if name != "positions"}
        with routed(runs):
            states, tapped = self.encoder.tapped_states(list(readers), **inputs)
        found: dict[str, dict[Run, torch.Tensor]] = {}
        for name, of_adapter in readers.items():
            adapter = cast(KnowledgeAdapter, self.encoder.adapters[name])
            mask = batch["attention_mask"]
            own = {tap: _rows(tapped[tap], of_adapter, runs) for tap in adapter.taps}
            output = adapter(own, None if mask is None else _rows(mask, of_adapter, runs))
            found[name] = dict(zip(of_adapter, output.split([run.end - run.begin for run in of_adapter]), strict=True))
        return states.last_hidden_state, found

    def _head(
        self,
        part: TaskPart,
        last: torch.Tensor,
        states: Mapping[str, torch.Tensor],
        batch: Mapping[str, torch.Tensor | None],
        group_sizes: torch.Tensor | None,
        labels: torch.Tensor | None,
    ) -> HeadOutput:
        config = self.encoder.config.with_head(part.saved.head)
        positions = positions_of(part.head, config, batch["positions"], batch["attention_mask"], last)
        if positions is not None:
            check_positions(positions, last)
            last, states = at_positions(last, positions), {n: at_positions(s, positions) for n, s in states.items()}
        features, _ = part.fusion(last, states)
        inputs: dict[str, Any] = {"group_sizes": group_sizes}
        inputs |= {name: batch[name] for name in ("attention_mask", "positions")}
        if isinstance(part.head, MaskedLMHead):
            inputs["embeddings"] = self.encoder.get_input_embeddings().weight
        return part.head(features, labels, **inputs)


def _rows(states: torch.Tensor, runs: Sequence[Run], all_runs: Sequence[Run]) -> torch.Tensor:
    return states if len(runs) == len(all_runs) else torch.cat([states[run.begin : run.end] for run in runs])
