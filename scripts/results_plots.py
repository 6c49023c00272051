"""The pictures of scripts/results_table.py: scores, learning curves, scores by the number of trained parameters."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kadapter.pictures import (
    COLOURS,
    COLUMN,
    CONTROL,
    KNOWLEDGE,
    MARKS,
    PAGE,
    PER_CENT,
    broken_scale,
    dots,
    in_words,
    level,
    name_rows,
    note,
    per_cent,
    picture,
    scale,
    title,
)

Aside = Callable[[Path], Path]


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
    majority: float | None = None  # accuracy of the most frequent label, where accuracy is the metric

    def mean(self, metric: str) -> float:
        return float(np.mean([score[metric] for score in self.scores]))

    def deviation(self, metric: str) -> float:
        """Sample standard deviation; 0 for one seed."""
        values = [score[metric] for score in self.scores]
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def plot_scores(
    rows: Sequence[Row], labels: Sequence[str], metrics: Sequence[str], heading: str, path: Path, temporary: Aside
) -> None:
    """A panel for each metric and a row for each setting: a dot for each seed, a line at the mean."""
    names = [textwrap.fill(in_words(label), 28) for label in labels]
    height = 0.9 + 0.16 * sum(2 + name.count("\n") for name in names)
    width = COLUMN if len(metrics) == 1 else PAGE
    with picture(path, width, height, temporary, columns=len(metrics), sharey=True) as (figure, panels):
        for axes, metric in zip(panels[0], metrics, strict=True):
            for place, row in enumerate(rows):
                values = [100 * score[metric] for score in row.scores]
                if row.published:
                    axes.plot(values, [place], "D", color=CONTROL, markerfacecolor="white")
                else:
                    dots(axes, place, values, CONTROL if row.label in ("none", "untrained") else KNOWLEDGE)
            scale(axes, "x", per_cent(metric), [100 * row.mean(metric) for row in rows], top=100)
            name_rows(axes, names)
        title(figure, heading)
        note(figure, "dot: a seed; line: their mean" + "; diamond: published" * any(row.published for row in rows))


def plot_curves(rows: Sequence[Row], labels: Sequence[str], metric: str, path: Path, temporary: Aside) -> None:
    """The dev score while training: mean over seeds, and the range between the lowest and the highest."""
    with picture(path, COLUMN, 2.7, temporary) as (figure, panels):
        axes, drawn = panels[0, 0], list[float]()
        for row, label in zip(rows, labels, strict=True):
            shortest = min((len(curve) for curve in row.curves), default=0)
            if not shortest:
                continue
            values = 100 * np.array([[score for _, score in curve[:shortest]] for curve in row.curves])
            steps = [step for step, _ in row.curves[0][:shortest]]
            (line,) = axes.plot(steps, values.mean(0), label=in_words(label))
            axes.fill_between(steps, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, linewidth=0)
            drawn += values.ravel().tolist()
        scale(axes, "y", per_cent(f"dev {metric}"), drawn, top=100)
        axes.set_xlabel("training steps")
        figure.legend(loc="outside upper center", ncols=2)
        note(figure, "line: mean over seeds; band: lowest to highest seed")


def plot_parameters(tasks: Mapping[str, Sequence[Row]], metric: str, path: Path, temporary: Aside) -> None:
    """The score by the number of trained parameters, a panel for each task; a line at the most frequent label."""
    labels = list(dict.fromkeys(row.label for rows in tasks.values() for row in rows))
    columns = min(4, len(tasks))
    lines = -(-len(tasks) // columns)
    width = COLUMN if columns == 1 else PAGE
    with picture(path, width, 2.3 * lines + 0.4, temporary, rows=lines, columns=columns) as (figure, panels):
        for axes in panels.flat[len(tasks) :]:
            axes.set_visible(False)
        for axes, (task, rows) in zip(panels.flat, tasks.items(), strict=False):
            drawn = list[float]()
            for row in rows:
                sizes = [found["trained_parameters"] for found in row.resources if "trained_parameters" in found]
                scores = [100 * score[metric] for score in row.scores]
                look = labels.index(row.label)
                colour, mark = COLOURS[look % len(COLOURS)], MARKS[look % len(MARKS)]
                axes.plot([sizes[0]] * len(scores), scores, mark, color=colour, alpha=0.6, markeredgewidth=0)
                axes.plot(sizes[0], np.mean(scores), "_", color=colour, markersize=11, markeredgewidth=2)
                drawn += scores
            majority = next((100 * row.majority for row in rows if row.majority is not None), None)
            if majority is not None:
                level(axes, "y", majority, "most frequent label")
            name = rows[0].main if metric == "main" else metric
            axes.set(xscale="log", xlabel="trained parameters", title=f"{task}, {name}" if task else name)
            drawn += [] if majority is None else [majority]
            broken_scale(axes, PER_CENT if axes in panels[:, 0] else "", drawn)
        for look, label in enumerate(labels):
            colour, mark = COLOURS[look % len(COLOURS)], MARKS[look % len(MARKS)]
            panels.flat[0].plot([], [], mark, color=colour, label=in_words(label))
        figure.legend(loc="outside upper center", ncols=min(5, len(labels)))
        note(figure, "mark: a seed; line: their mean; two strokes: the axis does not begin at 0")
