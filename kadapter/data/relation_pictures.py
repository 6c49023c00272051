"""Pictures of relation corpora: examples by relation, words by sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from kadapter.pictures import COLUMN, MARKS, level, name_rows, note, picture, scale

SHOWN = 50  # relations, the most frequent


def draw_relations(
    path: Path, names: Mapping[str, str], counts: Mapping[str, Mapping[str, int]], temporary: Callable[[Path], Path]
) -> None:
    """Examples by relation, the most frequent first, on a logarithmic axis.

    Args:
        names: relation -> what people call it, in any order.
        counts: a split, or what else was counted -> relation -> examples.
    """
    totals = {name: sum(one.get(name, 0) for one in counts.values()) for name in names}
    order = sorted(names, key=lambda name: -totals[name])
    shown, rest = order[:SHOWN], order[SHOWN:]
    with picture(path, COLUMN + 0.5, 0.9 + 0.15 * len(shown), temporary) as (figure, panels):
        axes = panels[0, 0]
        for (label, one), mark in zip(counts.items(), MARKS, strict=False):
            found = [one.get(name, 0) or np.nan for name in shown]
            axes.plot(found, range(len(shown)), mark, label=label, clip_on=False)
        axes.set(xscale="log", xlabel="examples (logarithmic)")
        axes.grid(axis="x")
        name_rows(axes, [names[name] for name in shown])
        axes.tick_params(axis="y", labelsize=7)
        if len(counts) > 1:
            figure.legend(loc="outside upper center", ncols=len(counts))
        if rest:
            others = f"{len(rest)} other relations have {sum(totals[name] for name in rest):,} examples"
            note(figure, f"the {SHOWN} most frequent of {len(order)};\n{others}")


def draw_lengths(path: Path, lengths: Counter[int], temporary: Callable[[Path], Path]) -> None:
    """Examples by words in their sentence; a line at the mean."""
    mean = sum(length * number for length, number in lengths.items()) / lengths.total()
    bins = np.arange(0.5, max(lengths) + 1.5, max(1, -(-max(lengths) // 60)))
    with picture(path, COLUMN, 2.3, temporary) as (_, panels):
        axes = panels[0, 0]
        heights, _, _ = axes.hist(list(lengths), bins=bins.tolist(), weights=list(lengths.values()))
        level(axes, "x", mean, f"mean {mean:.1f}")
        scale(axes, "y", "examples", heights)
        axes.set(xlabel="length of a sentence, words", xlim=(0, None))
