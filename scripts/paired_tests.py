"""Whether two settings differ on one test set: outcomes of each example, paired bootstrap, permutation test.

Shapes: S = seeds, E = examples or groups of them. The outcome of an example is three counts: labels that are right,
that were predicted, that are gold. One label each makes their F1 the accuracy; several, or none, make it the micro F1
over labels. An answer counts as one label, which is right by its own F1, or as the row judges it. Where numbers are
predicted, it is the absolute error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap, permutation_test, t

from kadapter.data.tables import read_rows

RESAMPLES = 9999  # the p-value's smallest step is then 1/10,000
JUDGED = ("f1", "exact_match", "hits_at_1")  # how a row judges its answer, the finest first
GOLD = ("label", "labels", "relation", "entities", "answers")  # as the tasks' rows call it
NO_RELATION = frozenset({"no_relation", "Other"})  # which TACRED's and SemEval's scores do not count


@dataclass(frozen=True)
class Difference:
    """Of the second setting over the first, in points of `measure`; positive is better."""

    measure: str
    points: float
    low: float
    high: float
    p_value: float

    @property
    def shown(self) -> bool:
        return self.p_value < 0.05 and (self.low > 0 or self.high < 0)


def read_outcomes(path: Path) -> tuple[np.ndarray, list[Any]]:
    """Outcomes [E, 3], or absolute errors [E, 1], of a run's predictions, and (number, gold) of each example.

    Raises:
        ValueError: a row without gold or predicted labels.
    """
    outcomes: list[tuple[float, ...]] = []
    known: list[Any] = []
    for _, where, row in read_rows(path):
        name = next((name for name in GOLD if row.get(name) is not None), None)
        if name is None or "predicted" not in row:
            raise ValueError(f"{where} has no gold label or no prediction; compare on a labelled split.")
        gold, guess = row[name], row["predicted"]
        known.append((row.get("record"), gold))
        if name == "answers":
            outcomes.append((next(row[measure] for measure in JUDGED if measure in row), 1, 1))
        elif isinstance(gold, float):
            outcomes.append((abs(gold - float(guess)),))
        else:
            left_out = NO_RELATION if name == "relation" else frozenset()
            outcomes.append(_counts(_labels(gold) - left_out, _labels(guess) - left_out))
    if len({len(one) for one in outcomes}) > 1:
        raise ValueError(f"{path} mixes numbers and labels; run the recipe again.")
    return np.array(outcomes, dtype=np.float64), known


def _labels(value: Any) -> set[Any]:
    if not isinstance(value, list):
        return {value}
    if value and isinstance(value[0], Mapping):  # spans
        return {(one["start"], one["end"], one["label"]) for one in value}
    return set(value)


def _counts(gold: set[Any], guess: set[Any]) -> tuple[int, int, int]:
    return len(gold & guess), len(guess), len(gold)


def measure_name(outcomes: np.ndarray) -> str:
    if outcomes.shape[-1] == 1:
        return "mean absolute error"
    one_each = bool((outcomes[..., 1:] == 1).all())
    if one_each and (outcomes[..., 0] % 1).any():
        return "mean F1 of answers"
    return "accuracy" if one_each else "micro F1"


def _measure(means: np.ndarray, axis: int = -1) -> np.ndarray:
    """F1 of counts summed over examples, or minus the mean error of [error, examples]: [3 or 2, ..., E] -> [...]."""
    if len(means) == 2:
        return -means[0].sum(axis) / means[1].sum(axis)
    right, predicted, gold = (part.sum(axis) for part in means)
    total = predicted + gold
    return 2 * right / np.where(total == 0, 1, total)


def read_groups(path: Path, column: str, records: Sequence[Any]) -> np.ndarray:
    """[E] the number of each record's group: records with the same value of a column of the data, such as a document.

    Raises:
        ValueError: a record that is not in the file, or has no such value.
    """
    values = {row.number: row.record.get(column) for row in read_rows(path)}
    for record in records:
        if not isinstance(values.get(record), str | int):
            there = f"has no {column!r} that is a name or a number" if record in values else "is not there"
            raise ValueError(f"{path}: record {record} {there}; give --group_by another column, or leave it out.")
    return np.unique([str(values[record]) for record in records], return_inverse=True)[1]


def _in_groups(means: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Counts, or errors with the number of examples, summed over each group: [3 or 1, E] -> [3 or 2, groups]."""
    if len(means) == 1:
        means = np.stack([means[0], np.ones_like(means[0])])
    if groups is None:
        return means
    return np.stack([np.bincount(groups, weights=part) for part in means])


