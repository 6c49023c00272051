"""What the scores of several tasks share. All scores are fractions of 1."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from kadapter.data.columns import feature_column
from kadapter.data.jsonio import shorten, write_json
from kadapter.data.spans import is_blank
from kadapter.training.task import Predictions

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)


def f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def numbers(features: Dataset, name: str = "labels") -> np.ndarray:
    """A column of one number an example, [examples], or of the same number of them each, [examples, numbers]."""
    column = feature_column(features, name)
    return column.values if column.offsets is None else column.values.reshape(len(column), -1)


def rounded(logits: np.ndarray) -> list[float]:
    """Logits as they are written for people."""
    return [round(float(logit), 4) for logit in logits]


def per_class_scores(predicted: np.ndarray, gold: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """One row a label that occurs: label, precision, recall, f1, predicted and gold (counts)."""
    from sklearn.metrics import precision_recall_fscore_support  # here: slow to import

    predicted, gold = np.asarray(predicted), np.asarray(gold)
    columns = precision_recall_fscore_support(gold, predicted, labels=range(len(labels)), zero_division=0)
    counts = np.bincount(predicted, minlength=len(labels))
    names = ("precision", "recall", "f1", "gold")
    return [
        {"label": label, **dict(zip(names, values, strict=True)), "predicted": int(count)}
        for label, count, *values in zip(labels, counts, *(column.tolist() for column in columns), strict=True)
        if count or values[-1]
    ]


def relation_scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy (which is micro F1 here) and macro F1 over the relations that occur in `labels`.

    Args:
        logits: [examples, relations].
        labels: [examples].
    """
    from sklearn.metrics import f1_score  # here: slow to import

    predicted, gold = np.asarray(logits).argmax(1), np.asarray(labels)
    macro = f1_score(gold, predicted, labels=np.unique(gold), average="macro", zero_division=0)
    return {"accuracy": float((predicted == gold).mean()), "macro_f1": float(macro)}


def tacred_scores(predicted: np.ndarray, gold: np.ndarray, negative: int | None) -> dict[str, float]:
    """Micro precision, recall and F1 without the relation `negative`; precision is 1 where nothing is predicted.

    The official scorer's definition, and the original's (run_finetune_TACRED_adapter.py: tacred_f1).

    Args:
        predicted, gold: [examples], relation numbers.
        negative: that relation's number; None: every relation counts.
    """
    predicted, gold = np.asarray(predicted), np.asarray(gold)
    negative = -1 if negative is None else negative
    hits = int(((predicted == gold) & (gold != negative)).sum())
    n_predicted, n_gold = int((predicted != negative).sum()), int((gold != negative).sum())
    precision = hits / n_predicted if n_predicted else 1.0
    recall = hits / n_gold if n_gold else 0.0
    return {"precision": precision, "recall": recall, "f1": f1(precision, recall)}


def write_per_class(
    folder: Path, split: str, predictions: Predictions, features: Dataset, labels: Sequence[str]
) -> None:
    """Log a table of scores by relation and write it to `per_class_<split>.json`."""
    table = per_class_scores(predictions["logits"].values.argmax(1), numbers(features), labels)
    write_table(table, f"{split} by relation", "relation")
    write_json(folder / f"per_class_{split}.json", table)


def write_table(table: Sequence[Mapping[str, Any]], title: str, what: str) -> None:
    """Log rows of label, precision, recall, f1, predicted and gold; `what` the labels are."""
    width = max([len(what), *(len(row["label"]) for row in table)])
    lines = [f"{what:<{width}}  {'P':>6} {'R':>6} {'F1':>6} {'predicted':>9} {'gold':>6}"]
    for row in table:
        scores = " ".join(f"{100 * row[name]:6.2f}" for name in ("precision", "recall", "f1"))
        lines.append(f"{row['label']:<{width}}  {scores} {row['predicted']:>9} {row['gold']:>6}")
    logger.info("%s:\n%s", title, "\n".join(lines))


# -- answers ----------------------------------------------------------------------------------------------------


def text_of(given: Any, names: Sequence[str], where: str) -> str:
    """A text that is given as such or under one of those names; raises ValueError where it is none, or blank."""
    text = given
    if isinstance(given, Mapping):
        text = next((given[name] for name in names if name in given), None)
    if not isinstance(text, str) or is_blank(text):
        raise ValueError(f"{where}: {shorten(given)} holds no text; give one, or a dictionary with {names[0]!r}.")
    return text


def best_label(logits: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """The likeliest of labels that exclude each other, its probability, and those of all."""
    shares = scipy.special.softmax(logits.astype(np.float64))
    best = int(shares.argmax())
    scores = {label: float(share) for label, share in zip(labels, shares, strict=True)}
    return {"label": labels[best], "score": float(shares[best]), "scores": scores}
