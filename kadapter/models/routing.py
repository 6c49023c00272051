"""What of a backbone belongs to one of several tasks: by name, for a whole call or for some rows of a batch.

A *site* is a module of the backbone whose output a task changes. It gets a child `Named`, which holds what the tasks do
there and is asked at each call. So the layers stay those of transformers, and all weights move, save and copy with
the backbone.

Shapes: R = rows (sequences) of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch

from kadapter.models.named import NamedModules


class Run(NamedTuple):
    """Consecutive rows of a batch, `begin` to `end` (exclusive), that go the way of `name`; None: the bare backbone."""

    name: str | None
    begin: int
    end: int


# Of a call, not of a model: calls of other threads do not see it.
_ROUTE: ContextVar[tuple[Run, ...] | None] = ContextVar("route", default=None)


@contextmanager
def routed(runs: Sequence[Run]) -> Iterator[None]:
    """Within the block, rows of a batch go through the parts that `runs` names, whatever is active."""
    token = _ROUTE.set(tuple(runs))
    try:
        yield
    finally:
        _ROUTE.reset(token)


def route() -> tuple[Run, ...] | None:
    return None if torch.compiler.is_compiling() else _ROUTE.get()  # what is compiled or exported has one way


class Named(NamedModules):
    """What several tasks do at one site; `active` names the one that a call without `routed` takes, None none."""

    active: str | None = None

    def choose(self, states: torch.Tensor, bare: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """What the names of the call, or else the active one, make of the states; `bare` is what the backbone does.

        Args:
            states: [R, S, H].

        Raises:
            ValueError: several names are asked for where there are no rows, as in DeBERTa's norm of relative
                positions, which all rows share.
        """
        runs = route()
        if runs is None or len(runs) == 1:
            return self._one(self.active if runs is None else runs[0].name, states, bare)
        if not any(run.name in self for run in runs):
            return bare(states)
        if states.dim() < 3:
            raise ValueError(
                "these tasks have weights of their own for positions that all examples of a batch share; ask for one "
                "task at a time."
            )
        return torch.cat([self._one(run.name, states[run.begin : run.end], bare) for run in runs])

    def _one(
        self, name: str | None, states: torch.Tensor, bare: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        return bare(states) if name is None or name not in self else self.change(name, states)

    def change(self, name: str, states: torch.Tensor) -> torch.Tensor:
        return self[name](states)


def side_by_side(names: Sequence[str]) -> tuple[list[int], list[Run]]:
    """How to sort the rows of a batch so that those of one name stand together.

    Args:
        names: of each row.

    Returns:
        The rows' numbers in their new order, and the runs of the sorted rows.
    """
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    cuts = pairwise(accumulate(map(len, rows.values()), initial=0))
    runs = [Run(name, begin, end) for name, (begin, end) in zip(rows, cuts, strict=True)]
    return [row for of_name in rows.values() for row in of_name], runs


def select_rows(values: Mapping[str, torch.Tensor | None], order: Sequence[int]) -> dict[str, torch.Tensor | None]:
    """Tensors [R, ...] with their rows in another order."""
    if list(order) == list(range(len(order))):
        return dict(values)
    index = torch.tensor(order)
    return {name: None if value is None else value[index.to(value.device)] for name, value in values.items()}
