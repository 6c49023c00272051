"""Scores by relation and their averages, as LAMA has them: P@1, P@10 and the mean reciprocal rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kadapter.probing.facts import T_REX, Fact

UHN = "UHN"
RESAMPLES = 9999


@dataclass(frozen=True)
class Score:
    """Of one relation, or the unweighted average over relations; P@1 and P@10 in per cent.

    relations: how many are averaged; 1 for a relation.
    """

    facts: int
    relations: int
    p1: float
    p10: float
    mrr: float


@dataclass(frozen=True)
class Group:
    """Facts that are averaged together.

    name: such as "T-REx", "T-REx, N-M" or "UHN T-REx".
    members: relation -> numbers of its facts.
    """

    name: str
    members: Mapping[str, np.ndarray]


def groups(facts: Sequence[Fact], in_uhn: Sequence[bool] | None) -> list[Group]:
    """The collections, T-REx also by cardinality, and each without the facts that a name gives away.

    Args:
        in_uhn: whether a fact belongs to LAMA-UHN; None where this was not asked. Of relations that lose all their
            facts nothing is averaged.
    """
    found = []
    for collection in dict.fromkeys(fact.collection for fact in facts):
        numbers = [i for i, fact in enumerate(facts) if fact.collection == collection]
        found.append(_group(collection, facts, numbers))
        if collection == T_REX:
            for kind in sorted({facts[i].cardinality for i in numbers} - {""}):
                of_kind = [i for i in numbers if facts[i].cardinality == kind]
                found.append(_group(f"{collection}, {kind}", facts, of_kind))
        kept = [i for i in numbers if in_uhn is not None and in_uhn[i]]
        if kept:
            found.append(_group(f"{UHN} {collection}", facts, kept))
    return found


def _group(name: str, facts: Sequence[Fact], numbers: Sequence[int]) -> Group:
    members: dict[str, list[int]] = {}
    for i in numbers:
        members.setdefault(facts[i].relation, []).append(i)
    return Group(name, {relation: np.array(own) for relation, own in members.items()})


def score(ranks: np.ndarray) -> Score:
    """Of facts of one relation: `ranks` [F] from 1."""
    return Score(
        len(ranks), 1, 100 * float((ranks <= 1).mean()), 100 * float((ranks <= 10).mean()), float((1 / ranks).mean())
    )


def average(scores: Sequence[Score]) -> Score:
    """Unweighted over relations."""
    means = {key: float(np.mean([getattr(one, key) for one in scores])) for key in ("p1", "p10", "mrr")}
    return Score(sum(one.facts for one in scores), len(scores), **means)


def scores_of(group: Group, ranks: np.ndarray) -> dict[str, Any]:
    """{"average": ..., "relations": {relation: ...}} of a group's facts, `ranks` [all facts]."""
    by_relation = {relation: score(ranks[numbers]) for relation, numbers in group.members.items()}
    return {
        "average": asdict(average(list(by_relation.values()))),
        "relations": {relation: asdict(one) for relation, one in by_relation.items()},
    }


def interval(group: Group, ranks: np.ndarray, seed: int = 42) -> tuple[float, float]:
    """95 % of the average P@1, in per cent, by a bootstrap over each relation's facts (percentiles).

    Drawing n facts anew of which a share p is right gives a binomial number of right ones.
    """
    rng = np.random.default_rng(seed)
    means = np.zeros(RESAMPLES)
    for numbers in group.members.values():
        count = len(numbers)
        means += rng.binomial(count, (ranks[numbers] <= 1).mean(), RESAMPLES) / count
    low, high = np.percentile(100 * means / len(group.members), (2.5, 97.5))
    return float(low), float(high)
