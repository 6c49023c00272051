"""Scores of answers as SQuAD's official evaluations have them: exact match, F1, and when no answer is one.

Shapes: Q = questions. The score of no answer for a question is the sum of its logits minus that of the best span's, so
that an answer is withheld where it is above a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kadapter.data.answers import exact_match, f1_score


def answer_scores(predicted: Sequence[str], gold: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Exact match and F1 of each question, [Q] each; no answers, and "", say that there is none."""
    # In SQuAD's own files an unanswerable question has the one answer "".
    known = [answers or [""] for answers in gold]
    exact = [exact_match(text, answers) for text, answers in zip(predicted, known, strict=True)]
    f1 = [f1_score(text, answers) for text, answers in zip(predicted, known, strict=True)]
    return np.array(exact, dtype=np.float64), np.array(f1, dtype=np.float64)


def best_threshold(no_answer: np.ndarray, answered: np.ndarray, unanswerable: np.ndarray) -> float:
    """The threshold with the highest sum of scores; of several, the lowest, which withholds most.

    Args:
        no_answer: [Q], the score of no answer.
        answered: [Q], what each question scores where its best span is given.
        unanswerable: [Q], what it scores where none is given: 1 or 0.
    """
    order = np.argsort(no_answer, kind="stable")
    gains = np.concatenate([[0.0], np.cumsum(answered[order] - unanswerable[order])])
    values = no_answer[order]
    # Questions with equal scores are answered together.
    usable = np.concatenate([[True], [*(values[1:] != values[:-1]), True]]) if len(values) else np.array([True])
    best = int(np.where(usable, gains, -np.inf).argmax())
    return float(values[best - 1]) if best else float(values.min(initial=0.0)) - 1.0


def squad_scores(predicted: Sequence[str], gold: Sequence[Sequence[str]]) -> dict[str, float]:
    """Means of exact match and F1; where some questions have no answer, also of those that have one and that have none.

    The official evaluation of SQuAD 2.0 calls these HasAns_exact, HasAns_f1 and NoAns_exact, which is NoAns_f1 too.
    """
    exact, f1 = answer_scores(predicted, gold)
    scores = {"exact_match": float(exact.mean()), "f1": float(f1.mean())}
    has = np.array([bool(answers) for answers in gold])
    if has.any() and not has.all():
        scores |= {"has_answer_exact": float(exact[has].mean()), "has_answer_f1": float(f1[has].mean())}
        scores |= {"no_answer_exact": float(exact[~has].mean())}
    return scores
