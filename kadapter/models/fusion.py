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

    An adapter that is not active has no state here: it counts with weight 0, that is, it is left out of sum and
    softmax, and "concat" joins zeros. With no active adapter at all every mode gives h. It computes in the type of its
    weights, float32 whatever the backbone's.
    """

    def __init__(self, names: list[str], hidden_size: int, mode: str):
        super().__init__()
        self.names, self.mode, self.hidden_size = list(names), mode.removeprefix("nested_"), hidden_size
        self.nested = mode.startswith("nested_")
        # Of removed adapters, and of all where fewer than two are left: columns of task_dense, and its bias.
        self._columns: dict[str, torch.Tensor] = {}
        self._bias: torch.Tensor | None = None
        self._attention: dict[str, nn.Module | None] = {}  # of "attention", as long as there is no adapter
        for name in names:
            self._add_parts(self._parts(name))
        if self.mode == "concat" and len(names) > 1:
            self.task_dense = nn.Linear(len(names) * hidden_size, hidden_size)
        elif self.mode == "attention" and names:
            self._add_attention()

    def _parts(self, name: str) -> dict[str, nn.Module]:
        """Fresh layers of one adapter; those of the others do not depend on it."""
        if self.mode == "concat":
            kinds = ("task_dense", "own_dense") if self.nested else ("task_dense",)
            return {f"{kind}_{name}": nn.Linear(2 * self.hidden_size, self.hidden_size) for kind in kinds}
        return {f"gate_{name}": Projection(self.hidden_size, 1, initializer_range=0.0)} if self.mode == "gate" else {}

    def _add_parts(self, parts: Mapping[str, nn.Module]) -> None:
        for key, part in parts.items():
            self.add_module(key, part)

    def _add_attention(self) -> None:
        self.query = nn.Linear(self.hidden_size, self.hidden_size, bias=False)
        self.key = nn.Linear(self.hidden_size, self.hidden_size, bias=False)
        self.value = Value(self.hidden_size, self.hidden_size, bias=False)

    # -- adapters that come and go ----------------------------------------------------------------------------------

    def add(self, name: str, parts: Mapping[str, nn.Module] | None = None) -> list[str]:
        """Take a further adapter in; the layers of the others stay the objects that they are.

        Args:
            parts: its layers, as `remove` returned them; None takes fresh ones.

        Returns:
            The layers, beside the adapter's own, that are new objects, since their width depends on all adapters.
        """
        if parts is None:
            self._columns.pop(name, None)
        self._add_parts(self._parts(name) if parts is None else parts)
        return self._follow([*self.names, name])

    def remove(self, name: str) -> dict[str, nn.Module]:
        """Leave an adapter out; returns its layers, with which `add` takes it in again as it was."""
        keys = [f"{kind}_{name}" for kind in ("task_dense", "own_dense", "gate")]
        parts = {key: part for key in keys if (part := self._modules.pop(key, None)) is not None}
        self._follow([other for other in self.names if other != name])
        return parts

    def _follow(self, names: list[str]) -> list[str]:
        """Let what depends on all adapters follow their number."""
        before, self.names = self.names, names
        if self.mode == "attention" and bool(names) != bool(before):
            if before:
                self._attention = {key: self._modules.pop(key) for key in ("query", "key", "value")}
            elif self._attention:
                self._modules |= self._attention
            else:
                self._add_attention()
        if self.mode != "concat":
            return []
        if (dense := getattr(self, "task_dense", None)) is not None:
            self._columns |= zip(before, dense.weight.detach().split(self.hidden_size, dim=1), strict=True)
            self._bias = dense.bias.detach()
            del self.task_dense
        if len(names) < 2:
            return []
        self.task_dense = nn.Linear(len(names) * self.hidden_size, self.hidden_size)
        with torch.no_grad():
            for other, columns in zip(names, self.task_dense.weight.split(self.hidden_size, dim=1), strict=True):
                columns.copy_(self._columns.get(other, columns))
            self.task_dense.bias.copy_(self.task_dense.bias if self._bias is None else self._bias)
        if dense is not None:
            self.task_dense.requires_grad_(dense.weight.requires_grad)
        return ["task_dense"]

    # -- forward ----------------------------------------------------------------------------------------------------

    def forward(
        self,
        last: torch.Tensor,
        adapter_states: Mapping[str, torch.Tensor],
        weights: Mapping[str, float] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Works on single positions as well as on whole sequences.

        Args:
            last: [..., H].
            adapter_states: of the active adapters, each [..., H].
            weights: by hand, a number for each of them: instead of "gate"'s and "attention"'s own, and in the other
                modes a factor of the adapter's state.

        Returns:
            The fused state, [..., H], and "gate"'s or "attention"'s weights, [..., active adapters].
        """
        names = [name for name in self.names if name in adapter_states]
        if not names:
            return last, None
        dtype = next((p.dtype for p in self.parameters()), adapter_states[names[0]].dtype)
        last, states = last.to(dtype), {name: adapter_states[name].to(dtype) for name in names}
        if self.mode in ("gate", "attention"):
            stacked = torch.stack(list(states.values()), dim=-2)  # [..., n, H]
            if weights is None:
                shares = self._scores(last, stacked, names).softmax(dim=-1)
            else:
                shares = last.new_tensor([weights[name] for name in names]).expand(stacked.shape[:-1])
            # V of the weighted mean is the weighted mean of the V z_i, and n times cheaper.
            mean = (shares[..., None] * stacked).sum(dim=-2)
            return last + (self.value(mean) if self.mode == "attention" else mean), shares
        if weights is not None:
            states = {name: weights[name] * state for name, state in states.items()}
        if self.mode == "concat":
            states = {name: states[name] if name in states else torch.zeros_like(last) for name in self.names}
        if self.nested:
            states = {name: self._join(f"own_dense_{name}", last, state) for name, state in states.items()}
        if self.mode == "add":
            for state in states.values():
                last = last + state
            return last, None
        fused = [self._join(f"task_dense_{name}", last, states[name]) for name in self.names]
        return self.task_dense(torch.cat(fused, dim=-1)) if len(fused) > 1 else fused[0], None

    def _join(self, dense: str, last: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return last + state if self.mode == "add" else getattr(self, dense)(torch.cat([last, state], dim=-1))

    def _scores(self, last: torch.Tensor, stacked: torch.Tensor, names: list[str]) -> torch.Tensor:
        if self.mode == "gate":
            return torch.cat([getattr(self, f"gate_{name}")(last) for name in names], dim=-1)
        return (self.query(last)[..., None, :] * self.key(stacked)).sum(dim=-1) / math.sqrt(last.shape[-1])


class Value(nn.Linear):
    """A square linear layer that starts as the identity."""

    def reset_parameters(self) -> None:
        nn.init.eye_(self.weight)
