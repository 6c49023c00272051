"""What runs write for people to read: one row an example, tables by class, files for CosmosQA and GLUE."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.special import softmax

from kadapter.configuration import IGNORE
from kadapter.data.jsonio import read_records, write_json, write_jsonl
from kadapter.storage.files import atomic_writer
from kadapter.tasks.glue import MAX_SIMILARITY
from kadapter.tasks.metrics import per_class_scores
from kadapter.training.evaluation import Predictions

logger = logging.getLogger(__name__)


def _zipped(predictions: Predictions, features: Dataset) -> Iterator[tuple[np.ndarray, Any, int]]:
    for prediction, gold, record in zip(predictions, features["labels"], features["record"], strict=True):
        yield prediction["logits"], gold, record


def typing_rows(predictions: Predictions, features: Dataset, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Gold and predicted types, and all logits."""
    for logits, gold, record in _zipped(predictions, features):
        yield {
            "record": record,
            "labels": [name for name, present in zip(labels, gold, strict=True) if present],
            "predicted": [name for name, logit in zip(labels, logits, strict=True) if logit > 0],
            "logits": [round(float(logit), 4) for logit in logits],
        }


def relation_rows(predictions: Predictions, features: Dataset, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Gold and predicted relation, and the logit of the latter."""
    for logits, gold, record in _zipped(predictions, features):
        best = int(logits.argmax())
        logit = round(float(logits[best]), 4)
        yield {"record": record, "relation": labels[gold], "predicted": labels[best], "logit": logit}


def choice_rows(predictions: Predictions, features: Dataset) -> Iterator[dict[str, Any]]:
    """Gold (None where it is kept back) and predicted choice, and all logits."""
    for logits, gold, record in _zipped(predictions, features):
        yield {
            "record": record,
            "label": None if gold == IGNORE else gold,
            "predicted": int(logits.argmax()),
            "logits": [round(float(logit), 4) for logit in logits],
        }


def label_rows(predictions: Predictions, features: Dataset, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Gold (None where it is kept back) and predicted label, or number where there are no `labels`, and all logits."""
    for logits, gold, record in _zipped(predictions, features):
        yield {
            "record": record,
            "label": None if gold == IGNORE else labels[gold] if labels else gold,
            "predicted": _answer(logits, labels),
            "logits": [round(float(logit), 4) for logit in logits],
        }


def _answer(logits: np.ndarray, labels: Sequence[str]) -> str | float:
    return labels[int(logits.argmax())] if labels else round(float(logits[0].clip(0, MAX_SIMILARITY)), 3)


def write_glue(
    folder: Path,
    split: str,
    predictions: Predictions,
    features: Dataset,
    labels: Sequence[str],
    server_files: Mapping[str, str],
) -> None:
    """`test_results.tsv`, class probabilities a line (STS-B: the number), and the file that GLUE's server takes.

    Args:
        server_files: test split -> name of the latter.
    """
    if split not in server_files:
        return
    with atomic_writer(folder / f"{split}_results.tsv") as file:
        for prediction in predictions:
            logits = prediction["logits"].astype(np.float64)
            values = softmax(logits) if labels else logits
            file.write("\t".join(str(float(value)) for value in values) + "\n")
    with atomic_writer(folder / server_files[split]) as file:
        file.write("index\tprediction\n")
        for prediction, index in zip(predictions, features["index"], strict=True):
            file.write(f"{index}\t{_answer(prediction['logits'], labels)}\n")
    logger.info("for GLUE's server: %s", folder / server_files[split])


def write_per_class(
    folder: Path, split: str, predictions: Predictions, features: Dataset, labels: Sequence[str]
) -> None:
    """Log a table of scores by relation and write it to `per_class_<split>.json`."""
    predicted = np.array([prediction["logits"].argmax() for prediction in predictions])
    table = per_class_scores(predicted, np.array(features["labels"]), labels)
    width = max(len(row["label"]) for row in table)
    lines = [f"{'relation':<{width}}  {'P':>6} {'R':>6} {'F1':>6} {'predicted':>9} {'gold':>6}"]
    for row in table:
        scores = " ".join(f"{100 * row[name]:6.2f}" for name in ("precision", "recall", "f1"))
        lines.append(f"{row['label']:<{width}}  {scores} {row['predicted']:>9} {row['gold']:>6}")
    logger.info("%s by relation:\n%s", split, "\n".join(lines))
    write_json(folder / f"per_class_{split}.json", table)


def write_choices(
    folder: Path, split: str, predictions: Predictions, features: Dataset, errors_of: Path | None = None
) -> None:
    """CosmosQA's `predictions.lst` for the leaderboard (one choice a line) and `errors_dev.jsonl`.

    Args:
        errors_of: the data file of dev, whose wrongly answered questions are written with their scores; None
            writes none.
    """
    chosen = [int(prediction["logits"].argmax()) for prediction in predictions]
    if split == "test":
        with atomic_writer(folder / "predictions.lst") as file:
            file.writelines(f"{choice}\n" for choice in chosen)
    if split == "dev" and errors_of is not None:
        rows = {row["record"]: row for row in choice_rows(predictions, features)}
        wrong = [
            {**record, "predicted": rows[number]["predicted"], "logits": rows[number]["logits"]}
            for number, record in read_records(errors_of)
            if number in rows and rows[number]["predicted"] != rows[number]["label"]
        ]
        logger.info("%d of %d answers are wrong: %s", len(wrong), len(rows), folder / "errors_dev.jsonl")
        write_jsonl(folder / "errors_dev.jsonl", wrong)
