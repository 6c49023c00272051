"""Measure data preparation: megabytes a second of one core, and the memory of the largest process.

    python scripts/demo_trex.py --output_dir output/trex-200 --megabytes 200
    python scripts/benchmark_data.py --raw output/trex-200 --output_dir output/benchmark [--workers 2] [--conllu FILE]
    python scripts/benchmark_data.py ... --forms

Runs scripts/clean_T_REx.py on raw T-REx, scripts/create_subdataset-relation-classification.py on what it gives and,
with --conllu, scripts/create_dependency_dataset.py, each in a process of its own, and prints a table for
docs/benchmarks.md. With --forms the cleaned examples are also read as a JSON list, compressed lines, csv and Parquet.
Seconds of a core are those of the process and its workers together, so that other programs on the machine disturb the
figures little.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from kadapter.console import COUNT, Parser, absolute, run
from kadapter.data.jsonio import write_json_list
from kadapter.data.tables import read_rows
from kadapter.system import peak_memory_mib

SCRIPTS = Path(__file__).parent
GROUP = 10_000  # rows of a Parquet file that are written together
READ = "import sys; from kadapter.data.tables import read_rows; print(sum(1 for _ in read_rows(sys.argv[1])))"


class Measured(NamedTuple):
    seconds: float
    core_seconds: float
    peak_mib: float  # resident memory of the largest process


def measure(*command: object) -> Measured:
    """Run a command of Python to its end.

    Raises:
        ChildProcessError: it failed; what it printed stands above.
    """
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise ChildProcessError(f"{command[0]} failed.")
    memory = peak_memory_mib(usage) or 0
    return Measured(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, memory)


def write_forms(cleaned: Path, folder: Path) -> list[Path]:
    """The cleaned examples as a JSON list, compressed JSON lines, csv and Parquet, each written as a stream."""
    import pyarrow as pa  # here: what a process holds when it starts another counts as that one's memory too
    import pyarrow.parquet as pq

    names = ("form.json", "form.jsonl.gz", "form.csv", "form.parquet")
    as_list, lines, as_csv, parquet = paths = [folder / name for name in names]
    write_json_list(as_list, (row.record for row in read_rows(cleaned)))
    with cleaned.open("rb") as source, gzip.open(lines, "wb", compresslevel=5) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    first = next(read_rows(cleaned)).record
    with as_csv.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*first])
        writer.writeheader()
        for row in read_rows(cleaned):
            writer.writerow({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.record.items()})
    rows = (row.record for row in read_rows(cleaned))
    schema = pa.Table.from_pylist([first]).schema
    with pq.ParquetWriter(parquet, schema) as table:
        while batch := list(islice(rows, GROUP)):
            table.write_table(pa.Table.from_pylist(batch, schema))
    return paths


def size(path: Path) -> float:
    """Megabytes of a file or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--raw", type=absolute, required=True, help="raw T-REx: a folder or an archive")
    parser.add_argument("--conllu", type=absolute, help="a CoNLL-U file, to measure that too")
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write; it is emptied first")
    parser.add_argument("--workers", type=COUNT, default=1, help="processes that work at a time")
    parser.add_argument("--forms", action="store_true", help="also read the cleaned examples in several forms")
    args = parser.parse_args(argv)
    out: Path = args.output_dir
    shutil.rmtree(out, ignore_errors=True)
    clean = ("clean_T_REx.py", "--raw", args.raw, "--output", out / "cleaned.jsonl", "--workers", args.workers)
    subset = ("create_subdataset-relation-classification.py", "--input", out / "cleaned.jsonl", "--output_dir", out)
    steps: list[tuple[Path, tuple[object, ...]]] = [(args.raw, clean), (out / "cleaned.jsonl", subset)]
    if args.conllu:
        flags = ("--input", args.conllu, "--output", out / "find_head.jsonl", "--format", "jsonl")
        steps.append((args.conllu, ("create_dependency_dataset.py", *flags)))
    print("| step | input, MB | seconds | MB/s of a core | largest process, MiB |\n|---|---|---|---|---|")
    for source, (script, *arguments) in steps:
        show(str(script), measure(SCRIPTS / str(script), *arguments), size(source))
    if args.forms:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            paths = pool.submit(write_forms, out / "cleaned.jsonl", out).result()
        for path in paths:
            show(f"reading {path.name}", measure("-c", READ, path), size(path))


def show(step: str, found: Measured, megabytes: float) -> None:
    rate = megabytes / found.core_seconds
    print(f"| {step} | {megabytes:,.0f} | {found.seconds:.0f} | {rate:.1f} | {found.peak_mib:.0f} |", flush=True)


if __name__ == "__main__":
    run(main)
