"""Measure data preparation: megabytes a second of one core, and the memory of the largest process.

    python scripts/demo_trex.py --output_dir output/trex-200 --megabytes 200
    python scripts/benchmark_data.py --raw output/trex-200 --output_dir output/benchmark [--workers 2] [--conllu FILE]

Runs scripts/clean_T_REx.py on raw T-REx, scripts/create_subdataset-relation-classification.py on what it gives and,
with --conllu, scripts/create_dependency_dataset.py, each in a process of its own, and prints a table for
docs/benchmarks.md. Seconds of a core are those of the process and its workers together, so that other programs on the
machine disturb the figures little.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kadapter.console import COUNT, Parser, absolute, run
from kadapter.system import peak_memory_mib

SCRIPTS = Path(__file__).parent


class Measured(NamedTuple):
    seconds: float
    core_seconds: float
    peak_mib: float  # resident memory of the largest process


def measure(script: str, *arguments: object) -> Measured:
    """Run a script to its end.

    Raises:
        ChildProcessError: it failed; what it printed stands above.
    """
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, str(SCRIPTS / script), *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise ChildProcessError(f"{script} failed.")
    memory = peak_memory_mib(usage) or 0
    return Measured(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, memory)


def size(path: Path) -> float:
    """Megabytes of a file or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--raw", type=absolute, required=True, help="raw T-REx, folder or archive")
    parser.add_argument("--conllu", type=absolute, help="CoNLL-U file")
    parser.add_argument("--output_dir", type=absolute, required=True, help="is emptied first")
    parser.add_argument("--workers", type=COUNT, default=1)
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
        found, megabytes = measure(str(script), *arguments), size(source)
        rate = megabytes / found.core_seconds
        print(f"| {script} | {megabytes:,.0f} | {found.seconds:.0f} | {rate:.1f} | {found.peak_mib:.0f} |", flush=True)


if __name__ == "__main__":
    run(main)
