"""GLUE: its nine tasks, from the download's tab-separated files, or as hubs have them (`kadapter.tasks.glue_hub`).

Quotes are text, columns go by the header's names, and CoLA's files without header by their known order. In train and
dev a row that ends before its columns do (QQP has some) is dropped and counted; in a test file, of which the server
wants every row, it is refused. A row with an empty text is dropped and counted too; in a test file it is kept, and
counted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy

from kadapter.data.encoding import Encoding, Feature, OnError, encode_texts
from kadapter.data.jsonio import checked, checked_rows, read_lines, shorten
from kadapter.data.spans import is_blank
from kadapter.data.splits import files_of, form_of, split_path
from kadapter.data.tables import read_rows
from kadapter.shapes import IGNORE, HeadConfig
from kadapter.storage.files import atomic_writer
from kadapter.tasks.glue_hub import hub_example
from kadapter.tasks.label_scores import glue_scores
from kadapter.tasks.scores import best_label, numbers, rounded, text_of
from kadapter.training.task import Answer, Example, Outputs, Predictions, Scores, Task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

GLUE_SCHEMA = {
    "texts": ["string"],  # one or two
    "label": "string",  # "" where it is kept back
    "index": "int64",  # of the row, as the server knows it
    "fault": "string",  # why the row cannot be used; "" where it can
    "record": "int64",
}
EMPTY = "a text is empty"
_DIGITS = 18  # of an index that fits 64 bits
MAX_SIMILARITY = 5.0  # STS-B's numbers are 0 to 5


PAIR = ("sentence1", "sentence2")


@dataclass(frozen=True, kw_only=True)
class Glue(Task):
    """A task of GLUE, by its official scores; the first of them chooses the best checkpoint.

    texts, label: columns of its files. header: the columns of files without header.
    """

    head = "classification"
    max_seq_length = 128
    schema = GLUE_SCHEMA
    sample = '("The cat sleeps.", "A cat is asleep.")'
    LABELS: ClassVar[tuple[str, ...]] = ("0", "1")  # in the original's order; none where the label is a number
    texts: ClassVar[tuple[str, ...]] = PAIR
    label: ClassVar[str] = "label"
    scores: ClassVar[tuple[str, ...]] = ("accuracy",)
    header: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def own_labels(cls, folder: Path) -> Sequence[str]:
        return cls.LABELS

    def path(self, folder: str | Path, split: str) -> Path:
        return split_path(folder, split, ".tsv")

    def read(self, path: Path, split: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
        return read_glue(path, type(self), labelled=not split.startswith("test"), on_error=on_error)

    def encode(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        return encode_glue(examples, encoding.tokenizer, encoding.max_seq_length, self.labels, encoding.causal)

    def example(self, given: Any, where: str) -> dict[str, Any]:
        """One text, or two: as they are, as a pair, by the columns' names, or as `text` and `text_pair`."""
        parts = given
        if isinstance(given, Mapping):
            names = next((n for n in (self.texts, PAIR, ("text", "text_pair")) if n[0] in given), self.texts)
            parts = [given.get(name) for name in names[: len(self.texts)]]
        parts = [parts] if isinstance(parts, str) else parts
        if not isinstance(parts, Sequence) or len(parts) != len(self.texts):
            raise ValueError(f"{where}: {shorten(given)} is not what {self.name} is about; give {self._wanted()}.")
        texts = [text_of(part, self.texts, where) for part in parts]
        return {"texts": texts, "label": "", "index": 0, "fault": "", "record": 0}

    def _wanted(self) -> str:
        return "a text" if len(self.texts) == 1 else f"two texts, or a dictionary with {' and '.join(self.texts)}"

    def answer(self, outputs: Outputs, feature: Feature, example: Example, encoding: Encoding) -> Answer:
        """Label and probabilities, or, where answers are numbers, the number as score."""
        logits = outputs["logits"]
        return best_label(logits, self.labels) if self.labels else {"score": float(logits[0].clip(0, MAX_SIMILARITY))}

    def head_config(self, max_seq_length: int, vocab_size: int) -> HeadConfig:
        return HeadConfig(self.head, len(self.labels) or 1, self.labels or None)

    def score(self, predictions: Predictions, features: Dataset) -> Scores:
        logits = predictions["logits"].values
        return glue_scores(logits.argmax(1) if self.labels else logits[:, 0], numbers(features), self.scores)

    def rows(
        self, predictions: Predictions, features: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[dict[str, Any]]:
        """Gold (None where it is kept back) and predicted label, or number, and all logits."""
        columns = (predictions["logits"], numbers(features), numbers(features, "record"))
        for logits, gold, record in zip(*columns, strict=True):
            known = None if gold == IGNORE else self.labels[gold] if self.labels else float(gold)
            answers = {"label": known, "predicted": self._answer(logits)}
            yield {"record": int(record), **answers, "logits": rounded(logits)}

    def _answer(self, logits: np.ndarray) -> str | float:
        return self.labels[int(logits.argmax())] if self.labels else round(float(logits[0].clip(0, MAX_SIMILARITY)), 3)

    def server_files(self) -> dict[str, str]:
        """Test split -> name of the file that GLUE's server takes."""
        return {"test": f"{self.name}.tsv"}

    def report(self, folder: Path, split: str, predictions: Predictions, features: Dataset) -> None:
        """`test_results.tsv`, class probabilities a line (STS-B: the number), and the file that GLUE's server takes."""
        if split not in self.server_files():
            return
        with atomic_writer(folder / f"{split}_results.tsv") as file:
            for logits in predictions["logits"].values.astype(np.float64):
                values = scipy.special.softmax(logits) if self.labels else logits
                file.write("\t".join(str(float(value)) for value in values) + "\n")
        with atomic_writer(folder / self.server_files()[split]) as file:
            file.write("index\tprediction\n")
            for logits, index in zip(predictions["logits"], numbers(features, "index"), strict=True):
                file.write(f"{index}\t{self._answer(logits)}\n")
        logger.info("for GLUE's server: %s", folder / self.server_files()[split])


class CoLA(Glue):
    name = "CoLA"
    texts = ("sentence",)
    sample = '"The cat sleeps."'
    metric = "matthews"
    scores = ("matthews", "accuracy")
    header = ("source", "label", "star", "sentence")


class SST2(Glue):
    name = "SST-2"
    metric = "accuracy"
    texts = ("sentence",)
    sample = '"The cat sleeps."'


class MRPC(Glue):
    name = "MRPC"
    metric = "accuracy"
    texts = ("#1 String", "#2 String")
    label = "Quality"
    scores = ("accuracy", "f1")

    def path(self, folder: str | Path, split: str) -> Path:
        """GLUE's own file, or Microsoft's, which has all its columns."""
        own, raw = super().path(folder, split), Path(folder) / f"msr_paraphrase_{split}.txt"
        return raw if split != "dev" and raw.is_file() and not files_of(own) else own


class STSB(Glue):
    name = "STS-B"
    metric = "pearson"
    label = "score"
    LABELS = ()
    scores = ("pearson", "spearman")


class QQP(Glue):
    name = "QQP"
    metric = "accuracy"
    texts = ("question1", "question2")
    label = "is_duplicate"
    scores = ("accuracy", "f1")


class MNLI(Glue):
    name = "MNLI"
    metric = "accuracy"
    label = "gold_label"
    LABELS = ("contradiction", "entailment", "neutral")
    splits = ("train", "dev", "dev_mismatched", "test", "test_mismatched")

    def path(self, folder: str | Path, split: str) -> Path:
        return super().path(folder, f"{split}_matched" if split in ("dev", "test") else split)

    def server_files(self) -> dict[str, str]:
        return {"test": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv"}


class QNLI(Glue):
    name = "QNLI"
    metric = "accuracy"
    texts = ("question", "sentence")
    LABELS = ("entailment", "not_entailment")


class RTE(Glue):
    name = "RTE"
    metric = "accuracy"
    LABELS = ("entailment", "not_entailment")


class WNLI(Glue):
    name = "WNLI"
    metric = "accuracy"


GLUE: tuple[type[Glue], ...] = (CoLA, SST2, MRPC, STSB, QQP, MNLI, QNLI, RTE, WNLI)


def glue_task(name: str) -> type[Glue]:
    """The task of that name, whatever its case; raises ValueError where there is none."""
    for task in GLUE:
        if name.lower().replace("-", "") == task.name.lower().replace("-", ""):
            return task
    raise ValueError(f"--task_name is {name!r}; choose one of {', '.join(task.name for task in GLUE)}.")


def read_glue(
    path: str | Path,
    task: type[Glue],
    labelled: bool = True,
    on_error: OnError | None = None,
) -> Iterator[dict[str, Any]]:
    """Checked rows, the record being the line.

    Args:
        labelled: train and dev; a test file may have labels or not.
        on_error: as in `checked`.

    Raises:
        ValueError: names file, line, value and mend.
    """
    empty = True
    if form_of(path) in (".tsv", ".txt") and files_of(path) == [Path(path)]:
        examples = _read_download(path, task, labelled, on_error)
    else:
        check_row = partial(hub_example, task=task, labelled=labelled, is_label=partial(_is_label, task))
        examples = checked_rows(read_rows(path, on_error), check_row, on_error)
    for example in examples:
        empty = False
        yield example
    if empty and on_error is None:
        raise ValueError(f"{path} holds no rows; fetch the file of {task.name} again.")


def _read_download(
    path: str | Path, task: type[Glue], labelled: bool, on_error: OnError | None
) -> Iterator[dict[str, Any]]:
    """The rows of a file of GLUE's download."""
    lines = ((number, line) for number, line in read_lines(path, on_error) if line.strip())
    first = next(lines, None)
    if first is None:
        raise ValueError(f"{path} holds no rows; fetch the file of {task.name} again.")
    columns, is_header = _columns(task, first[1].split("\t"), path, labelled)
    rows = enumerate(lines if is_header else chain([first], lines))
    numbered = ((number, (row, line.split("\t"))) for row, (number, line) in rows)
    check = partial(_check, task=task, columns=columns, labelled=labelled)
    yield from checked(numbered, check, path, "line", on_error)


def _columns(task: type[Glue], cells: list[str], path: str | Path, labelled: bool) -> tuple[dict[str, int], bool]:
    """Column -> place, and whether the first line is a header."""
    is_header = task.texts[0] in cells
    header = cells if is_header else task.header
    needed = [*task.texts, *([task.label] if labelled else [])]
    if missing := [name for name in needed if name not in header]:
        raise ValueError(
            f"{path}, line 1: the columns {missing} of {task.name} are not among {[cell[:20] for cell in cells]}; "
            "give the file of GLUE's download."
        )
    return {name: header.index(name) for name in (*needed, task.label, "index", "id") if name in header}, is_header


def _check(
    numbered: tuple[int, list[str]], where: str, number: int, task: type[Glue], columns: dict[str, int], labelled: bool
) -> dict[str, Any]:
    row, cells = numbered
    if len(cells) <= max(columns.values()):
        if not labelled:
            raise ValueError(f"{where}: {len(cells)} columns are too few; complete the row, which the server wants.")
        fault = {"index": row, "fault": "columns are missing", "record": number}
        return {"texts": [""] * len(task.texts), "label": "", **fault}
    texts = [cells[columns[name]] for name in task.texts]
    if labelled and any(map(is_blank, texts)):
        fault = {"index": row, "fault": EMPTY, "record": number}
        return {"texts": texts, "label": "", **fault}
    label = _number(cells[columns[task.label]].strip()) if task.label in columns else ""
    if task.label in columns and not _is_label(task, label):
        wanted = ", ".join(task.LABELS) or f"a number from 0 to {MAX_SIMILARITY:g}"
        raise ValueError(f"{where}: the label {label[:60]!r} is not {wanted}; mend it or take the line out.")
    place = next((columns[name] for name in ("index", "id") if name in columns), None)
    index = str(row) if place is None else _number(cells[place])
    is_number = index.isdecimal() and len(index) <= _DIGITS
    if not labelled and not is_number:
        raise ValueError(f"{where}: the index {index[:60]!r} is not a number; number the rows as in GLUE's download.")
    return {
        "texts": texts,
        "label": label,
        "index": int(index) if is_number else row,
        "fault": "",
        "record": number,
    }


def _number(cell: str) -> str:
    """The cell, a whole number as such where pandas wrote it as 7.0."""
    return cell[:-2] if cell.endswith(".0") and cell[:-2].isdecimal() else cell


def _is_label(task: type[Glue], label: str) -> bool:
    if task.LABELS:
        return label in task.LABELS
    try:
        return 0 <= float(label) <= MAX_SIMILARITY
    except ValueError:
        return False


def encode_glue(
    examples: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    labels: Sequence[str],
    causal: bool = False,
) -> list[Feature]:
    """One or two texts as the tokenizer joins them; the head reads the cls token, causal: the last one.

    Args:
        labels: names in order; none where the label is a number.
    """
    features = encode_texts(tokenizer, [example["texts"] for example in examples], max_seq_length, causal)
    for example, feature in zip(examples, features, strict=True):
        label = example["label"]
        known: int | float = IGNORE
        if label:
            known = labels.index(label) if labels else float(label)
        feature["labels"] = known if labels else float(known)
        feature |= {"index": example["index"], "dropped": example["fault"]}
        if any(map(is_blank, example["texts"])):  # in a test file, of which the server wants every row
            feature["note"] = EMPTY
    return features
