"""Which examples make up which step.

The order of the data is a function of (seed, epoch) alone, and a step is one batch of the whole job, which is cut into
micro-batches and shared out to the processes. So a position in the data is one number, a resumed run repeats exactly
what an unbroken one does, and any number of processes sees the same steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from datasets import Dataset
from torch.utils.data import DataLoader

from kadapter.data.collation import COLLATED, Batch, Collator
from kadapter.data.columns import Column, feature_column, feature_rows
from kadapter.models.joint import JointModel
from kadapter.models.task_model import TaskModel
from kadapter.training.arguments import TrainingArguments
from kadapter.training.states import States


@dataclass(frozen=True)
class Feed:
    """Where batches come from.

    num_workers: processes that load them.
    states: what the frozen backbone makes of them, where that is kept, or shared with other runs.
    task: of several that are trained together, the one whose examples these are; "" where there is one.
    """

    features: Dataset
    collate: Collator
    group_by_length: bool = True
    num_workers: int = 0
    states: States | None = None
    task: str = ""

    @property
    def chosen(self) -> dict[str, str]:
        """What tells a model of several tasks whose batch it gets; nothing for a model of one."""
        return {"task": self.task} if self.task else {}

    def of_task(self, model: torch.nn.Module) -> TaskModel:
        """The task's own model within one of several tasks; a model of one task is that itself."""
        return cast(TaskModel, cast(JointModel, model).tasks[self.task] if self.task else model)

    def batches(self, indices: list[np.ndarray], epoch: int | None = None) -> DataLoader:
        """A loader of just these batches, in this order; `epoch` is that of training."""
        # A generator of its own: a loader draws a number at its start, which would change what a resumed run draws.
        return DataLoader(
            _Batches(self.features, self.collate, epoch, self.states),
            batch_sampler=[batch.tolist() for batch in indices],
            collate_fn=_as_it_is,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),
        )

    def ready(
        self, accelerator: Accelerator, model: torch.nn.Module, batch: dict[str, Any], step: int | None = None
    ) -> dict[str, Any]:
        """A batch on its device; where states are kept or shared, with all that `model` would make of it.

        Args:
            step: of training; None where it is for evaluation.
        """
        if self.states is None:
            return send_to_device(batch, accelerator.device, non_blocking=True)  # the loader pins them
        return self.states.complete(accelerator, cast(TaskModel, accelerator.unwrap_model(model)), batch, step)


class _Batches(torch.utils.data.Dataset):
    """Batches by the indices of their examples; features are read many at a time, as arrays."""

    def __init__(self, features: Dataset, collate: Collator, epoch: int | None, states: States | None):
        kept = [name for name in features.column_names if name in COLLATED]
        self.features = features.select_columns(kept).with_format("arrow")
        self.collate, self.epoch, self.states = collate, epoch, states

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> dict[str, Any]:
        rows: list[Any] = feature_rows(self.features[indices])
        batch: dict[str, Any] = dict(self.collate(rows, self.epoch))
        if "group_sizes" in batch:
            batch["largest_group"] = int(batch["group_sizes"].max())  # here, where no device has to be waited for
        return batch if self.states is None else {**batch, "states": self.states.read(indices, batch)}


def _as_it_is(batch: Any) -> Any:
    return batch


def order_batches(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int, group_by_length: bool
) -> list[np.ndarray]:
    """The batches of one epoch: a permutation of all examples, cut into pieces of `batch_size`.

    Args:
        group_by_length: sort within runs of 50 batches, then shuffle the batches, so that little is padded.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    if group_by_length:
        chunk = 50 * batch_size
        runs = [order[i : i + chunk] for i in range(0, len(order), chunk)]
        order = np.concatenate([run[np.argsort(-lengths[run], kind="stable")] for run in runs])
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if group_by_length:
        batches = [batches[i] for i in random.permutation(len(batches))]
    return batches


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    feed: where the examples come from.
    indices: the examples of each micro-batch, over all processes; of any sizes.
    divisors: what this process divides the summed loss of each of its micro-batches by.
    batches: this process's part of each.
    number: counted from 0.
    """

    feed: Feed
    indices: list[np.ndarray]
    divisors: list[float]
    batches: list[Batch]
    number: int = 0

    @property
    def tokens(self) -> np.ndarray:
        """[2] tokens of the batches without and with padding."""
        masks = [batch["attention_mask"] for batch in self.batches]
        return np.array([sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)])


