"""Triples as sentences, for pretraining on knowledge that no text states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path
from string import Formatter
from typing import Any

from tqdm import tqdm

from kadapter.data.graph import Graph, is_code
from kadapter.data.jsonio import shorten
from kadapter.data.spans import Span
from kadapter.data.splits import JSON, form_of
from kadapter.storage.reading import read_json, read_lines

SLOTS = ("subject", "object")
Parts = list[tuple[str, str]]  # a template: text, and the slot behind it, "" at the end


def read_templates(path: Path) -> dict[str, Parts]:
    """Relation -> template, from JSON ({relation: template}) or lines of a relation, a tab and a template.

    Raises:
        FileNotFoundError, ValueError: such as a template that lacks {subject} or {object}; names file, relation, mend.
    """
    if form_of(path) in JSON:
        given = read_json(path, "write {relation: template}.")
        if not isinstance(given, dict):
            raise ValueError(f"{path} holds {shorten(given)}; write {{relation: template}}.")
        rows = [(f"{path}, {shorten(relation)}", relation, template) for relation, template in given.items()]
    else:
        lines = [(number, line.split("\t")) for number, line in read_lines(path) if line.strip()]
        if wrong := next(((number, cells) for number, cells in lines if len(cells) != 2), None):
            raise ValueError(
                f"{path}, line {wrong[0]}: {len(wrong[1])} columns; write a relation, a tab and a template."
            )
        rows = [(f"{path}, line {number}", cells[0].strip(), cells[1].strip()) for number, cells in lines]
    found: dict[str, Parts] = {}
    for where, relation, template in rows:
        if relation in found:
            raise ValueError(f"{where}: the relation has a template already; give one.")
        found[relation] = parts_of(template, where)
    if not found:
        raise ValueError(f"{path} holds no template; write such as {{subject}} was born in {{object}}.")
    return found


def parts_of(template: Any, where: str) -> Parts:
    """A template in its parts.

    Raises:
        ValueError: it is no text with {subject} and {object}, each once.
    """
    try:
        parts = [(text, slot or "") for text, slot, _, _ in Formatter().parse(template)]
    except (ValueError, TypeError):
        parts = []
    if sorted(slot for _, slot in parts if slot) != sorted(SLOTS):
        raise ValueError(
            f"{where}: the template is {shorten(template)}; write {{subject}} and {{object}}, each once, and "
            "double other braces."
        )
    return parts


def sentence(parts: Parts, names: Mapping[str, str]) -> tuple[str, list[Span]]:
    """The sentence of a fact, and where the names stand in it, in characters."""
    text, spans = "", []
    for before, slot in parts:
        text += before
        if slot:
            spans.append((len(text), len(text) + len(names[slot])))
            text += names[slot]
    return text, spans


def first_names(graph: Graph) -> dict[int, str]:
    """What each entity is called: its first name that is no mere id; those without one are left out."""
    names: dict[int, str] = {}
    for entity, name in graph.names:
        if not is_code(name):
            names.setdefault(entity, " ".join(name.split()))
    return names


def verbalize(
    graph: Graph, templates: Mapping[str, Parts], facts_per_line: int, counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Lines of {"text", "spans", "subject"}: the facts of a subject in sentences, each triple once.

    An entity is called by its first name. Facts of those that have none but an id are left out and counted.

    Args:
        facts_per_line: facts of one subject that share a line.
    """
    names = first_names(graph)
    relations = {number: name for name, number in graph.relations.items()}
    forms = {number: templates.get(name) or _plain(graph.relation_names[number]) for number, name in relations.items()}
    counts["relations without a template"] = sum(name not in templates for name in graph.relations)
    counts["templates for relations that the graph has not"] = len(templates.keys() - graph.relations.keys())
    ids = list(graph.entities)
    facts_read = tqdm(graph.table().tolist(), "triples", disable=None, leave=False)
    for subject, rows in groupby(facts_read, key=lambda row: row[0]):
        said = []
        for _, relation, object_ in rows:
            if subject in names and object_ in names:
                said.append(sentence(forms[relation], {"subject": names[subject], "object": names[object_]}))
            else:
                counts["triples of entities that have no name, left out"] += 1
        facts = iter(said)
        while group := list(islice(facts, facts_per_line)):
            counts["facts"] += len(group)
            counts["lines"] += 1
            yield {**_joined(group), "subject": ids[subject]}


def _plain(relation: str) -> Parts:
    return [("", "subject"), (f" {relation} ", "object"), (".", "")]


def _joined(facts: list[tuple[str, list[Span]]]) -> dict[str, Any]:
    """Several sentences as one text."""
    text, found = "", []
    for own, spans in facts:
        text += " " * bool(text)
        found += [[len(text) + start, len(text) + end] for start, end in spans]
        text += own
    return {"text": text, "spans": found}
