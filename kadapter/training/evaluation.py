"""Predictions of every example exactly once, over any number of processes."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import pad
from tqdm import tqdm

from kadapter.data.columns import Column, feature_column
from kadapter.models.head import Head, Kept
from kadapter.training.batches import Feed
from kadapter.training.task import Predictions


@torch.no_grad()
def predict(
    accelerator: Accelerator, model: nn.Module, feed: Feed, batch_size: int, desc: str = "evaluate"
) -> tuple[Predictions | None, float]:
    """Predictions in the order of `feed.features`, in the main process alone (None elsewhere), and the mean loss.

    They are columns that are filled batch by batch, so that nothing is held twice. `model(**batch)` gives an output, of
    which the `head.kept(output, batch)` of the feed's task is kept.
    """
    lengths, items = (feature_column(feed.features, name).values for name in ("length", "items"))
    order, world = np.argsort(-lengths, kind="stable"), accelerator.num_processes
    # Sharded parameters meet in every forward pass, and results in every gathering: all make as many batches.
    count = math.ceil(math.ceil(len(order) / world) / batch_size)
    shares = [
        np.array_split(order[rank::world], range(batch_size, count * batch_size, batch_size)) for rank in range(world)
    ]
    own = shares[accelerator.process_index]
    inner = feed.of_task(accelerator.unwrap_model(model))
    inner.eval()
    table, loss = _Table(len(order)), torch.zeros((), device=accelerator.device)
    bar = tqdm(
        feed.batches([batch if len(batch) else order[:1] for batch in own]),
        total=count,
        desc=desc,
        unit="batch",
        leave=False,
        dynamic_ncols=True,
        disable=None if accelerator.is_main_process else True,
    )
    for i, batch in enumerate(bar):
        batch = feed.ready(accelerator, inner, batch)
        with accelerator.autocast():
            output = inner(**batch, num_items=1)
        if len(own[i]) and output.loss is not None:
            loss += output.loss
        for name, kept in cast(Head, inner.head).kept(output, batch).items():
            found = _gather(accelerator, kept, batch_size)
            for rank, (values, sizes) in enumerate(found):  # nothing but in the main process
                table.fill(name, shares[rank][i], values, sizes)
    loss = accelerator.reduce(loss, reduction="sum") if world > 1 else loss
    return (table.columns() if accelerator.is_main_process else None), loss.item() / items.sum()


def _gather(accelerator: Accelerator, kept: Kept, rows: int) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Values and sizes of each process in turn, in the main process; elsewhere nothing."""
    values = kept.values.float() if kept.values.is_floating_point() else kept.values.int()
    sizes = kept.sizes
    if accelerator.num_processes == 1:
        return [(values.cpu().numpy(), None if sizes is None else sizes.cpu().numpy())]
    if sizes is not None:
        values = accelerator.pad_across_processes(values, dim=1)
    all_values = _to_main(accelerator, values, rows)
    if sizes is None:
        return [(part, None) for part in all_values]
    return list(zip(all_values, _to_main(accelerator, sizes.int(), rows), strict=True))


def _to_main(accelerator: Accelerator, tensor: torch.Tensor, rows: int) -> list[np.ndarray]:
    """Each process's tensor, filled up to so many rows, in the main process; elsewhere nothing."""
    tensor = pad(tensor, [0, 0] * (tensor.dim() - 1) + [0, rows - len(tensor)]).contiguous()
    into = [torch.empty_like(tensor) for _ in range(accelerator.num_processes)] if accelerator.is_main_process else None
    torch.distributed.gather(tensor, into, dst=0)
    return [part.cpu().numpy() for part in into or ()]


class _Table:
    """Columns of predictions that are filled in any order."""

    def __init__(self, examples: int):
        self.examples = examples
        self.whole: dict[str, np.ndarray] = {}
        self.pieces: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}  # examples, sizes, values

    def fill(self, name: str, indices: np.ndarray, values: np.ndarray, sizes: np.ndarray | None) -> None:
        """The first rows of `values` are those of the examples `indices`; with `sizes`, as much of each as they say."""
        values = values[: len(indices)]
        if sizes is not None:
            sizes = sizes[: len(indices)]
            present = np.arange(values.shape[1]) < sizes[:, None]
            self.pieces.setdefault(name, []).append((indices, sizes, values[present]))
            return
        if name not in self.whole:
            self.whole[name] = np.empty((self.examples, *values.shape[1:]), values.dtype)
        self.whole[name][indices] = values

    def columns(self) -> dict[str, Column]:
        found = {name: Column(values) for name, values in self.whole.items()}
        return {**found, **{name: self._joined(pieces) for name, pieces in self.pieces.items()}}

    def _joined(self, pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Column:
        offsets = np.zeros(self.examples + 1, dtype=np.int64)
        for indices, sizes, _ in pieces:
            offsets[indices + 1] = sizes
        np.cumsum(offsets, out=offsets)
        joined = np.empty(offsets[-1], pieces[0][2].dtype)
        for indices, sizes, values in pieces:
            # Of each value its place: where its example begins, and its number there.
            begins = np.repeat(offsets[indices] - np.concatenate(([0], np.cumsum(sizes)[:-1])), sizes)
            joined[begins + np.arange(len(values))] = values
        return Column(joined, offsets)
