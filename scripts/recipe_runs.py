"""Recipes started by other scripts: one run in a folder of its own, its log beside it, its report read back."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from types import FrameType
from typing import IO, Any, Self

from tqdm import tqdm

from kadapter.storage.locks import exclusive_after_waiting
from kadapter.storage.runs import read_metrics
from kadapter.training.interruption import SIGNALS, Interruption


class RecipeFailed(RuntimeError):
    """A recipe that ended with an error; what it said last stands in the message."""


def command_of(recipe: Sequence[str], flags: Mapping[str, str]) -> list[str]:
    return [*recipe, *(f"--{name}={value}" for name, value in flags.items())]


class Stopping:
    """While it is entered, SIGTERM, Ctrl-C and a closed terminal end the recipes that run, with a checkpoint.

    Signals that are ignored, as `nohup` has it, stay so. No further recipe is started, and behind the block the program
    ends with the signal's exit code. Without this, recipes would go on by themselves when the program that started them
    is killed.
    """

    def __init__(self) -> None:
        self.received = 0
        self._running: set[subprocess.Popen] = set()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # the only one that Python gives signals to
            heard = [number for number in (*SIGNALS, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._receive) for number in heard}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.received:
            Interruption.stop(self.received, "the same command goes on from here")

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        for process in list(self._running):
            self._stop(process)

    @staticmethod
    def _stop(process: subprocess.Popen) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)

    def call(self, command: Sequence[str], environment: Mapping[str, str], log: IO[str]) -> int:
        """Run a command in a process group of its own, so that a signal reaches what it starts; its exit code."""
        if self.received:
            return 128 + self.received
        options: dict[str, Any] = {"env": environment, "stdout": log, "stderr": subprocess.STDOUT}
        if not self._before:  # no signal comes here
            return subprocess.run(command, check=False, **options).returncode
        with subprocess.Popen(command, start_new_session=True, **options) as process:
            self._running.add(process)
            if self.received:  # meanwhile
                self._stop(process)
            code = process.wait()
            self._running.discard(process)
        return code


def run_recipe(
    command: Sequence[str], folder: Path, gpu: str = "", stopping: Stopping | None = None
) -> tuple[Path, dict[str, Any]]:
    """Run a recipe with `folder` as its --output_dir; log.txt there holds all that it says.

    Args:
        stopping: hands signals on; without it they are the caller's matter.

    Returns:
        The run's own folder and what its metrics.json holds.

    Raises:
        RecipeFailed: it ended with an error, or without a report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})}
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        code = (stopping or Stopping()).call([*command, f"--output_dir={folder}"], environment, log)
    reports = sorted(folder.glob("*/metrics.json"), key=lambda path: path.stat().st_mtime)
    if code or not reports:
        said = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise RecipeFailed(f"exit {code}, see {folder / 'log.txt'}: {said[-1] if said else 'no output'}")
    try:
        return reports[-1].parent, read_metrics(reports[-1].parent)
    except ValueError as error:
        raise RecipeFailed(str(error)) from None


@dataclass(frozen=True)
class Job:
    """One run of a recipe: its name in messages, its command, and the folder below which it writes."""

    label: str
    command: Sequence[str]
    folder: Path


Found = tuple[Path, dict[str, Any]]  # as `run_recipe` returns it


def try_jobs(jobs: Sequence[Job], gpus: str = "", workers: int = 1) -> list[Found | RecipeFailed]:
    """Run them, as many at a time as there are GPUs ("0,1") or workers; where another machine is at one, wait for it.

    Returns:
        In their order what each found, or how it failed, which is also printed at once.

    Raises:
        SystemExit: SIGTERM or Ctrl-C stopped them (`Stopping`).
    """
    free: Queue = Queue()
    devices = gpus.split(",") if gpus else [""] * workers
    for device in devices:
        free.put(device)

    def one(job: Job) -> Found | RecipeFailed:
        gpu = free.get()
        try:
            job.folder.parent.mkdir(parents=True, exist_ok=True)
            with exclusive_after_waiting(job.folder):
                return run_recipe(job.command, job.folder, gpu, stopping)
        except RecipeFailed as error:
            if not stopping.received:
                tqdm.write(f"{job.label}: {error}")
            return error
        finally:
            free.put(gpu)

    with Stopping() as stopping, ThreadPoolExecutor(len(devices)) as pool:
        return list(tqdm(pool.map(one, jobs), "runs", total=len(jobs), disable=None))


def raise_failed(failed: Sequence[str], count: int) -> None:
    """Raise ChildProcessError where any of `count` runs failed, by their labels."""
    if failed:
        raise ChildProcessError(
            f"{len(failed)} of {count} runs failed, such as {failed[0]}; read its log.txt, mend that, and start "
            "the same command again."
        )


def run_jobs(jobs: Sequence[Job], gpus: str = "", workers: int = 1) -> list[Found]:
    """As `try_jobs`, where all must succeed.

    Raises:
        ChildProcessError: some failed; all others are done.
        SystemExit: as `try_jobs`.
    """
    done = try_jobs(jobs, gpus, workers)
    raise_failed(
        [job.label for job, found in zip(jobs, done, strict=True) if isinstance(found, RecipeFailed)], len(jobs)
    )
    return [found for found in done if not isinstance(found, RecipeFailed)]


def seed_list(text: str) -> list[int]:
    """A flag's type: whole numbers with commas between them, each once."""
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no whole numbers with commas between them") from None
    if len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"{text!r} names a seed twice")
    return seeds
