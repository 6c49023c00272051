"""Questions with the paragraphs that a search found for them, in the form of thunlp/OpenQA (Lin et al., ACL 2018).

A split is two files with equally many lines. A line of `train.txt` is {"question": str, "answers": [str, ...]}; the
same line of `train.json` is the list of its paragraphs, [{"question": [token, ...], "document": [token, ...]}, ...].
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from kadapter.data.jsonio import OnError, check_keys, json_line, shorten, to_json
from kadapter.data.spans import is_blank
from kadapter.data.splits import files_of, missing, split_path
from kadapter.storage.reading import read_lines

QUESTIONS, PARAGRAPHS = ".txt", ".json"  # endings of the two files of a split
_WORD = re.compile(r"\w+")


class Question(NamedTuple):
    """A question as it is read.

    number: its line, which in shards goes on from one to the next. where: the file and line, for messages. answers: at
    least one, any of which is right. paragraphs: at least one, in the file's order; a paragraph's text is its tokens
    with blanks between them.
    """

    number: int
    where: str
    question: str
    answers: tuple[str, ...]
    paragraphs: tuple[str, ...]


class _Line(NamedTuple):
    """A line of a file; its text is None where it could not be read, which was said."""

    file: Path
    number: int  # in that file
    text: str | None

    def __str__(self) -> str:
        return f"{self.file}, line {self.number}"


def split_files(folder: str | Path, split: str) -> tuple[Path, Path]:
    """Where the questions and the paragraphs of a split are, or would be; shards and compressed ones too.

    Raises:
        ValueError: one of them is there twice.
    """
    return split_path(folder, split, QUESTIONS, ()), split_path(folder, split, PARAGRAPHS, ())


def read_openqa(folder: str | Path, split: str, on_error: OnError | None = None) -> Iterator[Question]:
    """The questions of a split, one at a time; paragraphs without anything to be seen are left out.

    Args:
        on_error: called with the fault of a bad question, which is left out then; None lets it raise. Files of
            unequal length raise in any case.

    Raises:
        FileNotFoundError, ValueError: name file, line, value and mend.
    """
    questions, paragraphs = split_files(folder, split)
    for path, what in ((questions, "the questions"), (paragraphs, "the paragraphs")):
        if not files_of(path):
            raise FileNotFoundError(f"{path} is missing, which holds {what} of {split}; {missing(path)}")
    count = 0
    for number, asked, found in _pairs(questions, paragraphs, on_error):
        count += 1
        try:
            yield _question(number, asked, found)
        except ValueError as error:
            if on_error is None:
                raise
            on_error(error)
    if not count:
        raise ValueError(f"{questions} and {paragraphs} hold no question; give at least one.")


def openqa_lines(question: str, answers: Sequence[str], paragraphs: Sequence[str]) -> tuple[str, str]:
    """The lines of a question in the two files, without their ends; tokens are what stands between blanks."""
    tokens = question.split()
    asked = {"question": " ".join(tokens), "answers": list(answers)}
    return to_json(asked), to_json([{"question": tokens, "document": text.split()} for text in paragraphs])


# -- lines ------------------------------------------------------------------------------------------------------


def _lines(path: Path, on_error: OnError | None) -> Iterator[_Line]:
    """All lines of a file or its shards, those that cannot be read too, so that the others keep their places."""
    for file in files_of(path):
        due = 1
        for number, text in read_lines(file, on_error):
            yield from (_Line(file, lost, None) for lost in range(due, number))
            yield _Line(file, number, text.strip())
            due = number + 1


def _pairs(questions: Path, paragraphs: Path, on_error: OnError | None) -> Iterator[tuple[int, _Line, _Line]]:
    """Lines that belong together, numbered; blank ones at the end of a file, or in both at once, are passed over."""
    counts, unpaired = [0, 0], None
    for number, pair in enumerate(zip_longest(_lines(questions, on_error), _lines(paragraphs, on_error)), start=1):
        asked, found = pair
        is_there = [line is not None and line.text != "" for line in pair]
        counts = [count + there for count, there in zip(counts, is_there, strict=True)]
        if asked is None or found is None:
            unpaired = unpaired or (pair[is_there.index(True)] if any(is_there) else None)
        elif is_there[0] != is_there[1]:
            empty, other = pair if is_there[1] else pair[::-1]
            fault = ValueError(f"{empty} is empty, but {other.file.name} has a line for it; give both files that line.")
            if on_error is None:
                raise fault
            on_error(fault)
        elif all(is_there) and None not in (asked.text, found.text):
            yield number, asked, found
    if unpaired is not None:
        raise ValueError(
            f"{questions} has {counts[0]:,} lines, but {paragraphs} has {counts[1]:,}: nothing belongs to {unpaired}; "
            "give two files of one release, one line a question."
        )


# -- checks -----------------------------------------------------------------------------------------------------


def _question(number: int, asked: _Line, found: _Line) -> Question:
    question, answers = _asked(json_line(asked.file, asked.number, asked.text or ""), str(asked))
    value = json_line(found.file, found.number, found.text or "")
    if not isinstance(value, list):
        raise ValueError(f"{found}: {shorten(value)} is not a list of paragraphs; give one for each question.")
    texts = [_paragraph(entry, question, f"{found}, paragraph {i}") for i, entry in enumerate(value, start=1)]
    paragraphs = tuple(text for text in texts if not is_blank(text))
    if not paragraphs:
        raise ValueError(
            f"{found}: {shorten(question)} has no paragraphs; give some, or remove its line from both files."
        )
    return Question(number, str(asked), question, answers, paragraphs)


def _asked(record: Any, where: str) -> tuple[str, tuple[str, ...]]:
    """The question and its answers."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: {shorten(record)} is not a JSON object; give question and answers.")
    check_keys(record, ("question", "answers"), where)
    question, answers = record["question"], record["answers"]
    if not isinstance(question, str) or is_blank(question):
        raise ValueError(f"{where}: question is {shorten(question)}; give a text.")
    if not isinstance(answers, list) or not answers:
        raise ValueError(f"{where}: answers is {shorten(answers)}; give a list of at least one text.")
    for answer in answers:
        if not isinstance(answer, str) or is_blank(answer):
            raise ValueError(f"{where}: one of the answers is {shorten(answer)}; give a text, or remove it.")
    return question, tuple(answers)


def _paragraph(entry: Any, question: str, where: str) -> str:
    """The text of a paragraph, checked to be one of this question."""
    if not isinstance(entry, dict) or "document" not in entry:
        raise ValueError(f'{where}: {shorten(entry)} has no document; give {{"document": [token, ...]}}.')
    asked = _tokens(entry.get("question", []), "question", where)
    own, other = (set(_WORD.findall(text.lower())) for text in (question, " ".join(asked)))
    if own and other and not own & other:  # tokenizers differ, but leave some word as it is
        raise ValueError(
            f"{where} is of the question {shorten(' '.join(asked))}, but its line is of {shorten(question)}; "
            "give two files of one release, in one order."
        )
    return " ".join(_tokens(entry["document"], "document", where))


def _tokens(value: Any, key: str, where: str) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"{where}: {key} is {shorten(value)}; give a list of tokens.")
    if wrong := [token for token in value if not isinstance(token, str)]:
        raise ValueError(f"{where}: {key} holds the token {shorten(wrong[0])}; make every token a string.")
    return value
