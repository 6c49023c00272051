"""One style for all pictures: sizes, colours, axes from 0, a dot for each seed, a note that says what lines mean.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color), which people with any kind of colour vision tell apart;
lines differ in their marks too. Text is as small as it may be where a picture is as wide as a column, and no smaller.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kadapter.storage.files import atomic_files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.5, 7.0  # inches: a column of a paper, and a page
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
KNOWLEDGE, CONTROL = COLOURS[0], "#767676"  # what is shown, and what it is compared with
PER_CENT = "per cent"
ENDINGS: dict[str, dict[str, Any]] = {".png": {}, ".pdf": {"metadata": {"CreationDate": None}}}  # the same bytes again
STYLE: Any = {  # of rcParams
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 8,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "figure.titlesize": 9,
    "figure.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "pdf.fonttype": 42,  # text that can be searched and edited
    "savefig.dpi": 200,
}
# Settings of recipes as people call them.
WORDS = {
    "none": "no adapter",
    "untrained": "untrained adapter",
    "fac": "factual adapter",
    "lin": "linguistic adapter",
    "et": "typing adapter",
    "fac-lin": "factual and linguistic",
    "all together": "all adapters",
}


def in_words(setting: str) -> str:
    """What people call a setting such as "fac" or "none, frozen"; other names stay as they are."""
    name, comma, rest = setting.partition(", ")
    return WORDS.get(name, name) + comma + rest


def per_cent(metric: str) -> str:
    """What stands at an axis: "micro F1, per cent" of `micro_f1`."""
    words = re.sub(r"\bf1\b", "F1", metric.replace("_", " "))
    return f"{words}, {PER_CENT}"


@contextmanager
def picture(
    path: str | Path,
    width: float = COLUMN,
    height: float = 2.4,
    temporary: Callable[[Path], Path] | None = None,
    rows: int = 1,
    columns: int = 1,
    **shared: Any,
) -> Iterator[tuple[Figure, np.ndarray]]:
    """Draw within this block; at its end the picture is written as PNG and as PDF.

        with picture(folder / "scores.png") as (figure, panels):
            panels[0, 0].plot(steps, scores)

    Args:
        path: with any ending; both files have its name.
        width, height: in inches.
        temporary: of `atomic_files`, where the picture belongs to other files.
        shared: of `Figure.subplots`, such as `sharey`.

    Yields:
        The figure and its panels, [rows, columns].
    """
    import matplotlib  # here: slow to import
    from matplotlib.figure import Figure  # not pyplot, which would change the caller's backend

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every table of a PDF's font
    cycle = matplotlib.cycler(color=COLOURS, marker=MARKS)  # type: ignore[attr-defined]
    with matplotlib.rc_context({**STYLE, "axes.prop_cycle": cycle}), ExitStack() as stack:
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False, **shared)
        place = temporary or stack.enter_context(atomic_files("a picture"))
        for ending, options in ENDINGS.items():
            figure.savefig(place(Path(path).with_suffix(ending)), format=ending[1:], **options)


def dots(axes: Axes, row: float, values: Sequence[float] | np.ndarray, colour: str = KNOWLEDGE) -> None:
    """A dot for each seed on a row of names, and a line at their mean."""
    axes.plot(values, np.full(len(values), row), "o", color=colour, alpha=0.6, markeredgewidth=0, clip_on=False)
    axes.plot([float(np.mean(values))] * 2, [row - 0.3, row + 0.3], "-", color=colour, marker="", linewidth=2)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """One row for each name, from above to below."""
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def scale(axes: Axes, which: str, label: str, values: Sequence[float], top: float | None = None) -> None:
    """A linear axis from 0, or from the least value where there are negative ones.

    Args:
        which: "x" or "y".
        values: all that is drawn.
        top: where the axis ends; by default beyond the largest value.
    """
    finite = np.asarray([value for value in values if np.isfinite(value)] or [0.0])
    low = min(0.0, 1.1 * float(finite.min()))
    high = max(1.08 * float(finite.max()), low + 1e-9) if top is None else top
    getattr(axes, f"set_{which}lim")(low, high or 1.0)
    getattr(axes, f"set_{which}label")(label)
    axes.grid(axis=which)  # type: ignore[arg-type]


def broken_scale(axes: Axes, label: str, values: Sequence[float]) -> None:
    """A vertical axis that begins above 0, which two strokes at its foot say; for differences too small for `scale`."""
    low, high = float(np.min(values)), float(np.max(values))
    margin = 0.12 * max(high - low, 1.0)
    if low - 2 * margin <= 0 or low < 0.3 * high:  # 0 is near enough
        scale(axes, "y", label, values)
        return
    axes.set_ylim(low - 2 * margin, high + margin)
    axes.set_ylabel(label)
    axes.grid(axis="y")
    strokes: dict[str, Any] = {"marker": [(-1, -0.5), (1, 0.5)], "markersize": 8, "linestyle": "none"}
    axes.plot([0, 0], [0.03, 0.06], color="black", transform=axes.transAxes, clip_on=False, **strokes)


def level(axes: Axes, which: str, value: float, text: str) -> None:
    """A dashed line at a value of the axis `which`, such as chance, with its meaning beside it."""
    style: dict[str, Any] = {"color": COLOURS[1], "linewidth": 1, "linestyle": "--", "marker": ""}
    words: dict[str, Any] = {"color": COLOURS[1], "fontsize": 7}
    if which == "x":
        axes.axvline(value, **style)
        at = {"xy": (value, 1), "xycoords": ("data", "axes fraction"), "xytext": (2, 1), "va": "bottom", "ha": "left"}
    else:
        axes.axhline(value, **style)
        at = {"xy": (1, value), "xycoords": ("axes fraction", "data"), "xytext": (0, 2), "va": "bottom", "ha": "right"}
    axes.annotate(text, textcoords="offset points", annotation_clip=False, **at, **words)  # type: ignore[arg-type]


def note(figure: Figure, text: str) -> None:
    """What dots, lines and bands mean, below all panels."""
    figure.supxlabel(text, fontsize=7, color="#444444")


def title(figure: Figure, text: str) -> None:
    """What is measured, above all panels."""
    if text:
        figure.suptitle(text)
