"""Knowledge graphs: triples of subject, relation and object, and the names of what they speak of."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import unquote

import numpy as np

# Names that no text holds: Wikidata's and Freebase's ids, addresses.
_CODE = re.compile(r"[QP]\d+|/?[mg]/\w+|<?[A-Za-z][\w+.-]*://\S*|_:\S*")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass
class Graph:
    """Entities and relations by numbers, in the order in which the triples name them.

    triples: flat, subject, relation, object of the first triple, and so on. names: (entity, name) in the order of the
    files. relation_names: relation -> its first name. counts: what was read and left out, by reason.
    """

    entities: dict[str, int] = field(default_factory=dict)
    relations: dict[str, int] = field(default_factory=dict)
    triples: array[int] = field(default_factory=lambda: array("i"))
    names: list[tuple[int, str]] = field(default_factory=list)
    relation_names: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, subject: str, relation: str, object_: str) -> None:
        entities, relations = self.entities, self.relations
        self.triples.append(entities.setdefault(subject, len(entities)))
        self.triples.append(relations.setdefault(relation, len(relations)))
        self.triples.append(entities.setdefault(object_, len(entities)))

    def table(self) -> np.ndarray:
        """The triples, each once, as [triples, 3] in the order of subject, object, relation."""
        rows = np.frombuffer(self.triples, dtype=np.int32).reshape(-1, 3)
        rows = rows[np.lexsort((rows[:, 1], rows[:, 2], rows[:, 0]))]
        is_new = np.ones(len(rows), dtype=bool)
        is_new[1:] = (rows[1:] != rows[:-1]).any(1)
        return rows[is_new]


# -- names for people -------------------------------------------------------------------------------------------


def is_code(name: str) -> bool:
    """Whether it is an id of Wikidata or Freebase, or an address, which no text calls anything by."""
    return _CODE.fullmatch(name) is not None


def readable(name: str) -> str:
    """A name as a text has it: the last part of an address, without escapes, with blanks in place of underscores."""
    if "://" in name:
        name = unquote(re.split(r"[/#]", name.strip("<>/#"))[-1])
    return " ".join(name.replace("_", " ").split())


def readable_relation(name: str) -> str:
    """A relation as words: "birthPlace", "place_of_birth" and "/people/person/place_of_birth" lose their form."""
    name = readable(name).rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    return " ".join(_CAMEL.sub(" ", name).split()) if not is_code(name) else name
