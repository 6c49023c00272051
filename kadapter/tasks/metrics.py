"""The scores of each task, on numpy and scikit-learn. All are fractions of 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import f1_score, matthews_corrcoef, precision_recall_fscore_support

from kadapter.configuration import IGNORE


def f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def entity_typing_scores(logits: np.ndarray, labels: np.ndarray, top_if_none: bool = False) -> dict[str, float]:
    """Loose micro (OpenEntity's headline: precision, recall, f1), loose macro, and exact match.

    A label is predicted when its logit is positive (run_finetune_openentity_adapter.py: accuracy, f1_score).

    Args:
        logits, labels: [examples, labels]; labels of 0 and 1.
        top_if_none: where no logit is positive, predict the largest, as FIGER's loop does
            (run_finetune_figer_adapter.py).
    """
    logits = np.asarray(logits)
    predicted, gold = logits > 0, np.asarray(labels) > 0.5
    if top_if_none:
        none = ~predicted.any(1)
        predicted[none, logits[none].argmax(1)] = True
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


def tacred_scores(predicted: np.ndarray, gold: np.ndarray, negative: int) -> dict[str, float]:
    """Micro precision, recall and F1 without the relation `negative`; precision is 1 where nothing is predicted.

    The official scorer's definition, and the original's (run_finetune_TACRED_adapter.py: tacred_f1).

    Args:
        predicted, gold: [examples], relation numbers.
    """
    predicted, gold = np.asarray(predicted), np.asarray(gold)
    hits = int(((predicted == gold) & (gold != negative)).sum())
    n_predicted, n_gold = int((predicted != negative).sum()), int((gold != negative).sum())
    precision = hits / n_predicted if n_predicted else 1.0
    recall = hits / n_gold if n_gold else 0.0
    return {"precision": precision, "recall": recall, "f1": f1(precision, recall)}


def per_class_scores(predicted: np.ndarray, gold: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """One row a label that occurs: label, precision, recall, f1, predicted and gold (counts)."""
    predicted, gold = np.asarray(predicted), np.asarray(gold)
    columns = precision_recall_fscore_support(gold, predicted, labels=range(len(labels)), zero_division=0)
    counts = np.bincount(predicted, minlength=len(labels))
    names = ("precision", "recall", "f1", "gold")
    return [
        {"label": label, **dict(zip(names, values, strict=True)), "predicted": int(count)}
        for label, count, *values in zip(labels, counts, *(column.tolist() for column in columns), strict=True)
        if count or values[-1]
    ]


def semeval_scores(predicted: np.ndarray, gold: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """SemEval-2010 Task 8's official score: macro F1 over the nine relations, direction taken into account.

    A relation with the wrong direction is an error, but counts as predicted and as gold of that relation; "Other"
    is left out of the mean. That is the scorer's "(9+1)-way evaluation with directionality". `original_macro_f1`
    is the original's, which does not count a wrong direction against recall and takes the mean over "Other" too
    (utils_glue.py: macro_f1_semeval).

    Args:
        predicted, gold: [examples], numbers of labels such as "Cause-Effect(e1,e2)".
    """
    predicted, gold = np.asarray(predicted), np.asarray(gold)
    relation = np.array([label.partition("(")[0] for label in labels])
    scores, original = [], []
    for name in dict.fromkeys(relation.tolist()):
        is_predicted, is_gold = relation[predicted] == name, relation[gold] == name
        hits = int((is_gold & (predicted == gold)).sum())
        turned = int((is_gold & is_predicted & (predicted != gold)).sum())
        precision = hits / max(1, int(is_predicted.sum()))
        if name != "Other":
            scores.append((precision, hits / max(1, int(is_gold.sum()))))
        original.append(f1(precision, hits / max(1, int(is_gold.sum()) - turned)))
    precision, recall = np.mean(scores, axis=0)
    return {
        "macro_precision": float(precision),
        "macro_recall": float(recall),
        "macro_f1": float(np.mean([f1(*pair) for pair in scores])),
        "original_macro_f1": float(np.mean(original)),
        "accuracy": float((predicted == gold).mean()),
    }


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


def masked_lm_scores(
    predicted: Sequence[np.ndarray], losses: Sequence[np.ndarray], labels: Sequence[Sequence[int]]
) -> dict[str, float]:
    """Over all hidden tokens: share found, perplexity, and their mean log-probability, which chooses the best.

    Args:
        predicted, losses: [hidden tokens] an example, the latter in nats; what follows behind the labels is padding.
    """
    counts = [len(row) for row in labels]
    hits = np.concatenate([row[:n] for row, n in zip(predicted, counts, strict=True)]) == np.concatenate(labels)
    loss = np.concatenate([row[:n] for row, n in zip(losses, counts, strict=True)]).astype(np.float64).mean()
    return {"accuracy": float(hits.mean()), "perplexity": float(np.exp(loss)), "log_likelihood": float(-loss)}


def glue_scores(predicted: np.ndarray, gold: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """GLUE's official scores, those of `names`: accuracy, f1 (of class 1), matthews, pearson, spearman.

    Args:
        predicted, gold: [examples], classes or numbers.
    """
    predicted, gold = np.asarray(predicted), np.asarray(gold)
    found = {
        "accuracy": lambda: (predicted == gold).mean(),
        "f1": lambda: f1_score(gold, predicted, zero_division=0),
        "matthews": lambda: matthews_corrcoef(gold, predicted),
        "pearson": lambda: correlation(predicted, gold),
        "spearman": lambda: correlation(rankdata(predicted), rankdata(gold)),
    }
    return {name: float(found[name]()) for name in names}


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; 0 where one of both is constant."""
    one, other = one - one.mean(), other - other.mean()
    size = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / size) if size else 0.0
