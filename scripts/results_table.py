"""One table and two plots of many runs: mean and deviation over seeds.

    python scripts/results_table.py proc_data --split test --metrics precision recall f1 --output proc_data/table
    python scripts/results_table.py proc_data --beside openentity        # and what the paper and its README report
    python scripts/results_table.py glue --split dev --metrics main --resources --output glue/table

A run is a folder with args.json and metrics.json. Runs whose arguments differ in nothing but the seed make a row,
called by its --comment where all have one. "main" is the metric that each task is judged by. Writes table.md,
table.json, scores.png and, where runs were evaluated while training, curves.png; with --resources also what each
trained, how long it took and what memory, and parameters.png: the score by the number of trained parameters, a panel
for each task, as figure 1 of Houlsby et al., 2019. Pictures are also written as PDF. Published numbers
stand in published.json.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from paired_tests import GOLD
from results_plots import Row, plot_curves, plot_parameters, plot_scores

from kadapter.console import Parser, absolute, run
from kadapter.data.jsonio import read_json, write_json
from kadapter.data.tables import read_rows
from kadapter.storage.files import atomic_files
from kadapter.storage.runs import read_arguments, read_metrics, read_results

IGNORED = {
    "seed",
    "output_dir",
    "features_cache",
    "overwrite_output_dir",
    "overwrite_cache",
    "restore",
    "do_train",
    "do_eval",
}


MAIN = "main"
RESOURCES = {"trained_parameters": "trained", "seconds": "seconds", "peak_memory_mib": "MiB"}
PUBLISHED = Path(__file__).with_name("published.json")


def collect(folders: Sequence[str | Path], split: str, metrics: Sequence[str]) -> list[Row]:
    """Rows in the order of the folders.

    Raises:
        FileNotFoundError: no finished run below the folders.
        ValueError: a run without the split or a metric.
    """
    paths = [path.parent for folder in folders for path in sorted(Path(folder).rglob("metrics.json"))]
    if not paths:
        raise FileNotFoundError(f"no metrics.json below {[str(folder) for folder in folders]}; let a run finish first.")
    rows: dict[str, Row] = {}
    for path in paths:
        arguments, report = read_arguments(path), read_metrics(path)
        names = {metric: report.get("metric", metric) if metric == MAIN else metric for metric in metrics}
        scores = report.get(split, {})
        lacking = [name for name in names.values() if not isinstance(scores, dict) or not _is_number(scores.get(name))]
        if lacking:
            raise ValueError(
                f"{path / 'metrics.json'} has no {split} {lacking}; run it with --do_eval, or choose "
                "another --split or --metrics."
            )
        if "seed" not in arguments:
            raise ValueError(f"{path / 'args.json'} has no seed; leave this folder out, or run it again.")
        key = json.dumps({name: value for name, value in arguments.items() if name not in IGNORED}, sort_keys=True)
        label, task = path.name.replace(f"_seed-{arguments['seed']}", ""), arguments.get("task_name", "")
        label = label.replace(f"_order-{arguments.get('data_seed')}", "")
        row = rows.setdefault(key, Row(label, task, arguments.get("comment", ""), report.get("metric", MAIN)))
        row.seeds.append(arguments["seed"])
        row.scores.append({metric: scores[name] for metric, name in names.items()})
        row.resources.append({name: report[name] for name in RESOURCES if name in report})
        row.curves.append(_curve(path, names[metrics[-1]]))
        if row.majority is None and names[metrics[-1]] == "accuracy":
            row.majority = majority(path / f"predictions_{split}.jsonl")
    for found in _by_task(list(rows.values())).values():
        _shorten_labels(found)
    return list(rows.values())


def majority(path: Path) -> float | None:
    """The share of the most frequent gold label in a run's predictions; None where there are none of one label each."""
    if not path.is_file():
        return None
    rows = [row for _, _, row in read_rows(path)]
    name = next((name for name in GOLD if rows and rows[0].get(name) is not None), None)
    if name is None or isinstance(rows[0][name], list | float):
        return None
    counts = Counter(row[name] for row in rows)
    return max(counts.values()) / counts.total()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _by_task(rows: Sequence[Row]) -> dict[str, list[Row]]:
    return {task: [row for row in rows if row.task == task] for task in dict.fromkeys(row.task for row in rows)}


