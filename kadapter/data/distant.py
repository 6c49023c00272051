"""Distant supervision: sentences that name both ends of a triple become examples of its relation (Mintz et al. 2009).

A mention is an alias found in a sentence; its readings are the entities that the alias names. An alias with several
readings is resolved by the triples: it means the one that has a fact with another mention of the sentence; where
several have one, or none has, it is left out. Of several mentions of an entity the first counts.
"""

from __future__ import annotations

import gc
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kadapter.data.aliases import CompiledGraph, compiled
from kadapter.data.cleaned import Example, fraction
from kadapter.data.jsonio import to_json, write_json
from kadapter.data.mentions import Hit, Match, MatchStatistics, Sentence, find_mentions
from kadapter.data.pieces import Piece
from kadapter.data.texts import TextOptions, documents, sentences_of, words_of
from kadapter.storage.errors import writing
from kadapter.storage.files import atomic_files

NO_RELATION = "no_relation"
_BATCH = 1000  # sentences whose mentions and pairs are found together


@dataclass(frozen=True)
class AlignOptions:
    """What is made of sentences.

    negatives: pairs without a fact for each example with one. seed: of their choice and of what the report shows.
    max_words: of a sentence; longer ones are left out and counted.
    """

    texts: TextOptions = TextOptions()
    case: str = "smart"
    negatives: float = 0.0
    seed: int = 42
    max_words: int = 128


class Fact(NamedTuple):
    """A pair of mentions and the first row of its facts in the graph, -1 where it has none."""

    subject: int
    object: int
    entities: tuple[int, int]
    row: int


def align_piece(work: tuple[Piece, str, Path], graph: Path, options: AlignOptions) -> None:
    """Write the examples of a piece of text, and beside them what was counted, whose presence says that it is whole.

    Args:
        work: the piece, its name in documents, and the file to write.
        graph: folder of the compiled graph.

    Raises:
        ValueError: the text cannot be read; names file, line and mend.
    """
    piece, name, part = work
    loaded = compiled(graph, options.case)
    found = MatchStatistics.of(loaded)
    what = "a part of the examples"
    with _no_collector(), writing(part, what), atomic_files(what) as temporary:
        with temporary(part).open("x", encoding="utf-8", newline="\n") as file:
            for example in align(read_sentences(piece, name, options, found), loaded, options, found):
                file.write(to_json(example) + "\n")
        np.savez(temporary(part.with_suffix(".npz")), **found.arrays())  # type: ignore[arg-type]
    report = {"counts": found.counts, "relations": found.relations, "shown": sorted(found.shown)}
    write_json(part.with_suffix(".counts"), report)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Without the collector of reference cycles, of which there are none here: it takes a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_sentences(
    piece: Piece, name: str, options: AlignOptions, found: MatchStatistics | None = None
) -> Iterator[tuple[str, int, list[str]]]:
    """The sentences of a piece as (document, number in it from 1, words)."""
    counts = Counter[str]() if found is None else found.counts
    for document, text in documents(piece, name, options.texts):
        words = words_of(text)
        counts["documents"] += 1
        for number, sentence in enumerate(sentences_of(words) if options.texts.split else [words], start=1):
            counts["sentences"] += 1
            if len(sentence) > options.max_words:
                counts[f"sentences of more than {options.max_words} words, left out"] += 1
            else:
                yield document, number, sentence


# -- facts ------------------------------------------------------------------------------------------------------


def align(
    sentences: Iterable[tuple[str, int, list[str]]], graph: CompiledGraph, options: AlignOptions, found: MatchStatistics
) -> Iterator[Example]:
    """The examples of those sentences, in their order; pairs without a fact follow those of their batch."""
    due = 0.0
    stream = iter(sentences)
    while batch := list(islice(stream, _BATCH)):
        lone: list[tuple[float, Sentence, Fact]] = []
        for sentence, hits in find_mentions(batch, graph, found, lone=options.negatives > 0):
            facts, meant = _resolve(sentence, hits, found)
            made = 0
            for fact in facts:
                for example in _examples(sentence, fact, len(facts), graph, found):
                    found.show(fraction(options.seed, f"{sentence.document}/{sentence.number}/{made}"), example)
                    made += 1
                    yield example
            found.counts["examples"] += made
            due += made * options.negatives
            if options.negatives:
                lone += _lone_pairs(sentence, meant, hits, options.seed)
        chosen = heapq.nsmallest(int(due), lone, key=lambda candidate: candidate[0])
        due -= len(chosen)
        yield from (_lone_example(sentence, pair, graph, found) for _, sentence, pair in chosen)
    if int(due):
        found.counts[f"examples of {NO_RELATION} that were wanted, but had no pairs"] += int(due)


