"""The loop: forward, backward, clip, step, schedule, log, evaluate, checkpoint. It knows no task, head or metric."""

from __future__ import annotations

import contextlib
import logging
import math
import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, send_to_device, set_seed
from datasets import Dataset
from torch import nn
from tqdm import tqdm

from kadapter.training.arguments import TrainingArguments
from kadapter.training.batches import Collate, Plan
from kadapter.training.optimization import build_optimizer, build_schedule, clip_gradients, parameter_table
from kadapter.training.resume import load_checkpoint, save_checkpoint
from kadapter.training.tracking import Run

logger = logging.getLogger(__name__)

TERMINATED = 128 + signal.SIGTERM


@dataclass
class Progress:
    """Where a run stands; saved in every checkpoint."""

    step: int = 0
    best_step: int = 0
    best_score: float = -math.inf
    evaluations_without_gain: int = 0
    seconds: float = 0.0
    peak_memory_mib: int = 0
    complete: bool = False


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
) -> tuple[nn.Module, Progress]:
    """Train what is not frozen.

    Args:
        model: `model(**batch, num_items=...)` returns an output with `loss`.
        dataset: features with the columns length, items and record.
        evaluate_dev: gives the dev scores, of which `metric` (higher is better) chooses the best.
        save_best: called with the prepared model whenever that score grows.

    Returns:
        The model as accelerate prepared it, and where the run ended.

    Raises:
        FloatingPointError: a loss that is not finite, with step and record numbers; earlier checkpoints stay.
        SystemExit: 143, after SIGTERM and a checkpoint.
    """
    plan = Plan.make(dataset, args, accelerator.num_processes, group_by_length)
    optimizer = build_optimizer(model, args)
    schedule = build_schedule(optimizer, args, plan.total_steps)
    _announce(model, dataset, plan)
    _tell_deepspeed(accelerator, args)
    model, optimizer = accelerator.prepare(model, optimizer)
    set_seed(args.seed, device_specific=True)
    progress = load_checkpoint(accelerator, run.folder, model, schedule, Progress) or Progress()
    run.resume_at(progress.step)
    began, losses = time.perf_counter() - progress.seconds, _Losses(accelerator, dataset)
    steps = plan.steps(dataset, collate, progress.step, accelerator.process_index, num_workers)
    with _terminated() as stop, _bar(accelerator, plan.total_steps, progress.step) as bar:
        model.train()
        while not progress.complete and (step := next(steps, None)):
            indices, batches = step
            divisors = plan.divisors(indices, accelerator.process_index)
            loss = _accumulate(accelerator, model, batches, divisors, args)
            _update(accelerator, model, optimizer, schedule, args)
            progress.step += 1
            losses.add(progress.step, loss, indices)
            bar.update()

            logs, evaluates, saves = _due(progress.step, plan.total_steps, args)
            # With several processes the signal is shared where they meet anyway.
            stopped = _any(accelerator, stop) if logs or accelerator.num_processes == 1 else False
            if logs or evaluates or saves or stopped:
                _log(run, bar, progress.step, losses.finish(), float(schedule.get_last_lr()[0]))
            if evaluates and evaluate_dev is not None:
                _evaluate(model, evaluate_dev, metric, save_best, run, progress, plan.steps_per_epoch)
                progress.complete = 0 < args.patience <= progress.evaluations_without_gain
            progress.seconds = time.perf_counter() - began
            if saves or stopped or progress.complete:
                progress.peak_memory_mib = max(progress.peak_memory_mib, _peak_memory(accelerator.device))
                save_checkpoint(accelerator, run.folder, model, schedule, progress, args.max_save_checkpoints)
            if stopped:
                _stop(run, progress.step)
    if progress.complete:
        logger.info("no better %s in %d evaluations: stopped early", metric, args.patience)
    return model, progress


def _log(run: Run, bar: tqdm, step: int, loss: float, rate: float) -> None:
    bar.set_postfix(loss=f"{loss:.4f}", lr=f"{rate:.1e}")
    run.scalars(step, {"loss": loss, "lr": rate})


