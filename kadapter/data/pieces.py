"""Pieces of large files of lines, so that several workers read one file."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

PIECE_BYTES = 64 << 20  # some seconds of work, and some megabytes of results
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Piece:
    """Whole lines of a file; it is opened and read like the path of a file.

    begin, end: bytes of the file, the end exclusive; None for a whole file, of whatever form.
    first_line: number of its first line in the file, for messages.
    """

    path: Path
    begin: int = 0
    end: int | None = None
    first_line: int = 1

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        return self.path.exists()

    def is_dir(self) -> bool:
        return self.path.is_dir()

    def open(self, mode: str = "rb") -> BinaryIO:
        file = self.path.open("rb", buffering=0)
        if self.end is None:
            return cast(BinaryIO, io.BufferedReader(file))
        return cast(BinaryIO, io.BufferedReader(_Range(file, self.begin, self.end), _BLOCK))

    @property
    def size(self) -> int:
        return (self.path.stat().st_size if self.end is None else self.end) - self.begin

    def lines(self) -> int:
        """How many lines end in it."""
        with self.open() as stream:
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(_BLOCK), b""))

    def with_line_number(self) -> Piece:
        """The same with the number of its first line, for which all before it is read."""
        return replace(self, first_line=1 + (Piece(self.path, 0, self.begin).lines() if self.begin else 0))


class _Range(io.RawIOBase):
    """A part of a file; positions are those of the file."""

    def __init__(self, file: io.FileIO, begin: int, end: int):
        self.file, self.end = file, end
        file.seek(begin)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        left = max(0, self.end - self.file.tell())
        return self.file.readinto(memoryview(buffer)[:left]) or 0

    def close(self) -> None:
        self.file.close()
        super().close()


def pieces(path: Path, size: int = PIECE_BYTES, endings: Sequence[str] = (".jsonl",), by: str = "lines") -> list[Piece]:
    """A file of lines in pieces of about `size` bytes; another file, or a small one, as one piece.

    Args:
        endings: of names of files that are cut.
        by: "lines", or "paragraphs", which are cut behind a blank line.
    """
    if path.suffix not in endings or not path.is_file() or path.stat().st_size <= size:
        return [Piece(path)]
    cuts = [0]
    with path.open("rb") as stream:
        total = stream.seek(0, os.SEEK_END)
        while cuts[-1] + size < total:
            stream.seek(cuts[-1] + size)
            line = stream.readline()
            while by == "paragraphs" and line:  # the first may be a part of a line, of which nothing is to be said
                line = stream.readline()
                if not line.strip():
                    break
            cuts.append(stream.tell())
    cuts += [total] * (cuts[-1] < total)
    return [Piece(path, begin, end) for begin, end in zip(cuts, cuts[1:], strict=False)]
