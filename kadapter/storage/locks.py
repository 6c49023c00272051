"""Locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from kadapter.storage.errors import writing

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

logger = logging.getLogger(__name__)

_BEYOND = 1 << 30  # on Windows nobody can read a byte that is locked, so it is one behind the text
_held: set[int] = set()  # descriptors of the locks of this process
_warned: list[Path] = []  # where there are no locks; only the first is told


@contextmanager
def exclusive(target: str | os.PathLike, mend: str) -> Iterator[None]:
    """Keep everybody else from writing a file or folder while the block runs.

    The lock is on a file beside it, `.<name>.lock`, so that the folder itself may be deleted and made anew. It says
    who holds it, and goes at the end; what a killed process leaves of it locks nothing. Where a file system knows no
    locks, a warning is logged once and the block runs without.

    Args:
        mend: what to do instead of waiting, such as "give another --output".

    Raises:
        BlockingIOError: another process holds it, or another block in this one.
    """
    target = Path(os.path.abspath(target))
    path = target.with_name(f".{target.name}.lock")
    with writing(target, "its lock"):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open_locked(path, f"wait until it ends, or {mend}")
    _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:  # else this is a child of the process that holds it
            with suppress(OSError):
                path.unlink()  # before it is free, so that nobody's is deleted
            _held.discard(descriptor)
            os.close(descriptor)


@contextmanager
def exclusive_after_waiting(target: str | os.PathLike) -> Iterator[None]:
    """As `exclusive`, but wait, however long, until those are done who write there."""
    with ExitStack() as stack:
        told = False
        while True:
            try:
                stack.enter_context(exclusive(target, "stop it"))
                break
            except BlockingIOError as error:
                if not told:
                    logger.info("waiting: %s", str(error).partition(";")[0])
                told = True
                time.sleep(0.2)
        yield


def _open_locked(path: Path, mend: str) -> int:
    """An open and locked file that says who we are."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if try_lock(descriptor, warn_of=path) is False:
                holder = os.read(descriptor, 1000).decode(errors="replace").strip() or "another process"
                target = path.with_name(path.name[1 : -len(".lock")])
                raise BlockingIOError(f"{target} is in use by {holder}; {mend}.")
            if _is_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder deleted it between our opening and locking it


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still has that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def try_lock(descriptor: int, warn_of: Path | None = None) -> bool | None:
    """Lock an open file or folder until it is closed.

    Args:
        warn_of: named in a warning where there are no locks.

    Returns:
        True; False where another holds it; None where the platform or the file system knows no locks.
    """
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _BEYOND, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            finally:
                os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if warn_of is not None:
            _warn(warn_of.parent, error.strerror)
        return None
    return True


def _warn(place: Path, reason: str | None) -> None:
    if not _warned:
        _warned.append(place)
        logger.warning("%s knows no file locks (%s): never let two processes write the same there.", place, reason)


def _forget() -> None:
    """A lock is its process's alone: a child, which may outlive it, must not keep it."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
