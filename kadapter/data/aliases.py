"""Aliases of entities: which are used, and one automaton that finds them all in a single pass over a sentence.

Aliases and sentences are compared word by word (`kadapter.data.texts`), so that no alias is found within a word. Of
aliases that begin at a word the longest counts (leftmost longest), so that mentions never overlap.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kadapter.data.graph import Graph
from kadapter.data.texts import words_of
from kadapter.storage.errors import writing
from kadapter.storage.files import atomic_folder

CASES = ("smart", "exact", "ignore")
_SHOWN = 5  # aliases that are shown for each rule
_MANY = 1000  # sentences, below which a share of them says nothing
_ENOUGH = 5  # occurrences of an ordinary word, below which it is not called one


@dataclass(frozen=True)
class AliasRules:
    """Which aliases are used.

    case: "smart" finds aliases as they are written, those in small letters also with a capital first; "exact" as they
    are written alone; "ignore" in any case. min_characters: letters and digits; two capitals ("UK", "U.S.") are
    enough. max_share: of sentences that an alias may stand in. max_readings: entities that it may name. stop: aliases
    that are not used, in small letters.
    """

    case: str = "smart"
    min_characters: int = 3
    max_share: float = 0.05
    max_readings: int = 16
    stop: frozenset[str] = frozenset()

    def refuse(self, alias: str, words: Sequence[str]) -> str:
        """Why an alias is not used whatever the text; "" where it is."""
        signs = "".join(filter(str.isalnum, alias))
        if not any(map(str.isalpha, signs)):
            return "no letter"
        is_acronym = len(signs) > 1 and signs.isupper() and self.case != "ignore"
        if len(signs) < self.min_characters and not is_acronym:
            return f"fewer than {self.min_characters} letters and digits"
        if len(words) == 1 and alias.lower() in self.stop and not is_acronym:
            return "a function word"
        return ""

    def forms(self, words: Sequence[str]) -> Iterator[str]:
        """The alias as patterns: its words with a blank on both sides of each."""
        text = "  ".join(words)
        if self.case == "ignore":
            text = text.lower()
        yield f" {text} "
        if self.case == "smart" and text.islower() and text[0].isalpha():
            yield f" {text[0].upper()}{text[1:]} "


@dataclass
class Sample:
    """What a part of the text shows: its sentences as the automaton reads them, and how often a word stands there."""

    sentences: list[str] = field(default_factory=list)
    words: Counter[str] = field(default_factory=Counter)

    def add(self, words: Sequence[str], rules: AliasRules) -> None:
        self.sentences.append(haystack(words, rules.case))
        self.words.update(words)


def haystack(words: Sequence[str], case: str) -> str:
    """A sentence as the automaton reads it."""
    text = "  ".join(words)
    return f" {text.lower() if case == 'ignore' else text} "


def automaton(patterns: Iterable[str]) -> Any:
    """Finds patterns leftmost longest: `.find_matches_as_indexes(text)` gives (pattern, start, end) in characters.

    Raises:
        ValueError: ahocorasick-rs is not installed.
    """
    try:
        from ahocorasick_rs import AhoCorasick, MatchKind
    except ImportError as error:
        raise ValueError(
            f"aliases are found by ahocorasick-rs ({error}); run: pip install 'kadapter[graph]'"
        ) from error
    return AhoCorasick(patterns, matchkind=MatchKind.LeftmostLongest, store_patterns=False)


# -- making the compiled graph ----------------------------------------------------------------------------------


def compile_graph(graph: Graph, rules: AliasRules, sample: Sample, folder: Path) -> dict[str, Any]:
    """Write what workers need, to be mapped into memory: aliases.arrow, entities.arrow, facts.npy, relations.npy.

    Returns:
        "aliases": those that are used; "ambiguous": of these, those that name several entities; "facts": triples, each
        once; "refused": reason -> {"count", "examples"}.

    Raises:
        ValueError: no alias is left.
    """
    import pyarrow as pa

    refused = Refused()
    texts, offsets, owners = _grouped(*_patterns(graph, rules, refused))
    texts, offsets, owners = _filtered(texts, offsets, owners, rules, sample, refused)
    if not texts:
        raise ValueError(f"no alias is left of {len(graph.names):,}: {refused}; give other --aliases or looser rules.")
    facts = graph.table()
    keys = facts[:, 0].astype(np.int64) * len(graph.entities) + facts[:, 2]
    readings = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(owners, pa.int32()))
    names = [graph.relation_names[i] for i in range(len(graph.relations))]
    with atomic_folder(folder, "the compiled graph") as temporary:
        _write_table(temporary / "aliases.arrow", {"alias": pa.array(texts, pa.large_string()), "readings": readings})
        _write_table(temporary / "entities.arrow", {"id": pa.array(graph.entities, pa.large_string())})
        _write_table(temporary / "relations.arrow", {"id": pa.array(graph.relations), "name": pa.array(names)})
        np.save(temporary / "facts.npy", keys)
        np.save(temporary / "relations.npy", facts[:, 1])
    several = int((np.diff(offsets) > 1).sum())
    return {"aliases": len(texts), "ambiguous": several, "facts": len(facts), "refused": refused.found}


class Refused:
    """Aliases that are not used, by reason, with some of them."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}

    def add(self, reason: str, alias: str) -> None:
        kept = self.found.setdefault(reason, {"count": 0, "examples": []})
        kept["count"] += 1
        if len(kept["examples"]) < _SHOWN and alias not in kept["examples"]:
            kept["examples"].append(alias)

    def __str__(self) -> str:
        return "; ".join(f"{reason} {kept['count']:,}" for reason, kept in self.found.items()) or "there was none"


