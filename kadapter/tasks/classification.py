"""Classification of one's own texts, or pairs of texts: a label, any number of labels, or a number.

The files are tables with named columns (csv, tsv, JSON, Parquet; `kadapter.data.tables`). Where there is no dev file, a
seeded part of train is dev, which holds about the same share of every label.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy

from kadapter.data.encoding import Encoding, Feature, OnError, encode_texts
from kadapter.data.jsonio import checked_rows, shorten
from kadapter.data.labels import read_labels
from kadapter.data.spans import is_blank
from kadapter.data.splits import files_of, missing, split_path
from kadapter.data.tables import read_rows
from kadapter.shapes import IGNORE, HeadConfig
from kadapter.tasks.confusion import draw_confusion
from kadapter.tasks.held_out import held_out_rows
from kadapter.tasks.label_scores import multi_label_scores, number_scores, single_label_scores
from kadapter.tasks.own_columns import (
    MULTIPLE,
    NUMBER,
    SINGLE,
    Columns,
    LabelSurvey,
    find_columns,
    label_name,
    label_names,
    number_of,
)
from kadapter.tasks.scores import best_label, numbers, rounded, text_of
from kadapter.training.task import Answer, Example, Outputs, Predictions, Scores, Task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

BALANCED = "balanced"
CLASSIFICATION_SCHEMA = {
    "texts": ["string"],  # one or two
    "labels": ["string"],  # names; none where numbers are predicted
    "label": "float64",  # the number; IGNORE where there is none
    "known": "bool",  # False where the labels are kept back, in a test file without them
    "record": "int64",
}


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Texts or pairs with labels of any kind; `for_folder` finds out what the options leave open."""

    name = "classification"
    head = "classification"
    max_seq_length = 128
    schema = CLASSIFICATION_SCHEMA
    required = ("train",)
    labels_may_differ = True

    text_column: str = ""
    pair_column: str = ""
    label_column: str = ""
    problem_type: str = ""
    """One of `own_columns.PROBLEM_TYPES`."""
    label_separator: str = ""
    """What parts the labels in a cell that holds several."""
    dev_share: float = 0.1
    """Share of train that is dev where there is no dev file."""
    split_seed: int = 42
    weights: tuple[float, ...] = ()
    """A factor of each label's loss, with several labels of its positives; () for none."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(self.weights))  # a list where it was read from a saved model

    @property
    def sample(self) -> str:  # type: ignore[override]
        """An input for model cards."""
        return '("A fine film.", "It is good.")' if self.pair_column else '"A fine film."'

    @property
    def metric(self) -> str:  # type: ignore[override]
        """The score that chooses the best checkpoint."""
        return {SINGLE: "macro_f1", MULTIPLE: "micro_f1", NUMBER: "spearman"}[self.problem_type]

    @classmethod
    def for_folder(cls, folder: str | Path, labels: str | Path = "", class_weights: str = "", **options: Any) -> Self:
        """The task for a data folder, with columns, kind and labels as they are given or as train's file shows them.

        Args:
            class_weights: "balanced" weighs a label's loss by how rare it is in train.

        Raises:
            FileNotFoundError, ValueError: there is no train file; it is not clear what is meant; or nothing can be
                learnt of the labels.
        """
        draft = cls(**options)
        path = draft.path(folder, "train")
        if not files_of(path):
            raise FileNotFoundError(
                f"{path} is missing; put the data there or give another --data_dir. {missing(path)}"
            )
        columns = find_columns(path, draft.text_column, draft.pair_column, draft.label_column)
        survey = LabelSurvey()
        for row in read_rows(path, lambda error: None):  # bad rows are said when they are read
            survey.add(row.record.get(columns.label), draft.label_separator)
        kind = draft.problem_type or survey.problem_type(columns.label, draft.label_separator)
        named = read_labels(labels) if labels else survey.labels(columns.label, kind)
        if labels and (kind == NUMBER or (kind == SINGLE and len(named) < 2)):
            raise ValueError(f"--labels names {len(named)} labels, which is not for {kind}; leave it out.")
        shown = f"{len(named):,} labels: {shorten(', '.join(named))}" if named else "numbers"
        logger.info("%s: %s; %s, %s.", path, columns, kind, shown)
        for names in survey.alike() if named else ():
            counts = ", ".join(f"{name!r} ({survey.counts[name]:,} rows)" for name in names)
            logger.warning("%s: these labels differ in capitals and blanks alone and are kept apart: %s.", path, counts)
        found = {"text_column": columns.text, "pair_column": columns.pair, "label_column": columns.label}
        weights = _weights(survey, named, kind, class_weights)
        task = cls(**{**options, **found, "problem_type": kind, "weights": weights}, labels=tuple(named))
        if task.path(folder, "dev") == path:
            logger.info("%s: there is no dev file; %.0f %% of the rows are dev.", path, 100 * task.dev_share)
        return task

    def options(self) -> dict[str, Any]:
        return {**super().options(), "weights": list(self.weights)}

    @property
    def columns(self) -> Columns:
        return Columns(self.text_column, self.pair_column, self.label_column)

    # -- data ---------------------------------------------------------------------------------------------------

    def path(self, folder: str | Path, split: str) -> Path:
        own = split_path(folder, split, ".csv")
        return own if split != "dev" or files_of(own) else self.path(folder, "train")

    def key(self, path: Path, split: str) -> Mapping[str, Any]:
        options = {name: value for name, value in self.options().items() if name != "weights"}
        return {**options, "labels": self.labels, "part": self._part(path, split)}

    def _part(self, path: Path, split: str) -> str:
        """Which part of the file the split is: train and dev share one where there is no dev file beside it."""
        is_shared = path == self.path(path.parent, "train") == self.path(path.parent, "dev")
        return split if is_shared else "all"

    def read(self, path: Path, split: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
        part = self._part(path, split)
        if part == "all":
            yield from self._examples(path, split, on_error)
            return
        ignored = None if on_error is None else (lambda error: None)
        single = self.problem_type == SINGLE  # scikit-learn stratifies by nothing else
        examples = self._examples(path, split, ignored)
        rows = [(example["record"], example["labels"][0] if single else "") for example in examples]
        held_out = held_out_rows(rows, self.dev_share, self.split_seed, path)
        for example in self._examples(path, split, on_error):
            if (example["record"] in held_out) == (part == "dev"):
                yield example

    def _examples(self, path: Path, split: str, on_error: OnError | None) -> Iterator[dict[str, Any]]:
        check = _Check(self, split)
        return checked_rows(read_rows(path, on_error), check, on_error)

    def encode(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        texts = [example["texts"] for example in examples]
        features = encode_texts(encoding.tokenizer, texts, encoding.max_seq_length, encoding.causal)
        index = {label: i for i, label in enumerate(self.labels)}
        for example, feature in zip(examples, features, strict=True):
            feature["labels"] = self._encoded(example, index)
        return features

    def _encoded(self, example: Mapping[str, Any], index: Mapping[str, int]) -> Any:
        if self.problem_type == NUMBER:
            return float(example["label"] if example["known"] else IGNORE)
        if self.problem_type == SINGLE:
            return index[example["labels"][0]] if example["known"] else IGNORE
        present = np.full(len(index), 0 if example["known"] else IGNORE, dtype=np.int8)
        for label in example["labels"]:
            present[index[label]] = 1
        return present

    # -- prediction ---------------------------------------------------------------------------------------------

    def example(self, given: Any, where: str) -> dict[str, Any]:
        """One text, or two: as they are, as a pair, by the columns' names, or as `text` and `text_pair`."""
        names = self.columns.texts
        parts = given
        if isinstance(given, Mapping):
            names = next((n for n in (names, ["text", "text_pair"][: len(names)]) if n[0] in given), names)
            parts = [given.get(name) for name in names]
        parts = [parts] if isinstance(parts, str) else parts
        if not isinstance(parts, Sequence) or len(parts) != len(names):
            wanted = "a text" if len(names) == 1 else "two texts"
            what = f"{where}: {shorten(given)} is not an input of this model"
            raise ValueError(f"{what}; give {wanted}, or {names} by name.")
        texts = [text_of(part, names, where) for part in parts]
        return {"texts": texts, "labels": [], "label": float(IGNORE), "known": False, "record": 0}

    def answer(self, outputs: Outputs, feature: Feature, example: Example, encoding: Encoding) -> Answer:
        """Label and probabilities; of several, those above one half; or the number as score."""
        logits = outputs["logits"]
        if self.problem_type == NUMBER:
            return {"score": float(logits[0])}
        if self.problem_type == SINGLE:
            return best_label(logits, self.labels)
        scores = dict(zip(self.labels, scipy.special.expit(logits.astype(np.float64)).tolist(), strict=True))
        return {"labels": [label for label, share in scores.items() if share > 0.5], "scores": scores}

    # -- model --------------------------------------------------------------------------------------------------

    def head_config(self, max_seq_length: int, vocab_size: int) -> HeadConfig:
        kind = "multi_label" if self.problem_type == MULTIPLE else "classification"
        return HeadConfig(kind, len(self.labels) or 1, self.labels or None)

    def initialize(self, model: Any, source: str, **hub: Any) -> None:
        """The weights of the labels go into the loss."""
        if self.weights:
            import torch  # here: slow to import, for which readers of data need not wait

            model.head.class_weights = torch.tensor(self.weights)

    # -- results ------------------------------------------------------------------------------------------------

    def is_labelled(self, features: Dataset) -> bool:
        return bool(np.ravel(features[0]["labels"])[0] != IGNORE)

    def score(self, predictions: Predictions, features: Dataset) -> Scores:
        logits, gold = predictions["logits"].values.astype(np.float64), numbers(features)
        if self.problem_type == NUMBER:
            return number_scores(logits[:, 0], gold)
        return multi_label_scores(logits, gold) if self.problem_type == MULTIPLE else single_label_scores(logits, gold)

    def rows(
        self, predictions: Predictions, features: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[dict[str, Any]]:
        """Gold (None where it is kept back) and predicted label, labels or number, and all logits."""
        name = "labels" if self.problem_type == MULTIPLE else "label"
        columns = (predictions["logits"], numbers(features), numbers(features, "record"))
        for logits, gold, record in zip(*columns, strict=True):
            known = None if np.ravel(gold)[0] == IGNORE else self._label_of(gold)
            guess = logits > 0 if self.problem_type == MULTIPLE else logits.argmax()
            predicted = round(float(logits[0]), 4) if self.problem_type == NUMBER else self._label_of(guess)
            yield {"record": int(record), name: known, "predicted": predicted, "logits": rounded(logits)}

    def _label_of(self, value: Any) -> Any:
        if self.problem_type == NUMBER:
            return float(value)
        if self.problem_type == SINGLE:
            return self.labels[int(value)]
        return [label for label, present in zip(self.labels, value, strict=True) if present]

    def report(self, folder: Path, split: str, predictions: Predictions, features: Dataset) -> None:
        """The confusion matrix of single labels as a picture, `confusion_<split>.png`."""
        if self.problem_type == SINGLE and self.is_labelled(features):
            predicted = predictions["logits"].values.argmax(1)
            draw_confusion(folder / f"confusion_{split}.png", predicted, numbers(features), self.labels, split)


class _Check:
    """Turns a row into an example; of a test file all rows have labels, or none has."""

    def __init__(self, task: Classification, split: str):
        self.task, self.columns, self.known = task, task.columns, frozenset(task.labels)
        self.may_lack = split == "test"
        self.labelled: bool | None = None

    def __call__(self, record: dict[str, Any], where: str, number: int) -> dict[str, Any]:
        names = self.columns.texts
        wanted = names if self.may_lack else [*names, self.columns.label]
        if missing := [name for name in wanted if name not in record]:
            raise ValueError(f"{where}: the columns {missing} are not among {list(record)}; name them as in train.")
        for name in names:
            if not isinstance(record[name], str) or is_blank(record[name]):
                raise ValueError(f"{where}: the {name!r} is {shorten(record[name])}; give a text or take the row out.")
        is_given = self._is_given(record, where)
        found = self._found(record[self.columns.label], where) if is_given else {"labels": [], "label": float(IGNORE)}
        return {"texts": [record[name] for name in names], **found, "known": is_given, "record": number}

    def _found(self, value: Any, where: str) -> dict[str, Any]:
        """The names or the number of a label; raises ValueError where it is none of those that there are."""
        if self.task.problem_type == NUMBER:
            number = number_of(value)
            if number is None:
                raise ValueError(
                    f"{where}: the label {shorten(value)} is not a finite number; mend it or take the row out."
                )
            if number == IGNORE:
                number = float(np.nextafter(np.float32(IGNORE), np.float32(0)))  # the loss would take -100 for none
            return {"labels": [], "label": number}
        multiple = self.task.problem_type == MULTIPLE
        try:
            names = label_names(value, self.task.label_separator) if multiple else [label_name(value)]
        except ValueError as error:
            raise ValueError(f"{where}: {error}; mend it or take the row out.") from None
        if unknown := [name for name in names if name not in self.known]:
            raise ValueError(
                f"{where}: the label {shorten(unknown[0])} is not among the {len(self.known)} labels of train; mend "
                "it, or name all labels in a file of --labels."
            )
        return {"labels": names, "label": float(IGNORE)}

    def _is_given(self, record: Mapping[str, Any], where: str) -> bool:
        """Whether the row has a label, of several any number; raises ValueError where it must and has none."""
        value = record.get(self.columns.label)
        if self.task.problem_type == MULTIPLE:
            is_given = self.columns.label in record  # "" says that no label holds
        elif self.task.problem_type == NUMBER:
            is_given = value is not None and str(value).strip() != ""  # NaN is a mistake rather than none
        else:
            is_given = label_name(value) != "" if isinstance(value, str | float | None) else True
        if not is_given and not self.may_lack:
            what = shorten(value) if value and str(value).strip() else "empty"
            raise ValueError(f"{where}: the label is {what}; mend it or take the row out.")
        if self.labelled not in (None, is_given):
            raise ValueError(f"{where}: of this file some rows have a label and others have none; give all or none.")
        self.labelled = is_given
        return is_given


def _weights(survey: LabelSurvey, labels: Sequence[str], kind: str, asked: str) -> tuple[float, ...]:
    """`asked` is "" or "balanced": scikit-learn's n / (labels x rows of the label); of several labels, the negatives
    for each positive.

    Raises:
        ValueError: numbers have no classes, or a label never occurs.
    """
    if not asked:
        return ()
    if kind == NUMBER:
        raise ValueError("--class_weights is for labels, and these are numbers; leave it out.")
    counts = [survey.counts[label] for label in labels]
    if 0 in counts:
        raise ValueError(f"the label {labels[counts.index(0)]!r} has no row in train; leave --class_weights out.")
    if kind == MULTIPLE:
        return tuple((survey.rows - count) / count for count in counts)
    return tuple(sum(counts) / (len(counts) * count) for count in counts)
