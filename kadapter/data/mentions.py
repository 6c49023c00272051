"""Mentions of a graph's entities in sentences, and which pairs of them have a fact: found for many sentences at once.

Most sentences hold no fact. So all that is said of each of them is computed over arrays, and only those with a fact
become Python objects.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from kadapter.data.aliases import CompiledGraph, haystack
from kadapter.data.cleaned import Example
from kadapter.data.jsonio import to_json

SHOWN = 20  # examples of a report
_MOST = 64  # readings in a sentence; more are a list of names
Hit = list[int]  # two places in a sentence's readings, and the first row of their facts


class Match(NamedTuple):
    """An alias in a sentence; the end exclusive, in words."""

    pattern: int
    start: int
    end: int


class Sentence(NamedTuple):
    """Where it stands, its words, its mentions, and their readings as (place in mentions, entity)."""

    document: str
    number: int
    words: list[str]
    mentions: list[Match]
    readings: list[tuple[int, int]]


@dataclass
class MatchStatistics:
    """What is counted in a piece of text.

    relations: name -> sums over its examples. aliases, open [aliases]: how often each was found, and not resolved.
    entities, used [entities]: which the text names, and which are in examples; facts [triples] alike.
    """

    aliases: np.ndarray
    open: np.ndarray
    entities: np.ndarray
    used: np.ndarray
    facts: np.ndarray
    counts: Counter[str] = field(default_factory=Counter)
    relations: dict[str, Counter[str]] = field(default_factory=dict)
    shown: list[tuple[float, str]] = field(default_factory=list)  # examples as JSON, with their lot

    @classmethod
    def of(cls, graph: CompiledGraph) -> MatchStatistics:
        aliases, open_ = (np.zeros(len(graph.aliases), np.int64) for _ in range(2))
        entities, used = (np.zeros(len(graph.entities), bool) for _ in range(2))
        return cls(aliases, open_, entities, used, np.zeros(len(graph.facts), bool))

    def show(self, lot: float, example: Example) -> None:
        """Keep the examples with the highest lots."""
        if len(self.shown) < SHOWN:
            heapq.heappush(self.shown, (lot, to_json(example)))
        elif lot > self.shown[0][0]:
            heapq.heappushpop(self.shown, (lot, to_json(example)))

    def arrays(self) -> dict[str, np.ndarray]:
        """What is not zero: places, of sums as rows of [place, sum]."""
        kept = {name: np.flatnonzero(getattr(self, name)) for name in ("entities", "used", "facts")}
        for name in ("aliases", "open"):
            sums = getattr(self, name)
            places = np.flatnonzero(sums)
            kept[name] = np.stack([places, sums[places]], 1)
        return kept


class _Mentions(NamedTuple):
    """All mentions of a batch in order, [mentions] each: sentence, pattern, and its characters in all texts joined."""

    sentence: np.ndarray
    pattern: np.ndarray
    start: np.ndarray
    end: np.ndarray


class _Readings(NamedTuple):
    """All readings of these mentions in order, [readings] each; begins [sentences + 1]: where a sentence's begin."""

    mention: np.ndarray
    entity: np.ndarray
    begins: np.ndarray


def find_mentions(
    batch: Sequence[tuple[str, int, list[str]]], graph: CompiledGraph, found: MatchStatistics, lone: bool = False
) -> Iterator[tuple[Sentence, list[Hit]]]:
    """The sentences in which a pair of mentions has a fact, with these pairs.

    Args:
        batch: sentences as (document, number, words).
        lone: give all sentences with two entities or more.
    """
    texts = [haystack(words, graph.case) for _, _, words in batch]
    begins = np.cumsum([0, *(len(text) + 1 for text in texts)])
    pattern, start, end = graph.find(texts).T
    mentions = _Mentions(np.searchsorted(begins, start, "right") - 1, pattern, start, end)
    np.add.at(found.aliases, pattern, 1)
    readings = _read(mentions, len(batch), graph)
    found.entities[readings.entity] = True
    usable = _usable(mentions, readings, found)
    sentences, hits = _look_up(mentions, readings, usable, graph)
    with_fact = np.zeros(len(batch), bool)
    with_fact[sentences] = True
    wanted = usable if lone else with_fact
    sizes = graph.offsets[pattern + 1] - graph.offsets[pattern]
    unresolved = (sizes > 1) & ~wanted[mentions.sentence]
    np.add.at(found.open, pattern[unresolved], 1)
    # Lists, of which a part is taken faster than of an array.
    edges = np.searchsorted(mentions.sentence, np.arange(len(batch) + 1)).tolist()
    hit_edges = np.searchsorted(sentences, np.arange(len(batch) + 1)).tolist()
    found_hits: list[list[int]] = hits.tolist()
    offsets = begins.tolist()
    spots = list(zip(pattern.tolist(), start.tolist(), end.tolist(), strict=True))
    places, entities, first = readings.mention.tolist(), readings.entity.tolist(), readings.begins.tolist()
    for i in np.flatnonzero(wanted).tolist():
        matches = _matches(texts[i], spots[edges[i] : edges[i + 1]], offsets[i])
        own = [(places[r] - edges[i], entities[r]) for r in range(first[i], first[i + 1])]
        yield Sentence(*batch[i], matches, own), found_hits[hit_edges[i] : hit_edges[i + 1]]


