"""Reading files that others may have cut off, changed or mistaken: every fault names the file and the mend.

Ground for all readers: text lines, one JSON value, members of archives. Records are `kadapter.data.jsonio`'s,
weights are `kadapter.storage.checkpoint`'s.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from kadapter.storage.packed import unpacked

LONGEST = 64 << 20  # bytes of a line; beyond it a file is broken, or made to fill the memory
_WHOLE = 256 << 20  # bytes of a file that is held whole in memory
MEND = "mend it there: one JSON list, or one complete object on each line."
_BOM = b"\xef\xbb\xbf"
_NUMBER = re.compile(r'(?:"[^"\\]*"\s*:\s*)?-?\d{4301}')  # more digits than Python takes, with its key
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# What zipfile raises for an archive that is damaged, encrypted or packed in a way that Python does not know.
_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def wrong_download(path: str | Path) -> str:
    """What a download left in the place of the file, with the mend; "" where nothing is known to."""
    with (Path(path) if isinstance(path, str) else path).open("rb") as stream:
        start = stream.read(512).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer instead of the file (run git lfs pull)"
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page instead of the file (download the file itself, not the page about it)"
    return ""


def check_link(path: str | os.PathLike[str] | zipfile.Path) -> None:
    """Raise FileNotFoundError for a symbolic link to nothing, which most libraries take for a file that nobody made."""
    path = "" if isinstance(path, zipfile.Path) else os.fspath(path)
    if os.path.islink(path) and not os.path.exists(path):
        raise FileNotFoundError(
            f"{path} is a symbolic link to {os.readlink(path)}, which is not there; bring it back or remove the link."
        )


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """A file, also one in an archive (`zipfile.Path`), open for reading behind its byte-order mark if it has one.

    What is compressed is unpacked (`kadapter.storage.packed`).
    """
    path = Path(path) if isinstance(path, str) else path
    if not path.exists():
        check_link(path)
        raise FileNotFoundError(f"{path}: there is no such file; check the path.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the path of a file.")
    try:
        with path.open("rb") as packed, unpacked(path, packed) as stream:
            if stream.peek(len(_BOM)).startswith(_BOM):  # type: ignore[attr-defined]
                stream.read(len(_BOM))
            yield stream
    except _BAD_ARCHIVE as error:
        mend = "unpack it with its password" if "encrypted" in str(error) else "fetch the archive again"
        raise ValueError(f"{path} cannot be unpacked ({_first_line(error)}); {mend}.") from error


def zip_members(path: Path) -> list[zipfile.ZipInfo]:
    """What is in a zip archive.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except _BAD_ARCHIVE as error:
        raise ValueError(f"{path} is not a complete zip archive ({_first_line(error)}); fetch it again.") from error


def tar_files(path: Path, only_files: bool = False) -> Iterator[tuple[tarfile.TarInfo, BinaryIO]]:
    """The files in a tar archive, compressed or not, each to be read before the next one is asked for.

    Args:
        only_files: refuse links and devices instead of passing them by.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with tarfile.open(path) as archive:
            for info in archive:
                if only_files and not (info.isreg() or info.isdir()):
                    raise ValueError(
                        f"{path} holds {info.name!r}, which is neither a file nor a folder; it is refused."
                    )
                if info.isreg() and (stream := archive.extractfile(info)):
                    yield info, cast(BinaryIO, stream)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a complete tar archive ({_first_line(error)}); fetch it again.") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def not_utf8(path: str | Path, line: int, offset: int) -> ValueError:
    return ValueError(f"{path}, line {line}: the byte at offset {offset} is not UTF-8; save the file as UTF-8.")


def read_lines(path: str | Path, on_error: Callable[[ValueError], None] | None = None) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end) from a UTF-8 file, one line in memory.

    Lines end at a newline only: other Unicode line separators may stand inside a JSON string or
    a word. A byte-order mark is skipped. Raises FileNotFoundError where there is no such file and
    ValueError where the bytes are not UTF-8, with their offset, or a line is too long, with which `on_error` is called
    instead if it is given; the line is left out then.
    """
    with opened(path) as stream:
        offset = stream.tell()
        first = getattr(path, "first_line", 1)  # of a `Piece` another
        for number, raw in enumerate(iter(partial(stream.readline, LONGEST), b""), start=first):
            try:
                if len(raw) == LONGEST and not raw.endswith(b"\n"):
                    offset += _skip_line(stream)
                    raise ValueError(
                        f"{path}, line {number}: longer than {LONGEST >> 20} MiB; write one record on each line."
                    )
                line = _decoded(path, number, offset, raw)
            except ValueError as fault:
                if on_error is None:
                    raise
                on_error(fault)
            else:
                yield number, line.rstrip("\r\n")
            offset += len(raw)


