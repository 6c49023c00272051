"""Writing files and folders whole or not at all, whenever the process is killed."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO


def sync(path: Path) -> None:
    """Make sure that a file or folder is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_writer(path: str | Path) -> Iterator[TextIO]:
    """A text file that takes the name `path` only once it is completely on disk."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the path of a file to write.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are private to the user, and the output should follow the umask.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    _remove_left_behind(path)
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until the process ends, however it ends
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`, deleted at the end unless it was renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_behind(target)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".new", dir=target.parent))
    descriptor = os.open(made, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems know no locks: there nothing is removed either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder = made.rename(made.with_suffix(".tmp"))  # what others may remove is held before it has the name
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _remove_left_behind(path: Path) -> None:
    """Delete what killed processes left of this file or folder: temporary ones that nobody holds."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):
            descriptor = os.open(temporary, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()
            finally:
                os.close(descriptor)


@contextmanager
def atomic_folder(target: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends well.

    A new folder appears by one rename. Into an existing one the files are moved over one by one; its JSON files
    go first and come back last, so that at no moment a mixture of old and new loads. A block that writes nothing
    (a process that is not the main one) changes nothing. Permissions follow the umask.
    """
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file; give a folder to write.")
    with scratch_folder(target) as folder:
        yield folder
        files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.suffix == ".json")
        if not files:
            return
        os.umask(mask := os.umask(0))  # the only way to read it
        for path in files:
            path.chmod(0o666 & ~mask)  # safetensors and mkdtemp keep others out
            sync(path)
        folder.chmod(0o777 & ~mask)
        if not target.exists():
            folder.rename(target)
        else:
            for path in files:
                if path.suffix == ".json":
                    (target / path.relative_to(folder)).unlink(missing_ok=True)
            for path in files:
                (target / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
                path.replace(target / path.relative_to(folder))
        sync(target.parent)
