"""Scores against the original's on given predictions, and against independent computations."""

import numpy as np
import pytest
from conftest import golden_json

from kadapter.tasks.entity_typing import best_type_accuracy, entity_typing_scores
from kadapter.tasks.scores import per_class_scores, tacred_scores
from kadapter.tasks.semeval import LABELS as SEMEVAL_LABELS
from kadapter.tasks.semeval import semeval_scores


@pytest.fixture(scope="module")
def given():
    return golden_json("text")["metrics"]


@pytest.mark.parametrize("name", ["entity_a", "entity_b", "entity_c"])
def test_entity_typing_scores_are_the_references(given, name):
    case = given[name]
    scores = entity_typing_scores(np.array(case["logits"]), np.array(case["labels"]))
    assert [scores[key] for key in ("precision", "recall", "f1")] == pytest.approx(case["micro"])
    assert [scores[f"macro_{key}"] for key in ("precision", "recall", "f1")] == pytest.approx(case["macro"])
    assert scores["accuracy"] * len(case["labels"]) == pytest.approx(case["exact"])


def test_figers_loop_predicts_the_top_label_where_none_is_positive():
    logits, labels = np.array([[-2.0, -1.0, -3.0], [1.0, -1.0, 2.0]]), np.array([[0, 1, 0], [1, 0, 0]])
    assert entity_typing_scores(logits, labels)["recall"] == 0.5
    scores = entity_typing_scores(logits, labels, top_if_none=True)
    assert (scores["recall"], scores["precision"], scores["accuracy"]) == (1.0, pytest.approx(2 / 3), 0.5)


@pytest.mark.parametrize("name", ["tacred_a", "tacred_b", "tacred_none"])
def test_tacred_scores_are_the_references(given, name):
    scores = tacred_scores(given[name]["pred"], given[name]["gold"], negative=28)
    assert [scores[key] for key in ("precision", "recall", "f1")] == pytest.approx(given[name]["prf"])


def test_semeval_scores_are_the_official_ones_and_the_references_beside_them(given):
    case = given["semeval"]
    scores = semeval_scores(case["pred"], case["gold"], SEMEVAL_LABELS)
    assert scores["original_macro_f1"] == pytest.approx(case["macro_f1"])
    assert scores["macro_f1"] == pytest.approx(official(case["pred"], case["gold"]))
    assert scores["macro_f1"] != pytest.approx(case["macro_f1"], abs=1e-4)  # they differ, and both are named


def official(predicted, gold):
    """The scorer's way: a confusion matrix of ten relations, in which a wrong direction has a column of its own."""
    names = list(dict.fromkeys(label.partition("(")[0] for label in SEMEVAL_LABELS))
    matrix = np.zeros((10, 11))
    turned = np.zeros(10)
    for p, g in zip(predicted, gold, strict=True):
        row, column = (names.index(SEMEVAL_LABELS[i].partition("(")[0]) for i in (g, p))
        if row == column and p != g:
            turned[row] += 1
        else:
            matrix[row, column] += 1
    scores = []
    for i in range(9):
        precision = matrix[i, i] / (matrix[:, i].sum() + turned[i])
        recall = matrix[i, i] / (matrix[i].sum() + turned[i])
        scores.append(2 * precision * recall / (precision + recall))
    return np.mean(scores)


def test_scores_by_class_count_what_occurs_and_leave_out_what_does_not():
    rows = per_class_scores([0, 0, 1, 3], [0, 1, 1, 0], ["a", "b", "c", "d"])
    assert [row["label"] for row in rows] == ["a", "b", "d"]
    assert rows[0] == {"label": "a", "precision": 0.5, "recall": 0.5, "f1": 0.5, "gold": 2, "predicted": 2}
    assert (rows[2]["predicted"], rows[2]["gold"], rows[2]["f1"]) == (1, 0, 0.0)


def test_the_best_type_counts_where_it_is_one_of_the_labels_even_if_none_is_predicted():
    logits = np.array([[-3.0, -1.0, -2.0], [2.0, 1.0, -1.0], [-1.0, -2.0, -3.0]])
    labels = np.array([[0, 1, 1], [0, 1, 0], [0, 0, 0]])
    assert best_type_accuracy(logits, labels) == pytest.approx(1 / 3)
    assert entity_typing_scores(logits[:1], labels[:1])["f1"] == 0
