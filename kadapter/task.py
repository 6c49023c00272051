"""What a recipe is about: data, head, scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, Features

from kadapter.configuration import HeadConfig
from kadapter.data.encoding import Augment
from kadapter.data.features import Encoder, Reader
from kadapter.evaluation import Predictions


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that tells one recipe from another.

    read: `read(path, **read_options)` yields checked examples with their record numbers.
    schema: the examples' columns.
    encode: `encode(examples, tokenizer, max_seq_length, **encode_options)` turns a list of them into features.
    head: what stands on the encoder.
    score: predictions and features of a split -> its scores, fractions of 1.
    rows: predictions and features of a split -> one JSON object an example.
    metric: the score that chooses the best checkpoint on dev; higher is better.
    files: split -> name of its file in the data folder, where that is not the split's own with .jsonl or .json.
    split_options: split -> further options of `read` there.
    pad_token_id: what fills up sequences; None takes the tokenizer's own.
    report: called in the end with the run's folder, the split, its predictions and its features.
    augment: `augment(feature, epoch)`, what an epoch of training sees of a feature; it must depend on these alone.
    start: called with the fresh task model, to give its head and fusion other first weights.
    """

    read: Reader
    schema: Features
    encode: Encoder
    head: HeadConfig
    score: Callable[[Predictions, Dataset], dict[str, float]]
    rows: Callable[[Predictions, Dataset], Iterable[Mapping[str, Any]]]
    metric: str
    read_options: Mapping[str, Any] = field(default_factory=dict)
    encode_options: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    split_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pad_token_id: int | None = None
    report: Callable[[Path, str, Predictions, Dataset], None] | None = None
    augment: Augment | None = None
    start: Callable[[Any], None] | None = None