def _matches(text: str, spots: Sequence[tuple[int, int, int]], begin: int) -> list[Match]:
    """Mentions by words; a blank stands on both sides of each word.

    Args:
        spots: pattern, start and end of each, in characters of all texts joined, where this one begins at `begin`.
    """
    matches, at, word = [], 0, 0
    for pattern, start, end in spots:
        start, end = start - begin, end - begin
        word += text.count("  ", at, start + 1)
        size = text.count("  ", start + 1, end - 1) + 1
        matches.append(Match(pattern, word, word + size))
        word, at = word + size - 1, end - 1
    return matches


def _read(mentions: _Mentions, sentences: int, graph: CompiledGraph) -> _Readings:
    """The entities that the mentions may mean."""
    first = graph.offsets[mentions.pattern].astype(np.int64)
    sizes = graph.offsets[mentions.pattern + 1] - first
    mention, within = _spread(sizes)
    entity = graph.owners[first[mention] + within].astype(np.int64)
    return _Readings(mention, entity, np.searchsorted(mentions.sentence[mention], np.arange(sentences + 1)))


def _spread(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each number i repeated sizes[i] times, and beside it 0, 1, 2, ... up to that."""
    ends = np.cumsum(sizes)
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    return numbers, np.arange(ends[-1] if len(ends) else 0) - (ends - sizes)[numbers]


def _usable(mentions: _Mentions, readings: _Readings, found: MatchStatistics) -> np.ndarray:
    """Which sentences name two entities or more, but no list of names."""
    sizes = np.diff(readings.begins)
    several = np.zeros(len(sizes), bool)
    filled = np.flatnonzero(sizes)
    if len(filled):
        begins = readings.begins[filled]
        low, high = np.minimum.reduceat(readings.entity, begins), np.maximum.reduceat(readings.entity, begins)
        several[filled] = low < high
    found.counts["sentences with two entities or more"] += int(several.sum())
    if too_many := int((several & (sizes > _MOST)).sum()):
        found.counts[f"sentences with more than {_MOST} readings of aliases, left out"] += too_many
    return several & (sizes <= _MOST)


def _look_up(
    mentions: _Mentions, readings: _Readings, usable: np.ndarray, graph: CompiledGraph
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of readings that have a fact: their sentences [hits] in order, and the hits [hits, 3]."""
    sizes = np.diff(readings.begins)
    sentence = mentions.sentence[readings.mention]
    kept = np.flatnonzero(usable[sentence])
    one, within = _spread(sizes[sentence[kept]])
    one = kept[one]
    other = readings.begins[sentence[one]] + within
    apart = readings.mention[one] != readings.mention[other]
    apart &= readings.entity[one] != readings.entity[other]
    one, other = one[apart], other[apart]
    keys = readings.entity[one] * len(graph.entities) + readings.entity[other]
    order = np.argsort(keys)  # neighbours are looked up in the same memory
    rows = np.empty(len(keys), np.int64)
    rows[order] = np.searchsorted(graph.facts, keys[order])
    hit = np.flatnonzero(graph.facts[np.minimum(rows, len(graph.facts) - 1)] == keys)
    sentences = sentence[one[hit]]
    begins = readings.begins[sentences]
    return sentences, np.stack([one[hit] - begins, other[hit] - begins, rows[hit]], 1)
