"""The loop: forward, backward, clip, step, schedule, log, evaluate, checkpoint. It knows no task, head or metric."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from kadapter.training.arguments import TrainingArguments
from kadapter.training.batches import Feed, Step, Turns
from kadapter.training.devices import peak_memory_mib, tell_deepspeed
from kadapter.training.interruption import Interruption
from kadapter.training.optimization import build_optimizer, build_schedule, clip_gradients, parameter_table
from kadapter.training.resume import load_checkpoint, save_checkpoint
from kadapter.training.tracking import Run

logger = logging.getLogger(__name__)

MUCH_EVALUATION = 1 / 3  # share of the time beyond which it is said
SECONDS_BETWEEN_LINES = 30  # of the log, where there is no bar


@dataclass
class Progress:
    """Where a run stands; saved in every checkpoint."""

    step: int = 0
    best_step: int = 0
    best_score: float | None = None
    evaluations_without_gain: int = 0
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    peak_memory_mib: int = 0


@dataclass(frozen=True)
class Due:
    """What is to be done after a step."""

    log: bool
    evaluate: bool
    save: bool

    @property
    def anything(self) -> bool:
        return self.log or self.evaluate or self.save

    @classmethod
    def at(cls, step: int, total: int, args: TrainingArguments) -> Due:
        """By the intervals; the last step evaluates and saves."""

        def every(interval: int | None) -> bool:
            return bool(interval) and step % int(interval or 0) == 0

        last = step == total
        return cls(every(args.logging_steps), last or every(args.eval_steps), last or every(args.save_steps))


class Selection(Protocol):
    """How the best model is found and kept."""

    @property
    def metric(self) -> str:
        """The score that chooses it; higher is better."""
        ...

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Scores on dev."""
        ...

    def keep(self, model: nn.Module) -> None:
        """Called whenever the score has grown."""
        ...


def train(
    run: Run,
    model: nn.Module,
    feeds: Sequence[Feed],
    args: TrainingArguments,
    interruption: Interruption,
    selection: Selection | None = None,
) -> tuple[nn.Module, Progress]:
    """Train what is not frozen.

    Args:
        model: `model(**batch, num_items=...)` returns an output with `loss`; of several tasks also `task=...`.
        feeds: one for each task, which take turns; features with the columns length, items and record.
        selection: None evaluates nothing while training.

    Returns:
        The model as accelerate prepared it, and where the run ended.

    Raises:
        FloatingPointError: a loss, weight or dev score that is not finite; what was saved before stays.
        SystemExit: 143 or 130, after SIGTERM or Ctrl-C and a checkpoint.
    """
    accelerator = run.accelerator
    plan = Turns.make(feeds, args, run.batch_size, accelerator.num_processes)
    optimizer = build_optimizer(model, args)
    schedule = build_schedule(optimizer, args, plan.total_steps)
    tell_deepspeed(accelerator, args, plan.micro_batch_size)
    _announce(model, plan)
    model, optimizer = accelerator.prepare(model, optimizer)
    set_seed(args.seed, device_specific=True)
    progress = load_checkpoint(accelerator, run.folder, model, schedule, Progress) or Progress()
    run.resume_at(progress.step)
    began, losses, told = time.perf_counter() - progress.seconds, _Losses(accelerator), False
    steps = plan.steps(progress.step, accelerator.process_index)
    with interruption.postponed(), _bar(accelerator, plan.total_steps, progress.step) as bar:
        log = _Log(run, bar)
        model.train()
        while not _is_over(progress, args) and (step := next(steps, None)):
            loss = _take(step, accelerator, model, optimizer, schedule, args)
            progress.step += 1
            losses.add(progress.step, loss, step)
            bar.update()

            due = Due.at(progress.step, plan.total_steps, args)
            stopped = _is_stopped(accelerator, interruption, due)
            if due.anything or stopped:
                log.write(progress.step, losses, float(schedule.get_last_lr()[0]))
            if due.evaluate or due.save or stopped:
                check_weights(accelerator, model, progress.step)
            if due.evaluate and selection is not None:
                _evaluate(run, model, selection, progress, plan.steps_per_epoch)
                told = told or _tell_of_much_evaluation(progress, time.perf_counter() - began, args)
                stopped = stopped or _is_stopped(accelerator, interruption, due)
            progress.seconds = time.perf_counter() - began
            if due.save or stopped or _is_over(progress, args):
                progress.peak_memory_mib = max(progress.peak_memory_mib, peak_memory_mib(accelerator.device))
                save_checkpoint(accelerator, run.folder, model, schedule, progress, args.max_save_checkpoints)
            if stopped:
                break
    if _is_over(progress, args) and progress.step < plan.total_steps:
        logger.info("no better %s in %d evaluations: stopped early", selection and selection.metric, args.patience)
    return model, progress


