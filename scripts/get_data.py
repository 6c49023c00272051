"""Fetch the data and weights of the paper's tasks, put them where recipes look, and verify them.

    python scripts/get_data.py --list                    # all: size, licence, whether it is fetched here
    python scripts/get_data.py cosmosqa                  # into data/cosmosQA
    python scripts/get_data.py adapters tacred           # prints what is to be done by hand, and verifies what is there
    python scripts/get_data.py glue --verify             # only verifies
    python scripts/get_data.py cosmosqa --show           # only says what would be done

What is fetched stays in data/raw/NAME; a killed or broken download is gone on with by the same command. Where a SHA-256
is known it is compared, archives are unpacked without leaving their folder, and the project's converters make the form
that recipes read. Then scripts/check_data.py's readers look at every record. Exit code 1: something is missing or bad.
Addresses, sizes and digests stand in scripts/sources.json with who states them; they were not tried out here.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from check_data import table
from data_sources import DataSource, Part, load_sources

from kadapter.console import Parser, absolute, run
from kadapter.probing.facts import read_lama
from kadapter.storage.download import fetch, unpack
from kadapter.storage.errors import shown_bytes
from kadapter.storage.original import ORIGINAL_WEIGHTS, read_adapter
from kadapter.tasks import TASKS
from kadapter.tasks.check import check_folder, findings

ROOT = Path(__file__).resolve().parent.parent
ADAPTER_PARAMETERS = 47_251_200  # of a released adapter, for RoBERTa-large
SHOWN = 5  # faults of a split that are printed


def main(argv: Sequence[str] | None = None) -> None:
    sources = load_sources()
    args = _arguments(argv, sources)
    if args.list:
        print("\n".join(overview(sources, args.output)))
        return
    faults = []
    for source in (sources[name] for name in args.names):
        print("\n".join(description(source, args.output)))
        if args.show:
            continue
        if not args.verify and source.files:
            get(source, args.output)
        faults += [f"{source.name}: {fault}" for fault in verify(source, args.output)]
    for fault in faults:
        print(f"error: {fault}")
    if faults:
        sys.exit(1)


def _arguments(argv: Sequence[str] | None, sources: Mapping[str, DataSource]) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(sources))
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--output", type=absolute, default=str(ROOT / "data"), help="the folder of all data")
    parser.add_argument("--verify", action="store_true", help="fetch nothing, look at what is there")
    parser.add_argument("--show", action="store_true", help="say what would be fetched, and stop")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.names if name not in sources]:
        parser.error(f"there is no {unknown[0]!r}; choose of {', '.join(sources)}.")
    if not args.names and not args.list:
        parser.error("name what to fetch, or give --list.")
    return args


def overview(sources: Mapping[str, DataSource], data: Path) -> list[str]:
    """A line for each source."""
    rows = [("name", "fetched", "SHA-256", "size", "there", "what, licence")]
    for name, source in sources.items():
        way, known = "by hand" if source.by_hand else "here", "known" if source.is_verifiable else "unknown"
        size = source.shown_size.partition(";")[0].partition(" as ")[0].partition(",")[0]
        there = "yes" if all((source.place(data) / below).is_dir() for _, below in source.check) else "no"
        rows.append((name, way, known, size, there, f"{source.title} [{source.licence}]"))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]) for row in rows]


def description(source: DataSource, data: Path) -> list[str]:
    """What is to be fetched, from where, how large, where to, under which licence, and what is done with it then."""
    lines = [f"{source.name}: {source.title}", f"  licence: {source.licence}", f"  stated by: {source.stated_by}"]
    lines += [f"  into: {source.place(data)}", f"  size: {source.shown_size}"]
    for part in source.files:
        size = "size unknown" if part.bytes is None else shown_bytes(part.bytes)
        digest = f"SHA-256 {part.sha256} ({part.recorded})" if part.sha256 else "no SHA-256 known"
        lines.append(f"  fetch: {part.url} ({size}, {digest})")
    lines += [f"  then: {shlex.join(_filled(step, source, data))}" for step in source.steps]
    return lines + [f"  by hand: {_fill(step, source, data)}" for step in source.by_hand]


def _fill(text: str, source: DataSource, data: Path) -> str:
    return text.replace("{raw}", str(source.raw(data))).replace("{folder}", str(source.place(data)))


def _filled(step: Sequence[str], source: DataSource, data: Path) -> list[str]:
    """A command of this repository."""
    script, *flags = step
    return ["python", script, *(_fill(flag, source, data) for flag in flags)]


def get(source: DataSource, data: Path) -> None:
    """Fetch, unpack, convert.

    Raises:
        ChildProcessError: a converter failed, which said why.
    """
    for part in source.files:
        place = source.place(data) if part.to == "folder" else source.raw(data)
        path = (place / part.filename).resolve()
        print(f"{path}: {'fetched' if fetch(part.url, path, part.bytes, part.sha256) else 'is there'}", flush=True)
        if part.unpack is not None:
            _unpack(part, path, source, data)
    for step in source.steps:
        _, script, *flags = _filled(step, source, data)
        done = subprocess.run([sys.executable, str(ROOT / script), *flags], check=False)
        if done.returncode:
            raise ChildProcessError(f"{script} ended with code {done.returncode}; what it said stands above.")


def _unpack(part: Part, path: Path, source: DataSource, data: Path) -> None:
    options = dict(part.unpack or {})
    into = options.pop("into", "")
    folder = Path(_fill(into, source, data)) if into.startswith("{") else source.place(data) / into
    print(f"{folder}: {unpack(path, folder, **options):,} files unpacked", flush=True)


def verify(source: DataSource, data: Path) -> list[str]:
    """Look at all that is there with the recipes' readers; what is missing or bad, a sentence each."""
    folder = source.place(data)
    if not folder.is_dir():
        return [f"{folder} is not there yet."]
    faults: list[str] = []
    for kind, below in source.check:
        place = folder / below if below else folder
        try:
            found = {"adapters": _verify_adapter, "lama": _verify_lama}.get(kind)
            faults += found(place) if found else _verify_task(kind, place)
        except (OSError, ValueError) as error:
            faults.append(str(error))
    return faults