def _skip_line(stream: BinaryIO) -> int:
    """Read to the end of a line, keeping nothing; gives the number of bytes."""
    skipped = 0
    for part in iter(partial(stream.readline, LONGEST), b""):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def _decoded(path: str | Path, line: int, offset: int, raw: bytes) -> str:
    """The text of bytes that begin in that line, at that offset."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line += raw.count(b"\n", 0, error.start)
        raise not_utf8(path, line, offset + error.start) from error


def read_json(path: str | Path, mend: str = MEND) -> Any:
    """The one JSON value of a file, whole in memory.

    Args:
        mend: ends the message about broken JSON.

    Raises:
        FileNotFoundError, ValueError: no such file, too large, not UTF-8, or broken JSON, with the line.
    """
    with opened(path) as stream:
        offset, raw = stream.tell(), stream.read(_WHOLE + 1)
    if len(raw) > _WHOLE:
        raise ValueError(f"{path} holds more than {_WHOLE >> 20} MiB in one JSON value; {mend}")
    text = _decoded(path, 1, offset, raw)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if instead := wrong_download(path):
            raise ValueError(f"{path} is {instead}.") from error
        if error.msg == "Extra data" and text[: error.pos].rstrip(" \t\r").endswith("\n"):
            mend = f"it seems to hold JSON lines, and one value is wanted here: jq -s . {path} > NEW"
        raise broken_json(path, error.lineno, error.colno, error.msg, mend) from error
    except (ValueError, RecursionError) as error:
        raise unreadable(path, 1, error, text) from error
    if SURROGATE.search(text):
        check_surrogates(path, 1, value)
    return value


def read_object(path: str | Path, mend: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON object in a file that a program wrote; `mend` says how it is had again.

    Raises:
        FileNotFoundError, ValueError: as `read_json`; or it is not an object, or lacks one of `keys`.
    """
    value = read_json(path, mend)
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds {shorten(value)} instead of a JSON object; {mend}")
    if missing := [key for key in keys if key not in value]:
        raise ValueError(f"{path}: the keys {missing} are missing; {mend}")
    return value


def shorten(value: Any) -> str:
    """The value as JSON, cut to a length that fits a message."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)  # of Parquet also dates and bytes
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def broken_json(
    path: str | Path,
    line: int,
    column: int,
    reason: str,
    mend: str = MEND,
) -> ValueError:
    return ValueError(f"{path}, line {line}, column {column}: broken JSON ({reason}); {mend}")


def unreadable(path: str | Path, line: int, error: Exception, text: str) -> ValueError:
    """What to say of legal JSON that Python cannot hold; `text` begins with the value."""
    if isinstance(error, RecursionError):
        return ValueError(
            f"{path}, line {line}: unreadable JSON (it is nested too deeply) in {text[:60]!r}; flatten it."
        )
    found = _NUMBER.search(text)
    digits = found[0] if found else text
    return ValueError(f"{path}, line {line}: unreadable JSON (a number is too long) in {digits[:60]!r}; shorten it.")


def check_surrogates(path: str | Path, line: int, value: Any) -> None:
    """ "\\ud800" alone is legal JSON but no Unicode text: tokenizers and UTF-8 output fail on it."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{path}, line {line}: a \\u escape is half of a surrogate pair; write both halves or none."
        ) from error
