"""Bytes of files as they are meant: compressed ones unpacked, those of another kind called by their kind.

A file's name says how it is compressed (`.gz`, `.zst`), so that it is never guessed; its first bytes must agree.
"""

from __future__ import annotations

import gzip
import io
import zlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO, cast

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
COMPRESSIONS = {".gz": ("gzip", _GZIP), ".zst": ("zstd", _ZSTD)}
_BLOCK = 1 << 20
_UTF8 = "save it as UTF-8: iconv -f {0} -t UTF-8 {path} > NEW"
# First bytes -> what the file is, and what to do.
_KINDS = (
    (_GZIP, "compressed with gzip; name it {path}.gz, or unpack it: gzip -dc {path} > NEW"),
    (_ZSTD, "compressed with zstd; name it {path}.zst, or unpack it: zstd -dc {path} > NEW"),
    (b"BZh", "compressed with bzip2; unpack it: bzip2 -dc {path} > NEW"),
    (b"\xfd7zXZ\0", "compressed with xz; unpack it: xz -dc {path} > NEW"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet; unpack it (unzip {path}), or export the sheet as csv"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it: 7z x {path}"),
    (b"PAR1", "Parquet; name it {stem}.parquet"),
    (b"ARROW1", "Arrow; name it {stem}.arrow"),
    (b"\xff\xff\xff\xff", "Arrow, as datasets writes it; name it {stem}.arrow"),
    (b"\xff\xfe\0\0", "text in UTF-32; " + _UTF8.format("UTF-32", path="{path}")),
    (b"\xff\xfe", "text in UTF-16; " + _UTF8.format("UTF-16", path="{path}")),
    (b"\xfe\xff", "text in UTF-16; " + _UTF8.format("UTF-16", path="{path}")),
    (b"\x80\x04\x95", "a pickle of Python, which may run code; write its records as JSON lines where it was made"),
    (b"\x80\x05\x95", "a pickle of Python, which may run code; write its records as JSON lines where it was made"),
    (b"SQLite format 3\0", "an SQLite database; export a table: sqlite3 -header -csv {path} 'SELECT ...' > NEW"),
)
_SHOWN = 16  # first bytes that tell


def check_kind(path: Any, start: bytes) -> None:
    """Raise ValueError where a file that should be text begins as one of another kind does."""
    name = str(path)
    for magic, what in _KINDS:
        if start.startswith(magic):
            raise ValueError(f"{name} is {what.format(path=name, stem=name.rsplit('.', 1)[0])}.")
    is_zero = [byte == 0 for byte in start[:4]]
    if is_zero in ([False, True] * 2, [True, False] * 2):
        code = "UTF-16BE" if is_zero[0] else "UTF-16LE"
        raise ValueError(f"{name} is text in {code}; {_UTF8.format(code, path=name)}.")


def unpacked(path: Any, stream: BinaryIO) -> AbstractContextManager[BinaryIO]:
    """The stream of a file, without the compression that its name tells.

    Raises:
        ValueError: the file is not what its name tells, or its text is of another kind; while reading: it is damaged.
    """
    ending = next((ending for ending in COMPRESSIONS if str(path).endswith(ending)), "")
    start = _peek(stream)
    if not ending:
        check_kind(path, start)
        return nullcontext(stream)
    kind, magic = COMPRESSIONS[ending]
    if not start.startswith(magic):
        what = "is empty" if not start else f"is not compressed with {kind}, as its name says"
        raise ValueError(f"{path} {what}; fetch it again, or name it without {ending}.")
    plain = io.BufferedReader(_Unpacked(path, stream, ending), _BLOCK)
    try:
        check_kind(path, _peek(cast(BinaryIO, plain)))
    except ValueError as error:
        raise ValueError(f"{error} (This is about what is packed in it.)") from None
    return cast(AbstractContextManager[BinaryIO], plain)


def _peek(stream: BinaryIO) -> bytes:
    return stream.peek(_SHOWN)[:_SHOWN]  # type: ignore[attr-defined]


class _Unpacked(io.RawIOBase):
    """What a compressed stream holds, block by block, whatever size it has; knows its place, cannot seek."""

    def __init__(self, path: Any, stream: BinaryIO, ending: str) -> None:
        self._path, self._at = path, 0
        self._stream: Any = gzip.GzipFile(fileobj=stream) if ending == ".gz" else _zstd(stream)

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._stream.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{self._path} cannot be unpacked ({error}); fetch it again.") from error
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)


def _zstd(stream: BinaryIO) -> Any:
    import pyarrow  # here: slow to import, and most files are not compressed so

    return pyarrow.input_stream(stream, compression="zstd", buffer_size=_BLOCK)