def _verify_task(kind: str, folder: Path) -> list[str]:
    """By the task's own reader, as scripts/check_data.py."""
    if not folder.is_dir():
        return [f"{folder} is not there yet."]
    task = TASKS[kind].for_folder(folder)
    reports = check_folder(task, folder)
    print(f"{folder}:\n{table(reports, task.max_seq_length)}")
    for finding in findings(task, reports, task.max_seq_length):
        print(f"note: {finding}")
    faults = [fault for report in reports.values() for fault in report.faults[:SHOWN]]
    more = sum(max(0, len(report.faults) - SHOWN) for report in reports.values())
    return faults + ([f"{folder}: {more:,} more bad records."] if more else [])


def _verify_lama(folder: Path) -> list[str]:
    found = read_lama(folder)
    for collection, counts in found.counts.items():
        print(f"{folder}: {collection}, {', '.join(f'{what} {count:,}' for what, count in counts.items())}")
    for collection, relations in found.lacking.items():
        if relations:
            print(f"note: {collection} has no file for {', '.join(relations)}.")
    return []


def _verify_adapter(folder: Path) -> list[str]:
    """An adapter of the authors': names, shapes, finite numbers, and how many there are."""
    path = folder / ORIGINAL_WEIGHTS
    if not path.is_file():
        return [f"{path} is not there yet."]
    config, weights = read_adapter(path)
    count = sum(value.numel() for value in weights.values())
    print(f"{path}: an adapter of {count:,} parameters, width {config.adapter_size}")
    wrong = f"{path}: {count:,} parameters instead of the {ADAPTER_PARAMETERS:,} of the authors'; fetch it again."
    return [] if count == ADAPTER_PARAMETERS else [wrong]


if __name__ == "__main__":
    run(main)
