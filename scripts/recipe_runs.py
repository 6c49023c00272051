"""Recipes started by other scripts: one run in a folder of its own, its log beside it, its report read back."""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


def seed_list(text: str) -> list[int]:
    """A flag's type: whole numbers with commas between them, each once."""
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no whole numbers with commas between them") from None
    if len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"{text!r} names a seed twice")
    return seeds
