"""Rows of Parquet and Arrow files, a batch in memory; classes of `datasets` by their names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kadapter.storage.packed import COMPRESSIONS
from kadapter.storage.reading import LONGEST, shorten

_BATCH = 256  # rows that are decoded together
_BUFFER = 1 << 20  # bytes read at a time


def read_columnar(path: str | Path, on_error: Any = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered rows, from 1. A class of `datasets` (ClassLabel) is given by its name, None for -1.

    Raises:
        ValueError: the file is damaged or of another kind, or rows are too large.
    """
    path = Path(path)
    if path.suffix.lower() in COMPRESSIONS:
        raise ValueError(
            f"{path} is compressed twice; unpack it, since Parquet and Arrow have compression of their own."
        )
    batches = _parquet_batches if path.suffix.lower() == ".parquet" else _arrow_batches
    number = 0
    with _named_errors(path):
        for schema, batch in batches(path):
            names = _class_names(path, schema)
            for record in batch.to_pylist():
                number += 1
                for column in names.keys() & record.keys():
                    record[column] = _named(record[column], names[column], f"{path}, row {number}, {column}")
                yield number, record


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"{path}: there is no such file; check the path.") from error
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read ({said}); fetch or write the file again.") from error


def _parquet_batches(path: Path) -> Iterator[tuple[Any, Any]]:
    import pyarrow.parquet as pq  # here: slow to import, and most files are JSON

    with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
        for i in range(file.num_row_groups):
            group = file.metadata.row_group(i)
            if group.num_rows and group.total_byte_size / group.num_rows > LONGEST:
                raise ValueError(f"{path}: rows have more than {LONGEST >> 20} MiB each; write smaller ones.")
        for batch in file.iter_batches(_BATCH):
            yield file.schema_arrow, batch


def _arrow_batches(path: Path) -> Iterator[tuple[Any, Any]]:
    """Of Arrow's file format, or of its stream format, in which `datasets` writes."""
    import pyarrow

    with pyarrow.memory_map(str(path)) as source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        if is_file:
            reader = pyarrow.ipc.open_file(source)
            found = (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            reader = pyarrow.ipc.open_stream(source)
            found = iter(reader)
        for batch in found:
            for begin in range(0, batch.num_rows, _BATCH):
                yield reader.schema, batch.slice(begin, _BATCH)


def _class_names(path: Path, schema: Any) -> dict[str, list[str]]:
    """Column -> names of its classes, which `datasets` keeps beside the schema."""
    raw = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(raw)["info"]["features"] if raw else {}
        found = {}
        for column, feature in features.items():
            inner = feature.get("feature", feature) if isinstance(feature, dict) else {}  # of a list
            if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
                found[column] = [str(name) for name in inner["names"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: what datasets noted of its columns is broken ({error}); write it again.") from error
    return found


def _named(value: Any, names: list[str], where: str) -> Any:
    if isinstance(value, list):
        return [_named(one, names, where) for one in value]
    if value is None or value == -1:
        return None
    if type(value) is int and 0 <= value < len(names):
        return names[value]
    raise ValueError(f"{where} is {shorten(value)}, but there are {len(names)} classes; write the file again.")
