"""The loop: forward, backward, clip, step, schedule, log, evaluate, checkpoint. It knows no task, head or metric.

Order of the data is a function of (seed, epoch) alone and a step of global batches, which the processes share
out. So a position in the data is one number, a resumed run repeats exactly what an unbroken one does, and any
number of processes sees the same batches.
"""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device, set_seed
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from kadapter.arguments import TrainingArguments
from kadapter.resume import load_checkpoint, save_checkpoint
from kadapter.tracking import Run

logger = logging.getLogger(__name__)

Collate = Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]
TERMINATED = 128 + signal.SIGTERM


@dataclass
class Progress:
    """Where a run stands; saved in every checkpoint."""

    step: int = 0
    best_step: int = 0
    best_score: float = -math.inf
    evaluations_without_gain: int = 0
    seconds: float = 0.0
    complete: bool = False


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


def build_optimizer(model: nn.Module, args: TrainingArguments) -> torch.optim.AdamW:
    """AdamW on what is trained, without decay on biases and LayerNorm, as the original."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decayed = [p for name, p in trained if not name.endswith("bias") and "LayerNorm.weight" not in name]
    plain = [p for name, p in trained if name.endswith("bias") or "LayerNorm.weight" in name]
    groups = [{"params": decayed, "weight_decay": args.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=args.learning_rate, eps=args.adam_epsilon)


def clip_gradients(accelerator: Accelerator, model: nn.Module, max_norm: float) -> None:
    """Clip backbone and the rest separately, once an optimizer step (docs/deviations.md, 7)."""
    accelerator.unscale_gradients()
    named = [(name, p) for name, p in model.named_parameters() if p.grad is not None]
    for group in ([p for name, p in named if "backbone." in name], [p for name, p in named if "backbone." not in name]):
        if group:
            nn.utils.clip_grad_norm_(group, max_norm)


def train(
    accelerator: Accelerator,
    model: nn.Module,
    dataset: Dataset,
    collate: Collate,
    args: TrainingArguments,
    run: Run,
    *,
    group_by_length: bool = True,
    num_workers: int = 0,
    evaluate_dev: Callable[[nn.Module], Mapping[str, float]] | None = None,
    metric: str = "",
    save_best: Callable[[nn.Module], None] | None = None,
) -> Progress:
    """Train what is not frozen.

    Args:
        model: `model(**batch, num_items=...)` returns an output with `loss`.
        dataset: features with the columns length, items and record.
        evaluate_dev: gives the dev scores, of which `metric` (higher is better) chooses the best.
        save_best: called with the unwrapped model whenever that score grows.

    Raises:
        FloatingPointError: a loss that is not finite, with step and record numbers; earlier checkpoints stay.
        SystemExit: 143, after SIGTERM and a checkpoint.
    """
    plan = _Plan.make(dataset, args, accelerator.num_processes, group_by_length)
    optimizer = build_optimizer(model, args)
    schedule = get_linear_schedule_with_warmup(optimizer, args.warmup_steps, plan.total_steps)
    inner = model
    model, optimizer = accelerator.prepare(model, optimizer)
    set_seed(args.seed, device_specific=True)
    progress = load_checkpoint(accelerator, run.folder, inner, schedule, Progress) or Progress()
    run.resume_at(progress.step)
    logger.info(
        "%d examples, %d steps of %d, %s trained parameters of %s",
        len(dataset),
        plan.total_steps,
        plan.batch_size * args.gradient_accumulation_steps,
        f"{_count(inner, True):,}",
        f"{_count(inner, False):,}",
    )
    began, recent = time.perf_counter() - progress.seconds, _Losses(accelerator, dataset)
    bar = tqdm(
        total=plan.total_steps,
        initial=progress.step,
        desc="train",
        unit="step",
        dynamic_ncols=True,
        disable=None if accelerator.is_main_process else True,
    )
    with _terminated() as stop:
        model.train()
        while progress.step < plan.total_steps and not progress.complete:
            for indices, batches in plan.steps(dataset, collate, progress.step, accelerator.process_index, num_workers):
                loss = _accumulate(accelerator, model, batches, plan.items[np.concatenate(indices)].sum())
                if args.max_grad_norm > 0:
                    clip_gradients(accelerator, inner, args.max_grad_norm)
                optimizer.step()
                if not accelerator.optimizer_step_was_skipped:
                    schedule.step()
                optimizer.zero_grad()
                progress.step += 1
                recent.add(progress.step, loss, indices)
                bar.update()

                last = progress.step == plan.total_steps
                logs = progress.step % args.logging_steps == 0
                saves = last or (args.save_steps > 0 and progress.step % args.save_steps == 0)
                evaluates = evaluate_dev is not None and (
                    last or (bool(args.eval_steps) and progress.step % int(args.eval_steps or 0) == 0)
                )
                # With several processes the signal is shared where they meet anyway.
                stopped = _any(accelerator, stop) if logs or accelerator.num_processes == 1 else False
                if logs or saves or evaluates or stopped:
                    mean = recent.finish()
                    rate = schedule.get_last_lr()[0]
                    bar.set_postfix(loss=f"{mean:.4f}", lr=f"{rate:.1e}")
                    run.scalars(progress.step, {"loss": mean, "lr": rate})
                if evaluates:
                    assert evaluate_dev is not None
                    _evaluate(accelerator, inner, model, evaluate_dev, metric, save_best, args, run, progress, plan)
                    saves = saves or progress.complete
                progress.seconds = time.perf_counter() - began
                if saves or stopped:
                    save_checkpoint(accelerator, run.folder, inner, schedule, progress, args.max_save_checkpoints)
                if stopped:
                    run.close()
                    logger.warning(
                        "stopped by SIGTERM after step %d; the same command goes on from here", progress.step
                    )
                    raise SystemExit(TERMINATED)
                if progress.complete:
                    break
    bar.close()
    return progress


@dataclass
class _Plan:
    """Batches and steps, the same in every process."""

    lengths: np.ndarray
    items: np.ndarray
    batch_size: int
    accumulation: int
    world: int
    seed: int
    group_by_length: bool
    steps_per_epoch: int
    total_steps: int

    @classmethod
    def make(cls, dataset: Dataset, args: TrainingArguments, world: int, group_by_length: bool) -> _Plan:
        columns = dataset.select_columns(["length", "items"]).with_format("numpy")[:]
        batch_size = args.per_gpu_train_batch_size * world
        if len(dataset) < world:
            raise ValueError(f"{len(dataset)} training examples cannot be shared by {world} processes; use fewer.")
        batches = make_batches(columns["length"], batch_size, args.seed, 0, group_by_length, world)
        per_epoch = math.ceil(len(batches) / args.gradient_accumulation_steps)
        total = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * per_epoch)
        return cls(
            columns["length"],
            columns["items"],
            batch_size,
            args.gradient_accumulation_steps,
            world,
            args.seed,
            group_by_length,
            per_epoch,
            total,
        )

    def steps(self, dataset: Dataset, collate: Collate, step: int, rank: int, num_workers: int) -> Iterator[tuple]:
        """(global batches of indices, this process's batches of tensors) from `step` to the end of its epoch."""
        epoch, done = divmod(step, self.steps_per_epoch)
        batches = make_batches(self.lengths, self.batch_size, self.seed, epoch, self.group_by_length, self.world)
        batches = batches[done * self.accumulation :][: (self.total_steps - step) * self.accumulation]
        loader = _loader(dataset, [batch[rank :: self.world] for batch in batches], collate, num_workers)
        pairs = iter(zip(batches, loader, strict=True))
        while group := list(islice(pairs, self.accumulation)):
            yield [indices for indices, _ in group], [batch for _, batch in group]


def _loader(dataset: Dataset, batches: list[np.ndarray], collate: Collate, num_workers: int) -> DataLoader:
    # A generator of its own: a loader draws a number at its start, which would tell a resumed run from an unbroken one.
    return DataLoader(
        dataset,
        batch_sampler=[batch.tolist() for batch in batches],
        collate_fn=collate,  # type: ignore[arg-type]
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )


def _accumulate(accelerator: Accelerator, model: nn.Module, batches: list[dict], items: float) -> torch.Tensor:
    """Gradients of one optimizer step: the mean over all its items, whatever the micro-batches and processes."""
    total = torch.zeros((), device=accelerator.device)
    for i, batch in enumerate(batches):
        last = i == len(batches) - 1
        with contextlib.nullcontext() if last else accelerator.no_sync(model):
            loss = model(**send_to_device(batch, accelerator.device), num_items=items / accelerator.num_processes).loss
            accelerator.backward(loss)
        total += loss.detach()
    return total


def _evaluate(
    accelerator: Accelerator,
    inner: nn.Module,
    model: nn.Module,
    evaluate_dev: Callable,
    metric: str,
    save_best: Callable | None,
    args: TrainingArguments,
    run: Run,
    progress: Progress,
    plan: _Plan,
) -> None:
    """Score on dev, keep the best, count towards early stopping."""
    began = time.perf_counter()
    metrics = evaluate_dev(model)
    model.train()
    run.result("dev", progress.step, progress.step / plan.steps_per_epoch, metrics, time.perf_counter() - began)
    if metrics[metric] > progress.best_score:
        progress.best_score, progress.best_step, progress.evaluations_without_gain = metrics[metric], progress.step, 0
        if save_best is not None:
            save_best(inner)
    else:
        progress.evaluations_without_gain += 1
    if args.patience and progress.evaluations_without_gain >= args.patience:
        logger.info("no better %s in %d evaluations: stopping early", metric, args.patience)
        progress.complete = True
    accelerator.wait_for_everyone()


class _Losses:
    """Losses since the last look at them; they stay on the device, so that no step waits for the host."""

    def __init__(self, accelerator: Accelerator, dataset: Dataset):
        self.accelerator, self.dataset = accelerator, dataset
        self.kept: list[tuple[int, torch.Tensor, list[np.ndarray]]] = []

    def add(self, step: int, loss: torch.Tensor, indices: list[np.ndarray]) -> None:
        self.kept.append((step, loss, indices))

    def finish(self) -> float:
        """Their mean over steps and processes."""
        losses = self.accelerator.reduce(torch.stack([loss for _, loss, _ in self.kept]), reduction="mean")
        for (step, _, indices), finite in zip(self.kept, torch.isfinite(losses).tolist(), strict=True):
            if not finite:
                records = self.dataset.select(np.sort(np.concatenate(indices)))["record"]
                raise FloatingPointError(
                    f"the loss is not finite at step {step}, whose batch holds the records {list(records)}; look at "
                    "them, or lower --learning_rate. The last checkpoint is kept."
                )
        self.kept.clear()
        return losses.mean().item()


@contextlib.contextmanager
def _terminated() -> Iterator[list[bool]]:
    """A list that is no longer empty once SIGTERM has come."""
    seen: list[bool] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(True))
    try:
        yield seen
    finally:
        signal.signal(signal.SIGTERM, before)


