"""Fusion: how the backbone's last state and the adapters' outputs become one.

Shapes: H = the backbone's width, n = adapters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from kadapter.models.adapter import Projection


class Fusion(nn.Module):
    """Joins the backbone's last state h with the adapters' outputs z_i. Without adapters all modes give h itself.

    The first four are K-Adapter's (section 3.1; my_modeling_roberta.py):
    "concat": each adapter's output is concatenated with the last state and mapped 2H -> H by its own
    `task_dense_<name>`; with several adapters `task_dense` maps their n results, nH -> H.
    "add": h + sum z_i, without parameters.
    "nested_concat", "nested_add": the same on adapters' outputs that were joined with the last state once before,
    by an `own_dense_<name>` or a sum; so the original fuses for CosmosQA (run_finetune_cosmosqa_adapter.py).
    These are not:
    "gate": h + sum w_i z_i, where w is a softmax over the scores that each adapter's `gate_<name>` gives h, as in a
    mixture of experts (Shazeer et al. 2017, https://arxiv.org/abs/1701.06538). Gates start at zero, so fusion as
    h + the mean of z_i; one adapter alone is always "add".
    "attention": AdapterFusion (Pfeiffer et al. 2021, https://arxiv.org/abs/2005.00247), h + sum w_i V z_i with
    w = softmax((Q h) . (K z_i) / sqrt(H)). V starts as the identity. The paper does not divide by sqrt(H), but its
    states are smaller: on these, softmax would start with nearly all weight on one adapter. Nor do we draw V
    towards the identity while training.
    """

    def __init__(self, names: list[str], hidden_size: int, mode: str):
        super().__init__()
        self.names, self.mode = list(names), mode.removeprefix("nested_")
        self.nested = mode.startswith("nested_")
        if self.mode == "concat":
            for name in names:
                self.add_module(f"task_dense_{name}", nn.Linear(2 * hidden_size, hidden_size))
                if self.nested:
                    self.add_module(f"own_dense_{name}", nn.Linear(2 * hidden_size, hidden_size))
            if len(names) > 1:
                self.task_dense = nn.Linear(len(names) * hidden_size, hidden_size)
        elif self.mode == "gate":
            for name in names:  # one each, so that adding and deleting adapters keeps those of the others
                self.add_module(f"gate_{name}", Projection(hidden_size, 1, initializer_range=0.0))
        elif self.mode == "attention" and names:
            self.query = nn.Linear(hidden_size, hidden_size, bias=False)
            self.key = nn.Linear(hidden_size, hidden_size, bias=False)
            self.value = Value(hidden_size, hidden_size, bias=False)

    def forward(
        self, last: torch.Tensor, adapter_states: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Works on single positions as well as on whole sequences.

        Returns:
            The fused state, [..., H] as all that goes in, and "gate"'s or "attention"'s weights, [..., n].
        """
        if not self.names:
            return last, None
        states = dict(adapter_states)
        if self.mode in ("gate", "attention"):
            stacked = torch.stack([states[name] for name in self.names], dim=-2)  # [..., n, H]
            weights = self._scores(last, stacked).softmax(dim=-1)
            # V of the weighted mean is the weighted mean of the V z_i, and n times cheaper.
            mean = (weights[..., None] * stacked).sum(dim=-2)
            return last + (self.value(mean) if self.mode == "attention" else mean), weights
        if self.nested:
            states = {name: self._join(f"own_dense_{name}", last, states[name]) for name in self.names}
        if self.mode == "add":
            for name in self.names:
                last = last + states[name]
            return last, None
        fused = [self._join(f"task_dense_{name}", last, states[name]) for name in self.names]
        return self.task_dense(torch.cat(fused, dim=-1)) if len(fused) > 1 else fused[0], None

    def _join(self, dense: str, last: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return last + state if self.mode == "add" else getattr(self, dense)(torch.cat([last, state], dim=-1))

    def _scores(self, last: torch.Tensor, stacked: torch.Tensor) -> torch.Tensor:
        if self.mode == "gate":
            return torch.cat([getattr(self, f"gate_{name}")(last) for name in self.names], dim=-1)
        return (self.query(last)[..., None, :] * self.key(stacked)).sum(dim=-1) / math.sqrt(last.shape[-1])


class Value(nn.Linear):
    """A square linear layer that starts as the identity."""

    def reset_parameters(self) -> None:
        nn.init.eye_(self.weight)
