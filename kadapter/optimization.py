"""What is trained and how: the optimizer and its groups, clipping, the table of parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import nn

from kadapter.arguments import TrainingArguments
from kadapter.bottleneck import norm_names


class UncorrectedAdamW(torch.optim.Optimizer):
    """Adam with decoupled decay and without bias correction, as BERT was trained (adapter-bert optimization.py).

    m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  p = p - lr (m / (sqrt(v) + eps) + decay p)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            lr, eps, (beta1, beta2) = group["lr"], group["eps"], group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["m"], state["v"] = torch.zeros_like(p), torch.zeros_like(p)
                m, v = state["m"], state["v"]
                m.lerp_(p.grad, 1 - beta1)
                v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                p.mul_(1 - lr * group["weight_decay"]).addcdiv_(m, v.sqrt().add_(eps), value=-lr)
        return loss


def build_optimizer(model: nn.Module, args: TrainingArguments) -> torch.optim.Optimizer:
    """AdamW on what is trained, without decay on biases and LayerNorm, as the original."""
    norms = set(norm_names(model))
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decayed = [p for name, p in trained if not (name.endswith("bias") or name in norms)]
    plain = [p for name, p in trained if name.endswith("bias") or name in norms]
    groups = [{"params": decayed, "weight_decay": args.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    kind = torch.optim.AdamW if args.correct_bias else UncorrectedAdamW
    return kind(groups, lr=args.learning_rate, eps=args.adam_epsilon)


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
