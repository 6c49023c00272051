"""Reading and writing records: one JSON list or JSON lines, strict UTF-8, atomic output.

Every reader and script goes through this module, so that a bad file is always refused with the
same kind of message: one sentence with the file, the record and the mend.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kadapter.storage.files import atomic_writer
from kadapter.storage.reading import (
    SURROGATE,
    broken,
    check_surrogates,
    disguise,
    not_utf8,
    opened,
    read_json,  # noqa: F401  # for readers, who import all of it from here
    read_lines,
    shorten,
    unreadable,
)

_BLANK = re.compile(r"[ \t\n\r]*")
# What matters to find the end of a value: whole strings, the quote of one that does not end, brackets and commas.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)
_DECODER = json.JSONDecoder()
to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode  # json.dumps makes an encoder for every call
_BLOCK = 1 << 20  # bytes read at a time
_LONGEST = 64 << 20  # characters of one element of a list, beyond which it counts as broken


def split_path(data_dir: str | Path, split: str) -> Path:
    """The split's JSON lines where they are there, else its JSON list (whether that is there or not)."""
    if "." in split:
        return Path(data_dir) / split
    lines = Path(data_dir) / f"{split}.jsonl"
    return lines if lines.is_file() else lines.with_suffix(".json")


def _blocks(path: str | Path) -> Iterator[str]:
    """The text of a UTF-8 file, a block at a time."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with opened(path) as stream:
        line, raw = 1, b"-"
        while raw:
            offset = stream.tell() - len(decoder.getstate()[0])
            raw = stream.read(_BLOCK)
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                raise not_utf8(path, line, offset + error.start) from error
            line += text.count("\n")
            yield text


OnError = Callable[[ValueError], None]


class _PassedError(ValueError):
    """A value that cannot be used, but behind which reading can go on."""


def read_records(path: str | Path, on_error: OnError | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (number, record) from one JSON list or from JSON lines, told apart by the first character.

    Both are streamed. A list is numbered by element from 1; lines are numbered by line, blank ones skipped, so
    that the number in a message is the one an editor shows. Raises FileNotFoundError or ValueError as soon as a
    fault is met; with `on_error` that is called with the fault, and the record left out, wherever it is clear where
    the next one begins.
    """
    if _first_byte(path) == b"{":
        yield from _line_records(path, on_error)
        return
    text = _Text(path)
    first = text.peek()
    if first == "[":
        yield from _list_records(text, on_error)
    elif first and (instead := disguise(path)):
        raise ValueError(f"{path} is {instead}.")
    elif first:
        raise ValueError(
            f"{path}, line {text.line}: the file starts with {first!r}; "
            "give a JSON list of objects or one JSON object a line."
        )
    else:
        raise ValueError(f"{path} is empty; give a JSON list of objects or one JSON object a line.")


def _first_byte(path: str | Path) -> bytes:
    """The first that is not blank; bytes, as some line behind it may be no UTF-8."""
    with opened(path) as stream:
        while block := stream.read(_BLOCK):
            if start := block.lstrip(b" \t\n\r")[:1]:
                return start
    return b""


