"""Modules by name: adapters, bottlenecks and tasks, as users call them."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView

from torch import nn

from kadapter.storage.checkpoint import module_key


class NamedModules(nn.Module):
    """A dictionary of modules for any identifiers, in the order in which they were put in.

    torch's own ModuleDict refuses names that are its attributes, such as "type" or "keys". Here such a module is
    registered, and its weights are named, with an underscore behind its name (`type_`), and so that no two names
    meet, "type_" with two.
    """

    def __init__(self, modules: Mapping[str, nn.Module] | None = None):
        super().__init__()
        self._keys: dict[str, str] = {}  # name -> what it is registered as
        for name, module in (modules or {}).items():
            self[name] = module

    @classmethod
    def key(cls, name: str) -> str:
        """What the weights of a module of that name are named by."""
        return module_key(name)

    def __setitem__(self, name: str, module: nn.Module) -> None:
        if not name.isidentifier():
            raise ValueError(f"{name!r} is not a plain word; use letters, digits and underscores.")
        self._keys[name] = self.key(name)
        self._modules[self._keys[name]] = module

    def __getitem__(self, name: str) -> nn.Module:
        module = self._modules[self._keys[name]]
        assert module is not None
        return module

    def __delitem__(self, name: str) -> None:
        del self._modules[self._keys.pop(name)]

    def __contains__(self, name: object) -> bool:
        return name in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> KeysView[str]:
        return self._keys.keys()

    def items(self) -> ItemsView[str, nn.Module]:
        return {name: self[name] for name in self._keys}.items()

    def values(self) -> ValuesView[nn.Module]:
        return dict(self.items()).values()
