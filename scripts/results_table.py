"""One table and two plots of many runs: mean and deviation over seeds.

    python scripts/results_table.py proc_data --split test --metrics precision recall f1 --output proc_data/table
    python scripts/results_table.py proc_data --beside openentity        # and what the paper and its README report
    python scripts/results_table.py glue --split dev --metrics main --resources --output glue/table

A run is a folder with args.json and metrics.json. Runs whose arguments differ in nothing but the seed make a row,
called by its --comment where all have one. "main" is the metric that each task is judged by. Writes table.md,
table.json, scores.png and, where runs were evaluated while training, curves.png; with --resources also what each
trained, how long it took and what memory, and parameters.png: the score by the number of trained parameters, a panel a
task, as figure 1 of Houlsby et al., 2019. Published numbers stand in published.json.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from kadapter.console import Parser, absolute, run
from kadapter.data.jsonio import read_json, write_json
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


@dataclass
class Row:
    """Runs of one setting, or a published result."""

    label: str
    task: str = ""
    comment: str = ""
    main: str = ""  # the metric that the task is judged by
    published: bool = False
    seeds: list[int] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)  # a dictionary a seed
    curves: list[list[tuple[int, float]]] = field(default_factory=list)  # (step, dev score) a seed
    resources: list[dict[str, float]] = field(default_factory=list)  # RESOURCES of each seed, {} of older runs

    def mean(self, metric: str) -> float:
        return float(np.mean([score[metric] for score in self.scores]))

    def deviation(self, metric: str) -> float:
        """Sample standard deviation; 0 for one seed."""
        values = [score[metric] for score in self.scores]
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


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
        row = rows.setdefault(key, Row(label, task, arguments.get("comment", ""), report.get("metric", MAIN)))
        row.seeds.append(arguments["seed"])
        row.scores.append({metric: scores[name] for metric, name in names.items()})
        row.resources.append({name: report[name] for name in RESOURCES if name in report})
        row.curves.append(_curve(path, names[metrics[-1]]))
    for found in _by_task(list(rows.values())).values():
        _shorten_labels(found)
    return list(rows.values())


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


def plot_scores(rows: Sequence[Row], metrics: Sequence[str], title: str, path: Path) -> None:
    """Bars with the deviation over seeds."""
    figure, axes = plt.subplots(figsize=(max(5, 1.4 * len(rows) + 1.5), 3.6), layout="constrained")
    width = 0.8 / len(metrics)
    for i, metric in enumerate(metrics):
        at = np.arange(len(rows)) + (i - (len(metrics) - 1) / 2) * width
        means = [100 * row.mean(metric) for row in rows]
        spread = [100 * row.deviation(metric) if len(row.scores) > 1 else np.nan for row in rows]
        bars = axes.bar(at, means, width, yerr=spread, capsize=3, label=metric)
        for bar, row in zip(bars, rows, strict=True):
            bar.set_alpha(0.45 if row.published else 1.0)
        if len(rows) * len(metrics) <= 16:
            for x, mean in zip(at, means, strict=True):
                axes.text(x, 1, f"{mean:.0f}", ha="center", va="bottom", color="white", fontsize=8)
    labels = [textwrap.fill(label, 16) for label in full_labels(rows)]
    axes.set_xticks(range(len(rows)), labels, fontsize=10 if len(rows) < 6 else 7)
    axes.set_ylabel("per cent")
    axes.set_ylim(0, 100)
    axes.set_title(title)
    figure.legend(loc="outside lower right", frameon=False, ncols=len(metrics))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_curves(rows: Sequence[Row], metric: str, path: Path) -> None:
    """The dev score while training: mean over seeds, and the range between the lowest and the highest."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for row, label in zip(rows, full_labels(rows), strict=True):
        shortest = min((len(curve) for curve in row.curves), default=0)
        if not shortest:
            continue
        values = 100 * np.array([[score for _, score in curve[:shortest]] for curve in row.curves])
        steps = [step for step, _ in row.curves[0][:shortest]]
        (line,) = axes.plot(steps, values.mean(0), marker="o", markersize=3, label=label)
        axes.fill_between(steps, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xlabel("step")
    axes.set_ylabel(f"dev {metric}, per cent")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_parameters(rows: Sequence[Row], metric: str, path: Path) -> None:
    """The score by the number of trained parameters, with the deviation over seeds; a panel a task."""
    tasks = _by_task([row for row in rows if any("trained_parameters" in found for found in row.resources)])
    colours = {label: f"C{i}" for i, label in enumerate(dict.fromkeys(row.label for row in rows))}
    figure, panels = plt.subplots(
        1, len(tasks), figsize=(max(6, 3 * len(tasks)), 3.6), sharex=True, squeeze=False, layout="constrained"
    )
    for axes, (task, found) in zip(panels[0], tasks.items(), strict=True):
        for row in found:
            trained = next(one["trained_parameters"] for one in row.resources if "trained_parameters" in one)
            spread = 100 * row.deviation(metric) if len(row.scores) > 1 else None
            point = {"fmt": "o", "capsize": 3, "label": row.label, "color": colours[row.label]}
            axes.errorbar(trained, 100 * row.mean(metric), spread, **point)
        axes.set_xscale("log")
        name = found[0].main if metric == MAIN else metric
        axes.set(xlabel="trained parameters", title=f"{task}, {name}" if task else name)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("per cent")
    points = {
        label: point for axes in panels[0] for point, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(points.values(), points, loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(argv: list[str] | None = None) -> list[Row]:
    parser = Parser(__doc__)
    parser.add_argument("runs", type=absolute, nargs="+", help="folders with runs in or below them")
    parser.add_argument("--split", default="test")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=["precision", "recall", "f1"],
        help='"main" is what each task is judged by; the last one is drawn as curves',
    )
    parser.add_argument(
        "--output", type=absolute, help="folder for table.md, table.json and the plots; default: print only"
    )
    parser.add_argument("--title", default="")
    parser.add_argument("--beside", choices=list(read_json(PUBLISHED)), help="task")
    parser.add_argument("--resources", action="store_true", help="trained parameters, seconds and memory too")
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
    print(table if args.format == "markdown" else json.dumps(values, indent=2))
    if args.output:
        output = args.output
        with atomic_files("the table") as aside:
            aside(output / "table.md").write_text(table + "\n", encoding="utf-8")
            write_json(aside(output / "table.json"), values)
            plot_scores(rows, args.metrics, args.title, aside(output / "scores.png"))
            if any(row.curves and row.curves[0] for row in rows):
                plot_curves(rows, args.metrics[-1], aside(output / "curves.png"))
            if args.resources and any("trained_parameters" in one for row in rows for one in row.resources):
                plot_parameters(rows, args.metrics[-1], aside(output / "parameters.png"))
    return rows


if __name__ == "__main__":
    run(main)
