"""Questions on a context in the form of SQuAD (Rajpurkar et al., 2016, 2018): official files, and rows of hubs.

The official file is {"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text",
"answer_start"}], "is_impossible"}]}]}]}; a row is {"id", "context", "question", "answers": {"text": [...],
"answer_start": [...]}}. Offsets count characters from 0. No answers are an answer too: that the context has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kadapter.data.jsonio import OnError, check_keys, check_unique, checked_rows, shorten, whole
from kadapter.data.spans import is_blank
from kadapter.data.splits import files_of, split_path
from kadapter.data.tables import Row, read_rows

OFFICIAL = ("-v1.1.json", "-v2.0.json")  # how the official files' names end
MOVED = "the offset of an answer does not match its text, which stands elsewhere in the context and is taken from there"


def squad_path(folder: str | Path, split: str) -> Path:
    """Where a split lies, under any of a split's names or under the official one, such as train-v2.0.json.

    Raises:
        ValueError: it is there twice.
    """
    path = split_path(folder, split)
    found = [path] if files_of(path) else []
    found += [official for ending in OFFICIAL if (official := Path(folder) / f"{split}{ending}").is_file()]
    if len(found) > 1:
        names = " and ".join(one.name for one in found)
        raise ValueError(f"{folder} holds the {split} split more than once: {names}; remove or rename all but one.")
    return found[0] if found else path


def read_squad(
    path: str | Path, no_answer: bool = True, labelled: bool = True, on_error: OnError | None = None
) -> Iterator[dict[str, Any]]:
    """Checked questions, one at a time, articles as a stream.

    Args:
        no_answer: whether a question may be without an answer.
        labelled: whether the answers must be there; else all questions have them or none.
        on_error: called with what is wrong with a question, which is left out then; None lets it raise.

    Yields:
        id, question, context; answers, their texts, and starts, where they begin in the context; known, whether the
        answers are there or kept back; note; record, the row's number, in official files that of the question.

    Raises:
        FileNotFoundError, ValueError: name file, record, value and mend.
    """
    check = partial(_check, no_answer=no_answer, labelled=labelled, seen={}, form={})
    return checked_rows(_asked(read_rows(path, on_error), on_error), check, on_error)


def _asked(rows: Iterable[Row], on_error: OnError | None) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """The questions of rows, and of articles, as rows."""
    count = 0
    for number, where, record in rows:
        if "paragraphs" not in record:
            yield number, where, record
            continue
        try:
            questions = list(_of_article(record, where))
        except ValueError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        for place, question in questions:
            count += 1
            yield count, place, question


def _of_article(article: Mapping[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for i, paragraph in enumerate(_objects(article, "paragraphs", where), start=1):
        check_keys(paragraph, ("context", "qas"), f"{where}, paragraph {i}")
        for j, question in enumerate(_objects(paragraph, "qas", f"{where}, paragraph {i}"), start=1):
            yield f"{where}, paragraph {i}, question {j}", {**question, "context": paragraph["context"]}


def _objects(record: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    value = record[key]
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"{where}: {key} is {shorten(value)}; give a list of objects, as in SQuAD's files.")
    return value


def _check(
    record: dict[str, Any],
    where: str,
    number: int,
    no_answer: bool,
    labelled: bool,
    seen: dict[Any, int],
    form: dict[str, bool],
) -> dict[str, Any]:
    check_keys(record, ("question", "context"), where)
    for key in ("question", "context"):
        if not isinstance(record[key], str) or is_blank(record[key]):
            raise ValueError(f"{where}: {key} is {shorten(record[key])}; give a text.")
    check_unique(seen, record.get("id"), number, where)
    answers = _answers(record, where)
    if labelled and answers is None:
        raise ValueError(f"{where}: there are no answers; give them, an empty list where the context has none.")
    if form.setdefault("known", answers is not None) != (answers is not None):
        raise ValueError(f"{where}: some questions have answers and some have not; give all of them some, or none.")
    if answers == [] and not no_answer:
        raise ValueError(
            f"{where}: the question has no answer, but every question of train has one, so that a model never learns "
            "to give none; remove it, or leave answers out where they are kept back."
        )
    places = [_place(record["context"], *answer, where) for answer in answers or ()]
    return {
        "id": str(number if record.get("id") is None else record["id"]),
        "question": record["question"],
        "context": record["context"],
        "answers": [text for text, _ in answers or ()],
        "starts": places,
        "known": answers is not None,
        "note": MOVED if places != [start for _, start in answers or ()] else "",
        "record": number,
    }


def _answers(record: Mapping[str, Any], where: str) -> list[tuple[str, int]] | None:
    """Text and start of each answer; None where they are kept back."""
    given = record.get("answers")
    if given is None:
        if record.get("is_impossible") is True:
            return []
        return None
    pairs = _pairs(given)
    if pairs is None:
        raise ValueError(
            f'{where}: answers is {shorten(given)}; give [{{"text", "answer_start"}}, ...] or {{"text": [...], '
            '"answer_start": [...]}, with as many of both.'
        )
    for text, start in pairs:
        if not isinstance(text, str) or is_blank(text):
            raise ValueError(f"{where}: the answer {shorten(text)} is not a text; give one, or an empty list for none.")
        if whole(start) is None or start < 0:
            raise ValueError(f"{where}: answer_start is {shorten(start)}; give a number of characters from 0.")
    if record.get("is_impossible") not in (None, not pairs):
        raise ValueError(
            f"{where}: is_impossible is {shorten(record['is_impossible'])}, but there are {len(pairs)} answers; mend "
            "one of the two."
        )
    return [(text, int(start)) for text, start in pairs]


def _pairs(given: Any) -> list[tuple[Any, Any]] | None:
    """What stands for text and start in either form; None where it is neither."""
    if isinstance(given, Mapping):
        texts, starts = given.get("text"), given.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            return None
        return [*zip(texts, starts, strict=True)]
    if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
        return None
    if not all({"text", "answer_start"} <= one.keys() for one in given):
        return None
    return [(one["text"], one["answer_start"]) for one in given]


def _place(context: str, text: str, start: int, where: str) -> int:
    """Where the answer stands: at its offset, else at the place nearest to it."""
    if context.startswith(text, start):
        return start
    places = list(_places(context, text))
    if not places:
        raise ValueError(
            f"{where}: the answer {shorten(text)} is not at character {start}, where "
            f"{shorten(context[start : start + len(text)])} stands, nor anywhere else in the context; mend text or "
            "answer_start."
        )
    return min(places, key=lambda place: abs(place - start))


def _places(context: str, text: str) -> Iterator[int]:
    place = context.find(text)
    while place >= 0:
        yield place
        place = context.find(text, place + 1)
