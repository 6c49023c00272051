"""Ours beside the published numbers: the table and the picture of scripts/reproduce.py."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from paired_tests import interval_of_seeds
from paper_tables import FAC, OTHERS, ROBERTA, TRAINED, Experiment, Line, Table, View

from kadapter.pictures import COLOURS, COLUMN, CONTROL, KNOWLEDGE, broken_scale, note, per_cent, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SOURCES = ("paper", "README", "Houlsby")  # of published.json, in brackets behind a line's name


@dataclass(frozen=True)
class Entry:
    """A published line and what we found for it, or one of ours that nothing was published for.

    split: ours. ours: metric -> per cent, a number a seed. published: metric -> per cent.
    spread: metric -> [low, high] where it is not that of seeds. trained: per cent of the parameters.
    why: why there is nothing of ours; variant: which way was taken of several.
    """

    data: str
    setting: str
    source: str
    split: str
    ours: Mapping[str, Sequence[float]] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    spread: Mapping[str, Sequence[float]] = field(default_factory=dict)
    trained: float | None = None
    variant: str = ""
    why: str = ""

    @property
    def share(self) -> float:
        """`trained`, where it is known."""
        assert self.trained is not None
        return self.trained

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def name_of(label: str) -> str:
    """A published line's name without its source."""
    return label.rpartition(" (")[0] if label.endswith(tuple(f"({one})" for one in SOURCES)) else label


def reported(
    experiment: Experiment,
    reports: Mapping[str, Sequence[Mapping[str, Any]]],
    published: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
    table: Table,
) -> list[Entry]:
    """Every published line of the experiment's views with our scores, or why there are none; then lines of ours alone.

    Args:
        reports: a line's name -> what metrics.json holds, a report a seed; [] where all failed; lines that are not in
            it were left out.
        published: published.json.
    """
    entries: list[Entry] = []
    seen: set[str] = set()
    for view in experiment.views:
        for row in published.get(view.task, {}).get(view.split, []):
            theirs = {name: row[name] for name in row if name != "label" and view.of_ours(name)}
            name = name_of(row["label"])
            made = [line for line in experiment.lines if line.row == name]
            lines = [] if view.why else [line for line in made if reports.get(line.name)]
            seen.update([name] * bool(lines))
            why = "" if lines else view.why or (table.not_here or {}).get(name, _why_not(made, reports))
            entries.append(_entry(experiment, view, name, row["label"], theirs, lines, reports, why))
    for view in [one for one in experiment.views if not one.why][:1]:
        alone = [line for line in experiment.lines if line.row not in seen and reports.get(line.name)]
        entries += [_entry(experiment, view, line.name, "", {}, [line], reports, "") for line in alone]
    view = experiment.views[0]
    for row in published.get(view.task, {}).get("others", []):
        theirs = {name: value for name, value in row.items() if name != "label"}
        entries.append(Entry(experiment.name, name_of(row["label"]), row["label"], view.ours, {}, theirs, why=OTHERS))
    return entries


def _why_not(made: Sequence[Line], reports: Mapping[str, Any]) -> str:
    """Why a published line has nothing of ours, which these lines make."""
    if not made:
        return "no run of this script makes it"
    return "all its runs failed" if any(line.name in reports for line in made) else "left out by --lines"


def _entry(
    experiment: Experiment,
    view: View,
    name: str,
    label: str,
    theirs: Mapping[str, float],
    lines: Sequence[Line],
    reports: Mapping[str, Sequence[Mapping[str, Any]]],
    why: str,
) -> Entry:
    if not lines:
        return Entry(experiment.name, name, label, view.ours, {}, theirs, why=why)
    best = max(lines, key=lambda line: float(np.mean([one["dev"][one["metric"]] for one in reports[line.name]])))
    found = reports[best.name]
    metrics = {metric: str(view.of_ours(metric)) for metric in theirs} or {found[0]["metric"]: found[0]["metric"]}
    if not theirs and view.metrics is not None:
        metrics = dict(view.metrics)
    shares = [100 * one["trained_parameters"] / one["parameters"] for one in found]
    ours = {
        metric: shares if own == TRAINED else [100 * one[view.ours][own] for one in found]
        for metric, own in metrics.items()
    }
    trained = float(np.mean(shares))
    variant = best.variant if len(lines) > 1 else ""
    return Entry(experiment.name, name, label, view.ours, ours, theirs, trained=trained, variant=variant)


def probed(
    probe: Mapping[str, Any],
    published: Mapping[str, Sequence[Mapping[str, Any]]],
    args: argparse.Namespace,
    table: Table,
) -> list[Entry]:
    """Entries of LAMA: for K-Adapter each way of putting the head on, for the other models the bare one."""
    entries = []
    first = next(iter(probe["scores"]))
    with_adapter = [label for label in probe["scores"] if ": fac" in label]
    beside = {Path(one).name: one for one in args.beside}
    for collection, rows in published.items():
        for row in rows:
            name = name_of(row["label"])
            labels = {ROBERTA + "-large": [first], FAC: with_adapter}.get(name, [])
            if name == "BERT-large":
                labels = [label for label in probe["scores"] if label.partition(":")[0] in beside]
            why = "" if labels else (table.not_here or {}).get(name, "was not asked; give --beside")
            theirs = {"p1": row["p1"]}
            for label in labels or [""]:
                scores = probe["scores"].get(label, {}).get(collection)
                if label and scores is None:
                    why = "the data have nothing of it"
                ours = {"p1": [scores["average"]["p1"]]} if scores else {}
                spread = {"p1": scores["p1_interval"]} if scores else {}
                entries.append(Entry(collection, name, row["label"], "all", ours, theirs, spread, None, label, why))
    return entries