def _resolve(sentence: Sentence, hits: Sequence[Hit], found: MatchStatistics) -> tuple[list[Fact], dict[int, int]]:
    """The facts of a sentence, each pair of entities once, and what its mentions mean: place -> entity."""
    meant = dict(sentence.readings)
    if len(sentence.readings) > len(sentence.mentions):  # some alias names several entities
        meant = _meanings(sentence, hits)
        unresolved = [match.pattern for i, match in enumerate(sentence.mentions) if i not in meant]
        np.add.at(found.open, np.array(unresolved, np.int64), 1)
    facts: dict[tuple[int, int], Fact] = {}
    for one, other, row in hits:
        (i, first), (j, second) = sentence.readings[one], sentence.readings[other]
        if i not in meant or j not in meant:
            found.counts["pairs with a fact, left out since an alias has several readings with one"] += 1
        else:
            facts.setdefault((first, second), Fact(i, j, (first, second), row))
    return sorted(facts.values(), key=lambda fact: fact[:2]), meant


def _meanings(sentence: Sentence, hits: Sequence[Hit]) -> dict[int, int]:
    """What mentions mean, as far as their aliases or the facts leave one entity: place -> entity."""
    readings: dict[int, set[int]] = {}
    with_fact: dict[int, set[int]] = {}
    for i, entity in sentence.readings:
        readings.setdefault(i, set()).add(entity)
    for i, entity in (sentence.readings[position] for one, other, _ in hits for position in (one, other)):
        with_fact.setdefault(i, set()).add(entity)
    possible = {i: with_fact.get(i, own) for i, own in readings.items()}
    return {i: next(iter(own)) for i, own in possible.items() if len(own) == 1}


def _lone_pairs(
    sentence: Sentence, meant: dict[int, int], hits: Sequence[Hit], seed: int
) -> Iterator[tuple[float, Sentence, Fact]]:
    """Pairs of entities without a fact in either direction, each once in a direction by lot, with their lots."""
    known = {frozenset((sentence.readings[one][1], sentence.readings[other][1])) for one, other, _ in hits}
    places: dict[int, int] = {}
    for i, entity in sorted(meant.items()):
        places.setdefault(entity, i)
    for first, second in combinations(places, 2):
        if frozenset((first, second)) in known:
            continue
        i, j = places[first], places[second]
        lot = fraction(seed, f"{sentence.document}/{sentence.number}/{i}/{j}")
        turned = int(lot * 2**40) % 2
        yield lot, sentence, Fact(j, i, (second, first), -1) if turned else Fact(i, j, (first, second), -1)


# -- examples ---------------------------------------------------------------------------------------------------


def _examples(
    sentence: Sentence, fact: Fact, among: int, graph: CompiledGraph, found: MatchStatistics
) -> Iterator[Example]:
    """The examples of a pair of mentions, one for each of its relations.

    Args:
        among: pairs with a fact in the sentence.
    """
    rows = _rows_of(fact.row, graph)
    found.used[[*fact.entities]] = True
    found.facts[rows.start : rows.stop] = True
    found.counts["pairs with several relations"] += len(rows) > 1
    subject, object_ = sentence.mentions[fact.subject], sentence.mentions[fact.object]
    readings = [_readings(match, graph) for match in (subject, object_)]
    for row in rows:
        relation = int(graph.fact_relations[row])
        example = _example(sentence, fact, graph.relations[relation], graph, readings) | {"of_relations": len(rows)}
        sums = found.relations.setdefault(graph.relations[relation], Counter())
        sums["examples"] += 1
        sums["resolved by a triple"] += max(readings) > 1
        sums["several relations"] += len(rows) > 1
        sums["several facts in the sentence"] += among > 1
        sums["relation named"] += graph.names_relation(relation, sentence.words)
        sums["words between"] += max(subject.start, object_.start) - min(subject.end, object_.end)
        yield example


def _rows_of(row: int, graph: CompiledGraph) -> range:
    """The rows of one pair's facts, which lie together."""
    end = row + 1
    while end < len(graph.facts) and graph.facts[end] == graph.facts[row]:
        end += 1
    return range(row, end)


def _readings(match: Match, graph: CompiledGraph) -> int:
    return int(graph.offsets[match.pattern + 1] - graph.offsets[match.pattern])


def _example(sentence: Sentence, fact: Fact, relation: str, graph: CompiledGraph, readings: Sequence[int]) -> Example:
    """A cleaned example; beyond their keys, how the match was made: the aliases, and how many entities they name."""
    subject, object_ = sentence.mentions[fact.subject], sentence.mentions[fact.object]
    return {
        "docid": sentence.document,
        "token": sentence.words,
        "relation": relation,
        "subj_start": subject.start,
        "subj_end": subject.end - 1,
        "obj_start": object_.start,
        "obj_end": object_.end - 1,
        "subj_label": graph.entities[fact.entities[0]],
        "obj_label": graph.entities[fact.entities[1]],
        "sentence": sentence.number,
        "subj_alias": graph.alias(subject.pattern),
        "obj_alias": graph.alias(object_.pattern),
        "subj_readings": readings[0],
        "obj_readings": readings[1],
    }


def _lone_example(sentence: Sentence, pair: Fact, graph: CompiledGraph, found: MatchStatistics) -> Example:
    """A pair without a fact."""
    found.counts[f"examples of {NO_RELATION}"] += 1
    readings = [_readings(sentence.mentions[i], graph) for i in (pair.subject, pair.object)]
    return _example(sentence, pair, NO_RELATION, graph, readings) | {"of_relations": 0}