def difference(base: np.ndarray, other: np.ndarray, groups: np.ndarray | None = None, seed: int = 42) -> Difference:
    """How much better `other` is than `base`, both [S, E, 3 or 1] over the same examples.

    Outcomes are averaged over seeds first. The interval resamples examples (paired percentile bootstrap); the p-value
    exchanges the two settings at random examples. Both tell what other test examples would show, with these seeds.

    Args:
        groups: [E] numbers of groups that are drawn and exchanged as wholes, since their examples are much alike.
    """
    means = [_in_groups(part.mean(0).T, groups) for part in (base, other)]  # [3 or 2, E]
    count = len(means[0])

    def gain(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
        return _measure(np.stack(columns[count:]), axis) - _measure(np.stack(columns[:count]), axis)

    columns = [*means[0], *means[1]]
    found, scale = float(gain(*columns)), 1 if count == 2 else 100
    if all(np.array_equal(a, b) for a, b in zip(*means, strict=True)):
        return Difference(measure_name(base), 0.0, 0.0, 0.0, 1.0)
    options = {"paired": True, "vectorized": True, "n_resamples": RESAMPLES, "method": "percentile", "batch": 100}
    interval = bootstrap(columns, gain, rng=np.random.default_rng(seed), **options).confidence_interval
    p_value = _permuted(means[0], means[1], found, seed)
    return Difference(measure_name(base), scale * found, scale * interval.low, scale * interval.high, p_value)


def _permuted(base: np.ndarray, other: np.ndarray, found: float, seed: int) -> float:
    """Two-sided p-value. The settings are exchanged example by example, all counts of an example together."""
    signs = np.where(np.arange(2)[:, None] == 0, 1.0, -1.0) * np.ones(base.shape[1])  # which setting stands first
    half, middle = (other - base) / 2, (other + base) / 2

    def gain(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
        parts = range(len(half))
        better = np.stack([middle[part] + first * half[part] for part in parts])
        worse = np.stack([middle[part] + second * half[part] for part in parts])
        return _measure(better, axis) - _measure(worse, axis)

    options = {"permutation_type": "samples", "n_resamples": RESAMPLES, "vectorized": True, "batch": 100}
    return float(permutation_test(tuple(signs), gain, rng=np.random.default_rng(seed), **options).pvalue)


def difference_of_averages(
    base: np.ndarray, other: np.ndarray, parts: Sequence[np.ndarray], seed: int = 42
) -> Difference:
    """How much more is right with `other`, in points of the unweighted average over parts, such as relations.

    The tests are those of `difference`, but examples are drawn within their part. Each one is better, worse or alike,
    so that drawing them gives multinomial numbers of these, and exchanging the settings at random a binomial number
    of signs: a million examples take no longer than a hundred.

    Args:
        base, other: [E] whether each example is right.
        parts: the numbers of each part's examples.
    """
    rng = np.random.default_rng(seed)
    drawn, exchanged, found = np.zeros(RESAMPLES), np.zeros(RESAMPLES), 0.0
    for numbers in parts:
        size = 100 / (len(numbers) * len(parts))  # points of one example
        better, worse = int((other[numbers] & ~base[numbers]).sum()), int((base[numbers] & ~other[numbers]).sum())
        found += size * (better - worse)
        shares = np.array([better, worse, len(numbers) - better - worse]) / len(numbers)
        counts = rng.multinomial(len(numbers), shares, RESAMPLES)
        drawn += size * (counts[:, 0] - counts[:, 1])
        exchanged += size * (2 * rng.binomial(better + worse, 0.5, RESAMPLES) - better - worse)
    low, high = np.percentile(drawn, (2.5, 97.5))
    p_value = (1 + (np.abs(exchanged) >= abs(found) - 1e-9).sum()) / (1 + RESAMPLES)
    return Difference("average of the parts' accuracies", found, float(low), float(high), float(p_value))


def interval_of_seeds(scores: Sequence[float]) -> float:
    """Half the width of the 95 % interval of the mean over seeds (Student's t); nan for one seed."""
    n = len(scores)
    return float(t.ppf(0.975, n - 1) * np.std(scores, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