# -- table and picture --------------------------------------------------------------------------------------------


def markdown(
    entries: Sequence[Entry], table: Table, backbone: str = "", failed: Mapping[str, str] | None = None
) -> str:
    """A line for each data set, published line and metric; what is not here last, each with why.

    Args:
        backbone: what the runs had; "" is the table's own.
        failed: runs that failed -> why; the others make the means.
    """
    lines = [
        f"# {table.title}",
        "",
        "| data | line | metric | ours | 95 % | published | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        named = f"{entry.setting} ({entry.variant})" if entry.variant else entry.setting
        for metric, scores in entry.ours.items():
            mean = float(np.mean(scores))
            deviation = f" ± {np.std(scores, ddof=1):.2f}" if len(scores) > 1 else ""
            theirs = entry.published.get(metric)
            source = entry.source.removeprefix(entry.setting).strip(" ()")
            beside = ["–", "–"] if theirs is None else [f"{theirs:.2f}, {source}", f"{mean - theirs:+.2f}"]
            cells = [f"{entry.data}, {entry.split}", named, metric, f"{mean:.2f}{deviation}", _spread(entry, metric)]
            lines.append(f"| {' | '.join([*cells, *beside])} |")
    lines += ["", "Per cent. Ours: mean ± deviation over seeds, and the 95 % interval of that mean (Student's t); of "]
    lines[-1] += "LAMA the average over relations with a bootstrap interval."
    lines += [f"- {remark}" for remark in table.remarks]
    if backbone not in ("", table.backbone):
        lines.append(f"- These runs have {backbone}, the published ones {table.backbone}: do not compare them.")
    if absent := [entry for entry in entries if not entry.ours]:
        lines += ["", "Published, and not run:", "", "| data | line | published | why |", "|---|---|---|---|"]
        for entry in absent:
            numbers = ", ".join(f"{metric} {value:.2f}" for metric, value in entry.published.items())
            lines.append(f"| {entry.data}, {entry.split} | {entry.setting} | {numbers} | {entry.why} |")
    if failed:
        lines += ["", "Failed, and left out of the means:", "", *(f"- {one}: {why}" for one, why in failed.items())]
    return "\n".join(lines)


def _spread(entry: Entry, metric: str) -> str:
    if metric in entry.spread:
        low, high = entry.spread[metric]
        return f"{low:.2f} to {high:.2f}"
    half = interval_of_seeds(list(entry.ours[metric]))
    return "–" if np.isnan(half) else f"± {half:.2f}"


def tradeoff(entries: Sequence[Entry], path: Path, temporary: Callable[[Path], Path]) -> None:
    """Score by the share of the parameters that is trained: a panel for each task, a dot for each seed."""
    shown = {data: [one for one in entries if one.data == data and one.ours] for data in {e.data: 0 for e in entries}}
    with picture(path, COLUMN * len(shown), 2.6, temporary, columns=len(shown)) as (figure, panels):
        for axes, (data, own) in zip(panels[0], shown.items(), strict=True):
            _curve(axes, sorted(own, key=lambda one: one.share))
            axes.set_title(f"{data}, dev")
        panels[0, 0].legend(loc="best")
        note(figure, "dot: a seed; line: the mean over seeds, from size to size")


def _curve(axes: Axes, entries: Sequence[Entry]) -> None:
    """One task: bottlenecks by size, the other lines, and what was published."""
    sized = [one for one in entries if one.setting.startswith("Adapters ")]
    others = [one for one in entries if one not in sized]
    (metric,) = {metric for one in entries for metric in one.ours}
    looks = ((sized, KNOWLEDGE, "o", "bottlenecks"), (others, CONTROL, "s", "head alone; all parameters"))
    for group, colour, mark, label in looks:
        for one in group:
            scores = one.ours[metric]
            axes.plot([one.share] * len(scores), scores, mark, color=colour, alpha=0.6, markeredgewidth=0)
        means = [float(np.mean(one.ours[metric])) for one in group]
        line = "-" if group is sized else "none"
        axes.plot([one.share for one in group], means, mark, linestyle=line, color=colour, label=label)
    theirs = [(one.share, one.published[metric]) for one in entries if metric in one.published]
    axes.plot([at for at, _ in theirs], [value for _, value in theirs], "x", color=COLOURS[1], label="published")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("share of the parameters that is trained, per cent")
    drawn = [*(value for one in entries for value in one.ours[metric]), *(value for _, value in theirs)]
    broken_scale(axes, per_cent(metric), drawn)
