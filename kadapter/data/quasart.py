"""Quasar-T as released (Dhingra et al., 2017, https://arxiv.org/abs/1707.03904): gzipped JSON lines.

`questions/train_questions.json.gz`: {"uid": str, "question": str, "answer": str, ...}.
`contexts/{short,long}/train_contexts.json.gz`: {"uid": str, "contexts": [[score, text], ...]}, best first.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from kadapter.data.jsonio import check_keys, check_unique, json_line, read_records, shorten
from kadapter.data.openqa_parts import NO_PARAGRAPH, QUESTIONS_READ, SPLITS, Piece, RawQuestion
from kadapter.data.splits import missing
from kadapter.storage.packed import COMPRESSIONS
from kadapter.storage.reading import read_lines

LENGTHS = ("short", "long")
LINES_A_PIECE = 4000  # of contexts: a worker passes over those before its own, which takes a tenth of reading them


def find_files(raw: Path, length: str) -> dict[str, tuple[Path, Path]]:
    """Questions and contexts of the splits that are there, packed or not.

    Raises:
        FileNotFoundError, ValueError: no split, one of the two alone, or one of them twice.
    """
    found = {}
    for split in SPLITS:
        stems = (raw / "questions" / f"{split}_questions.json", raw / "contexts" / length / f"{split}_contexts.json")
        questions, contexts = map(_packed_or_not, stems)
        if questions and contexts:
            found[split] = questions, contexts
        elif questions or contexts:
            lost = stems[1 if questions else 0]
            raise FileNotFoundError(f"{lost}.gz is missing; fetch it, or remove the other file of {split}.")
    if not found:
        place = raw / "questions" / "train_questions.json.gz"
        raise FileNotFoundError(f"{place} is missing, dev and test too; give Quasar-T's folder. {missing(place)}")
    return found


def _packed_or_not(stem: Path) -> Path | None:
    names = [f"{stem.name}{ending}" for ending in ("", *COMPRESSIONS)]
    there = [path for path in map(stem.with_name, names) if path.is_file()]
    if len(there) > 1:
        raise ValueError(f"{there[0]} is there beside {there[1].name}; remove one of them.")
    return there[0] if there else None


def pieces(files: dict[str, tuple[Path, Path]]) -> list[Piece]:
    """The work on those files."""
    work = []
    for split, (questions, contexts) in files.items():
        lines = sum(1 for _, line in read_lines(contexts) if line.strip())
        work += [
            Piece(split, (str(questions), str(contexts), i, LINES_A_PIECE)) for i in range(0, lines, LINES_A_PIECE)
        ]
    return work


def read_questions(what: tuple[str, str, int, int]) -> Iterator[RawQuestion]:
    """The questions of some lines of the contexts.

    Args:
        what: the files of questions and of contexts, the number of lines before the piece's own, and of its own.

    Raises:
        ValueError: names file, line, value and mend.
    """
    questions, contexts, begin, size = what
    asked = _asked(Path(questions))
    lines = ((number, line) for number, line in read_lines(contexts) if line.strip())
    for number, line in islice(lines, begin, begin + size):
        where = f"{contexts}, line {number}"
        record = json_line(contexts, number, line)
        if not isinstance(record, dict):
            raise ValueError(f"{where}: {shorten(record)} is not a JSON object; fetch the file again.")
        check_keys(record, ("uid", "contexts"), where)
        if (uid := str(record["uid"])) not in asked:
            raise ValueError(f"{where}: the uid {uid!r:.60} is in no line of {questions}; give files of one split.")
        yield RawQuestion(uid, *asked[uid], _texts(record["contexts"], where))


def _asked(path: Path) -> dict[str, tuple[str, list[str]]]:
    """Question and answers by uid; a split has some ten thousand."""
    found: dict[str, tuple[str, list[str]]] = {}
    seen: dict[Any, int] = {}
    for number, record in read_records(path):
        where = f"{path}, line {number}"
        check_keys(record, ("uid", "question", "answer"), where)
        if record["uid"] is None:
            raise ValueError(f"{where}: uid is null; fetch the file again.")
        check_unique(seen, record["uid"], number, where)
        for key in ("question", "answer"):
            if not isinstance(record[key], str):
                raise ValueError(f"{where}: {key} is {shorten(record[key])}; give a text.")
        found[str(record["uid"])] = record["question"], [record["answer"]]
    return found


def _texts(contexts: Any, where: str) -> list[str]:
    if not isinstance(contexts, list):
        raise ValueError(f"{where}: contexts is {shorten(contexts)}; give a list of [score, text].")
    for number, context in enumerate(contexts, start=1):
        if not isinstance(context, list) or len(context) != 2 or not isinstance(context[1], str):
            raise ValueError(f"{where}: context {number} is {shorten(context)}; give [score, text].")
    return [text for _, text in contexts]


def count_lost(files: dict[str, tuple[Path, Path]], counts: dict[str, dict[str, int]]) -> None:
    """Add the questions that no line of the contexts is of to what was counted."""
    for split, (questions, _) in files.items():
        if lost := len(_asked(questions)) - counts[split][QUESTIONS_READ]:
            counts[split][QUESTIONS_READ] += lost
            counts[split][f"dropped: {NO_PARAGRAPH}"] = counts[split].get(f"dropped: {NO_PARAGRAPH}", 0) + lost
