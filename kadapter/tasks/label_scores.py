"""Scores of classification: of single labels, of several, of numbers, of GLUE; scikit-learn's where it has them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from kadapter.training.task import Scores


def single_label_scores(logits: np.ndarray, gold: np.ndarray) -> Scores:
    """Accuracy (which is also the micro F1), macro F1 over the labels that occur, gold or predicted, and AUROC.

    Args:
        logits: [examples, labels]; gold: [examples], numbers of labels.
    """
    from sklearn.metrics import f1_score  # here: slow to import

    predicted = logits.argmax(1)
    f1 = {kind: float(f1_score(gold, predicted, average=kind, zero_division=0)) for kind in ("micro", "macro")}
    present = gold[:, None] == np.arange(logits.shape[1])
    found = {"accuracy": float((predicted == gold).mean()), "macro_f1": f1["macro"], "micro_f1": f1["micro"]}
    return found | auroc(scipy.special.softmax(logits, axis=1), present)


def multi_label_scores(logits: np.ndarray, gold: np.ndarray) -> Scores:
    """Micro and macro F1 over labels, the share of rows that are wholly right, and AUROC; both [examples, labels]."""
    from sklearn.metrics import f1_score

    predicted, present = logits > 0, gold == 1
    f1 = {
        f"{kind}_f1": float(f1_score(present, predicted, average=kind, zero_division=0)) for kind in ("micro", "macro")
    }
    return {"accuracy": float((predicted == present).all(1).mean()), **f1, **auroc(logits, present)}


def auroc(scores: np.ndarray, present: np.ndarray) -> Scores:
    """The mean over labels, each against all others; those that all rows or none have are left out of it.

    Of two labels it is the usual one of two classes. Empty where no label is left.
    """
    from sklearn.metrics import roc_auc_score

    mixed = [i for i in range(present.shape[1]) if 0 < present[:, i].sum() < len(present)]
    return {"auroc": float(np.mean([roc_auc_score(present[:, i], scores[:, i]) for i in mixed]))} if mixed else {}


def number_scores(predicted: np.ndarray, gold: np.ndarray) -> Scores:
    """Pearson's and Spearman's correlation (0 where one side is constant) and the root of the mean squared error."""
    error = float(np.sqrt(np.mean((predicted - gold) ** 2)))
    ranks = correlation(scipy.stats.rankdata(predicted), scipy.stats.rankdata(gold))
    return {"pearson": correlation(predicted, gold), "spearman": ranks, "rmse": error}


def glue_scores(predicted: np.ndarray, gold: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """GLUE's official scores, those of `names`: accuracy, f1 (of class 1), matthews, pearson, spearman.

    Args:
        predicted, gold: [examples], classes or numbers.
    """
    from sklearn import metrics  # here: slow to import

    predicted, gold = np.asarray(predicted), np.asarray(gold)
    found = {
        "accuracy": lambda: (predicted == gold).mean(),
        "f1": lambda: metrics.f1_score(gold, predicted, zero_division=0),
        "matthews": lambda: metrics.matthews_corrcoef(gold, predicted),
        "pearson": lambda: correlation(predicted, gold),
        "spearman": lambda: correlation(scipy.stats.rankdata(predicted), scipy.stats.rankdata(gold)),
    }
    return {name: float(found[name]()) for name in names}


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; 0 where one of both is constant."""
    one, other = one - one.mean(), other - other.mean()
    size = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / size) if size else 0.0
