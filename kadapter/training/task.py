"""The contract that tasks fulfil: labels, reading, encoding, head, scores, rows of predictions, report.

A task is a frozen dataclass. Its fields are its options: they are kept in a saved model, so that whoever loads it can
encode new text and name its answers, and they are part of what names its feature stores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from kadapter.data.columns import Column
from kadapter.data.encoding import Encoding, Feature, OnError, Schema
from kadapter.data.labels import read_labels
from kadapter.data.spans import Signs
from kadapter.data.splits import split_path
from kadapter.shapes import IGNORE, HeadConfig

if TYPE_CHECKING:  # readers of tasks are used where nothing is trained, by which nobody waits for torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from kadapter.data.collation import Augment
    from kadapter.models.head import Kept

Predictions = Mapping[str, Column]  # what the head keeps, by name, for all examples of a split
Scores = dict[str, float]
Example = Mapping[str, Any]  # as `read` and `example` give it
Outputs = Mapping[str, np.ndarray]  # what was kept of the output for one example, by name
Answer = dict[str, Any]


def report_option(default: Any) -> Any:
    """A field that only says what is written in the end: nothing that is trained, saved or read depends on it."""
    return field(default=default, metadata={"report": True})


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A family of tasks is a module in `kadapter/tasks`, a task a class there, found by its name in `TASKS`.

    Attributes:
        name: its name in the registry, in saved models, and for scripts/check_data.py.
        head: kind of its head (`kadapter.shapes.HEAD_KINDS`).
        metric: the score that chooses the best checkpoint on dev; higher is better.
        max_seq_length: tokens of the longest sequence, as in its recipe.
        schema: columns of the examples that `read` yields, and their types.
        splits: the splits that there may be; `required`: those that a run cannot do without.
        sizes: published version of the data -> split -> number of its examples.
        in_windows: whether a text that is too long is read in several windows.
        labels_may_differ: whether a file with other labels may be given (`--labels`).
        sample: an input for a `Predictor`, named `predict`, in Python; model cards show it.
    """

    name: ClassVar[str]
    head: ClassVar[str]
    metric: ClassVar[str]
    max_seq_length: ClassVar[int]
    schema: ClassVar[Schema]
    splits: ClassVar[Sequence[str]] = ("train", "dev", "test")
    required: ClassVar[Sequence[str]] = ("train", "dev")
    sizes: ClassVar[Mapping[str, Mapping[str, int]]] = {}
    labels_may_differ: ClassVar[bool] = False
    in_windows: ClassVar[bool] = False
    sample: ClassVar[str] = ""

    labels: tuple[str, ...] = ()
    """Names in the order of their numbers; () where answers have no names."""

    @classmethod
    def for_folder(cls, folder: str | Path, labels: str | Path = "", **options: Any) -> Self:
        """The task as its recipe sets it up for a data folder.

        Args:
            labels: a JSON file of label names in order; "" takes the task's own.

        Raises:
            FileNotFoundError, ValueError: the labels are missing or broken, or the task takes no others.
        """
        if labels and not cls.labels_may_differ:
            raise ValueError(f"--labels is not for {cls.name}, whose labels are its own; leave it out.")
        found = read_labels(labels) if labels else cls.own_labels(Path(folder))
        return cls(labels=tuple(found), **options)

    @classmethod
    def own_labels(cls, folder: Path) -> Sequence[str]:
        """The labels where no file of them is given."""
        return ()

    def options(self) -> dict[str, Any]:
        """The fields that matter beyond the report, without the labels, as JSON values."""
        kept = [f.name for f in fields(self) if not f.metadata.get("report") and f.name != "labels"]
        return {name: getattr(self, name) for name in kept}

    # -- data ---------------------------------------------------------------------------------------------------

    def path(self, folder: str | Path, split: str) -> Path:
        """The split's file, folder or pattern of shards (`kadapter.data.splits`), whether it is there or not.

        Raises:
            ValueError: it is there twice.
        """
        return split_path(folder, split)

    @abstractmethod
    def read(self, path: Path, split: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
        """Checked examples with their record numbers; a bad record goes to `on_error`.

        Raises:
            ValueError: names file, record, value and mend.
        """

    @abstractmethod
    def encode(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        """Features of those examples, in their order."""

    # -- prediction ---------------------------------------------------------------------------------------------

    @abstractmethod
    def example(self, given: Any, where: str) -> dict[str, Any]:
        """A user's input as an example that `encode` takes; a label is neither needed nor looked at.

        Args:
            given: a text, a pair, or a dictionary like a record of the data.
            where: what messages call this input, such as "input 3".

        Raises:
            ValueError: says what is wrong, and what to give.
        """

    def encode_unlabelled(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        """One feature for each of those examples; or the windows of each, in order, numbered by `window_of`."""
        return self.encode(examples, encoding)

    def merge_windows(self, outputs: Sequence[Outputs], features: Sequence[Feature]) -> tuple[Outputs, Feature]:
        """The outputs and features of an example's windows as those of one feature; by default there is one window."""
        (only,), (feature,) = outputs, features
        return only, feature

    def kept(self, output: Any, batch: Mapping[str, Any]) -> Mapping[str, Kept]:
        """What `answer` and `score` need of a head's output for a batch, by name."""
        from kadapter.models.heads import HEADS

        return HEADS[self.head].kept(output, batch)

    @abstractmethod
    def answer(self, outputs: Outputs, feature: Feature, example: Example, encoding: Encoding) -> Answer:
        """What the user gets: labels, and scores as probabilities.

        Args:
            outputs: what was `kept` of the head's output for this example, by name.
            feature, example: what was computed on, and what it was made from.
        """

    # -- stores and batches -------------------------------------------------------------------------------------

    def key(self, path: Path, split: str) -> Mapping[str, Any]:
        """What features depend on besides the file itself, the tokenizer and the length; it names their store."""
        return {"labels": self.labels, **self.options()}

    def content(self, folder: str | Path) -> dict[str, str]:
        """What else identifies a run, besides the files of its splits, labels and models: what it is -> digest."""
        return {}

    def signs(self) -> Signs | None:
        """A counter of signs that a file is misread, over its examples; None where no such signs are known."""
        return None

    def marked(self, example: dict[str, Any]) -> str:
        """The text of an example with the markers that the model sees; "" where there are none."""
        return ""

    def pad_token_id(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """The token that fills up sequences; it is masked."""
        return tokenizer.pad_token_id  # type: ignore[return-value]

    def augmentation(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> Augment | None:
        """A function `augment(feature, epoch)` that gives what an epoch of training sees of a feature; None: the same.

        Its result depends only on feature, epoch, tokenizer and seed.
        """
        return None

    # -- model --------------------------------------------------------------------------------------------------

    def head_config(self, max_seq_length: int, vocab_size: int) -> HeadConfig:
        """The head for sequences of that length over that many tokens."""
        return HeadConfig(self.head, len(self.labels), self.labels)

    def initialize(self, model: Any, source: str, **hub: Any) -> None:  # noqa: B027 - most tasks need nothing
        """Prepare a fresh task model, where head and fusion start from other weights than their own initial ones.

        Args:
            source: folder or hub name of the backbone.
            hub: revision, cache_dir, ..., as in transformers.
        """

    # -- results ------------------------------------------------------------------------------------------------

    def is_labelled(self, features: Dataset) -> bool:
        """Whether the labels of a split are known; those of some test files are kept back."""
        return features[0]["labels"] != IGNORE

    def tuned_on_dev(self, predictions: Predictions, features: Dataset) -> Self:
        """The task with what is decided on dev, such as a threshold; other splits are scored with it."""
        return self

    @abstractmethod
    def score(self, predictions: Predictions, features: Dataset) -> Scores:
        """The scores of a split, `metric` among them; shares are fractions of 1."""

    @abstractmethod
    def rows(
        self, predictions: Predictions, features: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> Iterable[Mapping[str, Any]]:
        """One JSON object for each example, for people to read."""

    def report(  # noqa: B027 - most tasks need nothing
        self, folder: Path, split: str, predictions: Predictions, features: Dataset
    ) -> None:
        """Write further files that users of this task expect of a split's final predictions."""


def saved_task(task: Task, max_seq_length: int) -> dict[str, Any]:
    """What a saved model keeps of its task; the labels are the head's."""
    return {"name": task.name, "options": task.options(), "max_seq_length": max_seq_length}
