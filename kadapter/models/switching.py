"""Which adapters take part: chosen by name, switched off, or weighed by hand.

The names of the methods are those of transformers' PEFT integration, but they mean our adapters. What is chosen is a
state of the model, for all calls and threads, and is not saved (as in PEFT); only which bottlenecks are active is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import nn

from kadapter.configuration import KAdapterConfig
from kadapter.models.named import NamedModules

BASE = "__base__"  # PEFT's name for no adapter


class Switching(nn.Module):
    """What `KAdapterModel` does to take some of its adapters, or none.

    Initially all knowledge adapters are active, and the bottlenecks that the configuration names. An adapter that is
    not active is not run, and counts in the fusion with weight 0; with none active the fused state is the backbone's
    last.
    """

    config: KAdapterConfig
    adapters: NamedModules
    activate_bottlenecks: Callable[[str | None], None]

    def _switch_all_on(self) -> None:
        self._inactive: set[str] = set()
        self._hand_weights: dict[str, float] = {}
        self._switched_off = False
        self._bottlenecks_before: str | None = None

    def active_adapters(self) -> list[str]:
        """Names of the knowledge adapters that run, in the order of fusion, then of the bottlenecks."""
        bottlenecks = self.config.active_bottlenecks
        return [*self._running(), *([] if bottlenecks is None else [bottlenecks])]

    def _running(self) -> list[str]:
        return [] if self._switched_off else [name for name in self.adapters if name not in self._inactive]

    def set_adapter(self, adapter_name: str | Sequence[str]) -> None:
        """Make these adapters active and no others: any number of knowledge adapters, at most one set of bottlenecks.

        Raises:
            ValueError: an unknown name, or two sets of bottlenecks. Then nothing changes.
        """
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        self._require_known(names)
        bottlenecks = [name for name in names if name in self.config.bottlenecks]
        if len(bottlenecks) > 1:
            raise ValueError(f"{bottlenecks} are bottlenecks, of which one set is active at a time; give one of them.")
        self._switched_off = False
        self._inactive = set(self.adapters) - set(names)
        self.activate_bottlenecks(bottlenecks[0] if bottlenecks else None)

    def _require_known(self, names: Sequence[str]) -> None:
        known = [*self.adapters, *self.config.bottlenecks]
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"there is no adapter {unknown[0]!r}; the model has {known}.")

    def disable_adapters(self) -> None:
        """Switch all adapters and bottlenecks off: the fused state is the bare backbone's last, whatever the fusion."""
        if not self._switched_off:
            self._switched_off, self._bottlenecks_before = True, self.config.active_bottlenecks
            self.activate_bottlenecks(None)

    def enable_adapters(self) -> None:
        """Switch on again what was active before `disable_adapters`."""
        if self._switched_off:
            self._switched_off = False
            if self._bottlenecks_before in self.config.bottlenecks:
                self.activate_bottlenecks(self._bottlenecks_before)

    @contextmanager
    def adapters_disabled(self) -> Iterator[None]:
        """Within the block all adapters and bottlenecks are off."""
        before = self._switched_off
        self.disable_adapters()
        try:
            yield
        finally:
            if not before:
                self.enable_adapters()

    def set_adapter_weights(self, weights: Mapping[str, float] | None) -> None:
        """Weigh the knowledge adapters by hand; None ends this.

        In the fusions "gate" and "attention", these numbers replace the weights that the model computes. In the others,
        each is a factor of its adapter's output before the fusion. An adapter that is added later has the weight 1.

        Raises:
            ValueError: an unknown name, a missing one, or a weight that is not a finite number.
        """
        given = dict(weights or {})
        if weights is not None and set(given) != set(self.adapters):
            raise ValueError(
                f"weights are given for {list(given)}, but the adapters are {list(self.adapters)}; give one for each."
            )
        for name, weight in given.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not abs(weight) < float("inf"):
                raise ValueError(f"the weight of adapter {name!r} is {weight!r}; give a finite number.")
        self._hand_weights = given

    def get_adapter_state_dict(self, adapter_name: str | None = None, **unused: Any) -> dict[str, torch.Tensor]:
        """The weights of one knowledge adapter, by default of the only one that is active.

        Raises:
            ValueError: there is no such adapter, or no name is given and not exactly one is active.
        """
        if adapter_name is None:
            if len(self._running()) != 1:
                raise ValueError(f"{self._running()} are active; give the name of one.")
            (adapter_name,) = self._running()
        if adapter_name not in self.adapters:
            raise ValueError(f"there is no adapter {adapter_name!r}; the model has {list(self.adapters)}.")
        return dict(self.adapters[adapter_name].state_dict())

    def check_routable(self) -> None:
        """Raise ValueError where a call with `adapter_names` cannot be trained (gradient checkpointing)."""
        if self.training and torch.is_grad_enabled() and self.is_activation_checkpointing:
            raise ValueError(
                "with gradient checkpointing layers run a second time, outside of the call that names tasks or "
                "adapters; switch it off, or train them one by one."
            )

    def enable_peft_hotswap(self, *unused: Any, **also_unused: Any) -> NoReturn:
        """Not for kadapter's adapters: raises NotImplementedError."""
        raise NotImplementedError("these are adapters of kadapter: delete_adapter and load_adapter exchange them.")


def _of_encoder(name: str) -> Callable[..., Any]:
    """A method of a task model that its encoder answers."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.encoder, name)(*args, **kwargs)

    method.__name__ = name
    method.__doc__ = f"As `KAdapterModel.{name}`."
    return method


class OfEncoder(nn.Module):
    """What a task model lets its encoder answer."""

    add_adapter = _of_encoder("add_adapter")
    load_adapter = _of_encoder("load_adapter")
    save_adapter = _of_encoder("save_adapter")
    delete_adapter = _of_encoder("delete_adapter")
    add_bottlenecks = _of_encoder("add_bottlenecks")
    delete_bottlenecks = _of_encoder("delete_bottlenecks")
    activate_bottlenecks = _of_encoder("activate_bottlenecks")
    bottlenecks = _of_encoder("bottlenecks")
    freeze = _of_encoder("freeze")
    train_adapters = _of_encoder("train_adapters")
    train_layers = _of_encoder("train_layers")
    set_adapter = _of_encoder("set_adapter")
    active_adapters = _of_encoder("active_adapters")
    disable_adapters = _of_encoder("disable_adapters")
    enable_adapters = _of_encoder("enable_adapters")
    adapters_disabled = _of_encoder("adapters_disabled")
    set_adapter_weights = _of_encoder("set_adapter_weights")
    get_adapter_state_dict = _of_encoder("get_adapter_state_dict")
    enable_peft_hotswap = _of_encoder("enable_peft_hotswap")
    get_input_embeddings = _of_encoder("get_input_embeddings")
    set_input_embeddings = _of_encoder("set_input_embeddings")