def _any(accelerator: Accelerator, seen: list[bool]) -> bool:
    if accelerator.num_processes == 1:
        return bool(seen)
    flag = torch.tensor(float(bool(seen)), device=accelerator.device)
    return accelerator.reduce(flag, reduction="sum").item() > 0


def _count(model: nn.Module, trained: bool) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trained)


@torch.no_grad()
def predict(
    accelerator: Accelerator,
    model: nn.Module,
    dataset: Dataset,
    collate: Collate,
    batch_size: int,
    num_workers: int = 0,
    desc: str = "evaluate",
) -> tuple[list[dict[str, np.ndarray]], float]:
    """Predictions of every example exactly once and in order, in every process, and the mean loss.

    `model(**batch)` gives an output; the unwrapped model's `predictions(output, batch)` gives, by name, one array
    an example.
    """
    columns = dataset.select_columns(["length", "items"]).with_format("numpy")[:]
    order = np.argsort(-columns["length"], kind="stable")[accelerator.process_index :: accelerator.num_processes]
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    inner = accelerator.unwrap_model(model)
    inner.eval()
    found: list[tuple[int, dict[str, np.ndarray]]] = []
    loss = 0.0
    bar = tqdm(
        total=len(batches),
        desc=desc,
        unit="batch",
        leave=False,
        dynamic_ncols=True,
        disable=None if accelerator.is_main_process else True,
    )
    for indices, batch in zip(batches, _loader(dataset, batches, collate, num_workers), strict=True):
        batch = send_to_device(batch, accelerator.device)
        with accelerator.autocast():
            output = inner(**batch, num_items=1)
        loss += output.loss.item()
        found += zip(indices.tolist(), inner.predictions(output, batch), strict=True)
        bar.update()
    bar.close()
    if accelerator.num_processes > 1:
        found, losses = gather_object(found), gather_object([loss])
        loss = sum(losses)
    found.sort(key=lambda pair: pair[0])
    return [prediction for _, prediction in found], loss / columns["items"].sum()
