"""The scores of each task, on numpy and scikit-learn. All are fractions of 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import f1_score

from kadapter.configuration import IGNORE


def f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def entity_typing_scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Loose micro (OpenEntity's headline: precision, recall, f1), loose macro, and exact match.

    A label is predicted when its logit is positive (run_finetune_openentity_adapter.py: accuracy, f1_score).

    Args:
        logits, labels: [examples, labels]; labels of 0 and 1.
    """
    predicted, gold = np.asarray(logits) > 0, np.asarray(labels) > 0.5
    hits, n_predicted, n_gold = (predicted & gold).sum(1), predicted.sum(1), gold.sum(1)
    precision = float(hits.sum() / max(1, n_predicted.sum()))
    recall = float(hits.sum() / max(1, n_gold.sum()))
    # Examples without any (predicted or gold) label count as zero in the macro averages, as in the original.
    macro_precision = float((hits / np.maximum(1, n_predicted)).mean())
    macro_recall = float((hits / np.maximum(1, n_gold)).mean())
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1(precision, recall),
        "macro_precision": macro_precision,
        "macro_recall": macro_recall,
        "macro_f1": f1(macro_precision, macro_recall),
        "accuracy": float((predicted == gold).all(1).mean()),
    }


def relation_scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy (which is micro F1 here) and macro F1 over the relations that occur in `labels`.

    Args:
        logits: [examples, relations].
        labels: [examples].
    """
    predicted, gold = np.asarray(logits).argmax(1), np.asarray(labels)
    macro = f1_score(gold, predicted, labels=np.unique(gold), average="macro", zero_division=0)
    return {"accuracy": float((predicted == gold).mean()), "macro_f1": float(macro)}


def head_scores(
    predicted: Sequence[np.ndarray], attended: Sequence[np.ndarray], labels: Sequence[np.ndarray]
) -> dict[str, float]:
    """Share of words whose governor is found, by the classifier and by the most attended position.

    Over all labelled words; the original averages over batches (lin-adapter.py: eval_accuracy,
    att_eval_accuracy).
    """
    gold = np.concatenate([np.asarray(row) for row in labels])
    counted = gold != IGNORE
    hits = np.concatenate(predicted)[counted] == gold[counted]
    attention_hits = np.concatenate(attended)[counted] == gold[counted]
    return {"accuracy": float(hits.mean()), "att_accuracy": float(attention_hits.mean())}
