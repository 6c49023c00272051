"""What a full or unwritable place raises, told in one sentence.

Each library reports it in its own way: Python and pyarrow as an OSError, safetensors and tokenizers as an exception
that quotes the system, torch as a RuntimeError that may not even do that.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_QUOTA = getattr(errno, "EDQUOT", errno.ENOSPC)  # not every system has quotas

# Error number -> what to do about it.
MENDS = {
    errno.ENOSPC: "make room, or write to another disk",
    _QUOTA: "delete files of yours, or write to another disk",
    errno.EFBIG: "raise ulimit -f, or write to another disk",
    errno.EROFS: "mount it for writing, or write elsewhere",
    errno.EACCES: "get the right to write there, or write elsewhere",
    errno.EPERM: "get the right to write there, or write elsewhere",
    errno.ENOTDIR: "a file is where a folder should be: move it away, or write elsewhere",
    errno.EEXIST: "a file is where a folder should be: move it away, or write elsewhere",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EIO: "look at the disk, or write to another one",
}
_OF_SPACE = (errno.ENOSPC, _QUOTA, errno.EFBIG, errno.EIO)
_QUOTED = (errno.ENOSPC, _QUOTA, errno.EFBIG, errno.EROFS, errno.EACCES)
_TEMPORARY = re.compile(r"\.(.+?)(\.[0-9a-f]{12})?\.(tmp|new)")


class WriteError(OSError):
    """Something could not be written; its text is a sentence with the path, the reason and the mend."""

    def __init__(self, sentence: str, number: int) -> None:
        super().__init__(sentence)
        self.errno = number

    def __reduce__(self) -> tuple[type[WriteError], tuple[str, int]]:
        return WriteError, (str(self), self.errno or 0)  # so that it comes back from a worker process


@contextmanager
def writing(path: str | os.PathLike, what: str = "", needed: int | None = None) -> Iterator[None]:
    """Raise a WriteError where the block cannot write to `path`; all other exceptions pass.

    Args:
        path: the file or folder that is written; of a temporary one the final name is told.
        what: what is written, such as "the checkpoint".
        needed: its size in bytes, where that is known.
    """
    path = Path(path)
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        number = _number(error, path)
        if number is None:
            raise
        raise WriteError(_sentence(path, what, needed, number), number) from error


def final_name(path: Path) -> Path:
    """The name that a file has in the end which is now written aside (`kadapter.storage.files`)."""
    parts: list[str] = []
    before = None  # the name that the temporary folder above stands for
    for part in path.parts:
        temporary = _TEMPORARY.fullmatch(part)
        name = temporary[1] if temporary else part
        if name != before:  # a file has a folder to itself, which is called after it
            parts.append(name)
        before = name if temporary else None
    return Path(*parts)


def _number(error: Exception, path: Path) -> int | None:
    """The error number, where the exception tells of writing to `path`; None for all others."""
    if isinstance(error, OSError):
        named = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        ours = not named or any(_concerns(name, path) for name in named)
        return error.errno if ours and error.errno in MENDS else None
    if isinstance(earlier := error.__context__, OSError):  # closing a file after it raised another error
        return _number(earlier, path)
    if type(error).__name__ not in ("SafetensorError", "RuntimeError", "Exception"):
        return None
    for number in _QUOTED:
        if os.strerror(number) in str(error):
            return number
    if "inline_container" in str(error):  # torch.save, which does not tell why
        return errno.ENOSPC if free_bytes(path) < 1 << 20 else errno.EIO
    return None


def _concerns(name: Path, path: Path) -> bool:
    """Whether a file that an exception names is `path`, lies in it, or is a folder above it; inputs are neither."""
    name, path = final_name(Path(os.path.abspath(name))), final_name(Path(os.path.abspath(path)))
    return name == path or path in name.parents or name in path.parents


def _sentence(path: Path, what: str, needed: int | None, number: int) -> str:
    reason = os.strerror(number)
    if number in _OF_SPACE:
        unfinished = _size(path)  # counts as free: it is deleted, or gone on with
        need = (
            f"{shown_bytes(needed)} are"
            if needed
            else f"more than {shown_bytes(unfinished)} are"
            if unfinished
            else "more is"
        )
        reason += f" ({shown_bytes(free_bytes(path) + unfinished)} are free, {need} needed)"
    return f"{final_name(path)}{f' ({what})' if what else ''} cannot be written: {reason}; {MENDS[number]}."


def _size(path: Path) -> int:
    """Bytes of a file or of all files in a folder; 0 where there is none."""
    total = 0
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        with suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def free_bytes(path: Path) -> int:
    """Bytes that are free where `path` is or would be."""
    path = Path(os.path.abspath(path))
    return shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free


def shown_bytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB" if size >= 1 << 20 else f"{size / 2**10:.1f} KiB"
