"""SemEval-2010 Task 8: reader of the official files; `relations.encode_relations` encodes what it yields.

Four lines an example, ended by LF or CRLF: `id<TAB>"sentence with <e1>..</e1> and <e2>..</e2>"`, the relation,
a comment, a blank line. TRAIN_FILE.TXT and TEST_FILE_FULL.TXT have this form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kadapter.data.features import Source
from kadapter.data.jsonio import check_unique, checked, read_lines
from kadapter.tasks.relations import RELATION_SCHEMA, encode_relations

MARKERS = ("@", "^")  # around e1 and around e2, as in the original (utils_glue.py)
RELATIONS = (
    "Cause-Effect",
    "Content-Container",
    "Entity-Origin",
    "Member-Collection",
    "Component-Whole",
    "Entity-Destination",
    "Instrument-Agency",
    "Message-Topic",
    "Product-Producer",
)
OTHER = "Other"
# The original's order of classes, which saved heads depend on.
LABELS = (*(f"{name}({way})" for name in RELATIONS for way in ("e1,e2", "e2,e1")), OTHER)
_ENTITY = re.compile(r"(.*?)<e([12])>(.*?)</e\2>(.*?)<e([12])>(.*?)</e\5>(.*)", re.DOTALL)


def semeval_source(folder: str | Path, dev_share: float, seed: int = 42) -> Source:
    """The official files in that folder; where there is no dev.txt, `dev_share` of train is dev, drawn by `seed`."""
    own_dev = (Path(folder) / "dev.txt").is_file()
    held_out = {"dev_share": dev_share, "seed": seed}
    return Source(
        read=read_semeval,
        schema=RELATION_SCHEMA,
        encode=encode_relations,
        read_options={"labels": LABELS},
        encode_options={"labels": LABELS, "markers": MARKERS, "bare": False, "keep_markers": True},
        files={"train": "train.txt", "dev": "dev.txt" if own_dev else "train.txt", "test": "test.txt"},
        split_options={} if own_dev else {part: {"part": part, **held_out} for part in ("train", "dev")},
    )


def read_semeval(
    path: str | Path,
    labels: Sequence[str],
    part: str = "all",
    dev_share: float = 0.1,
    seed: int = 42,
    on_error: Callable[[ValueError], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Checked examples, the record being the line that an example begins on.

    Args:
        part: "all"; or "train" or "dev", which share a file that has no dev split beside it.
        dev_share, seed: which share of the examples is "dev", chosen at random.
        on_error: as in `checked`.

    Raises:
        ValueError: names file, line, value and mend.
    """
    check = partial(_check, labels=frozenset(labels), seen={})
    examples = list(checked(_blocks(path), check, path, "line", on_error))
    if not examples and on_error is None:
        raise ValueError(f"{path} is empty; give the task's TRAIN_FILE.TXT or TEST_FILE_FULL.TXT.")
    held_out = set(np.random.default_rng(seed).permutation(len(examples))[: round(dev_share * len(examples))].tolist())
    for i, example in enumerate(examples):
        if part == "all" or (i in held_out) == (part == "dev"):
            yield example


def _check(lines: list[str], where: str, number: int, labels: frozenset[str], seen: dict[Any, int]) -> dict[str, Any]:
    name, tab, sentence = lines[0].partition("\t")
    match = _ENTITY.fullmatch(re.sub(r'^\s*"(.*)"\s*$', r"\1", sentence))
    if not (tab and name.strip().isdigit() and match and {match[2], match[5]} == {"1", "2"}):
        raise ValueError(
            f"{where}: {lines[0][:50]!r} is no example; write number, tab and the sentence with one "
            "<e1>...</e1> and one <e2>...</e2>."
        )
    check_unique(seen, name.strip(), number, where)
    relation = lines[1].strip() if len(lines) > 1 else ""
    if relation not in labels:
        raise ValueError(
            f"{where}: the relation {relation!r} is not among the {len(labels)} labels; it stands on the line after "
            "the sentence (TEST_FILE_FULL.TXT has it, TEST_FILE.TXT has not)."
        )
    if not match[3].strip() or not match[6].strip():
        raise ValueError(f"{where}: an entity is empty; mend the sentence.")
    return {
        "pieces": [match[group] for group in (1, 3, 4, 6, 7)],
        "subject_first": match[2] == "1",
        "relation": relation,
        "record": number,
    }


def _blocks(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Runs of lines that are not blank, with the number of the first."""
    begin, block = 0, list[str]()
    for number, line in read_lines(path):
        if line.strip():
            begin = begin if block else number
            block.append(line)
        elif block:
            yield begin, block
            block = []
    if block:
        yield begin, block
