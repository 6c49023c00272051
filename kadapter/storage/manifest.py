"""What a folder must hold: names, sizes and digests of its files, written last and compared before it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kadapter.storage.reading import read_object

MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """List every other file that is in the folder now, in `manifest.json`."""
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    found.pop(MANIFEST, None)
    files = {name: {"size": path.stat().st_size, "sha256": _digest(path)} for name, path in found.items()}
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=2) + "\n", encoding="utf-8")


def find_fault(folder: Path, needed: Iterable[str] = (), digests: bool = True) -> str | None:
    """What is wrong with a folder that has a manifest, None where it is whole.

    Args:
        needed: files that the manifest must list.
        digests: compare contents too, not only sizes.
    """
    try:
        files = read_object(folder / MANIFEST, "it is damaged.", ["files"])["files"]
        listed = {str(name): (int(entry["size"]), str(entry["sha256"])) for name, entry in files.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"{MANIFEST} is damaged ({_short(error, folder)})"
    if absent := [name for name in needed if name not in listed]:
        return f"{absent[0]} is not in {MANIFEST}"
    for name, (size, digest) in listed.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} bytes instead of {size:,}"
        if digests and _digest(path) != digest:
            return f"{name} was changed"
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(error: Exception, folder: Path) -> Any:
    return str(error).replace(f"{folder}/", "") or type(error).__name__
