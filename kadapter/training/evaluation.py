"""Predictions of every example exactly once, over any number of processes."""

from __future__ import annotations

import math

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from datasets import Dataset
from torch import nn
from tqdm import tqdm

from kadapter.training.batches import Collate, columns, make_loader

Predictions = list[dict[str, np.ndarray]]


@torch.no_grad()
def predict(
    accelerator: Accelerator,
    model: nn.Module,
    dataset: Dataset,
    collate: Collate,
    batch_size: int,
    num_workers: int = 0,
    desc: str = "evaluate",
) -> tuple[Predictions, float]:
    """Predictions in the order of `dataset`, in every process, and the mean loss.

    `model(**batch)` gives an output; the unwrapped model's `predictions(output, batch)` gives, by name, one array
    an example.
    """
    found_columns = columns(dataset)
    order, world = np.argsort(-found_columns["length"], kind="stable"), accelerator.num_processes
    share = order[accelerator.process_index :: world]
    batches = [share[i : i + batch_size] for i in range(0, len(share), batch_size)]
    # Sharded parameters meet in every forward pass, so all processes make as many; what is too much is not kept.
    spare = math.ceil(math.ceil(len(order) / world) / batch_size) - len(batches)
    inner = accelerator.unwrap_model(model)
    inner.eval()
    found: list[tuple[int, dict[str, np.ndarray]]] = []
    loss = torch.zeros((), device=accelerator.device)
    made = batches + [order[:1]] * spare
    bar = tqdm(
        zip(made, make_loader(dataset, made, collate, num_workers), strict=True),
        total=len(made),
        desc=desc,
        unit="batch",
        leave=False,
        dynamic_ncols=True,
        disable=None if accelerator.is_main_process else True,
    )
    for i, (indices, batch) in enumerate(bar):
        batch = send_to_device(batch, accelerator.device)
        with accelerator.autocast():
            output = inner(**batch, num_items=1)
        if i < len(batches):
            loss += output.loss
            found += zip(indices.tolist(), inner.predictions(output, batch), strict=True)
    if world > 1:
        found, loss = gather_object(found), accelerator.reduce(loss, reduction="sum")
    found.sort(key=lambda pair: pair[0])
    return [prediction for _, prediction in found], loss.item() / found_columns["items"].sum()
