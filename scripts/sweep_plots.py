"""The pictures of scripts/sweep.py: scores in the order of trials, by each flag's values, and which flags matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from kadapter.pictures import COLOURS, COLUMN, PAGE, broken_scale, name_rows, note, per_cent, picture, scale

Aside = Callable[[Path], Path]


def _scores(trials: Sequence[FrozenTrial]) -> np.ndarray:
    return np.array([100 * float(trial.value or 0.0) for trial in trials])


def plot_history(trials: Sequence[FrozenTrial], metric: str, path: Path, temporary: Aside) -> None:
    """Each trial's score, and the best one up to it."""
    scores = _scores(trials)
    with picture(path, COLUMN, 2.5, temporary) as (figure, panels):
        axes = panels[0, 0]
        numbers = [trial.number + 1 for trial in trials]
        axes.plot(numbers, scores, "o", label="a trial", clip_on=False)
        axes.step(
            numbers, np.maximum.accumulate(scores), where="post", marker="", color=COLOURS[1], label="best so far"
        )
        broken_scale(axes, per_cent(f"dev {metric}"), scores.tolist())
        axes.set_xlabel("trial")
        axes.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(loc="outside upper center", ncols=2)


def plot_slice(trials: Sequence[FrozenTrial], metric: str, path: Path, temporary: Aside) -> None:
    """A panel for each flag: the scores of all trials by its value, with the mean of each value that was listed."""
    flags = list(dict.fromkeys(name for trial in trials for name in trial.params))
    scores = _scores(trials)
    columns = min(3, len(flags))
    rows = -(-len(flags) // columns)
    with picture(path, COLUMN if columns == 1 else PAGE, 2.2 * rows + 0.3, temporary, rows, columns, sharey=True) as (
        figure,
        panels,
    ):
        for axes in panels.flat[len(flags) :]:
            axes.set_visible(False)
        for axes, flag in zip(panels.flat, flags, strict=False):
            values = [trial.params.get(flag) for trial in trials]
            if any(isinstance(value, str) for value in values):  # listed: their names stand side by side
                names = sorted({str(value) for value in values}, key=_as_number)
                places = np.array([names.index(str(value)) for value in values])
                axes.set_xticks(range(len(names)), names)
                axes.set_xlim(-0.5, len(names) - 0.5)
                means = [scores[places == place].mean() for place in range(len(names))]
                axes.plot(range(len(names)), means, "_", color=COLOURS[1], markersize=14, markeredgewidth=2)
            else:
                places = np.array(values, dtype=float)
                distribution = next(trial.distributions[flag] for trial in trials if flag in trial.distributions)
                if getattr(distribution, "log", False):
                    axes.set_xscale("log")
            axes.plot(places, scores, "o", color=COLOURS[0], alpha=0.6, markeredgewidth=0)
            broken_scale(axes, "", scores.tolist())
            axes.set_xlabel(f"--{flag}")
        for line in panels:
            line[0].set_ylabel(per_cent(f"dev {metric}"))
        note(
            figure, "dot: a trial; line: mean of the trials with that value; two strokes: the axis does not begin at 0"
        )


def _as_number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def plot_importances(study: optuna.Study, metric: str, path: Path, temporary: Aside) -> None:
    """How much of the scores' variance each flag explains, by Optuna's functional analysis of variance."""
    found = optuna.importance.get_param_importances(study)
    shares = [100 * share for share in found.values()]
    with picture(path, 1.2 * COLUMN, 0.9 + 0.25 * len(found), temporary) as (_, panels):
        axes = panels[0, 0]
        axes.barh(range(len(shares)), shares, height=0.6, color=COLOURS[0])
        name_rows(axes, [f"--{name}" for name in found])
        scale(axes, "x", per_cent(f"variance of dev {metric} that it explains"), shares, top=100)
