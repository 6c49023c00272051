"""What a recipe is about: data, head, scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from kadapter.configuration import HeadConfig
from kadapter.data.encoding import Augment
from kadapter.data.features import Source
from kadapter.training.evaluation import Predictions


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that tells one recipe from another.

    source: how data are read and encoded.
    head: what stands on the encoder.
    score: predictions and features of a split -> its scores, fractions of 1.
    rows: predictions and features of a split -> one JSON object an example.
    metric: the score that chooses the best checkpoint on dev; higher is better.
    pad_token_id: what fills up sequences; None takes the tokenizer's own.
    report: called in the end with the run's folder, the split, its predictions and its features.
    augment: `augment(feature, epoch)`, what an epoch of training sees of a feature; it must depend on these alone.
    start: called with the fresh task model, to give its head and fusion other first weights.
    """

    source: Source
    head: HeadConfig
    score: Callable[[Predictions, Dataset], dict[str, float]]
    rows: Callable[[Predictions, Dataset], Iterable[Mapping[str, Any]]]
    metric: str
    pad_token_id: int | None = None
    report: Callable[[Path, str, Predictions, Dataset], None] | None = None
    augment: Augment | None = None
    start: Callable[[Any], None] | None = None
