"""Scores of tags: of whole entities, as conlleval and seqeval count them, or of single words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from kadapter.data.tagged import entities_in
from kadapter.tasks.scores import f1
from kadapter.training.task import Scores

Tags = Sequence[Sequence[str]]  # of every text, a tag a word


def entity_scores(predicted: Tags, gold: Tags) -> Scores:
    """Micro precision, recall and F1 over entities, macro F1 over types, and the share of words with their tag.

    An entity is found where its words and its type are exactly those of a gold one.
    """
    hits, guessed, known = _counts(predicted, gold, plain=False)
    precision = sum(hits.values()) / max(1, sum(guessed.values()))
    recall = sum(hits.values()) / max(1, sum(known.values()))
    rows = entity_table(predicted, gold)
    macro = float(np.mean([row["f1"] for row in rows])) if rows else 0.0
    found = {"precision": precision, "recall": recall, "f1": f1(precision, recall), "macro_f1": macro}
    return {**found, "accuracy": _accuracy(predicted, gold)}


def tag_scores(predicted: Tags, gold: Tags) -> Scores:
    """The share of words with their tag, and the macro F1 over tags."""
    from sklearn.metrics import f1_score  # here: slow to import

    flat = [[tag for tags in texts for tag in tags] for texts in (gold, predicted)]
    macro = float(f1_score(*flat, average="macro", zero_division=0))
    return {"accuracy": _accuracy(predicted, gold), "macro_f1": macro}


def entity_table(predicted: Tags, gold: Tags, plain: bool = False) -> list[dict[str, Any]]:
    """One row a type that occurs: label, precision, recall, f1, gold and predicted (counts).

    Args:
        plain: every word counts by itself.
    """
    hits, guessed, known = _counts(predicted, gold, plain)
    rows = []
    for label in sorted({*guessed, *known}):
        precision, recall = hits[label] / max(1, guessed[label]), hits[label] / max(1, known[label])
        counts = {"gold": known[label], "predicted": guessed[label]}
        rows.append({"label": label, "precision": precision, "recall": recall, "f1": f1(precision, recall), **counts})
    return rows


def _counts(predicted: Tags, gold: Tags, plain: bool) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """By type: found, predicted and gold ones."""
    hits, guessed, known = Counter[str](), Counter[str](), Counter[str]()
    for one, other in zip(predicted, gold, strict=True):
        left, right = ({*enumerate(tags)} if plain else {*entities_in(tags)} for tags in (one, other))
        for counts, spans in ((hits, left & right), (guessed, left), (known, right)):
            counts.update(span[-1] for span in spans)
    return hits, guessed, known


def _accuracy(predicted: Tags, gold: Tags) -> float:
    pairs = [pair for tags in zip(predicted, gold, strict=True) for pair in zip(*tags, strict=True)]
    return sum(one == other for one, other in pairs) / max(1, len(pairs))