@dataclass(frozen=True)
class TokenBudget:
    """How steps are cut into micro-batches by tokens instead of examples.

    max_tokens: of a process's part of a micro-batch, padding counted.
    widths: [examples] tokens that the longest sequence of each is padded to at least.
    sequences: [examples] how many each has.
    """

    max_tokens: int
    widths: np.ndarray
    sequences: np.ndarray

    @classmethod
    def make(cls, feed: Feed, max_tokens: int) -> TokenBudget:
        """Raises ValueError where not even one example is within it."""
        widths, ids = feature_column(feed.features, "length").values, feature_column(feed.features, "input_ids")
        widths = -(-widths // feed.collate.multiple) * feed.collate.multiple
        if feed.collate.max_length:
            widths = np.full_like(widths, feed.collate.max_length)
        sequences = ids.sizes if isinstance(ids.values, Column) else np.ones_like(widths)
        if (longest := int((widths * sequences).max())) > max_tokens:
            raise ValueError(
                f"--max_tokens_per_batch is {max_tokens}, but an example has {longest} tokens; give at least as many."
            )
        return cls(max_tokens, widths, sequences)

    def cut(self, step: np.ndarray, world: int) -> list[np.ndarray]:
        """Micro-batches of a step's examples, the longest first, as few as fit one after the other."""
        order = step[np.argsort(-self.widths[step], kind="stable")]
        batches, begin, held = [], 0, [0] * world
        for i, example in enumerate(order):
            rank = (i - begin) % world  # as `Plan.share` deals them out
            if i > begin and self.widths[order[begin]] * (held[rank] + self.sequences[example]) > self.max_tokens:
                batches.append(order[begin:i])
                begin, held, rank = i, [0] * world, 0
            held[rank] += self.sequences[example]
        return [*batches, order[begin:]]


def accumulation_steps(batch_size: int, per_device: int, world: int) -> int:
    """The fewest micro-batches of at most `per_device` examples a process that make up steps of `batch_size`.

    Raises:
        ValueError: the processes cannot share a step out evenly.
    """
    if batch_size % world:
        raise ValueError(
            f"this run takes {batch_size} examples a step, which {world} processes cannot share out evenly; take a "
            f"number of processes that divides {batch_size}, or start anew with --overwrite_output_dir."
        )
    share = batch_size // world
    return next(count for count in range(-(-share // per_device), share + 1) if share % count == 0)


@dataclass
class Plan:
    """All steps of a training.

    lengths, items: [examples] tokens, and terms of the loss.
    batch_size: examples a step, over all micro-batches and processes.
    accumulation: micro-batches a step; `world`: processes.
    mean_of_means: the loss of a step is the mean of the micro-batches' own means, as the original has it.
    budget: cuts steps into micro-batches, whose number differs then; None cuts them evenly.
    """

    lengths: np.ndarray
    items: np.ndarray
    batch_size: int
    accumulation: int
    world: int
    seed: int
    group_by_length: bool
    mean_of_means: bool
    budget: TokenBudget | None = None
    total_steps: int = 0

    @classmethod
    def make(cls, feed: Feed, args: TrainingArguments, batch_size: int, world: int) -> Plan:
        """Raises ValueError where steps of `batch_size` cannot be shared out as the arguments say."""
        accumulation = accumulation_steps(batch_size, args.per_gpu_train_batch_size, world)
        if args.original_accumulation and accumulation != args.gradient_accumulation_steps:
            raise ValueError(
                f"with {world} processes a step of {batch_size} examples takes {accumulation} micro-batches instead of "
                f"{args.gradient_accumulation_steps}, which --original_accumulation does not leave the same; take the "
                "number of processes that the run began with."
            )
        plan = cls(
            lengths=feature_column(feed.features, "length").values,
            items=feature_column(feed.features, "items").values,
            batch_size=batch_size,
            accumulation=accumulation,
            world=world,
            seed=cast(int, args.data_seed),
            group_by_length=feed.group_by_length,
            mean_of_means=args.original_accumulation,
            budget=TokenBudget.make(feed, args.max_tokens_per_batch) if args.max_tokens_per_batch else None,
        )
        epochs = math.ceil(args.num_train_epochs * plan.steps_per_epoch)
        plan.total_steps = args.max_steps if args.max_steps > 0 else epochs
        return plan

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size)

    def epoch(self, number: int) -> list[list[np.ndarray]]:
        """The micro-batches of each step of an epoch, over all processes."""
        size = self.batch_size // self.accumulation
        steps = order_batches(self.lengths, self.batch_size, self.seed, number, self.group_by_length)
        if self.budget is not None:
            return [self.budget.cut(step, self.world) for step in steps]
        return [[step[i : i + size] for i in range(0, len(step), size)] for step in steps]

    def share(self, indices: np.ndarray, rank: int) -> np.ndarray:
        """A process's part of a micro-batch; where there is none for it, an example that its divisor makes count 0."""
        own = indices[rank :: self.world]
        return own if len(own) else indices[:1]

    def divisors(self, indices: list[np.ndarray], rank: int) -> list[float]:
        """What the summed loss of each micro-batch is divided by, so that processes' mean gradients are the step's.

        The loss of a step is the mean over all its items, whatever the micro-batches and processes; as the original
        has it, the mean of the micro-batches' own means.
        """
        own = [batch[rank :: self.world] for batch in indices]
        if self.mean_of_means:
            counts = [self.items[share].sum() * self.accumulation for share in own]
        else:
            counts = [self.items[np.concatenate(indices)].sum() / self.world] * len(indices)
        return [float(count) if len(share) else math.inf for count, share in zip(counts, own, strict=True)]

    def steps(self, feed: Feed, begin: int, rank: int) -> Iterator[Step]:
        """Step `begin`, counted from 0, and all that follow, with the batches of process `rank`."""
        step = begin
        while step < self.total_steps:
            epoch, done = divmod(step, self.steps_per_epoch)
            wanted = self.epoch(epoch)[done:][: self.total_steps - step]
            loader = iter(feed.batches([self.share(batch, rank) for indices in wanted for batch in indices], epoch))
            for indices in wanted:
                yield Step(feed, indices, self.divisors(indices, rank), list(islice(loader, len(indices))), step)
                step += 1


@dataclass(frozen=True)
class Turns:
    """All steps of a training, of one task or of several in turn.

    Of n tasks, step i, counted from 0, is one of task i modulo n, so that each has every n-th step. Each goes through
    epochs of its own: one of all is over with the longest of them, and the others have begun anew by then.
    """

    feeds: Sequence[Feed]
    plans: Sequence[Plan]
    total_steps: int

    @classmethod
    def make(cls, feeds: Sequence[Feed], args: TrainingArguments, batch_size: int, world: int) -> Turns:
        """Raises ValueError as `Plan.make`."""
        plans = [Plan.make(feed, args, batch_size, world) for feed in feeds]
        longest = max(plan.total_steps for plan in plans)
        total = args.max_steps if args.max_steps > 0 else len(plans) * longest
        for place, plan in enumerate(plans):
            plan.total_steps = cls._own(place, len(plans), total)
        return cls(feeds, plans, total)

    @staticmethod
    def _own(place: int, tasks: int, steps: int) -> int:
        """How many of the first `steps` steps are those of the task at that place."""
        return len(range(place, steps, tasks))

    @property
    def steps_per_epoch(self) -> int:
        return len(self.plans) * max(plan.steps_per_epoch for plan in self.plans)

    @property
    def micro_batch_size(self) -> int:
        """Examples of a micro-batch in each process, where micro-batches are cut evenly."""
        plan = self.plans[0]
        return plan.batch_size // plan.accumulation // plan.world

    def steps(self, begin: int, rank: int) -> Iterator[Step]:
        """As `Plan.steps`, over all tasks."""
        count = len(self.plans)
        pairs = zip(self.plans, self.feeds, strict=True)
        own = [plan.steps(feed, self._own(place, count, begin), rank) for place, (plan, feed) in enumerate(pairs)]
        for step in range(begin, self.total_steps):
            yield next(own[step % count])
