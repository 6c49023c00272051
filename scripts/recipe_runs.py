"""Recipes started by other scripts: one run in a folder of its own, its log beside it, its report read back."""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

from tqdm import tqdm

from kadapter.storage.locks import exclusive_after_waiting
from kadapter.storage.runs import read_metrics


class RecipeFailed(RuntimeError):
    """A recipe that ended with an error; what it said last stands in the message."""


def command_of(recipe: Sequence[str], flags: Mapping[str, str]) -> list[str]:
    return [*recipe, *(f"--{name}={value}" for name, value in flags.items())]


def run_recipe(command: Sequence[str], folder: Path, gpu: str = "") -> tuple[Path, dict[str, Any]]:
    """Run a recipe with `folder` as its --output_dir; log.txt there holds all that it says.

    Returns:
        The run's own folder and what its metrics.json holds.

    Raises:
        RecipeFailed: it ended with an error, or without a report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})}
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        done = subprocess.run(
            [*command, f"--output_dir={folder}"], env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
        )
    reports = sorted(folder.glob("*/metrics.json"), key=lambda path: path.stat().st_mtime)
    if done.returncode or not reports:
        said = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise RecipeFailed(f"exit {done.returncode}, see {folder / 'log.txt'}: {said[-1] if said else 'no output'}")
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


def run_jobs(jobs: Sequence[Job], gpus: str = "", workers: int = 1) -> list[tuple[Path, dict[str, Any]]]:
    """Run them, as many at a time as there are GPUs ("0,1") or workers; where another machine is at one, wait for it.

    Returns:
        As `run_recipe`, in their order.

    Raises:
        ChildProcessError: some failed; all others are done.
    """
    free: Queue = Queue()
    devices = gpus.split(",") if gpus else [""] * workers
    for device in devices:
        free.put(device)

    def one(job: Job) -> tuple[Path, dict[str, Any]] | RecipeFailed:
        gpu = free.get()
        try:
            job.folder.parent.mkdir(parents=True, exist_ok=True)
            with exclusive_after_waiting(job.folder):
                return run_recipe(job.command, job.folder, gpu)
        except RecipeFailed as error:
            tqdm.write(f"{job.label}: {error}")
            return error
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(len(devices)) as pool:
        done = list(tqdm(pool.map(one, jobs), "runs", total=len(jobs), disable=None))
    failed = [job.label for job, found in zip(jobs, done, strict=True) if isinstance(found, RecipeFailed)]
    if failed:
        raise ChildProcessError(
            f"{len(failed)} of {len(jobs)} runs failed, such as {failed[0]}; read its log.txt, mend that, and start "
            "the same command again."
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