def published(task: str, split: str, metrics: Sequence[str]) -> list[Row]:
    """What the paper and the original's README report.

    Raises:
        ValueError: nothing for this task and split, or not these metrics.
    """
    entries = read_json(PUBLISHED)[task].get(split, [])
    known = [name for name in entries[0] if name != "label"] if entries else []
    if not set(metrics) <= set(known):
        raise ValueError(f"published for {task}, {split}: {known or 'nothing'}; choose these by --split and --metrics.")
    scores = [{metric: entry[metric] / 100 for metric in metrics} for entry in entries]
    return [Row(entry["label"], published=True, scores=[score]) for entry, score in zip(entries, scores, strict=True)]


def _curve(folder: Path, metric: str) -> list[tuple[int, float]]:
    return [
        (row["global_step"], row["metrics"][metric])
        for row in read_results(folder)
        if row["split"] == "dev" and metric in row["metrics"]
    ]


def _shorten_labels(rows: list[Row]) -> None:
    """Call runs by their comments, or leave out of the names what all of them share."""
    if all(row.comment for row in rows) and len({row.comment for row in rows}) == len(rows):
        for row in rows:
            row.label = row.comment
        return
    parts = [row.label.split("_") for row in rows]
    shared = set.intersection(*map(set, parts)) if len(rows) > 1 else set()
    for row, names in zip(rows, parts, strict=True):
        row.label = " ".join(name for name in dict.fromkeys(names) if name not in shared) or row.label


def full_labels(rows: Sequence[Row]) -> list[str]:
    """Labels with the task before them, where there are several."""
    several = len({row.task for row in rows if not row.published}) > 1
    return [f"{row.task} {row.label}" if several else row.label for row in rows]


def markdown(rows: Sequence[Row], metrics: Sequence[str], resources: bool = False) -> str:
    """Per cent, mean ± sample standard deviation over seeds; what runs took, as means."""
    columns = [*metrics, *(RESOURCES.values() if resources else ())]
    lines = ["| run | seeds | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for row, label in zip(rows, full_labels(rows), strict=True):
        cells = [f"{100 * row.mean(metric):.2f}" for metric in metrics]
        if len(row.scores) > 1:
            cells = [f"{cell} ± {100 * row.deviation(metric):.2f}" for cell, metric in zip(cells, metrics, strict=True)]
        for name in RESOURCES if resources else ():
            known = [found[name] for found in row.resources if name in found]
            cells.append(f"{np.mean(known):,.0f}" if known else "–")
        lines.append(f"| {label} | {len(row.seeds) or '–'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None, quiet: bool = False) -> list[Row]:
    parser = Parser(__doc__)
    parser.add_argument("runs", type=absolute, nargs="+", help="folders with runs in or below them")
    parser.add_argument("--split", default="test", help="split whose scores are shown")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=["precision", "recall", "f1"],
        help='scores that are shown; "main" is what each task is judged by. The last one is drawn as curves',
    )
    parser.add_argument(
        "--output", type=absolute, help="folder for table.md, table.json and the plots; default: print only"
    )
    parser.add_argument("--title", default="", help="title of the table")
    parser.add_argument(
        "--beside", choices=list(read_json(PUBLISHED)), help="task whose published scores are shown as well"
    )
    parser.add_argument("--resources", action="store_true", help="also show trained parameters, seconds and memory")
    parser.add_argument("--format", choices=["markdown", "json"], default="markdown", help="what is printed")
    args = parser.parse_args(argv)
    rows = collect(args.runs, args.split, args.metrics)
    rows += published(args.beside, args.split, args.metrics) if args.beside else []
    values = [
        {
            "run": label,
            "seeds": row.seeds,
            "published": row.published,
            **{metric: {"mean": row.mean(metric), "deviation": row.deviation(metric)} for metric in args.metrics},
        }
        for row, label in zip(rows, full_labels(rows), strict=True)
    ]
    table = markdown(rows, args.metrics, args.resources)
    if not quiet:
        print(table if args.format == "markdown" else json.dumps(values, indent=2))
    if args.output:
        output = args.output
        with atomic_files("the table") as temporary:
            temporary(output / "table.md").write_text(table + "\n", encoding="utf-8")
            write_json(temporary(output / "table.json"), values)
            labels = full_labels(rows)
            plot_scores(rows, labels, args.metrics, args.title, output / "scores.png", temporary)
            if any(row.curves and row.curves[0] for row in rows):
                plot_curves(rows, labels, args.metrics[-1], output / "curves.png", temporary)
            sized = [row for row in rows if any("trained_parameters" in one for one in row.resources)]
            if args.resources and sized:
                plot_parameters(_by_task(sized), args.metrics[-1], output / "parameters.png", temporary)
    return rows


if __name__ == "__main__":
    run(main)