def _stop(run: Run, step: int) -> NoReturn:
    run.close()
    logger.warning("stopped by SIGTERM after step %d; the same command goes on from here", step)
    raise SystemExit(TERMINATED)


def _peak_memory(device: torch.device) -> int:
    """MiB that tensors took of a GPU, or that this process took of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _tell_deepspeed(accelerator: Accelerator, args: TrainingArguments) -> None:
    """DeepSpeed clips (one norm of all) and steps by itself; the loss is normalised here already."""
    plugin = accelerator.state.deepspeed_plugin if accelerator.distributed_type == DistributedType.DEEPSPEED else None
    if plugin is not None:
        if args.original_accumulation:
            raise ValueError("--original_accumulation does not go with DeepSpeed, which clips by itself; leave it out.")
        plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": args.per_gpu_train_batch_size,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": args.max_grad_norm,
        }


def _update(accelerator: Accelerator, model: nn.Module, optimizer: Any, schedule: Any, args: TrainingArguments) -> None:
    """Clip, step, schedule; a step that the loss scaler skipped does not count for the schedule."""
    if args.max_grad_norm > 0:
        accelerator.unscale_gradients()
        clip_gradients(model, args.max_grad_norm, args.clip_separately)
    optimizer.step()
    if not accelerator.optimizer_step_was_skipped:
        schedule.step()
    optimizer.zero_grad()


def _due(step: int, total: int, args: TrainingArguments) -> tuple[bool, bool, bool]:
    """Whether this step logs, evaluates, saves; the last one evaluates and saves."""

    def every(interval: int | None) -> bool:
        return bool(interval) and step % int(interval or 0) == 0

    last = step == total
    return every(args.logging_steps), last or every(args.eval_steps), last or every(args.save_steps)


def _announce(model: nn.Module, dataset: Dataset, plan: Plan) -> None:
    batch = plan.batch_size * plan.accumulation
    logger.info("%d examples, %d steps of %d\n%s", len(dataset), plan.total_steps, batch, parameter_table(model))


def _bar(accelerator: Accelerator, total: int, initial: int) -> tqdm:
    """A bar for who watches; none off a terminal and in other processes."""
    disable = None if accelerator.is_main_process else True
    return tqdm(total=total, initial=initial, desc="train", unit="step", dynamic_ncols=True, disable=disable)


def _accumulate(
    accelerator: Accelerator, model: nn.Module, batches: list[dict], divisors: list[float], args: TrainingArguments
) -> torch.Tensor:
    """Gradients of one optimizer step, from micro-batches whose summed losses are divided by `divisors`."""
    total = torch.zeros((), device=accelerator.device)
    for i, (batch, divisor) in enumerate(zip(batches, divisors, strict=True)):
        last = i == len(batches) - 1
        complete = last or args.original_accumulation
        accelerator.sync_gradients = complete
        with contextlib.nullcontext() if complete else accelerator.no_sync(model):
            loss = model(**send_to_device(batch, accelerator.device), num_items=divisor).loss
            accelerator.backward(loss)
        if args.original_accumulation and not last and args.max_grad_norm > 0:  # the last one is clipped by `_update`
            scale = 1.0 if accelerator.scaler is None else accelerator.scaler.get_scale()
            clip_gradients(model, scale * args.max_grad_norm, args.clip_separately)
        total += loss.detach()
    return total


def _evaluate(
    model: nn.Module,
    evaluate_dev: Callable[[nn.Module], Mapping[str, float]],
    metric: str,
    save_best: Callable[[nn.Module], None] | None,
    run: Run,
    progress: Progress,
    steps_per_epoch: int,
) -> None:
    """Score on dev and keep the best."""
    began = time.perf_counter()
    metrics = evaluate_dev(model)
    model.train()
    run.result("dev", progress.step, progress.step / steps_per_epoch, metrics, time.perf_counter() - began)
    if metrics[metric] > progress.best_score:
        progress.best_score, progress.best_step, progress.evaluations_without_gain = metrics[metric], progress.step, 0
        if save_best is not None:
            save_best(model)
    else:
        progress.evaluations_without_gain += 1


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
