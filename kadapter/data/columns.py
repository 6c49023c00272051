"""Columns: one array for all examples, ragged ones with offsets; features and predictions are kept so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


@dataclass(frozen=True)
class Column:
    """A value for each example, or a run of values for each.

    values: [examples, ...]; with offsets [all values, ...], which may be a ragged column itself.
    offsets: [examples + 1]; the run of example i is values[offsets[i] : offsets[i + 1]].
    """

    values: Any  # an array or a Column
    offsets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values) if self.offsets is None else len(self.offsets) - 1

    def __getitem__(self, index: int) -> Any:
        """What example `index` has: a value, an array, or for a column of columns a list of arrays."""
        if self.offsets is None:
            return self.values[index]
        begin, end = self.offsets[index], self.offsets[index + 1]
        if isinstance(self.values, Column):
            return [self.values[i] for i in range(begin, end)]
        return self.values[begin:end]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    @property
    def sizes(self) -> np.ndarray:
        """How many values each example has, [examples]; only of a ragged column."""
        assert self.offsets is not None
        return np.diff(self.offsets)


def ragged(rows: Sequence[Sequence[Any]], dtype: Any = np.int64) -> Column:
    """Rows of any lengths as a column."""
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    if rows and all(isinstance(row, np.ndarray) for row in rows):
        values = np.concatenate(rows).astype(dtype, copy=False)
    else:
        values = np.fromiter(chain.from_iterable(rows), dtype=dtype, count=int(offsets[-1]))
    return Column(values, offsets)


def padded(column: Column, width: int, value: int) -> np.ndarray:
    """The rows of a ragged column in a matrix [examples, width] of int64, filled up at the right with `value`."""
    out = np.full((len(column), width), value, dtype=np.int64)
    out[np.arange(width) < column.sizes[:, None]] = column.values
    return out


def feature_column(features: Dataset, name: str) -> Column:
    """A column of a feature store, without turning it into Python objects."""
    arrays = features.select_columns([name]).with_format("arrow")[:].column(name)
    return from_arrow(arrays.combine_chunks())


def from_arrow(array: Any) -> Column:
    """An array of numbers or strings, or of lists of them, without nulls."""
    import pyarrow as pa  # here: who only scores or reads need not wait for it

    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        offsets = np.asarray(array.offsets)
        return _ragged(from_arrow(array.flatten()), offsets - offsets[0])
    if pa.types.is_fixed_size_list(array.type):
        values = from_arrow(array.flatten())
        return Column(values.values.reshape(len(array), array.type.list_size))
    return Column(array.to_numpy(zero_copy_only=False))


def _ragged(values: Column, offsets: np.ndarray) -> Column:
    return Column(values if values.offsets is not None else values.values, offsets)


def feature_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of an Arrow table as dictionaries of numbers and arrays."""
    columns = {name: from_arrow(table.column(name)) for name in table.column_names}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
