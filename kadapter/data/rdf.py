"""Triples and names from N-Triples and Turtle, which rdflib reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kadapter.data.graph import Graph
from kadapter.data.splits import form_of
from kadapter.storage.reading import opened, read_lines, shorten

# Properties that give a name, not a fact.
_NAMING = {
    "http://www.w3.org/2000/01/rdf-schema#label",
    "http://www.w3.org/2004/02/skos/core#prefLabel",
    "http://www.w3.org/2004/02/skos/core#altLabel",
    "http://schema.org/name",
    "http://xmlns.com/foaf/0.1/name",
}


def read_rdf(path: Path, graph: Graph, language: str = "en") -> None:
    """Add the triples between entities to the graph, and labels and `skos:altLabel` as names.

    N-Triples are streamed, Turtle is held in memory. Values (numbers, dates, texts) are counted and left
    out, and so are names in another language.

    Raises:
        FileNotFoundError, ValueError: rdflib is not installed, or the file is broken.
    """
    try:
        import rdflib
        from rdflib.plugins.parsers.ntriples import ParseError, W3CNTriplesParser
    except ImportError as error:
        raise ValueError(f"{path} needs rdflib ({error}); run: pip install 'kadapter[graph]'") from error
    taker = _Taker(graph, language)
    if form_of(path) == ".nt":
        parser = W3CNTriplesParser(taker)  # type: ignore[arg-type]  # which calls `triple` alone
        for number, line in read_lines(path):
            try:
                parser.parsestring(line)
            except ParseError as error:
                said = f"{shorten(line)} is no triple of N-Triples"
                raise ValueError(f"{path}, line {number}: {said}; write <subject> <relation> <object> .") from error
    else:
        with opened(path) as stream:
            try:
                found = rdflib.Graph().parse(stream, format="turtle")
            except SyntaxError as error:  # rdflib's BadSyntax, which names the line
                said = " ".join(str(error.args[0] if error.args else error).split())[:200]
                raise ValueError(f"{path} is not Turtle that rdflib can read ({said}); mend it there.") from error
        for triple in sorted(found):  # else in the order of their hashes
            taker.triple(*triple)
    taker.finish()


class _Taker:
    """What rdflib hands triples to."""

    def __init__(self, graph: Graph, language: str) -> None:
        self.graph, self.language = graph, language
        self.names: list[tuple[str, str]] = []

    def triple(self, subject: Any, relation: Any, object_: Any) -> None:
        literal = hasattr(object_, "language")
        if str(relation) in _NAMING and literal:
            if object_.language and object_.language.split("-")[0] != self.language:
                self.graph.counts["names in another language"] += 1
            else:
                self.names.append((str(subject), str(object_)))
        elif literal:
            self.graph.counts["triples with a value instead of an entity"] += 1
        else:
            self.graph.add(str(subject), str(relation), str(object_))

    def finish(self) -> None:
        """Give the names to what has triples."""
        for own, name in self.names:
            if (entity := self.graph.entities.get(own)) is not None:
                self.graph.names.append((entity, name))
            if (relation := self.graph.relations.get(own)) is not None:
                self.graph.relation_names.setdefault(relation, name)
