"""Where the files of a data set lie: one file or its shards, plain or compressed, a folder, a pattern, by split."""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from kadapter.storage.packed import COMPRESSIONS
from kadapter.storage.reading import read_object

JSON, COLUMNAR = (".json", ".jsonl", ".ndjson"), (".parquet", ".arrow")
TABLES = (*JSON, ".csv", ".tsv", *COLUMNAR)
TEXT = ".txt"
# What others call the split, with "dev" in the place of "validation".
_OTHER_NAMES = {"dev": ("validation", "valid", "val"), "valid": ("dev", "validation", "val")}
_SHARD = re.compile(r"[-_.]?(\d+)(?:-of-(\d+))?(?:-[0-9a-f]{6,})?")  # datasets adds a digest
_SHOWN = 8  # names of a folder that a message lists


def form_of(path: str | Path) -> str:
    """The ending that tells a file's form, without its compression: ".json" of a.json.gz; in small letters."""
    path = Path(path)
    suffix = Path(path.stem).suffix if path.suffix.lower() in COMPRESSIONS else path.suffix
    return suffix.lower()


def is_json_file(path: Path) -> bool:
    """Whether it is JSON, compressed or not, and none of the files that macOS adds to archives and foreign disks."""
    return form_of(path) in JSON and "__MACOSX" not in path.parts and not path.name.startswith("._")


def split_path(folder: str | Path, split: str, own: str = ".json", also: Sequence[str] = TABLES) -> Path:
    """Where a split lies, or would as the task's own form has it.

    That is a file, a folder, or a pattern of shards (train-[0-9]*.parquet), for which `files_of` has the files.

    Args:
        split: "dev" is also called validation, valid or val; "dev_matched" and so on alike.
        own: the ending of the task's own form; `also`: those that are taken too.

    Raises:
        ValueError: the split is there twice.
    """
    if "." in split:
        return Path(folder) / split
    head, mark, tail = split.partition("_")
    names = [f"{name}{mark}{tail}" for name in (head, *_OTHER_NAMES.get(head, ()))]
    place = Path(folder)
    found = [path for name in names for path in _candidates(place, name, {own, *also})] if place.is_dir() else []
    if len(found) > 1:
        listed = " and ".join(path.name for path in found)
        raise ValueError(f"{folder} holds the {split} split more than once: {listed}; remove or rename all but one.")
    return found[0] if found else Path(folder) / f"{names[0]}{own}"


def _candidates(place: Path, name: str, endings: set[str]) -> list[Path]:
    """Files, patterns of shards and folders that are a split of that name."""
    found: dict[Path, None] = {}
    for entry in sorted(place.iterdir()):
        if not entry.name.startswith(name) or (entry.is_dir() and entry.name != name):
            continue
        if entry.is_dir():
            found.update({entry: None} if files_of(entry) else {})
            continue
        stem, ending = _parted(entry)
        number = _SHARD.fullmatch(stem.removeprefix(name))
        if form_of(entry) not in endings or not entry.is_file():
            continue
        if stem == name:
            found[entry] = None
        elif number:
            mark = stem.removeprefix(name)[: number.start(1)]
            found[place / f"{name}{mark}[0-9]*{ending}"] = None
    return list(found)


def _parted(path: Path) -> tuple[str, str]:
    """Name and ending, a compression's included: ("train", ".json.gz")."""
    ending = "".join(path.suffixes[-2:] if path.suffix.lower() in COMPRESSIONS else path.suffixes[-1:])
    return path.name[: len(path.name) - len(ending)] if ending else path.name, ending


def files_of(path: str | Path) -> list[Path]:
    """The files that hold a split, in order: a file itself, a folder's or a pattern's shards; [] where there are none.

    Raises:
        ValueError: a folder or pattern that does not hold the shards of one split, all of them.
    """
    path = Path(path)
    if path.is_dir():
        return _of_folder(path)
    if path.exists():
        return [path]
    if glob.has_magic(path.name) and path.parent.is_dir():
        return _shards(path, sorted(path.parent.glob(path.name)))
    return []


def _of_folder(folder: Path) -> list[Path]:
    """The shards in a folder, or what `datasets` saved there."""
    if (folder / "dataset_dict.json").is_file():
        splits = read_object(folder / "dataset_dict.json", "save the data set again.").get("splits")
        raise ValueError(f"{folder} holds several splits ({splits}); give the folder of one of them.")
    if (folder / "state.json").is_file():
        return _saved(folder)
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith((".", "_")) and entry.is_file()]
    info = ("dataset_info.json", "dataset_infos.json")
    return _shards(folder, sorted(e for e in entries if form_of(e) in (*TABLES, TEXT) and e.name not in info))


def _saved(folder: Path) -> list[Path]:
    """The Arrow files of `Dataset.save_to_disk`."""
    listed = read_object(folder / "state.json", "save the data set again.", ["_data_files"])["_data_files"]
    try:
        files = [folder / Path(entry["filename"]).name for entry in listed]
    except (TypeError, KeyError) as error:
        raise ValueError(f"{folder / 'state.json'} does not list the data's files; save the data set again.") from error
    if missing := [file.name for file in files if not file.is_file()]:
        raise ValueError(f"{folder} lacks {', '.join(missing)}; save the data set again.")
    return files


def _shards(place: Path, files: Sequence[Path]) -> list[Path]:
    """Those files, checked: numbered shards of one split in one form, none of them missing; in the order of numbers."""
    parts = {file: _parted(file) for file in files}
    tails = {file: re.search(rf"{_SHARD.pattern}$", stem) for file, (stem, _) in parts.items()}
    kinds = {
        (stem[: tail.start()] if tail else stem, ending)
        for (stem, ending), tail in zip(parts.values(), tails.values(), strict=True)
    }
    if len(kinds) > 1 or (len(files) > 1 and not all(tails.values())):
        raise ValueError(
            f"{place} holds {_listed([file.name for file in files])}, no shards of one split; give one file."
        )
    numbers = {file: int(tail[1]) for file, tail in tails.items() if tail}
    totals = {int(tail[2]) for tail in tails.values() if tail and tail[2]}
    if totals and sorted(numbers.values()) != list(range(max(totals))):
        raise ValueError(
            f"{place} holds {len(files)} shards of {max(totals)}: {_listed([file.name for file in files])}; "
            "put all of one set there, and no others."
        )
    return sorted(files, key=lambda file: (numbers.get(file, 0), file.name))


def missing(path: str | Path) -> str:
    """What to say of a split that is not there: what lies in its place instead."""
    folder = Path(path).parent
    if not folder.is_dir():
        return f"There is no folder {folder}."
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if not entry.name.startswith("."))
    return f"{folder} holds {_listed(names)}." if names else f"{folder} is empty."


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN:,} more"


def data_digest(path: Path) -> str:
    """Of the files of a split: that of a single one, else of all in their order; of their bytes as they are packed."""
    digests = [file_digest(file) for file in files_of(path)]
    return digests[0] if len(digests) == 1 else hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content; read once as long as the file does not change."""
    status = path.stat()
    return _file_digest(path, status.st_size, status.st_mtime_ns)


@cache
def _file_digest(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
