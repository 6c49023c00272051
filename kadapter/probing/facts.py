"""Facts as cloze sentences: LAMA (Petroni et al. 2019, https://arxiv.org/abs/1909.01066), or a graph of your own.

A fact is a sentence with one gap, where the object stood. A relation has a template, "[X] was born in [Y] .", in which
the subject takes the place of [X] and the gap that of [Y]; SQuAD and ConceptNet come as sentences.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kadapter.data.graph_files import read_graph
from kadapter.data.jsonio import check_keys, shorten
from kadapter.data.splits import form_of
from kadapter.data.tables import read_rows
from kadapter.data.verbalize import first_names, parts_of
from kadapter.storage.reading import read_json, read_lines

GAP = "[MASK]"  # in LAMA's sentences
GOOGLE_RE, T_REX, SQUAD, CONCEPTNET, OWN = "Google-RE", "T-REx", "SQuAD", "ConceptNet", "own facts"
# LAMA has these in its code (scripts/run_experiments.py), those of T-REx in relations.jsonl.
GOOGLE_RE_TEMPLATES = {
    "place_of_birth": "[X] was born in [Y] .",
    "date_of_birth": "[X] (born [Y]).",
    "place_of_death": "[X] died in [Y] .",
}
SENTENCES = {SQUAD: "Squad/test.jsonl", CONCEPTNET: "ConceptNet/test.jsonl"}
LONGEST = 100  # words of a sentence without a template; LAMA leaves longer ones out
SLOTS = {"subject": "[X]", "object": "[Y]", "": ""}


@dataclass(frozen=True)
class Fact:
    """One query: the sentence is `before`, a gap, `after`; further gaps of LAMA's sentences stand in `after` as GAP.

    cardinality: of its relation, "1-1", "N-1" or "N-M"; "" where it is not known.
    """

    collection: str
    relation: str
    subject: str
    object: str
    before: str
    after: str
    cardinality: str = ""

    def sentence(self, mask: str) -> str:
        return f"{self.before}{mask}{self.after.replace(GAP, mask)}"


@dataclass
class Facts:
    """What was read; `counts` says what was left out and why, by collection, `lacking` which relations have no file."""

    facts: list[Fact] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    lacking: dict[str, list[str]] = field(default_factory=dict)

    def count(self, collection: str, reason: str, number: int = 1) -> None:
        self.counts.setdefault(collection, Counter())[reason] += number


@dataclass(frozen=True)
class Template:
    text: str
    cardinality: str = ""

    def fact(self, collection: str, relation: str, subject: str, object_: str) -> Fact:
        subject = subject.strip()
        before, after = (part.replace("[X]", subject) for part in self.text.split("[Y]"))
        return Fact(collection, relation, subject, object_, before, after, self.cardinality)


# -- templates --------------------------------------------------------------------------------------------------


def checked_template(text: Any, where: str) -> str:
    """A template with [X] and [Y]; {subject} and {object}, as scripts/verbalize_triples.py has them, become these.

    Raises:
        ValueError: names the place of one that lacks a slot or has it twice.
    """
    if isinstance(text, str) and "{subject}" in text and "[X]" not in text:
        text = "".join(before + SLOTS[slot] for before, slot in parts_of(text, where))
    if not isinstance(text, str) or text.count("[X]") != 1 or text.count("[Y]") != 1:
        raise ValueError(
            f"{where}: the template is {shorten(text)}; write [X] for the subject and [Y] for the object, each once."
        )
    return text.strip()


def read_templates(path: Path) -> dict[str, Template]:
    """Relation -> template, from one JSON object, from LAMA's relations.jsonl, or from lines with a tab.

    Raises:
        FileNotFoundError, ValueError: name file, line, template and mend; also for a relation that has two.
    """
    found: dict[str, Template] = {}
    for where, relation, text, cardinality in _template_rows(path):
        if relation in found:
            raise ValueError(f"{where}: the relation {relation!r} has a template already; give one.")
        found[relation] = Template(checked_template(text, where), cardinality)
    if not found:
        raise ValueError(f"{path} holds no template; write such as [X] was born in [Y] .")
    return found


def _template_rows(path: Path) -> Iterator[tuple[str, str, Any, str]]:
    """Where it stands, relation, template, cardinality."""
    if form_of(path) == ".json":
        given = read_json(path, "write {relation: template}.")
        if not isinstance(given, dict):
            raise ValueError(f"{path} holds {shorten(given)}; write {{relation: template}}.")
        for relation, text in given.items():
            yield f"{path}, line {_line_of(path, relation)}", relation, text, ""
    elif form_of(path) in (".jsonl", ".ndjson"):
        for _, where, row in read_rows(path):
            check_keys(row, ("relation", "template"), where)
            yield where, str(row["relation"]), row["template"], str(row.get("type") or "")
    else:
        for number, line in read_lines(path):
            cells = line.split("\t")
            if len(cells) != 2 and line.strip():
                raise ValueError(
                    f"{path}, line {number}: {len(cells)} columns; write a relation, a tab and a template."
                )
            if line.strip():
                yield f"{path}, line {number}", cells[0].strip(), cells[1], ""


def _line_of(path: Path, key: str) -> int:
    """The line of a JSON file that a key stands in."""
    forms = (json.dumps(key, ensure_ascii=False), json.dumps(key))
    return next((number for number, line in read_lines(path) if any(form in line for form in forms)), 1)


# -- LAMA -------------------------------------------------------------------------------------------------------


def read_lama(folder: Path) -> Facts:
    """The facts of those of LAMA's collections that the folder has: Google_RE, TREx, Squad, ConceptNet.

    As LAMA's code has it: with a template a subject and an object are one query, however often they are listed, and
    Google-RE loses facts to which more annotators said anything else than "yes".

    Raises:
        FileNotFoundError, ValueError: no collection, an empty file, a template that is missing or bad, a record that
            lacks something; names file, record and mend.
    """
    found = Facts()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not there; give the folder of LAMA's data, which holds TREx, Google_RE, ..."
        )
    for relation, text in GOOGLE_RE_TEMPLATES.items():
        path = folder / "Google_RE" / f"{relation}_test.jsonl"
        if path.is_file():
            _read_relation(found, path, GOOGLE_RE, relation, Template(text, ""))
        elif path.parent.is_dir():
            found.lacking.setdefault(GOOGLE_RE, []).append(relation)
    if (folder / "TREx").is_dir():
        templates = read_templates(folder / "relations.jsonl")
        for path in sorted((folder / "TREx").glob("*.jsonl")):
            if path.stem not in templates:
                raise ValueError(f"{folder / 'relations.jsonl'} has no template for {path.name}; add {path.stem!r}.")
            _read_relation(found, path, T_REX, path.stem, templates[path.stem])
        read = {fact.relation for fact in found.facts}
        found.lacking[T_REX] = [relation for relation in templates if relation not in read]
    for collection, name in SENTENCES.items():
        if (folder / name).is_file():
            _read_sentences(found, folder / name, collection)
    if not found.counts:
        raise FileNotFoundError(
            f"{folder} holds no data of LAMA; there should be Google_RE/, TREx/ beside relations.jsonl, Squad/ or "
            "ConceptNet/."
        )
    return found


def _read_relation(found: Facts, path: Path, collection: str, relation: str, template: Template) -> None:
    seen: set[tuple[str, str]] = set()
    for _, where, row in read_rows(path):
        found.count(collection, "read")
        subject, object_ = (_text(row, f"{end}_label", where) for end in ("sub", "obj"))
        if (subject, object_) in seen:
            found.count(collection, "repeated")
        elif _is_denied(row):
            found.count(collection, "denied by its annotators")
        else:
            seen.add((subject, object_))
            found.facts.append(template.fact(collection, relation, subject, object_))


def _is_denied(row: Mapping[str, Any]) -> bool:
    """Whether fewer annotators said "yes" than anything else; "skip" counts as no, as in LAMA's code."""
    said = [judgment.get("judgment") == "yes" for judgment in row.get("judgments") or ()]
    return 2 * sum(said) < len(said)


