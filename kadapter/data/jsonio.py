"""Reading and writing records: one JSON list or JSON lines, strict UTF-8, atomic output.

Every reader and script goes through this module, so that a bad file is always refused with the
same kind of message: one sentence with the file, the record and the mend.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kadapter.data.jsonobject import COLUMNS, KEYED, PRETTY, WRAPPED, WRAPPERS, json_layout, rows_of
from kadapter.data.jsontext import JsonText, UnusableValueError
from kadapter.storage.files import atomic_writer
from kadapter.storage.reading import (
    MEND,
    SURROGATE,
    broken_json,
    check_surrogates,
    opened,
    read_json,  # noqa: F401  # for readers, who import all of it from here
    read_lines,
    shorten,
    unreadable,
    wrong_download,
)

to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode  # json.dumps makes an encoder for every call
_BLOCK = 1 << 20  # bytes read at a time


OnError = Callable[[ValueError], None]


def read_records(path: str | Path, on_error: OnError | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (number, record) from one JSON list or from JSON lines, told apart by the first character.

    Both are streamed, and so is a list that one object wraps ({"version": ..., "data": [...]}); an object of columns
    ({name: [value, ...]}) is held in memory, up to a size.

    A list is numbered by element from 1; lines are numbered by line, blank ones skipped, so
    that the number in a message is the one an editor shows. Raises FileNotFoundError or ValueError as soon as a
    fault is met; with `on_error` that is called with the fault, and the record left out, wherever it is clear where
    the next one begins.
    """
    if _first_byte(path) == b"{":
        yield from _object_records(path, on_error)
        return
    text = JsonText(path)
    first = text.peek()
    if first == "[":
        yield from _list_records(text, on_error)
        _expect_end(text)
    elif first and (instead := wrong_download(path)):
        raise ValueError(f"{path} is {instead}.")
    elif first:
        raise ValueError(
            f"{path}, line {text.line}: the file starts with {first!r}; "
            "give a JSON list of objects or one JSON object on each line."
        )
    else:
        raise ValueError(f"{path} is empty; give a JSON list of objects or one JSON object on each line.")


def _first_byte(path: str | Path) -> bytes:
    """The first that is not blank; bytes, as some line behind it may be no UTF-8."""
    with opened(path) as stream:
        while block := stream.read(_BLOCK):
            if start := block.lstrip(b" \t\n\r")[:1]:
                return start
    return b""