class _Text:
    """A JSON text that is read as far as it is decoded."""

    def __init__(self, path: str | Path):
        self.path, self.blocks = path, _blocks(path)
        self.text, self.at = "", 0
        self.line, self.column = 1, 1  # of text[0]

    def peek(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            self.at = _BLANK.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise self._broken(f"Expecting {character!r}", self.at)
        self.at += 1

    def value(self, what: str) -> Any:
        """The next value, which messages call `what`."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if len(self.text) - self.at < _LONGEST and self._more():
                    continue  # the block ended within the value
                raise self._broken(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:
                line = self._place(self.at)[0]
                raise _PassedError(str(unreadable(f"{self.path}, {what}", line, error, self._skipped()))) from error
            begin, self.at = self.at, end
            if SURROGATE.search(self.text, begin, end):  # a place is found by counting lines, so only if need be
                try:
                    check_surrogates(f"{self.path}, {what}", self._place(begin)[0], value)
                except ValueError as error:
                    raise _PassedError(str(error)) from error
            return value

    def _skipped(self) -> str:
        """The next value as it stands there, without decoding it."""
        while True:
            depth = 0
            for token in _TOKEN.finditer(self.text, self.at):
                if token[0] == '"':
                    break  # the block ended within a string
                closes = token[0] in ("]", "}")
                depth += (token[0] in ("[", "{")) - closes
                if depth < 0 or (depth == 0 and (closes or token[0] == ",")):
                    begin, self.at = self.at, token.end() if closes and depth == 0 else token.start()
                    return self.text[begin : self.at]
            if len(self.text) - self.at >= _LONGEST or not self._more():
                raise self._broken("a value does not end", self.at)

    def _more(self) -> bool:
        self.line, self.column = self._place(self.at)
        self.text, self.at = self.text[self.at :], 0
        block = next(self.blocks, None)
        self.text += block or ""
        return block is not None

    def _place(self, at: int) -> tuple[int, int]:
        last = self.text.rfind("\n", 0, at)
        return self.line + self.text.count("\n", 0, at), at - last if last >= 0 else self.column + at

    def _broken(self, reason: str, at: int) -> ValueError:
        return broken(self.path, *self._place(at), reason)


def _list_records(text: _Text, on_error: OnError | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the numbered elements of a JSON list."""
    text.expect("[")
    if text.peek() == "]":
        raise ValueError(f"{text.path} is an empty list; give at least one record.")
    number = 0
    while not number or text.peek() == ",":
        if number:
            text.expect(",")
        number += 1
        try:
            record = text.value(f"record {number}")
            if not isinstance(record, dict):
                raise _PassedError(
                    f"{text.path}, record {number}: {shorten(record)} is not a JSON object; make each element one."
                )
        except _PassedError as error:
            if on_error is None:
                raise
            on_error(error)
        else:
            yield number, record
    text.expect("]")
    if text.peek():
        raise text._broken("Extra data", text.at)


def _line_records(path: str | Path, on_error: OnError | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the records of a JSON-lines file with their line numbers."""
    for number, line in read_lines(path, on_error):
        if not line.strip():
            continue
        try:
            record = _line_record(path, number, line)
        except ValueError as error:
            if on_error is None:
                raise
            on_error(error)
        else:
            yield number, record


def _line_record(path: str | Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise broken(path, number, error.colno, error.msg) from error
    except (ValueError, RecursionError) as error:
        raise unreadable(path, number, error, line) from error
    if SURROGATE.search(line):
        check_surrogates(path, number, record)
    if not isinstance(record, dict):
        raise ValueError(f"{path}, line {number}: {shorten(record)} is not a JSON object; make each line one.")
    return record


def checked(
    records: Iterable[tuple[int, Any]],
    check: Callable[[Any, str, int], Any],
    path: str | Path,
    what: str = "record",
    on_error: Callable[[ValueError], None] | None = None,
) -> Iterator[Any]:
    """`check(record, where, number)` of each numbered record.

    Args:
        what: what the numbers count in messages.
        on_error: called with what a bad record raises, which is left out then; None lets it raise.
    """
    for number, record in records:
        where = f"{path}, {what} {number}"
        try:
            try:
                example = check(record, where, number)
            except RecursionError as error:  # while a value is shown
                raise ValueError(f"{where}: a value is nested too deeply; flatten it.") from error
        except ValueError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        yield example


def check_keys(record: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    """Raise ValueError where a record lacks keys."""
    missing = [key for key in keys if key not in record]
    if missing:
        raise ValueError(f"{where}: the keys {missing} are missing; give every record {', '.join(keys)}.")


def check_unique(seen: dict[Any, int], key: Any, number: int, where: str) -> None:
    """Raise ValueError where an id is no text or number, or stands twice in a file; None is no id."""
    if isinstance(key, bool) or not isinstance(key, str | int | float | None):
        raise ValueError(f"{where}: the id is {shorten(key)}; give a text or a number.")
    if key is not None and seen.setdefault(key, number) != number:
        raise ValueError(f"{where}: the id {key!r:.60} stands at {seen[key]} already; make ids unique.")


def whole(value: Any) -> int | None:
    """A whole number, also one that pandas wrote as 7.0; None for anything else, for true and false too."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def write_json(path: str | Path, value: Any) -> None:
    """Write one JSON value, indented for reading, replacing the file in one step."""
    with atomic_writer(path) as stream:
        json.dump(value, stream, ensure_ascii=False, allow_nan=False, indent=2)
        stream.write("\n")


def write_jsonl(path: str | Path, records: Iterable[Any]) -> None:
    """Write one JSON record a line, streamed from `records`, replacing the file in one step."""
    with atomic_writer(path) as stream:
        for record in records:
            stream.write(to_json(record) + "\n")


def write_json_list(path: str | Path, records: Iterable[Any]) -> None:
    """Write a JSON list with one record a line, streamed, replacing the file in one step."""
    with atomic_writer(path) as stream:
        separator = "[\n"
        for record in records:
            stream.write(separator + to_json(record))
            separator = ",\n"
        stream.write("[]\n" if separator == "[\n" else "\n]\n")
