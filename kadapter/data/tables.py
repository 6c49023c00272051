"""Rows of data files, whatever form they have: what all readers and converters read.

JSON lists, JSON lines, wrapped lists and columns (`kadapter.data.jsonio`), csv, tsv, plain text, Parquet and Arrow, one
file or its shards, compressed or not. All are streamed: memory holds a row, or a batch of some hundred.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kadapter.data.columnar import read_columnar
from kadapter.data.jsonio import OnError, read_records
from kadapter.data.splits import COLUMNAR, TABLES, TEXT, files_of, form_of
from kadapter.storage.reading import LONGEST, read_lines, shorten

TEXT_COLUMN = "text"  # the one column of plain text
# Columns that hold lists, objects or whole numbers in the forms that tasks read: in csv, where all is text, as JSON.
JSON_COLUMNS = frozenset(
    {"token", "tokens", "words", "labels", "mentions", "start", "end", "subj_start", "subj_end", "obj_start", "obj_end"}
    | {"h", "t", "head", "tail", "names", "pairs", "left_context_token", "right_context_token", "y_str"}
    | {"sents", "vertexSet", "label", "idx", "index", "answers"}
)
_FIELD = 1 << 24  # characters of a csv field; beyond it a quote was left open, Python's 131,072 might be a real text


class Row(NamedTuple):
    """A row of a file.

    number: from 1, the line of lines and csv, the element of a list, the row of columns; those of shards go on from
    the shard before. where: the file, and in it the number, for messages. record: its values by name.
    """

    number: int
    where: str
    record: dict[str, Any]


def read_rows(path: str | Path, on_error: OnError | None = None) -> Iterator[Row]:
    """Rows of a file, of the shards in a folder, or of those that a pattern names.

    The form goes by the name's ending: .csv, .tsv (where quotes are text), .parquet, .arrow, .feather; .txt is JSON
    lines where its first line is an object, else a text a line; all others are JSON. A further .gz or .zst is unpacked.

    Args:
        on_error: called with the fault of a bad row, which is left out; None lets it raise. What leaves nothing to be
            read behind it raises in any case.

    Raises:
        FileNotFoundError, ValueError: name file, row, value and mend.
    """
    files = files_of(path)
    if not files and Path(path).is_dir():
        raise ValueError(f"{path} is a folder without data files; give the path of a file.")
    if not files:
        raise FileNotFoundError(f"{path}: there is no such file; check the path.")
    before = count = 0
    for file in files:
        number, kind, read = 0, *_reader(file)
        for number, record in read(file, on_error):
            count += 1
            yield Row(before + number, f"{file}, {kind} {number}", record)
        before += number
    if not count and on_error is None:
        raise ValueError(f"{path} holds no rows; give at least one.")


Read = Callable[[Path, OnError | None], Iterator[tuple[int, dict[str, Any]]]]


def _reader(file: Path) -> tuple[str, Read]:
    """What numbers count, and how the file is read."""
    form = form_of(file)
    if form in (*COLUMNAR, ".feather"):
        return "row", read_columnar
    if form in (".csv", ".tsv"):
        return "line", read_csv if form == ".csv" else read_tsv
    if form == TEXT and not begins_with_object(file):
        return "line", read_text
    return "record", read_records


def begins_with_object(file: Path) -> bool:
    """Whether the first line that is not blank is a whole JSON object."""
    line = next((line for _, line in read_lines(file, lambda error: None) if line.strip()), "")
    if not line.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def read_text(path: str | Path, on_error: OnError | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a text that are not blank, each as a record of one column."""
    for number, line in read_lines(path, on_error):
        if line.strip():
            yield number, {TEXT_COLUMN: line}


def read_texts(path: str | Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of text: of .txt whatever they look like, of other forms those of the column "text".

    Raises:
        FileNotFoundError, ValueError: name file, line or row, and mend.
    """
    files = files_of(path) or [Path(path)]
    if any(form_of(file) in TABLES for file in files):
        for number, where, record in read_rows(path):
            if not isinstance(text := record.get(TEXT_COLUMN), str):
                raise ValueError(f"{where}: {TEXT_COLUMN} is {shorten(text)}; give a column of that name with texts.")
            yield from ((number, line) for line in text.splitlines())
        return
    before = number = 0
    for file in files:
        for number, line in read_lines(file):
            yield before + number, line
        before += number


# -- csv and tsv ------------------------------------------------------------------------------------------------


def csv_rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a csv file with the lines that they begin on; fields may hold quotes, commas and newlines.

    Raises:
        FileNotFoundError, ValueError: missing, not UTF-8 or broken csv.
    """
    csv.field_size_limit(max(_FIELD, csv.field_size_limit()))
    rows = csv.reader((f"{line}\n" for _, line in read_lines(path)), strict=True)
    while True:
        begin = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{path}, line {begin}: broken csv ({error}); mend the quotes of this row.") from error
        if row:
            yield begin, row


def read_csv(path: str | Path, on_error: OnError | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a csv file with a header; a broken quote ends it, as nobody knows where the next row begins."""
    yield from _table(path, csv_rows(path), on_error)


def read_tsv(path: str | Path, on_error: OnError | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a tab-separated file with a header; quotes are text, as in GLUE's files."""
    rows = ((number, line.split("\t")) for number, line in read_lines(path, on_error) if line.strip())
    yield from _table(path, rows, on_error, _check_unquoted)


def _check_unquoted(cells: list[str], where: str) -> None:
    """Raise ValueError where a cell is quoted as writers of csv do: whether its quotes are text, nobody can tell."""
    for cell in cells:
        if cell[:1] == cell[-1:] == '"' and '""' in cell[1:-1] and '"' not in cell[1:-1].replace('""', ""):
            raise ValueError(
                f"{where}: {shorten(cell)} is quoted as in csv, but quotes are text in .tsv; save it as csv."
            )


def _table(
    path: str | Path,
    rows: Iterator[tuple[int, list[str]]],
    on_error: OnError | None,
    check: Callable[[list[str], str], None] = lambda cells, where: None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows as records under the names of the first one."""
    _, header = next(rows, (1, []))
    _check_header(path, header)
    for number, cells in rows:
        try:
            if len(cells) != len(header):
                raise ValueError(f"{path}, line {number}: {len(cells)} fields for {len(header)} columns; mend the row.")
            check(cells, f"{path}, line {number}")
        except ValueError as error:
            if on_error is None:
                raise
            on_error(error)
        else:
            yield number, {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True)}


def _check_header(path: str | Path, header: list[str]) -> None:
    if not header:
        raise ValueError(f"{path} is empty; give a header and rows.")
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise ValueError(f"{path}, line 1: the column {twice[0]!r:.60} stands there twice; rename one.")
    other = next((mark for mark in ";\t|" if mark in header[0]), "")
    if len(header) == 1 and other:
        raise ValueError(
            f"{path}, line 1: columns seem to be separated by {other!r}; separate them by commas (.csv) or tabs (.tsv)."
        )


def _cell(name: str, cell: str) -> Any:
    """The value of a cell: JSON in the columns that hold it, else its text."""
    if name not in JSON_COLUMNS:
        return cell
    if not cell or len(cell) > LONGEST:
        return cell or None
    try:
        return json.loads(cell, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return cell  # which is no list or number, as the task's check will say


def _no_constant(name: str) -> None:
    """NaN and Infinity are no JSON, though Python's reader takes them: a cell that holds one is text."""
    raise ValueError(name)
