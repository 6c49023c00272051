"""Which examples make up which step.

The order of the data is a function of (seed, epoch) alone and a step is made of global batches, which the processes
share out. So a position in the data is one number, a resumed run repeats exactly what an unbroken one does, and
any number of processes sees the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from kadapter.training.arguments import TrainingArguments

Collate = Callable[..., dict[str, torch.Tensor]]  # of examples and, in training, `epoch`


def make_batches(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int, group_by_length: bool, at_least: int = 1
) -> list[np.ndarray]:
    """Global batches of one epoch: a permutation of all examples, cut into pieces of `batch_size`.

    Args:
        group_by_length: sort within runs of 50 batches, then shuffle the batches, so that little is padded.
        at_least: a last batch of fewer examples joins the one before, so that every process has some.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    if group_by_length:
        chunk = 50 * batch_size
        runs = [order[i : i + chunk] for i in range(0, len(order), chunk)]
        order = np.concatenate([run[np.argsort(-lengths[run], kind="stable")] for run in runs])
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if len(batches) > 1 and len(batches[-1]) < at_least:
        batches[-2:] = [np.concatenate(batches[-2:])]
    if group_by_length:
        batches = [batches[i] for i in random.permutation(len(batches))]
    return batches


def make_loader(dataset: Dataset, batches: list[np.ndarray], collate: Collate, num_workers: int) -> DataLoader:
    """A loader of just these batches, in this order."""
    # A generator of its own: a loader draws a number at its start, which would tell a resumed run from an unbroken one.
    return DataLoader(
        dataset,
        batch_sampler=[batch.tolist() for batch in batches],
        collate_fn=collate,  # type: ignore[arg-type]
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )


def columns(dataset: Dataset) -> dict[str, np.ndarray]:
    """The columns "length" (tokens) and "items" (what the loss counts), [examples] each."""
    return dataset.select_columns(["length", "items"]).with_format("numpy")[:]


@dataclass
class Plan:
    """Batches and steps of a whole training, the same in every process."""

    lengths: np.ndarray
    items: np.ndarray
    batch_size: int
    accumulation: int
    world: int
    seed: int
    group_by_length: bool
    mean_of_means: bool
    steps_per_epoch: int = 0
    total_steps: int = 0

    @classmethod
    def make(cls, dataset: Dataset, args: TrainingArguments, world: int, group_by_length: bool) -> Plan:
        """Raises ValueError where there are fewer examples than processes."""
        if len(dataset) < world:
            raise ValueError(f"{len(dataset)} training examples cannot be shared by {world} processes; use fewer.")
        found = columns(dataset)
        plan = cls(
            lengths=found["length"],
            items=found["items"],
            batch_size=args.per_gpu_train_batch_size * world,
            accumulation=args.gradient_accumulation_steps,
            world=world,
            seed=args.seed,
            group_by_length=group_by_length,
            mean_of_means=args.original_accumulation,
        )
        plan.steps_per_epoch = math.ceil(len(plan.epoch(0)) / plan.accumulation)
        epochs = math.ceil(args.num_train_epochs * plan.steps_per_epoch)
        plan.total_steps = args.max_steps if args.max_steps > 0 else epochs
        return plan

    def epoch(self, number: int) -> list[np.ndarray]:
        return make_batches(self.lengths, self.batch_size, self.seed, number, self.group_by_length, self.world)

    def divisors(self, indices: list[np.ndarray], rank: int) -> list[float]:
        """What the summed loss of each micro-batch is divided by, so that processes' mean gradients are the step's.

        The loss of a step is the mean over all its items, whatever the micro-batches and processes; as the original
        has it, the mean of the micro-batches' own means.
        """
        if self.mean_of_means:
            return [self.items[batch[rank :: self.world]].sum() * self.accumulation for batch in indices]
        return [self.items[np.concatenate(indices)].sum() / self.world] * len(indices)

    def steps(
        self, dataset: Dataset, collate: Collate, begin: int, rank: int, num_workers: int
    ) -> Iterator[tuple[list[np.ndarray], list[dict[str, torch.Tensor]]]]:
        """(global batches of indices, this process's batches of tensors) of step `begin` and all that follow."""
        step = begin
        while step < self.total_steps:
            epoch, done = divmod(step, self.steps_per_epoch)
            batches = self.epoch(epoch)[done * self.accumulation :][: (self.total_steps - step) * self.accumulation]
            shares = [batch[rank :: self.world] for batch in batches]
            loader = make_loader(dataset, shares, partial(collate, epoch=epoch), num_workers)
            pairs = iter(zip(batches, loader, strict=True))
            while group := list(islice(pairs, self.accumulation)):
                yield [indices for indices, _ in group], [batch for _, batch in group]
                step += 1
