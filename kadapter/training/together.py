"""Several settings in one pass over the data: a frozen backbone runs once for each batch, adapters and heads for each.

Each setting is a run as any other, with its own folder, optimizer, schedule, random states and checkpoints. They take
turns (`Lockstep`) where a batch is made ready: the first that comes to one lets the backbone run, the others find its
states there. A run that is ahead waits, and one that was resumed further back catches up by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, send_to_device

from kadapter.data.collation import Batch
from kadapter.models.task_model import TaskModel
from kadapter.training.arguments import AUTO, Arguments
from kadapter.training.lockstep import Lockstep
from kadapter.training.states import INPUTS, SplitStates


@dataclass
class Pass:
    """What the runs that go together share.

    taps: numbers of the hidden states that any of them reads.
    inputs, states: of the batch that they are at.
    """

    taps: Sequence[int]
    lockstep: Lockstep = field(default_factory=Lockstep)
    inputs: Mapping[str, torch.Tensor] = field(default_factory=dict)
    states: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, models: Sequence[TaskModel], accelerator: Accelerator) -> Pass:
        """The pass of these models, which keep the weights of their backbone once from now on.

        Raises:
            ValueError: their backbones differ, some attend to padding and others not, or parameters are sharded.
        """
        if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            raise ValueError("--together is not for FSDP and DeepSpeed; start plain processes (torchrun).")
        padded = [any(config.attend_padding for config in _adapters(model)) for model in models]
        if len({*padded}) > 1:
            raise ValueError(
                f"adapters of setting {padded.index(True) + 1} attend to padding, as they were trained, and those of "
                f"setting {padded.index(False) + 1} do not, which gives other states; train them apart."
            )
        for number, model in enumerate(models[1:], 2):
            _share_backbone(models[0], model, number)
        return cls(sorted({tap for model in models for tap in model.encoder.read_taps()}))


def _adapters(model: TaskModel) -> list[Any]:
    return [model.config.adapter_config(name) for name in model.config.adapter_names]


def _share_backbone(first: TaskModel, other: TaskModel, number: int) -> None:
    """Let the other's weights be the first one's memory; a pooler, which no state depends on, may differ."""
    weights = dict(first.encoder.backbone.named_parameters())
    for name, own in other.encoder.backbone.named_parameters():
        if name in weights and torch.equal(own, weights[name]):
            own.data = weights[name].data
        elif not name.startswith("pooler."):
            raise ValueError(
                f"the backbone of setting {number} differs from that of setting 1 in {name}; train it apart."
            )


@dataclass
class SharedStates:
    """The states of one split's batches, each computed for the first run that comes to it (`States`).

    kept: the split's store, where there is one.
    """

    shared: Pass
    kept: SplitStates | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"kept": self.kept}  # a process that loads batches needs no more

    def read(self, examples: Sequence[int], batch: Batch) -> dict[str, torch.Tensor]:
        return {} if self.kept is None else self.kept.read(examples, batch)

    def complete(
        self, accelerator: Accelerator, model: TaskModel, batch: Mapping[str, Any], step: int | None = None
    ) -> dict[str, Any]:
        """A batch on its device with its states, while the other runs wait; they go first where they are behind."""
        shared, inputs = self.shared, {name: batch[name] for name in INPUTS if name in batch}
        shared.lockstep.wait(step)
        if _same(inputs, shared.inputs):
            rest = {name: value for name, value in batch.items() if name != "states"}
            return {**send_to_device(rest, accelerator.device, non_blocking=True), "states": shared.states}
        if self.kept is not None:
            ready = self.kept.complete(accelerator, model, batch, step)
        else:
            ready = send_to_device(dict(batch), accelerator.device, non_blocking=True)
            with accelerator.autocast():
                ready["states"] = model.frozen_states(**{name: ready[name] for name in inputs}, taps=shared.taps)
        shared.inputs, shared.states = inputs, ready["states"]
        return ready


def _same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def check_together(args: Arguments) -> None:
    """Raise ValueError where --together is given to a run that shares nothing, before work starts."""
    if args.settings and not args.model.freeze_bert:
        raise ValueError(
            "--together shares the states of a frozen backbone, but this one is trained; give --freeze_bert, or start "
            "a run for each setting."
        )
    if args.settings and args.data.cache_states == AUTO:
        raise ValueError(
            "--cache_states auto decides for one run alone; with --together give a folder, or leave it out."
        )
