"""SearchQA as released (Dunn et al., 2017, https://arxiv.org/abs/1704.05179): a JSON file for each question.

A file: {"question": str, "answer": str, "search_results": [{"snippet": str or null, "title", "url", ...}, ...], "id",
"category", "air_date", ...}. The snippets are the paragraphs. Their newlines only wrap lines of a search's page:
they stand beside a blank or a mark, never in the place of a blank, so leaving them out gives the text as it was.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from kadapter.data.jsonio import check_keys, shorten
from kadapter.data.openqa_parts import Piece, RawQuestion
from kadapter.data.splits import is_json_file
from kadapter.storage.reading import read_object, zip_members

FILES_A_PIECE = 1000  # some seconds of work
_MEND = "give SearchQA's files as released, one question a file."
_SPLIT_NAMES = {"train": "train", "test": "test", **dict.fromkeys(("dev", "val", "valid", "validation"), "dev")}


class Source(NamedTuple):
    """A file with a question: the folder or zip archive that it is in, its name there, size, and what changes with
    its content.
    """

    place: str
    name: str
    size: int
    change: int


def find_sources(raw: Path) -> list[Source]:
    """The JSON files of a folder and of the zip archives in it, or of one zip archive, in order of their names.

    Raises:
        FileNotFoundError, ValueError: nothing there, a damaged archive, or one whose names lead out of it.
    """
    if raw.is_dir():
        files = [path for path in raw.rglob("*") if path.is_file()]
        plain = [path for path in files if is_json_file(path.relative_to(raw))]
        found = [_of_folder(raw, path) for path in plain]
        archives = [path for path in files if path.suffix.lower() == ".zip" and not path.name.startswith("._")]
    elif raw.is_file() and zipfile.is_zipfile(raw):
        found, archives = [], [raw]
    else:
        raise FileNotFoundError(f"{raw} is neither a folder nor a zip archive; {_MEND}")
    for archive in archives:
        found += _of_archive(archive)
    if not found:
        raise ValueError(f"{raw} holds no JSON file; {_MEND}")
    return sorted(found)


def _of_folder(raw: Path, path: Path) -> Source:
    state = path.stat()
    return Source(str(raw), path.relative_to(raw).as_posix(), state.st_size, state.st_mtime_ns)


def _of_archive(archive: Path) -> Iterator[Source]:
    found: Counter[str] = Counter()
    for info in zip_members(archive):
        name = PureWindowsPath(info.filename)  # which takes both slashes, and knows drives
        if name.anchor or ".." in name.parts:
            raise ValueError(
                f"{archive} holds the name {info.filename!r:.80}, which leads out of it; fetch it from its makers."
            )
        if info.is_dir() or not is_json_file(Path(info.filename)):
            continue
        found[info.filename] += 1
        if found[info.filename] > 1:
            raise ValueError(f"{archive} holds {info.filename} twice; unpack it and give the folder.")
        yield Source(str(archive), info.filename, info.file_size, info.CRC)


def pieces(raw: Path, sources: Sequence[Source], split: str = "") -> list[Piece]:
    """The work on those files, by the split that a folder or archive is named for.

    Args:
        split: the split of files that no such name is above; "" refuses them.

    Raises:
        ValueError: a file has no split, or names of two.
    """
    by_split: dict[str, list[Source]] = {}
    for source in sources:
        by_split.setdefault(_split_of(raw, source) or split, []).append(source)
    if lost := by_split.get(""):
        raise ValueError(
            f"{_shown(lost[0])} is in no folder or archive named train, val or test; name one so, or give all such "
            f"files a split by --split ({len(lost):,} of {len(sources):,} files)."
        )
    return [
        Piece(name, [(source.place, source.name) for source in own[i : i + FILES_A_PIECE]])
        for name, own in by_split.items()
        for i in range(0, len(own), FILES_A_PIECE)
    ]


def _split_of(raw: Path, source: Source) -> str:
    above = Path(source.place).relative_to(raw.parent).with_suffix("")
    folders = [*above.parts, *PurePosixPath(source.name).parts[:-1]]
    named = {_SPLIT_NAMES[folder.lower()] for folder in folders if folder.lower() in _SPLIT_NAMES}
    if len(named) > 1:
        raise ValueError(f"{_shown(source)} lies under the names of two splits; rename one of the folders.")
    return named.pop() if named else ""


def _shown(source: Source) -> str:
    return f"{source.place}/{source.name}"


def read_questions(files: Sequence[tuple[str, str]]) -> Iterator[RawQuestion]:
    """The questions of those files, each given by its place and its name there.

    Raises:
        ValueError: names file, value and mend.
    """
    for place, name in files:
        path = _root(place).joinpath(name)
        yield _found(read_object(path, _MEND), str(path))


@lru_cache(maxsize=8)
def _root(place: str) -> Any:
    """A folder, or an archive that stays open: its list of names is long to read."""
    return Path(place) if Path(place).is_dir() else zipfile.Path(place)


def _found(record: dict[str, Any], where: str) -> RawQuestion:
    check_keys(record, ("question", "answer", "search_results"), where)
    question, answer = (_text(record[key], key, where) for key in ("question", "answer"))
    results = [] if record["search_results"] is None else record["search_results"]
    if not isinstance(results, list):
        raise ValueError(f"{where}: search_results is {shorten(results)}; give a list.")
    snippets = []
    for number, result in enumerate(results, start=1):
        if not isinstance(result, dict) or "snippet" not in result:
            raise ValueError(f"{where}: search result {number} is {shorten(result)}; give an object with a snippet.")
        snippets.append(_text(result["snippet"], f"snippet of search result {number}", where).replace("\n", ""))
    return RawQuestion(where, question, [answer], snippets)


def _text(value: Any, key: str, where: str) -> str:
    """A text; null, which a search that found nothing leaves, is ""."""
    if value is None or isinstance(value, str):
        return value or ""
    raise ValueError(f"{where}: the {key} is {shorten(value)}; give a text.")
