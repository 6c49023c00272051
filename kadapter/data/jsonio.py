"""Reading and writing records: one JSON list or JSON lines, strict UTF-8, atomic output.

Every reader and script goes through this module, so that a bad file is always refused with the
same kind of message: one sentence with the file, the record and the mend.
"""

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

_BOM = b"\xef\xbb\xbf"


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end) from a UTF-8 file, one line in memory.

    Lines end at a newline only: other Unicode line separators may stand inside a JSON string or
    a word. A byte-order mark is skipped. Raises FileNotFoundError where there is no such file and
    ValueError with the byte offset where the bytes are not UTF-8.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file; check the path.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the path of a file.")
    with path.open("rb") as stream:
        offset = 0
        for number, raw in enumerate(stream, start=1):
            skipped = len(_BOM) if number == 1 and raw.startswith(_BOM) else 0
            try:
                line = raw[skipped:].decode("utf-8")
            except UnicodeDecodeError as error:
                at = offset + skipped + error.start
                raise ValueError(
                    f"{path}, line {number}: the byte at offset {at} is not UTF-8; save the file as UTF-8."
                ) from error
            offset += len(raw)
            yield number, line.rstrip("\r\n")


def read_records(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (number, record) from one JSON list or from JSON lines, told apart by the first character.

    A list is read whole and numbered by element from 1. Lines are streamed, blank ones skipped, and
    numbered by line, so that the number in a message is the one an editor shows. Raises
    FileNotFoundError or ValueError as soon as a fault is met.
    """
    lines = read_lines(path)
    for number, line in lines:
        if not line.strip():
            continue
        first = line.lstrip()[0]
        if first == "[":
            blank_before = "\n" * (number - 1)  # keeps the line numbers of a JSON error right
            text = blank_before + "\n".join(chain([line], (rest for _, rest in lines)))
            yield from _list_records(path, text)
        elif first == "{":
            yield from _line_records(path, chain([(number, line)], lines))
        else:
            raise ValueError(
                f"{path}, line {number}: the file starts with {first!r}; "
                "give a JSON list of objects or one JSON object a line."
            )
        return
    raise ValueError(f"{path} is empty; give a JSON list of objects or one JSON object a line.")


def _list_records(path: str | Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the numbered elements of a JSON list."""
    records = _parse(path, 1, text)
    if not records:
        raise ValueError(f"{path} is an empty list; give at least one record.")
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise ValueError(
                f"{path}, record {number}: {_shorten(record)} is not a JSON object; make each element one."
            )
        yield number, record


def _line_records(path: str | Path, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the records of a JSON-lines file with their line numbers."""
    for number, line in lines:
        if not line.strip():
            continue
        record = _parse(path, number, line)
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number}: {_shorten(record)} is not a JSON object; make each line one.")
        yield number, record


def _parse(path: str | Path, first_line: int, text: str) -> Any:
    """Parse JSON text that starts on `first_line` of the file, naming the place of a fault."""
    try:
        value = json.loads(text)
        if "\\u" in text:
            # "\ud800" alone is legal JSON but no Unicode text: tokenizers and UTF-8 output fail on it.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise ValueError(
            f"{path}, line {line}, column {error.colno}: broken JSON ({error.msg}); "
            "mend it there: one JSON list, or one complete object a line."
        ) from error
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{path}, line {first_line}: a \\u escape is half of a surrogate pair; write both halves or none."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}, line {first_line}: unreadable JSON ({error}); simplify the value.") from error


def _shorten(value: Any) -> str:
    """The value as JSON, cut to a length that fits a message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


@contextmanager
def _atomic_writer(path: str | Path) -> Iterator[TextIO]:
    """A text file that takes the name `path` only once it is completely on disk."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the path of a file to write.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are private to the user, and the output should follow the umask.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, value: Any) -> None:
    """Write one JSON value, indented for reading, replacing the file in one step."""
    with _atomic_writer(path) as stream:
        json.dump(value, stream, ensure_ascii=False, indent=2)
        stream.write("\n")


def write_jsonl(path: str | Path, records: Iterable[Any]) -> None:
    """Write one JSON record a line, streamed from `records`, replacing the file in one step."""
    with _atomic_writer(path) as stream:
        for record in records:
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def write_json_list(path: str | Path, records: Iterable[Any]) -> None:
    """Write a JSON list with one record a line, streamed, replacing the file in one step."""
    with _atomic_writer(path) as stream:
        separator = "[\n"
        for record in records:
            stream.write(separator + json.dumps(record, ensure_ascii=False))
            separator = ",\n"
        stream.write("[]\n" if separator == "[\n" else "\n]\n")