def _object_records(path: str | Path, on_error: OnError | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the records of a file that begins with an object: JSON lines, or one object for all."""
    kind, found = json_layout(path)
    if kind == WRAPPED:
        yield from _wrapped_records(JsonText(path), on_error)
    elif kind == COLUMNS:
        yield from rows_of(found)
    elif kind == KEYED:
        raise ValueError(
            f"{path} holds lists of records under {', '.join(map(shorten, [*found][:3]))}; give one list, or, where it "
            "is FewRel's, run scripts/convert_fewrel.py."
        )
    elif kind == PRETTY:
        raise ValueError(
            f"{path}, line 1: an object over several lines (pretty-printed JSON); write one object on each line: "
            f"jq -c . {path} > NEW"
        )
    else:
        yield from _line_records(path, on_error)


def _wrapped_records(text: JsonText, on_error: OnError | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the records of the one list in an object; what else it holds is passed over."""
    text.expect("{")
    done = ""
    while True:
        key = text.value("a key")
        text.expect(":")
        if not (key in WRAPPERS and text.begins_objects()):
            text.value(shorten(key))
        elif done:
            raise ValueError(f"{text.path} holds the lists {done!r} and {key!r}; give a file of its own for each.")
        else:
            yield from _list_records(text, on_error)
            done = key
        if text.peek() != ",":
            break
        text.expect(",")
    text.expect("}")
    _expect_end(text)


def _expect_end(text: JsonText) -> None:
    following = text.peek()
    if following == "[":
        raise ValueError(
            f"{text.path}, line {text.place(text.at)[0]}: broken JSON (Extra data): a second list follows; write one "
            f"list, or one object on each line: jq -c '.[]' {text.path} > NEW"
        )
    if following:
        raise text.broken_json("Extra data", text.at)


def _list_records(text: JsonText, on_error: OnError | None) -> Iterator[tuple[int, dict[str, Any]]]:
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
                raise UnusableValueError(
                    f"{text.path}, record {number}: {shorten(record)} is not a JSON object; make each element one."
                )
        except UnusableValueError as error:
            if on_error is None:
                raise
            on_error(error)
        else:
            yield number, record
    text.expect("]")


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
    record = json_line(path, number, line)
    if not isinstance(record, dict):
        raise ValueError(f"{path}, line {number}: {shorten(record)} is not a JSON object; make each line one.")
    return record


def json_line(path: str | Path, number: int, line: str) -> Any:
    """The one JSON value of a line.

    Raises:
        ValueError: names file, line, what is wrong and the mend.
    """
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        several = error.msg == "Extra data" and line[error.pos] == "{"
        mend = f"several objects stand on the line; write one on each line: jq -c . {path} > NEW" if several else MEND
        raise broken_json(path, number, error.colno, error.msg, mend) from error
    except (ValueError, RecursionError) as error:
        raise unreadable(path, number, error, line) from error
    if SURROGATE.search(line):
        check_surrogates(path, number, value)
    return value


def checked(
    records: Iterable[tuple[int, Any]],
    check: Callable[[Any, str, int], Any],
    path: str | Path,
    what: str = "record",
    on_error: OnError | None = None,
) -> Iterator[Any]:
    """`check(record, where, number)` of each numbered record.

    Args:
        what: what the numbers count in messages.
        on_error: called with what a bad record raises, which is left out then; None lets it raise.
    """
    return checked_rows(((number, f"{path}, {what} {number}", record) for number, record in records), check, on_error)


def checked_rows(
    rows: Iterable[tuple[int, str, Any]], check: Callable[[Any, str, int], Any], on_error: OnError | None = None
) -> Iterator[Any]:
    """`check(record, where, number)` of each row (`kadapter.data.tables`); as `checked` otherwise."""
    return (example for _, _, example in converted_rows(rows, check, on_error))


def converted_rows(
    rows: Iterable[tuple[int, str, Any]], check: Callable[[Any, str, int], Any], on_error: OnError | None = None
) -> Iterator[tuple[int, str, Any]]:
    """As `checked_rows`, with number and place of each row."""
    for number, where, record in rows:
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
        yield number, where, example


# Keys of a corpus's records -> what they look like, and what turns them into something that is taken.
_LOOKS: tuple[tuple[set[str], str], ...] = (
    ({"mention_span", "y_str"}, "it looks like UFET's: scripts/convert_ufet.py turns it into OpenEntity's form."),
    ({"vertexSet", "sents"}, "it looks like DocRED's: scripts/convert_redocred.py turns it into trex-rc."),
    ({"tokens", "h", "t"}, "it looks like FewRel's: scripts/convert_fewrel.py turns it into trex-rc."),
    ({"tokens", "head", "tail"}, "it looks like FewRel's: scripts/convert_fewrel.py turns it into trex-rc."),
    ({"words_boundaries", "triples"}, "it looks like raw T-REx: scripts/clean_T_REx.py cleans it."),
)


def check_keys(record: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    """Raise ValueError where a record lacks keys."""
    missing = [key for key in keys if key not in record]
    if missing:
        hint = next((hint for own, hint in _LOOKS if own <= record.keys()), f"give every record {', '.join(keys)}.")
        raise ValueError(f"{where}: the keys {missing} are missing; {hint}")


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
    """Write one JSON record on each line, streamed from `records`, replacing the file in one step."""
    with atomic_writer(path) as stream:
        for record in records:
            stream.write(to_json(record) + "\n")


def write_json_list(path: str | Path, records: Iterable[Any]) -> None:
    """Write a JSON list with one record on each line, streamed, replacing the file in one step."""
    with atomic_writer(path) as stream:
        separator = "[\n"
        for record in records:
            stream.write(separator + to_json(record))
            separator = ",\n"
        stream.write("[]\n" if separator == "[\n" else "\n]\n")
