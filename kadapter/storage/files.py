"""Writing files and folders whole or not at all, whenever the process is killed."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from kadapter.storage.errors import writing
from kadapter.storage.locks import try_lock

FOLDERS_OPEN = os.name != "nt"  # Windows can neither open folders nor rename what is open


def sync(path: Path) -> None:
    """Make sure that a file or folder is on disk; Windows does so for folders itself."""
    if path.is_dir() and not FOLDERS_OPEN:
        return
    descriptor = os.open(path, os.O_RDONLY if FOLDERS_OPEN else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- temporary folders --------------------------------------------------------------------------------------------


@contextmanager
def scratch_folder(target: Path, what: str = "", needed: int | None = None) -> Iterator[Path]:
    """A temporary folder beside `target`, deleted at the end unless it was renamed.

    Args:
        what, needed: as in `writing`, for the error where the place is full or unwritable.
    """
    made = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.new")
    with writing(target, what):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(target)
        made.mkdir(mode=0o700)
    folder = made.with_suffix(".tmp")  # what others may remove is held before it has this name
    try:
        with _held(made), writing(folder, what, needed):
            made.rename(folder)
            yield folder
    finally:
        for leftover in (made, folder):
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Hold a temporary folder while the block runs, under whatever name; false where that failed."""
    if not FOLDERS_OPEN:  # nothing is held there, and so nothing is removed
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield bool(try_lock(descriptor))
    finally:
        os.close(descriptor)


def _remove_left_behind(path: Path) -> None:
    """Delete what killed processes left of this file or folder: temporary folders that nobody holds."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError), _held(temporary) as ours:
            if ours:
                shutil.rmtree(temporary)


# -- files --------------------------------------------------------------------------------------------------------


@contextmanager
def atomic_writer(path: str | Path, what: str = "") -> Iterator[TextIO]:
    """A text file that takes the name `path` only once it is completely on disk."""
    path = Path(path)
    _refuse_folder(path)
    with scratch_folder(path, what) as folder:
        with (folder / path.name).open("x", encoding="utf-8", newline="\n") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(folder / path.name, path)


@contextmanager
def atomic_files(what: str = "") -> Iterator[Callable[[str | Path], Path]]:
    """Files that belong together: the new ones take the places of the old ones all at once, as far as that goes.

        with atomic_files() as temporary:
            write_jsonl(temporary(folder / "train.jsonl"), train)
            write_jsonl(temporary(folder / "dev.jsonl"), dev)

    `temporary(path)` is where the file `path` is to be written. At the end of the block all are brought to disk, the
    old files are removed, then the new ones are renamed. The first one named is removed first and appears last, so
    begin with the file without which nobody reads the others. A block that raises changes nothing. A killed process
    leaves, by the moment of its death:

    - while files are written or brought to disk: all old files as they were;
    - while old files are removed: some of the old ones, without the first, and no new one;
    - while new files are renamed: some of the new ones, without the first, and no old one.

    So files of two sets never lie side by side. What it had written aside is deleted by the next call.
    """
    places: dict[Path, Path] = {}  # where a file will be -> where it is written
    with ExitStack() as stack:

        def temporary(path: str | Path) -> Path:
            path = Path(path)
            _refuse_folder(path)
            if any(os.path.abspath(path) == os.path.abspath(other) for other in places):
                raise ValueError(f"{path} would be written twice; give each file a name of its own.")
            places[path] = stack.enter_context(scratch_folder(path, what)) / path.name
            return places[path]

        yield temporary
        _take_places(places, what)


def _take_places(places: dict[Path, Path], what: str) -> None:
    for path, written in places.items():
        with writing(path, what):
            sync(written)
    parents = {path.parent for path in places}
    if len(places) > 1:
        for path in places:
            with writing(path, what):
                path.unlink(missing_ok=True)
        for parent in parents:  # else the disk might see the new names before the old ones are gone
            sync(parent)
    for path, written in reversed(places.items()):
        with writing(path, what):
            os.replace(written, path)
    for parent in parents:
        sync(parent)


def append_line(path: Path, line: str, what: str = "") -> None:
    """Add a line to a text file; where that fails, the file is as it was."""
    data = f"{line}\n".encode()
    with writing(path, what, len(data)), path.open("ab", buffering=0) as stream:
        size = stream.tell()
        try:
            if stream.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            stream.truncate(size)
            raise


def _refuse_folder(path: Path) -> None:
    with writing(path):
        if path.is_dir():
            raise ValueError(f"{path} is a folder; give the path of a file to write.")


# -- folders ------------------------------------------------------------------------------------------------------


@contextmanager
def atomic_folder(
    target: str | os.PathLike, what: str = "", needed: int | None = None, replaced: str = ""
) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends well.

    A new folder appears by one rename. Into an existing one the files are moved over one by one; its JSON files
    go first and come back last, so that at no moment a mixture of old and new loads. A block that writes nothing
    (a process that is not the main one) changes nothing. Permissions follow the umask.

    Args:
        what, needed: as in `writing`, for the error where the place is full or unwritable.
        replaced: regular expression for names of files in `target` that the new ones stand for: they are removed
            where no new one has their name, since whoever loads the folder might take them.
    """
    target = Path(target)
    with writing(target, what):
        if target.exists() and not target.is_dir():
            raise ValueError(f"{target} is a file; give a folder to write.")
    with scratch_folder(target, what, needed) as folder:
        yield folder
        files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.suffix == ".json")
        if not files:
            return
        os.umask(mask := os.umask(0))  # the only way to read it
        for path in files:
            path.chmod(0o666 & ~mask)  # safetensors and mkdir above keep others out
            sync(path)
        folder.chmod(0o777 & ~mask)
        if not target.exists():
            folder.rename(target)
        else:
            places = {path: target / path.relative_to(folder) for path in files}
            for place in places.values():
                place.parent.mkdir(parents=True, exist_ok=True)
            others = {*target.iterdir()} - {*places.values()}
            stale = [place for place in others if re.fullmatch(replaced, place.name) and not place.is_dir()]
            for place in [place for place in places.values() if place.suffix == ".json"] + stale:
                place.unlink(missing_ok=True)
            for path, place in places.items():
                path.replace(place)
        sync(target.parent)