def _patterns(graph: Graph, rules: AliasRules, refused: Refused) -> tuple[list[str], list[int]]:
    """All patterns with the entities that they name."""
    texts: list[str] = []
    owners: list[int] = []
    for entity, alias in graph.names:
        words = words_of(alias)
        if reason := rules.refuse(alias, words):
            refused.add(reason, alias)
            continue
        for form in rules.forms(words):
            texts.append(form)
            owners.append(entity)
    return texts, owners


def _grouped(texts: list[str], owners: list[int]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Each pattern once, in their order, with offsets into the entities that they name, in the order of numbers."""
    import pyarrow as pa

    table = pa.table({"alias": pa.array(texts, pa.large_string()), "owner": pa.array(owners, pa.int32())})
    texts.clear()
    owners.clear()
    table = table.group_by(["alias", "owner"]).aggregate([])  # each pair once
    table = table.sort_by([("alias", "ascending"), ("owner", "ascending")])
    found, offsets = [], []
    before = None
    for i, alias in enumerate(table["alias"].to_pylist()):
        if alias != before:
            found.append(alias)
            offsets.append(i)
            before = alias
    return found, np.array([*offsets, len(table)]), table["owner"].to_numpy()


def _filtered(
    texts: list[str], offsets: np.ndarray, owners: np.ndarray, rules: AliasRules, sample: Sample, refused: Refused
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Without the aliases that name too much or stand too often in this text."""
    found = _share_found(texts, sample.sentences)
    sizes = np.diff(offsets)
    keep = np.ones(len(texts), dtype=bool)
    for i in {*np.flatnonzero(sizes > rules.max_readings).tolist(), *found}:
        if reason := _refuse_in_text(texts[i], int(sizes[i]), found.get(i, 0), rules, sample):
            refused.add(reason, texts[i].strip().replace("  ", " "))
            keep[i] = False
    kept = [text for text, is_kept in zip(texts, keep, strict=True) if is_kept]
    new_offsets = np.concatenate([[0], np.cumsum(sizes[keep])])
    return kept, new_offsets, owners[np.repeat(keep, sizes)]


def _share_found(texts: Sequence[str], sentences: Sequence[str]) -> Counter[int]:
    """Pattern -> sentences of the sample that it stands in."""
    found: Counter[int] = Counter()
    if texts and sentences:
        finder = automaton(texts)
        for sentence in sentences:
            found.update({match[0] for match in finder.find_matches_as_indexes(sentence)})
    return found


def _refuse_in_text(pattern: str, readings: int, found: int, rules: AliasRules, sample: Sample) -> str:
    word = pattern.strip()
    if readings > rules.max_readings:
        return f"names more than {rules.max_readings} entities"
    if found > rules.max_share * max(_MANY, len(sample.sentences)):
        return f"in more than {rules.max_share:.1%} of the sentences"
    is_name = " " not in word and not word.islower() and not word.isupper()
    ordinary = sample.words[word.lower()] if is_name else 0
    if ordinary >= _ENOUGH and ordinary > sample.words[word]:
        return "mostly an ordinary word in this text"
    return ""


def _write_table(path: Path, columns: dict[str, Any]) -> None:
    import pyarrow as pa

    table = pa.table(columns)
    with (
        writing(path, "the compiled graph"),
        pa.OSFile(os.fspath(path), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


# -- using it ---------------------------------------------------------------------------------------------------


class CompiledGraph:
    """The compiled graph, mapped into memory, and its automaton, which each process builds."""

    def __init__(self, folder: Path, case: str, finds: bool = True) -> None:
        self.case = case
        self.entities = Texts(_read_table(folder / "entities.arrow")["id"])
        relations = _read_table(folder / "relations.arrow")
        self.relations: list[str] = relations["id"].to_pylist()
        self.relation_names: list[str] = relations["name"].to_pylist()
        aliases = _read_table(folder / "aliases.arrow")
        self.aliases = Texts(aliases["alias"])
        readings = aliases["readings"].combine_chunks()
        self.offsets: np.ndarray = readings.offsets.to_numpy()
        self.owners: np.ndarray = readings.values.to_numpy()
        # As plain arrays, of which single values are read faster.
        self.facts: np.ndarray = np.load(folder / "facts.npy", mmap_mode="r").view(np.ndarray)
        self.fact_relations: np.ndarray = np.load(folder / "relations.npy", mmap_mode="r").view(np.ndarray)
        stop = function_words()
        self._telling = [{word for word in words_of(name.lower()) if word not in stop} for name in self.relation_names]
        self.finder: Any = automaton(_each(aliases["alias"])) if finds else None

    def find(self, texts: Sequence[str]) -> np.ndarray:
        """The aliases in sentences as `haystack` gives them: rows of [pattern, start, end] in characters, the end
        exclusive, of all sentences joined by a newline, which no alias holds."""
        found = self.finder.find_matches_as_indexes("\n".join(texts))
        return np.array(found, dtype=np.int64).reshape(-1, 3)

    def names_relation(self, relation: int, words: Sequence[str]) -> bool:
        """Whether a word of the relation's name, other than a function word, stands in a sentence."""
        return not self._telling[relation].isdisjoint(map(str.lower, words))

    def readings(self, pattern: int) -> list[int]:
        """The entities that an alias names."""
        return self.owners[self.offsets[pattern] : self.offsets[pattern + 1]].tolist()

    def alias(self, pattern: int) -> str:
        return self.aliases[pattern].strip().replace("  ", " ")


class Texts:
    """A column of texts, mapped into memory, of which single ones are read."""

    def __init__(self, column: Any) -> None:
        import pyarrow as pa

        whole = column.combine_chunks()
        whole = whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)
        _, offsets, data = whole.buffers()
        self._offsets = np.frombuffer(offsets, np.int64)[whole.offset : whole.offset + len(whole) + 1]
        self._data = memoryview(data)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, place: int) -> str:
        return str(self._data[self._offsets[place] : self._offsets[place + 1]], "utf-8")


def _each(column: Any) -> Iterator[str]:
    """The texts of a column, some at a time, as all at once would take their memory twice."""
    for chunk in column.chunks:
        for begin in range(0, len(chunk), 1 << 14):
            yield from chunk.slice(begin, 1 << 14).to_pylist()


def _read_table(path: Path) -> Any:
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(os.fspath(path))).read_all()


@lru_cache(maxsize=1)
def compiled(folder: Path, case: str) -> CompiledGraph:
    """The compiled graph of a folder, loaded once in a process."""
    return CompiledGraph(folder, case)


def function_words() -> frozenset[str]:
    """Scikit-learn's English stop words, such as "it" and "may", in small letters."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)
