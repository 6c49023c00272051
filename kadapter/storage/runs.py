"""What a run wrote about itself, read back: args.json, metrics.json, results.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kadapter.storage.reading import broken_json, read_lines, read_object, shorten

ARGUMENTS, METRICS, RESULTS = "args.json", "metrics.json", "results.jsonl"
AGAIN = "the run has to start anew: give it --overwrite_output_dir, or another --comment."
_KEYS: dict[str, Any] = {"split": str, "global_step": int, "metrics": dict}


def read_record(folder: Path) -> dict[str, Any]:
    """args.json whole: "arguments", and in newer runs "content", "batch_size" and more.

    Raises:
        FileNotFoundError, ValueError: no such file, or damaged.
    """
    path = folder / ARGUMENTS
    record = read_object(path, AGAIN, ["arguments"])
    for key in ("arguments", "content"):
        if not isinstance(record.get(key, {}), dict):
            raise ValueError(f"{path}: {key} is {shorten(record[key])} instead of an object; {AGAIN}")
    return record


def read_arguments(folder: Path) -> dict[str, Any]:
    """The arguments of a run, as `read_record`."""
    return read_record(folder)["arguments"]


def read_metrics(folder: Path) -> dict[str, Any]:
    """What a finished run reports; {} where it has not finished.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / METRICS
    mend = "delete it and run the same command again, which evaluates anew."
    return read_object(path, mend) if path.is_file() else {}


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The rows of results.jsonl; [] where there is none. A last line that a kill tore is left out.

    Raises:
        ValueError: any other line is no result.
    """
    path, rows = folder / RESULTS, list[dict[str, Any]]()
    lines = list(read_lines(path)) if path.is_file() else []
    for number, line in lines:
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == lines[-1][0] and not line.endswith("}"):
                break
            raise broken_json(
                path, number, getattr(error, "colno", 1), getattr(error, "msg", str(error)), AGAIN
            ) from error
        wrong = [key for key, kind in _KEYS.items() if not isinstance(row, dict) or not isinstance(row.get(key), kind)]
        if wrong:
            raise ValueError(f"{path}, line {number}: {shorten(row)} has no {', '.join(wrong)} of a result; {AGAIN}")
        rows.append(row)
    return rows
