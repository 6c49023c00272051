"""Clean raw T-REx into relation examples: the first step towards data/trex-rc.

    python scripts/clean_T_REx.py --raw TREx_json_sample.zip --output data/trex-cleaned.jsonl
    python scripts/clean_T_REx.py --raw TREx/ --output data/trex-cleaned.json --format json --workers 16

--raw is a folder of JSON files (.json, .jsonl, also with .gz or .zst), one such file, or the zip archive as downloaded,
which is read in place; a tar archive (.tgz) is unpacked beside the output first. Files are read as a stream, one
a process, so memory does not depend on their size. A triple is kept when its subject and its object both begin and
end with words of its sentence; what is dropped is counted by reason. A file that is broken or empty stops the run, or
with --skip_broken_files is left out and listed at the end. Relations stay P-ids; their numbers, the most
frequent first, go into relations.json beside the output. Killed and started again, it goes on with the files that
are left. With --cluster the workers of a Dask cluster read and write the same folders (docs/data.md). The same input
gives the same bytes, wherever and by how many workers it is cleaned.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from kadapter.console import Parser, absolute, run
from kadapter.data.executors import add_worker_flags, as_finished, executor
from kadapter.data.jsonio import read_lines, write_json
from kadapter.data.splits import is_json_file
from kadapter.data.trex import clean_file
from kadapter.storage.errors import writing
from kadapter.storage.files import atomic_files, atomic_writer
from kadapter.storage.locks import exclusive
from kadapter.storage.reading import read_object, tar_files, zip_members

File = tuple[str, int, int]  # name, bytes, what changes with the content


def find_files(raw: Path) -> list[File]:
    """The JSON files in a folder or archive, in order of their names.

    Raises:
        FileNotFoundError, ValueError: nothing there, or no JSON file in it.
    """
    if raw.is_dir():
        paths = [path for path in raw.rglob("*") if path.is_file() and is_json_file(path.relative_to(raw))]
        found = [(str(path.relative_to(raw)), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    elif raw.is_file() and zipfile.is_zipfile(raw):
        members = [info for info in zip_members(raw) if not info.is_dir() and is_json_file(Path(info.filename))]
        found = [(info.filename, info.file_size, info.CRC) for info in members]
    elif is_tar(raw):
        found = [(info.name, info.size, int(info.mtime)) for info, _ in tar_files(raw) if is_json_file(Path(info.name))]
    elif raw.is_file() and is_json_file(Path(raw.name)):
        found = [(raw.name, raw.stat().st_size, raw.stat().st_mtime_ns)]
    else:
        raise FileNotFoundError(
            f"{raw} is neither a folder nor a zip archive, nor a tar archive or a JSON file; give T-REx as downloaded."
        )
    if twice := [name for name, count in Counter(name for name, _, _ in found).items() if count > 1]:
        raise ValueError(f"{raw} holds {twice[0]} twice; unpack it and give the folder.")
    if not found:
        raise ValueError(f"{raw} holds no JSON file; give T-REx as downloaded.")
    return sorted(found)


def is_tar(raw: Path) -> bool:
    return raw.is_file() and not is_json_file(Path(raw.name)) and tarfile.is_tarfile(raw)


def unpack(raw: Path, names: Sequence[str], parts: Sequence[Path], folder: Path) -> dict[Path, str]:
    """Write the files of a tar archive, which can only be read in its order, to a folder: path -> name in the archive.

    Those whose parts are done are left out.
    """
    numbers = {name: i for i, name in enumerate(names)}
    targets = {name: folder / f"{i:05d}{''.join(Path(name).suffixes[-2:])}" for name, i in numbers.items()}
    folder.mkdir(exist_ok=True)
    for info, stream in tar_files(raw):
        number = numbers.get(info.name)
        if number is not None and not parts[number].with_suffix(".counts").is_file():
            with writing(targets[info.name], "an unpacked file"), targets[info.name].open("wb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)
    return {path: name for name, path in targets.items()}


def clean(
    raw: Path, output: Path, form: str, workers: int, cluster: str = "", skip_broken: bool = False
) -> tuple[dict[str, int], list[str]]:
    """Clean all files into one output; returns the counts, and with `skip_broken` what is wrong with broken files.

    Raises:
        BlockingIOError: another process does so already.
    """
    with exclusive(output, "give another --output"):
        return _clean(raw, output, form, workers, cluster, skip_broken)


def _clean(
    raw: Path, output: Path, form: str, workers: int, cluster: str, skip_broken: bool
) -> tuple[dict[str, int], list[str]]:
    files = find_files(raw)
    key = hashlib.sha256(json.dumps([str(raw.resolve()), files]).encode()).hexdigest()[:12]
    folder = output.with_name(f".{output.name}.{key}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    parts = [folder / f"{i:05d}.jsonl" for i in range(len(files))]
    broken = _clean_raw(raw, files, parts, workers, cluster, skip_broken)
    whole = [part for part in parts if part.with_suffix(".counts").is_file()]
    reports = [
        read_object(part.with_suffix(".counts"), "delete it and clean again.", ["counts", "relations"])
        for part in whole
    ]
    counts, relations = (sum((Counter(r[name]) for r in reports), Counter()) for name in ("counts", "relations"))
    if not counts["kept"]:
        shutil.rmtree(folder)
        reasons = "".join(f"; {name} {count:,}" for name, count in sorted(counts.items()))
        reasons += "".join(f"; {message}" for message in broken)
        raise ValueError(f"{raw}: no example is left of {len(files):,} files{reasons}; give T-REx as downloaded.")
    ordered = sorted(relations, key=lambda relation: (-relations[relation], relation))
    with atomic_files() as temporary:
        write_together(whole, temporary(output), form)
        write_json(temporary(output.with_name("relations.json")), {relation: i for i, relation in enumerate(ordered)})
    shutil.rmtree(folder)
    skipped = {"files skipped as broken": len(broken)} if broken else {}
    return {"files": len(files), **skipped, **dict(sorted(counts.items())), "relations": len(relations)}, broken


def _clean_raw(
    raw: Path, files: Sequence[File], parts: Sequence[Path], workers: int, cluster: str, skip_broken: bool
) -> list[str]:
    """As `_clean_files`, of a tar archive too; messages name its files as they are called in it."""
    if not is_tar(raw):
        return _clean_files(raw, files, parts, workers, cluster, skip_broken)
    folder = parts[0].parent / "unpacked"
    unpacked = unpack(raw, [name for name, _, _ in files], parts, folder)
    here = [(path.name, size, change) for path, (_, size, change) in zip(unpacked, files, strict=True)]

    def as_in_archive(message: str) -> str:
        for path, name in unpacked.items():
            message = message.replace(str(path), f"{raw}/{name}")
        return message

    try:
        return [*map(as_in_archive, _clean_files(folder, here, parts, workers, cluster, skip_broken))]
    except ValueError as error:
        raise ValueError(as_in_archive(str(error))) from error


def _clean_files(
    raw: Path,
    files: Sequence[tuple[str, int, int]],
    parts: Sequence[Path],
    workers: int,
    cluster: str,
    skip_broken: bool,
) -> list[str]:
    """Clean those that are left of an earlier call into their parts; returns what is wrong with broken ones."""
    broken: dict[Path, str] = {}
    left = {part: file for file, part in zip(files, parts, strict=True) if not part.with_suffix(".counts").is_file()}
    work = [(file[0], part) for part, file in left.items()]
    total, due = (sum(size for _, size, _ in some) for some in (files, left.values()))
    with (
        tqdm(total=total, initial=total - due, unit="B", unit_scale=True, desc="clean", disable=None) as bar,
        executor(min(workers, len(work) or 1), cluster, [raw, parts[0].parent]) as pool,
    ):
        for (_, part), report in as_finished(pool, partial(clean_file, raw=raw, skip_broken=skip_broken), work):
            if "broken" in report:
                broken[part] = report["broken"]
            bar.update(left[part][1])
    return [broken[part] for part in sorted(broken)]


def write_together(parts: Sequence[Path], output: Path, form: str) -> None:
    """The lines of all parts in one file, as JSON lines or as one JSON list."""
    opening, between, closing = ("[\n", ",\n", "\n]\n") if form == "json" else ("", "\n", "\n")
    with atomic_writer(output) as file:
        separator = opening
        for part in parts:
            for _, line in read_lines(part):
                file.write(separator + line)
                separator = between
        file.write(closing)


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument(
        "--raw", type=absolute, required=True, help="raw T-REx: a folder of JSON files, one file, or an archive"
    )
    parser.add_argument("--output", type=absolute, required=True, help="file to write")
    parser.add_argument(
        "--format", choices=("jsonl", "json"), default="jsonl", help="jsonl: a record in each line; json: one list"
    )
    add_worker_flags(parser)
    parser.add_argument("--skip_broken_files", action="store_true", help="leave out files that are broken or empty")
    args = parser.parse_args(argv)
    counts, broken = clean(args.raw, args.output, args.format, args.workers, args.cluster, args.skip_broken_files)
    for name, count in counts.items():
        print(f"{count:>12,}  {name}")
    for message in broken:
        print(f"skipped: {message}")


if __name__ == "__main__":
    run(main)
