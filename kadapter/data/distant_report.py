"""What distant supervision found, for people: coverage, signs of its precision, examples as text, a plot."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kadapter.data.aliases import CompiledGraph
from kadapter.data.cleaned import Example
from kadapter.data.mentions import SHOWN
from kadapter.data.relation_pictures import draw_relations
from kadapter.data.spans import excerpt
from kadapter.storage.reading import read_object

_LISTED = 20  # aliases of a list
_SIGNS = ("relation named", "resolved by a triple", "several relations", "several facts in the sentence")


def gather(parts: Sequence[Path], graph: CompiledGraph, triples: int) -> dict[str, Any]:
    """The report over all parts, as JSON values.

    Args:
        parts: files of `kadapter.data.distant.align_piece`.
        triples: of the graph, each counted once.
    """
    counts: Counter[str] = Counter()
    relations: dict[str, Counter[str]] = {}
    shown: list[tuple[float, str]] = []
    for part in parts:
        read = read_object(part.with_suffix(".counts"), "delete it and start again.", ["counts", "relations", "shown"])
        counts.update(read["counts"])
        for name, sums in read["relations"].items():
            relations.setdefault(name, Counter()).update(sums)
        shown += map(tuple, read["shown"])
    names = dict(zip(graph.relations, graph.relation_names, strict=True))
    ordered = sorted(relations, key=lambda name: (-relations[name]["examples"], name))
    examples = [json.loads(example) for _, example in sorted(shown, reverse=True)[:SHOWN]]
    return {
        "counts": dict(sorted(counts.items())),
        "coverage": _coverage(parts, graph, triples, len(relations)),
        "relations": {name: _of_relation(relations[name], names.get(name, name)) for name in ordered},
        "relations with one example": [name for name in ordered if relations[name]["examples"] == 1],
        "most frequent aliases": _most(parts, "aliases", graph),
        "most ambiguous aliases": _most(parts, "open", graph),
        "examples": [text_of(example, names) for example in examples],
    }


def _coverage(parts: Sequence[Path], graph: CompiledGraph, triples: int, relations: int) -> dict[str, list[int]]:
    """What of the graph was found: name -> [found, all]."""
    entities, used, facts = (_union(parts, name) for name in ("entities", "used", "facts"))
    return {
        "entities that the text names": [entities, len(graph.entities)],
        "entities in examples": [used, len(graph.entities)],
        "relations in examples": [relations, len(graph.relations)],
        "triples in examples": [facts, triples],
    }


def _union(parts: Sequence[Path], name: str) -> int:
    found = np.array([], np.int64)
    for part in parts:
        with np.load(part.with_suffix(".npz")) as arrays:
            found = np.union1d(found, arrays[name])
    return len(found)


def _most(parts: Sequence[Path], name: str, graph: CompiledGraph) -> list[dict[str, Any]]:
    """The aliases that were counted most, with how often they were and how many entities they name."""
    sums = np.zeros(len(graph.aliases), np.int64)
    for part in parts:
        with np.load(part.with_suffix(".npz")) as arrays:
            sums[arrays[name][:, 0]] += arrays[name][:, 1]
    order = np.argsort(-sums, kind="stable")[:_LISTED]
    return [
        {"alias": graph.alias(int(i)), "count": int(sums[i]), "entities": len(graph.readings(int(i)))}
        for i in order
        if sums[i]
    ]


def _of_relation(sums: Counter[str], name: str) -> dict[str, Any]:
    count = sums["examples"]
    signs = {sign: round(sums[sign] / count, 4) for sign in _SIGNS}
    return {"name": name, "examples": count, **signs, "words between": round(sums["words between"] / count, 1)}


def text_of(example: Example, names: dict[str, str]) -> str:
    """An example as a line: its relation, and the sentence with the mentions in brackets."""
    words = list(example["token"])
    ends = sorted(
        [(example["subj_start"], example["subj_end"], "S"), (example["obj_start"], example["obj_end"], "O")],
        reverse=True,
    )
    for start, end, role in ends:
        words[start : end + 1] = [f"[{role} {' '.join(words[start : end + 1])}]"]
    first = next(i for i, word in enumerate(words) if word.startswith(("[S ", "[O ")))
    last = max(i for i, word in enumerate(words) if word.startswith(("[S ", "[O ")))
    text = excerpt(" ".join(words[:first]), " ".join(words[first : last + 1]), " ".join(words[last + 1 :]))
    return f"{names.get(example['relation'], example['relation'])}: {text}"


# -- for people -------------------------------------------------------------------------------------------------


def markdown(report: dict[str, Any]) -> str:
    """The report as a page."""
    lines = ["# Relation examples by distant supervision", ""]
    lines += [f"- {name}: {count:,}" for name, count in {**report["graph"], **report["counts"]}.items()]
    lines += ["", "## Coverage", "| what | found | of | share |", "|---|---|---|---|"]
    for name, (found, total) in report["coverage"].items():
        lines.append(f"| {name} | {found:,} | {total:,} | {found / max(1, total):.1%} |")
    lines += ["", "## Aliases that are not used", "| rule | aliases | such as |", "|---|---|---|"]
    for reason, kept in report["aliases not used"].items():
        lines.append(f"| {reason} | {kept['count']:,} | {_cells(kept['examples'])} |")
    for title in ("most frequent aliases", "most ambiguous aliases"):
        lines += ["", f"## {title.capitalize()}", "| alias | mentions | entities |", "|---|---|---|"]
        lines += [f"| {_cells([row['alias']])} | {row['count']:,} | {row['entities']} |" for row in report[title]]
    lines += ["", "## Relations", "", SIGNS_SAID, ""]
    lines += [f"| relation | name | examples | {' | '.join(_SIGNS)} | words between |", "|---" * 8 + "|"]
    for name, row in report["relations"].items():
        shares = " | ".join(f"{row[sign]:.0%}" for sign in _SIGNS)
        lines.append(f"| {name} | {row['name']} | {row['examples']:,} | {shares} | {row['words between']} |")
    lone = report["relations with one example"]
    lines += ["", f"Relations with one example: {len(lone)}{': ' * bool(lone)}{', '.join(lone[:_LISTED])}."]
    lines += ["", "## Examples", "S is the subject, O the object.", ""]
    return "\n".join([*lines, *(f"{i}. {text}" for i, text in enumerate(report["examples"], start=1)), ""])


SIGNS_SAID = (
    "Signs of precision, as shares of a relation's examples. Good: a word of the relation's name stands in the "
    "sentence. Doubtful: an alias was resolved by the triple alone, the pair has several relations, the sentence holds "
    "several facts, many words lie between the mentions."
)


def _cells(texts: Sequence[str]) -> str:
    return ", ".join(text.replace("|", "\\|") for text in texts)


def plot(report: dict[str, Any], path: Path, temporary: Callable[[Path], Path]) -> None:
    """Examples by relation, as PNG and PDF."""
    rows = report["relations"]
    names = {key: key if row["name"] == key else f"{row['name']} ({key})" for key, row in rows.items()}
    draw_relations(path, names, {"examples": {key: row["examples"] for key, row in rows.items()}}, temporary)
