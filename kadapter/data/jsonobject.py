"""A file that begins with a JSON object: JSON lines, or one object for all records, which libraries write too.

One object is a list in a wrapper, {"version": ..., "data": [...]}; columns, {name: [value, ...]} or, as pandas writes
them, {name: {"0": value, ...}}; or lists by key, as FewRel's {relation: [...]}.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kadapter.data.jsontext import JsonText

LINES, WRAPPED, COLUMNS, KEYED, PRETTY = "lines", "wrapped", "columns", "keyed", "pretty"
# Keys whose list of objects is the file's records.
WRAPPERS = frozenset(
    ("data", "train", "dev", "validation", "valid", "val", "test", "records", "rows", "examples", "instances", "items")
)
# Where one of these is a list of texts, the object is a record with its words; columns would hold lists of texts.
_WORDS = ("token", "tokens", "words")
_WHOLE = 256 << 20  # characters of an object that is held in memory


def json_layout(path: str | Path) -> tuple[str, dict[str, Any]]:
    """What the file is, and of columns and of lists by key what it holds.

    Raises:
        ValueError: one object is too large to be held in memory.
    """
    text = JsonText(path)
    try:
        found = _object(text)
    except ValueError as error:
        if isinstance(error, _TooLargeError):
            raise
        return LINES, {}  # whose reader says what is wrong
    if found is None:
        return WRAPPED, {}
    values, is_long = found
    try:
        is_all = not text.peek()
    except ValueError:
        is_all = False  # what follows is no UTF-8
    if is_all and (kind := _kind(values)):
        return kind, values
    return (PRETTY if is_long else LINES), {}


class _TooLargeError(ValueError):
    pass


def _object(text: JsonText) -> tuple[dict[str, Any], bool] | None:
    """The object that the text begins with, and whether it runs over several lines; None for a wrapper."""
    text.peek()
    line = text.place(text.at)[0]
    text.expect("{")
    found: dict[str, Any] = {}
    while text.peek() != "}":
        if found:
            text.expect(",")
        key = text.value("a key")
        text.expect(":")
        text.peek()
        if key in WRAPPERS and text.begins_objects():
            return None
        found[key] = text.value("a value")
        if text.passed + text.at > _WHOLE:
            raise _TooLargeError(
                f"{text.path} begins with an object of more than {_WHOLE >> 20} MiB; write one object on each line."
            )
    text.expect("}")
    return found, text.place(text.at)[0] > line


def _kind(values: dict[str, Any]) -> str:
    """COLUMNS or KEYED; "" for a record."""
    columns = list(values.values())
    if not columns or any(_are_words(values.get(key)) for key in _WORDS):
        return ""
    if all(isinstance(column, dict) for column in columns):
        index = [*columns[0]]
        return COLUMNS if index and _is_index(index) and all([*column] == index for column in columns) else ""
    if not all(isinstance(column, list) and column for column in columns):
        return ""
    if all(isinstance(value, dict) for column in columns for value in column):
        return KEYED
    return COLUMNS if len({len(column) for column in columns}) == 1 else ""


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _is_index(keys: list[str]) -> bool:
    return all(key.isdecimal() for key in keys)


def rows_of(columns: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered rows, from 1, of columns."""
    lists = [list(column.values()) if isinstance(column, dict) else column for column in columns.values()]
    for number, values in enumerate(zip(*lists, strict=True), start=1):
        yield number, dict(zip(columns, values, strict=True))