def _is_over(progress: Progress, args: TrainingArguments) -> bool:
    """Whether patience is at its end; a run goes on where it is given more."""
    return 0 < args.patience <= progress.evaluations_without_gain


def _is_stopped(accelerator: Accelerator, interruption: Interruption, due: Due) -> bool:
    """Whether a signal has come to any process; with several, they ask where they meet anyway."""
    if accelerator.num_processes == 1:
        return interruption.received is not None
    if not due.anything:
        return False
    received = torch.tensor(interruption.received or 0, device=accelerator.device)
    number = int(accelerator.gather(received[None]).max())
    interruption.received = number or None
    return bool(number)


def _announce(model: nn.Module, turns: Turns) -> None:
    for feed, plan in zip(turns.feeds, turns.plans, strict=True):
        cut = plan.budget
        parts = f"micro-batches: {plan.accumulation}" if cut is None else f"micro-batches of {cut.max_tokens} tokens"
        shape = (feed.task and f"{feed.task}: ", len(plan.lengths), plan.total_steps, plan.batch_size, parts)
        logger.info("%s%d examples: %d steps of %d examples each (%s, processes: %d)", *shape, plan.world)
    logger.info("what is trained:\n%s", parameter_table(model))


def _bar(accelerator: Accelerator, total: int, initial: int) -> tqdm:
    """A bar for who watches; none off a terminal and in other processes."""
    disable = None if accelerator.is_main_process else True
    return tqdm(total=total, initial=initial, desc="train", unit="step", dynamic_ncols=True, disable=disable)


class _Log:
    """The curves of a run, its bar, and off a terminal lines in the place of the bar, one in half a minute at most."""

    def __init__(self, run: Run, bar: tqdm):
        self.run, self.bar, self.first = run, bar, bar.n
        self.began = self.told = time.monotonic()

    def write(self, step: int, losses: _Losses, rate: float) -> None:
        """Write what came since the last call."""
        padding, loss = losses.padding(), losses.finish()
        self.bar.set_postfix(loss=f"{loss:.4f}", lr=f"{rate:.1e}")
        self.run.scalars(step, {"loss": loss, "lr": rate, "padding": padding})
        now, total = time.monotonic(), self.bar.total
        if sys.stderr.isatty() or step == total or now - self.told < SECONDS_BETWEEN_LINES:
            return
        left = timedelta(seconds=round((now - self.began) / (step - self.first) * (total - step)))
        logger.info("step %d of %d, loss %.4f, about %s left", step, total, loss, left)
        self.told = now


def _take(
    step: Step,
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    args: TrainingArguments,
) -> torch.Tensor:
    """One optimizer step; gives its loss."""
    loss = _accumulate(accelerator, model, step, args)
    if args.max_grad_norm > 0:
        accelerator.unscale_gradients()
        clip_gradients(model, args.max_grad_norm, args.clip_separately)
    optimizer.step()
    if not accelerator.optimizer_step_was_skipped:  # by the loss scaler of fp16
        schedule.step()
    optimizer.zero_grad()
    return loss


