"""What is trained and how: the optimizer and its groups, clipping, the table of parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from kadapter.models.bottleneck import norm_names
from kadapter.training.arguments import TrainingArguments


class UncorrectedAdamW(torch.optim.AdamW):
    """Adam with decoupled decay and without bias correction, as BERT was trained (adapter-bert optimization.py).

    m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  p = p - lr (m / (sqrt(v) + eps) + decay p)

    PyTorch's step divides m by c1 = 1 - b1^t and v by c2 = 1 - b2^t; rate, epsilon and decay are set for each step t so
    that these cancel out, which leaves the work to its fused kernel. All parameters must have gradients from the first
    step on, or never.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        given = [{name: group[name] for name in ("lr", "eps", "weight_decay")} for group in self.param_groups]
        for group in self.param_groups:
            group["steps"] = steps = group.get("steps", 0) + 1
            c1, c2 = (1 - beta**steps for beta in group["betas"])
            group["lr"] *= c1 / math.sqrt(c2)
            group["eps"] /= math.sqrt(c2)
            group["weight_decay"] *= math.sqrt(c2) / c1
        try:
            return super().step(closure)
        finally:
            for group, values in zip(self.param_groups, given, strict=True):
                group.update(values)


def build_optimizer(model: nn.Module, args: TrainingArguments) -> torch.optim.Optimizer:
    """AdamW on what is trained, without decay on biases and LayerNorm, as the original."""
    norms = set(norm_names(model))
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decayed = [p for name, p in trained if not (name.endswith("bias") or name in norms)]
    plain = [p for name, p in trained if name.endswith("bias") or name in norms]
    groups = [{"params": decayed, "weight_decay": args.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    kind = torch.optim.AdamW if args.correct_bias else UncorrectedAdamW
    # One pass over the memory instead of five. With fp16 accelerate could not tell a step that the kernel skipped.
    fused = not args.fp16 and all(p.device.type in ("cpu", "cuda") for _, p in trained)
    return kind(groups, lr=args.learning_rate, eps=args.adam_epsilon, fused=fused)


def build_schedule(
    optimizer: torch.optim.Optimizer, args: TrainingArguments, total_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning rate of each step: linear warm-up from 0, then linearly down to 0 after the last step.

    "linear_ahead" is a step ahead, as where the original moves the schedule before the optimizer (fac-adapter.py and
    others); in "bert" the fall is counted from step 0, also during the warm-up (adapter-bert optimization.py).
    """
    warmup = int(args.warmup_proportion * total_steps) if args.warmup_proportion else args.warmup_steps
    end = args.schedule_steps or total_steps
    fall = max(1, end if args.schedule == "bert" else end - warmup)

    def share_of_peak(step: int) -> float:
        step += args.schedule == "linear_ahead"
        return step / warmup if step < warmup else max(0.0, (end - step) / fall)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share_of_peak)


def clip_gradients(model: nn.Module, max_norm: float, separately: bool) -> None:
    """Clip the norm of all gradients, or those of the backbone and of the rest (docs/deviations.md, 7)."""
    named = [(name, p) for name, p in model.named_parameters() if p.grad is not None]
    ours = [p for name, p in named if separately and "backbone." in name]
    rest = [p for name, p in named if not (separately and "backbone." in name)]
    for group in (ours, rest):
        if group:
            nn.utils.clip_grad_norm_(group, max_norm)


def parameter_table(model: nn.Module) -> str:
    """Part, parameters, trained, per cent; the parts are those that `model.parts()` tells, if it does."""
    found = dict(model.named_parameters())
    parts = cast(Any, model).parts() if hasattr(model, "parts") else {}
    rows = [(part, [found[name] for name in names]) for part, names in parts.items() if names]
    lines = [f"{'part':<12} {'parameters':>13} {'trained':>13} {'per cent':>8}"]
    for part, parameters in [*rows, ("all", list(found.values()))]:
        count, trained = sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
        lines.append(f"{part:<12} {count:>13,} {trained:>13,} {100 * trained / max(1, count):>8.2f}")
    return "\n".join(lines)
