"""Fusion: how the backbone's last state and the adapters' outputs become one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


class Fusion(nn.Module):
    """Joins the backbone's last state with the adapters' outputs (K-Adapter, section 3.1; my_modeling_roberta.py).

    "concat": each adapter's output is concatenated with the last state and mapped 2H -> H by its own
    `task_dense_<name>`; with several adapters `task_dense` maps their n results, nH -> H.
    "add": the sum, without parameters. Without adapters both give the last state itself.
    """

    def __init__(self, names: list[str], hidden_size: int, mode: str):
        super().__init__()
        self.names, self.mode = list(names), mode
        if mode == "concat":
            for name in names:
                self.add_module(f"task_dense_{name}", nn.Linear(2 * hidden_size, hidden_size))
            if len(names) > 1:
                self.task_dense = nn.Linear(len(names) * hidden_size, hidden_size)

    def forward(self, last: torch.Tensor, adapter_states: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """All tensors [..., H] -> [..., H]; works on single positions as well as on whole sequences."""
        if not self.names:
            return last
        if self.mode == "add":
            for name in self.names:
                last = last + adapter_states[name]
            return last
        fused = [
            getattr(self, f"task_dense_{name}")(torch.cat([last, adapter_states[name]], dim=-1)) for name in self.names
        ]
        return self.task_dense(torch.cat(fused, dim=-1)) if len(fused) > 1 else fused[0]
