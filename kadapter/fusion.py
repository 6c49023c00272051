"""Fusion: how the backbone's last state and the adapters' outputs become one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


class Fusion(nn.Module):
    """Joins the backbone's last state with the adapters' outputs (K-Adapter, section 3.1; my_modeling_roberta.py).

    "concat": each adapter's output is concatenated with the last state and mapped 2H -> H by its own
    `task_dense_<name>`; with several adapters `task_dense` maps their n results, nH -> H.
    "add": the sum, without parameters. Without adapters all modes give the last state itself.
    "nested_concat", "nested_add": the same on adapters' outputs that were joined with the last state once before,
    by an `own_dense_<name>` or a sum; so the original fuses for CosmosQA (run_finetune_cosmosqa_adapter.py).
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

    def forward(self, last: torch.Tensor, adapter_states: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """All tensors [..., H] -> [..., H]; works on single positions as well as on whole sequences."""
        if not self.names:
            return last
        states = dict(adapter_states)
        if self.nested:
            states = {name: self._join(f"own_dense_{name}", last, states[name]) for name in self.names}
        if self.mode == "add":
            for name in self.names:
                last = last + states[name]
            return last
        fused = [self._join(f"task_dense_{name}", last, states[name]) for name in self.names]
        return self.task_dense(torch.cat(fused, dim=-1)) if len(fused) > 1 else fused[0]

    def _join(self, dense: str, last: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return last + state if self.mode == "add" else getattr(self, dense)(torch.cat([last, state], dim=-1))
