"""The confusion matrix of single labels as a picture."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kadapter.pictures import picture

logger = logging.getLogger(__name__)

MOST_LABELS = 60  # that are drawn
MOST_NUMBERED = 20  # labels up to which every cell says its count
_LONGEST = 24  # characters of a label


def draw_confusion(path: Path, predicted: np.ndarray, gold: np.ndarray, labels: Sequence[str], title: str) -> None:
    """Rows are the gold labels, columns the predicted ones; colours are shares of a row, numbers are counts.

    Of more than `MOST_LABELS` labels those are drawn that are most frequent in gold, and the title says so.

    Args:
        predicted, gold: [examples], numbers of labels.
    """
    from sklearn.metrics import confusion_matrix  # here: slow to import, and needed once at the end of a run

    shown = np.sort(np.argsort(-np.bincount(gold, minlength=len(labels)), kind="stable")[:MOST_LABELS])
    counts = confusion_matrix(gold, predicted, labels=np.arange(len(labels)))[np.ix_(shown, shown)]
    totals = np.bincount(gold, minlength=len(labels))[shown]
    shares = counts / np.maximum(1, totals)[:, None]
    names = [_shortened(labels[i]) for i in shown]
    size = 2.6 + (0.5 if len(shown) <= MOST_NUMBERED else 0.2) * len(shown)
    more = f", the {len(shown)} most frequent of {len(labels):,} labels" if len(shown) < len(labels) else ""
    with picture(path, size + 1.2, size) as (figure, panels):
        axes = panels[0, 0]
        image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        figure.colorbar(image, ax=axes, label="share of the gold label's rows", shrink=0.8)
        font = 9 if len(shown) <= MOST_NUMBERED else 6
        axes.set_xticks(range(len(names)), names, fontsize=font)
        if max(map(len, names)) > 3:
            for label in axes.get_xticklabels():
                label.set(rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names, fontsize=font)
        if len(shown) <= MOST_NUMBERED:
            for (row, column), count in np.ndenumerate(counts):
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=8)
        axes.set(xlabel="predicted", ylabel="gold", title=f"{title}{more}")
    logger.info("confusion matrix: %s", path)


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"