def _read_sentences(found: Facts, path: Path, collection: str) -> None:
    for _, where, row in read_rows(path):
        found.count(collection, "read")
        object_ = _text(row, "obj_label", where)
        sentences = row.get("masked_sentences")
        if not isinstance(sentences, list) or not all(isinstance(one, str) for one in sentences):
            raise ValueError(f"{where}: masked_sentences is {shorten(sentences)}; give a list of texts.")
        text = " ".join(sentences)
        if GAP not in text:
            raise ValueError(f"{where}: no {GAP} stands in {shorten(text)}; mark the place of the object by it.")
        if len(text.split()) > LONGEST:
            found.count(collection, f"of more than {LONGEST} words")
            continue
        before, _, after = text.partition(GAP)  # of several gaps LAMA scores the first
        found.facts.append(Fact(collection, collection, str(row.get("sub_label") or ""), object_, before, after))


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: {key} is {shorten(value)}; give a text.")
    return value


# -- facts of your own ---------------------------------------------------------------------------------------


def read_own(triples: Sequence[Path], templates: Path, aliases: Sequence[Path] = ()) -> Facts:
    """Facts of a knowledge graph, as scripts/verbalize_triples.py reads it; each relation needs a template.

    Raises:
        FileNotFoundError, ValueError: as `read_graph` and `read_templates`; or no relation has a template, or no triple
            has names for both its ends.
    """
    forms, graph, found = read_templates(templates), read_graph(triples, aliases), Facts()
    names, relations = first_names(graph), {number: name for name, number in graph.relations.items()}
    if not forms.keys() & graph.relations.keys():
        raise ValueError(
            f"{templates} has templates for {shorten([*forms][:3])}, but the facts' relations are "
            f"{shorten([*relations.values()][:3])}; name them alike."
        )
    for subject, relation, object_ in graph.table().tolist():
        found.count(OWN, "read")
        template = forms.get(relations[relation])
        if template is None:
            found.count(OWN, "of a relation without a template")
        elif subject not in names or object_ not in names:
            found.count(OWN, "of entities that have no name but an id")
        else:
            found.facts.append(template.fact(OWN, relations[relation], names[subject], names[object_]))
    if not found.facts:
        raise ValueError(f"{triples[0]}: no triple has names for both its ends; give --aliases for its ids.")
    return found
