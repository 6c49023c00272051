"""Types of a configuration's fields, checked against their annotations: what JSON and callers may get wrong."""

from __future__ import annotations

import math
import numbers
import textwrap
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import MISSING, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

_NAMES = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text", NoneType: "null"}


def to_annotated_types(config: Any, what: str) -> None:
    """Give every field of a (frozen) dataclass its annotated type: numbers of NumPy become Python's, lists tuples.

    Known are int, float, bool, str, `tuple[..., ...]` of these, and None beside them.

    Args:
        what: named in the error before the field.

    Raises:
        ValueError: a value of another type ("768" and 12.5 are no whole numbers, nor is true), or not finite.
    """
    kinds: Any = type(config)
    for name, kind in types_of(kinds).items():
        try:
            value = _as(kind, getattr(config, name))
        except (TypeError, OverflowError):
            given = textwrap.shorten(repr(getattr(config, name)), 60, placeholder=" ...")
            raise ValueError(f"{what}{name} is {given}; give {_type_name(kind)}.") from None
        object.__setattr__(config, name, value)


def known(cls: type, values: Any, what: str, optional: Collection[str] | None = None) -> dict[str, Any]:
    """The values with which `cls` can be made.

    Args:
        what: what `values` are, for the error.
        optional: fields that may be absent, all others may not; None: those with a default may.

    Raises:
        ValueError: no mapping, keys that are no fields, or keys that are missing.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{what} is {textwrap.shorten(repr(values), 60)}; give an object with its keys.")
    names = [f.name for f in fields(cls)]
    if unknown := sorted(str(key) for key in values if key not in names):
        raise ValueError(f"{what} has unknown keys {unknown}; known are {sorted(names)}.")
    if optional is None:
        optional = [f.name for f in fields(cls) if f.default is not MISSING]
    if missing := [name for name in names if name not in values and name not in optional]:
        raise ValueError(
            f"{what} lacks the keys {missing}; without them it is not known what was saved: save it again."
        )
    return dict(values)


@cache  # reading annotations takes longer than checking them
def types_of(cls: Any) -> dict[str, Any]:
    """The annotated type of each field of a dataclass."""
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


def _as(kind: Any, value: Any) -> Any:
    """The value as that type; TypeError or OverflowError where it is another."""
    if get_origin(kind) is tuple:
        if isinstance(value, (str, Mapping, Set)) or not isinstance(value, Iterable):
            raise TypeError
        return tuple(_as(get_args(kind)[0], entry) for entry in value)
    if kinds := get_args(kind):  # int | None
        return None if value is None else _as(next(one for one in kinds if one is not NoneType), value)
    if kind in (bool, str):
        if not isinstance(value, kind):
            raise TypeError
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Integral if kind is int else numbers.Real):
        raise TypeError
    if kind is float and not math.isfinite(value):
        raise TypeError
    return value if isinstance(value, int | float) else kind(value)


def _type_name(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return f"a list, each entry {_type_name(get_args(kind)[0])}"
    if get_origin(kind) is UnionType:
        return " or ".join(_type_name(one) for one in get_args(kind))
    return _NAMES[kind]