def _accumulate(accelerator: Accelerator, model: nn.Module, step: Step, args: TrainingArguments) -> torch.Tensor:
    """Gradients of one optimizer step, and its loss."""
    feed = step.feed
    total = torch.zeros((), device=accelerator.device)
    for i, (batch, divisor) in enumerate(zip(step.batches, step.divisors, strict=True)):
        last = i == len(step.batches) - 1
        complete = last or args.original_accumulation
        inputs = feed.ready(accelerator, model, batch, step.number)  # while others may run, which set what follows
        accelerator.sync_gradients = complete
        with nullcontext() if complete else accelerator.no_sync(model):
            loss = model(**inputs, **feed.chosen, num_items=divisor).loss
            accelerator.backward(loss)
        if args.original_accumulation and not last and args.max_grad_norm > 0:  # the last one is clipped by the loop
            scale = 1.0 if accelerator.scaler is None else accelerator.scaler.get_scale()
            clip_gradients(model, scale * args.max_grad_norm, args.clip_separately)
        total += loss.detach()
    return total


def _evaluate(run: Run, model: nn.Module, selection: Selection, progress: Progress, steps_per_epoch: int) -> None:
    """Score on dev and keep the best."""
    began = time.perf_counter()
    scores = selection.evaluate(model)
    model.train()
    seconds = time.perf_counter() - began
    progress.evaluation_seconds += seconds
    if wrong := [name for name, value in scores.items() if not math.isfinite(value)]:
        raise FloatingPointError(
            f"{', '.join(wrong)} on dev is not finite after step {progress.step}; lower --learning_rate. What was "
            "saved before is kept."
        )
    run.result("dev", progress.step, progress.step / steps_per_epoch, scores, seconds)
    score = scores[selection.metric]
    if progress.best_score is None or score > progress.best_score:
        progress.best_score, progress.best_step, progress.evaluations_without_gain = score, progress.step, 0
        selection.keep(model)
    else:
        progress.evaluations_without_gain += 1


def _tell_of_much_evaluation(progress: Progress, seconds: float, args: TrainingArguments) -> bool:
    """Say it where it is so; whether it was."""
    share = progress.evaluation_seconds / seconds
    if much := share > MUCH_EVALUATION:
        logger.warning(
            "evaluation on dev takes %.0f %% of the time; a larger --eval_steps (now %s) makes it less.",
            100 * share,
            args.eval_steps,
        )
    return much


def check_weights(accelerator: Accelerator, model: nn.Module, step: int) -> None:
    """Raise FloatingPointError where a trained weight is not finite, in all processes alike."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    local = [p.to_local() if isinstance(p, DTensor) else p for _, p in trained]
    bad = torch.stack([~torch.isfinite(p.detach()).all() for p in local]).float()
    bad = accelerator.reduce(bad, reduction="sum") if accelerator.num_processes > 1 else bad
    names = [name for (name, _), count in zip(trained, bad.tolist(), strict=True) if count]
    if names:
        raise FloatingPointError(
            f"{len(names)} weights are not finite after step {step}, such as {', '.join(names[:3])}; lower "
            "--learning_rate. The last checkpoint and the best model are kept."
        )


class _Losses:
    """Losses since the last look at them; they stay on the device, so that no step waits for the host."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.kept: list[tuple[int, torch.Tensor, Step]] = []
        self.tokens = np.zeros(2)  # of this process, without and with padding

    def add(self, number: int, loss: torch.Tensor, step: Step) -> None:
        self.kept.append((number, loss, replace(step, batches=[])))  # which are large
        self.tokens += step.tokens

    def padding(self) -> float:
        """The share of padding among the tokens of this process since the last call."""
        (real, computed), self.tokens = self.tokens, np.zeros(2)
        return float(1 - real / computed)

    def finish(self) -> float:
        """Their mean over steps and processes."""
        losses = self.accelerator.reduce(torch.stack([loss for _, loss, _ in self.kept]), reduction="mean")
        for (number, _, step), finite in zip(self.kept, torch.isfinite(losses).tolist(), strict=True):
            if not finite:
                records = step.feed.features.select(np.sort(np.concatenate(step.indices)))["record"]
                where = f"step {number}, whose batch holds the records {list(records)}"
                where += f" of {step.feed.task}" if step.feed.task else ""
                raise FloatingPointError(
                    f"the loss is not finite at {where}; look at them, or lower --learning_rate. The last "
                    "checkpoint is kept."
                )
        self.kept.clear()
        return losses.mean().item()
