"""Knowledge graphs from files.

Triples come from .tsv, .csv, .txt (separated by tabs), JSON lines, Parquet and Arrow, with ids or names; N-Triples and
Turtle are read by `kadapter.data.rdf`. Names come from alias files: an id, then its names, in the form that Wikidata5M
has for entities and relations alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kadapter.data.graph import Graph, is_code, readable, readable_relation
from kadapter.data.jsonio import shorten, whole
from kadapter.data.rdf import read_rdf
from kadapter.data.splits import TEXT, files_of, form_of
from kadapter.data.tables import begins_with_object, csv_rows, read_rows
from kadapter.storage.reading import read_lines

RDF = (".nt", ".ttl")
# What the columns of a table are called, in any case.
COLUMNS = (
    ("subject", ("subject", "subj", "head", "h", "s")),
    ("relation", ("relation", "predicate", "property", "rel", "r", "p")),
    ("object", ("object", "obj", "tail", "t", "o")),
)
_IDS = ("id", "entity", "qid", "name")
_NAMES = ("aliases", "alias", "names", "labels", "label")


def read_graph(triples: Sequence[Path], aliases: Sequence[Path] = (), language: str = "en") -> Graph:
    """The graph of those files, with the names of its entities and relations.

    An entity is called what the alias files and labels call it and, where it has none of these or its name in the
    triples is no mere id, by that name.

    Args:
        language: of labels in RDF; those without a language are taken too.

    Raises:
        FileNotFoundError, ValueError: name file, line, value and mend.
    """
    graph = Graph()
    for path in triples:
        if form_of(path) in RDF:
            read_rdf(path, graph, language)
        else:
            rows = tqdm(read_triples(path), path.name, unit=" triples", unit_scale=True, disable=None, leave=False)
            for subject, relation, object_ in rows:
                graph.add(subject, relation, object_)
    if not graph.triples:
        raise ValueError(f"{', '.join(map(str, triples))}: there is no triple; give subject, relation and object.")
    graph.counts["triples"] = len(graph.triples) // 3
    for path in aliases:
        _add_aliases(path, graph)
    _add_own_names(graph)
    return graph


def _add_own_names(graph: Graph) -> None:
    named = {entity for entity, _ in graph.names}
    for name, number in graph.entities.items():
        if number not in named:
            graph.counts["entities without an alias"] += 1
        if number not in named or not is_code(name):
            graph.names.append((number, readable(name)))
    for name, number in graph.relations.items():
        graph.relation_names.setdefault(number, readable_relation(name))


# -- triples ----------------------------------------------------------------------------------------------------


def read_triples(path: Path) -> Iterator[tuple[str, str, str]]:
    """Subject, relation and object of each row; a header is told by its names, and may name further columns.

    Raises:
        FileNotFoundError, ValueError: such as a row with another number of columns.
    """
    rows = _cell_rows(path)
    if rows is None:
        for _, where, record in read_rows(path):
            yield _of_record({str(name).lower(): value for name, value in record.items()}, where)
        return
    places, wide = (0, 1, 2), 3
    for i, (where, cells) in enumerate(rows):
        if i == 0 and (found := _header(cells)):
            places, wide = found, len(cells)
            continue
        if len(cells) != wide:
            raise ValueError(
                f"{where}: {len(cells)} columns in {shorten(' | '.join(cells))}, not {wide}; give subject, relation "
                f"and object, separated by {'commas' if form_of(path) == '.csv' else 'tabs'}."
            )
        values = [cells[position].strip() for position in places]
        if not all(values):
            name = COLUMNS[values.index("")][0]
            raise ValueError(
                f"{where}: the {name} is empty in {shorten(' | '.join(cells))}; give it, or remove the row."
            )
        yield values[0], values[1], values[2]


def _cell_rows(path: Path) -> Iterator[tuple[str, list[str]]] | None:
    """Rows of cells with their places for messages; None where a file has records with names."""
    files = files_of(path) or [path]  # one that is not there is told by its reader
    form = form_of(files[0])
    if form == ".csv":
        return ((f"{file}, line {n}", cells) for file in files for n, cells in csv_rows(file))
    if form in (".tsv", TEXT, ".tab") and not (form == TEXT and begins_with_object(files[0])):
        return (
            (f"{file}, line {n}", line.split("\t")) for file in files for n, line in read_lines(file) if line.strip()
        )
    return None


def _header(cells: Sequence[str]) -> tuple[int, int, int] | None:
    """Where subject, relation and object stand, if that is a row of names."""
    names = [cell.strip().lower() for cell in cells]
    places = [next((names.index(name) for name in own if name in names), None) for _, own in COLUMNS]
    return None if None in places else (places[0], places[1], places[2])  # type: ignore[return-value]


def _of_record(record: dict[str, Any], where: str) -> tuple[str, str, str]:
    values = [_text(record, own) for _, own in COLUMNS]
    for (name, own), value in zip(COLUMNS, values, strict=True):
        if value is None:
            raise ValueError(f"{where}: there is no {name} among {shorten([*record])}; give it as {' or '.join(own)}.")
    return values[0], values[1], values[2]  # type: ignore[return-value]


def _text(record: dict[str, Any], names: Iterable[str]) -> str | None:
    """The first of those values that is a name or a number, as text."""
    value = next((record[name] for name in names if record.get(name) is not None), None)
    number = whole(value)
    text = str(number) if number is not None else value
    return text.strip() or None if isinstance(text, str) else None


# -- aliases ----------------------------------------------------------------------------------------------------


def read_aliases(path: Path) -> Iterator[tuple[str, list[str]]]:
    """An id with its names: of lines and csv all cells behind it, of records a name or a list of names.

    Raises:
        FileNotFoundError, ValueError: name file, line or record, and mend.
    """
    rows = _cell_rows(path)
    if rows is None:
        for _, where, given in read_rows(path):
            record = {str(name).lower(): value for name, value in given.items()}
            names = next((record[name] for name in _NAMES if record.get(name) is not None), None)
            names = [names] if isinstance(names, str) else names
            own = _text(record, _IDS)
            if own is None or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError(f"{where}: {shorten(given)} has no id with aliases; give id, and aliases as a list.")
            yield own, names
        return
    for i, (where, cells) in enumerate(rows):
        if i == 0 and cells[0].strip().lower() in _IDS and cells[1:2] and cells[1].strip().lower() in _NAMES:
            continue
        if len(cells) < 2:
            raise ValueError(f"{where}: {shorten(cells[0])} has no alias; write the id, a tab and its names.")
        yield cells[0].strip(), cells[1:]


def _add_aliases(path: Path, graph: Graph) -> None:
    unknown: list[str] = []
    known = 0
    for own, names in read_aliases(path):
        names = [name.strip() for name in names if name.strip()]
        entity, relation = graph.entities.get(own), graph.relations.get(own)
        if entity is None and relation is None:
            unknown += [own] * (len(unknown) < 3)
            graph.counts["aliases' ids that no triple has"] += 1
            continue
        known += 1
        if entity is not None:
            graph.names += ((entity, name) for name in names)
        if relation is not None and names:
            graph.relation_names.setdefault(relation, names[0])
    if not known:
        theirs = f"such as {', '.join(map(shorten, unknown))}" if unknown else "for it holds none"
        ours = ", ".join(shorten(name) for name, _ in zip(graph.entities, range(3), strict=False))
        raise ValueError(
            f"{path}: none of its ids is in the triples, {theirs}; write the ids as the triples do, such as {ours}."
        )
