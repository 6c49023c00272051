"""Examples that stand in two splits, of which a model has seen the answer before it is asked."""

from __future__ import annotations

from collections.abc import Iterator

import datasets
import numpy as np
import pyarrow as pa

_INPUTS = ("input_ids", "token_type_ids", "positions")  # what a model reads; the answer is left out
_ROWS = 10_000  # at a time, which takes some megabytes
_MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def count_shared(train: datasets.Dataset, other: datasets.Dataset) -> int:
    """Examples of `other` whose inputs stand in `train` too, whatever their labels are.

    Inputs are compared as the model reads them: cut, and without what its head does not read. They are compared by 64
    bits of a hash, so that two million examples take 16 MB; of as many, two differing ones agree once in four million
    data sets.
    """
    return int(np.isin(_hashes(other), _hashes(train)).sum())


def _hashes(features: datasets.Dataset) -> np.ndarray:
    """64 bits of each example's inputs, [examples]."""
    names = [name for name in _INPUTS if name in features.column_names]
    found = [
        sum((_mixed(_row_hashes(column)) * _MIX[0] + salt for salt, column in _lists(batch, names)), np.uint64(0))
        for batch in features.with_format("arrow").iter(_ROWS)
    ]
    return np.concatenate(found)


def _lists(batch: pa.Table, names: list[str]) -> Iterator[tuple[np.uint64, pa.ListArray]]:
    for i, name in enumerate(names):
        yield np.uint64(i), batch[name].combine_chunks()


def _row_hashes(rows: pa.ListArray) -> np.ndarray:
    """Of each row's values, flat, by value and place: sums of mixed values, which need no loop over rows."""
    ends, values = np.asarray(rows.offsets), rows.values
    while pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        ends, values = np.asarray(values.offsets)[ends], values.values
    ids = np.asarray(values)[ends[0] : ends[-1]].astype(np.uint64)
    ends = ends - ends[0]
    places = np.arange(len(ids)) - np.repeat(ends[:-1], np.diff(ends))
    mixed = _mixed(ids * _MIX[0] + places.astype(np.uint64))
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)))
    return sums[ends[1:]] - sums[ends[:-1]] + np.diff(ends).astype(np.uint64)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Every bit of a value spread over all bits of the result (the finalizer of SplitMix64)."""
    values = values + _MIX[0]
    values = (values ^ (values >> np.uint64(30))) * _MIX[1]
    values = (values ^ (values >> np.uint64(27))) * _MIX[2]
    return values ^ (values >> np.uint64(31))
