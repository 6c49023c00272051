"""Tagging of words: entities, or a tag for every word, from CoNLL columns or from texts with character spans.

Every example is a text with its words as places of characters, whatever it was read from, so that answers are spans of
the text. A word is read at its first token (causal: the last), all others are ignored. Long texts are cut into windows
that overlap; a word is read, in training too, in the window that shows the most around it, and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from kadapter.data.columns import Column, feature_column
from kadapter.data.encoding import Encoding, Feature, OnError
from kadapter.data.jsonio import checked_rows, shorten, write_json
from kadapter.data.labels import read_labels
from kadapter.data.splits import COLUMNAR, JSON, TEXT, files_of, form_of, missing, split_path
from kadapter.data.tables import begins_with_object, read_rows
from kadapter.data.tagged import (
    BIO,
    OUTSIDE,
    PLAIN,
    Entity,
    entities_in,
    read_tagged,
    scheme_of,
)
from kadapter.tasks.entity_scores import entity_scores, entity_table, tag_scores
from kadapter.tasks.scores import write_table
from kadapter.tasks.tag_windows import windows_of
from kadapter.tasks.tagged_examples import record_example, sentence, tags_in, text_record
from kadapter.training.task import Answer, Example, Outputs, Predictions, Scores, Task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from kadapter.models.head import Kept

logger = logging.getLogger(__name__)

CONLL = ".conll"
_COLUMNS = (TEXT, ".tsv", ".bio", ".iob", ".iob2", ".bioes")
TAGGING_SCHEMA = {
    "text": "string",
    "starts": ["int32"],  # of words, in characters
    "ends": ["int32"],
    "labels": ["string"],  # a tag a word, BIO where they are entities
    "note": "string",
    "record": "int64",
}


@dataclass(frozen=True, kw_only=True)
class Tagging(Task):
    """Words with tags; `for_folder` finds out how they are written and which types there are."""

    name = "tagging"
    head = "tagging"
    in_windows = True
    max_seq_length = 128
    schema = TAGGING_SCHEMA
    labels_may_differ = True
    sample = '"Ann lives in Oslo."'

    word_column: int = 1
    """Column of the words in CoNLL files, from 1; -1 is the last."""
    tag_column: int = -1
    scheme: str = BIO
    """How the files write tags: BIO, IOB1, BIOES, or "plain" where every word has a tag of its own."""
    stride: int = 32
    """Tokens that two windows of a long text share."""

    @property
    def metric(self) -> str:  # type: ignore[override]
        """The score that chooses the best checkpoint."""
        return "accuracy" if self.scheme == PLAIN else "f1"

    @classmethod
    def for_folder(cls, folder: str | Path, labels: str | Path = "", **options: Any) -> Self:
        """The task for a data folder, with scheme and types as train's file shows them.

        Args:
            labels: a JSON file of types (of plain tags: of tags) in order; "" takes those of train.

        Raises:
            FileNotFoundError, ValueError: there is no train file, or nothing can be learnt of its tags.
        """
        task = cls(**options)
        path = task.path(folder, "train")
        if not files_of(path):
            where = missing(path)
            raise FileNotFoundError(f"{path} is missing; put the data there or give another --data_dir. {where}")
        task = cls(**{**options, "scheme": scheme_of(task._written(path))})
        named = read_labels(labels) if labels else task._types(path)
        tags = named if task.scheme == PLAIN else [OUTSIDE, *(f"{mark}-{name}" for name in named for mark in "BI")]
        what = "words with tags" if task.scheme == PLAIN else "entities"
        logger.info("%s: %s, %s; %d types: %s.", path, what, task.scheme, len(named), shorten(", ".join(named)))
        return cls(**{**options, "scheme": task.scheme}, labels=tuple(tags))

    def _written(self, path: Path) -> Iterator[Sequence[str]]:
        """The tags of a split as they are written; of spans, those that they would be. What is bad is passed over."""
        if _is_conll(path):
            sentences = read_tagged(path, self.word_column, self.tag_column, lambda error: None)
            yield from (tagged.tags for tagged in sentences)
        else:
            found = (tags_in(row.record) for row in read_rows(path, lambda error: None))
            yield from ([OUTSIDE, f"B-{BIO}"] if tags is None else tags for tags in found)

    def _types(self, path: Path) -> list[str]:
        """The types of the entities in train, or its plain tags; raises ValueError where none can be learnt."""
        count, found = 0, set[str]()
        for example in self.read(path, "train", lambda error: None):
            plain = self.scheme == PLAIN
            kinds = example["labels"] if plain else [one.label for one in entities_in(example["labels"])]
            count += len(kinds)
            found.update(kinds)
        what = "tags" if self.scheme == PLAIN else "types of entities"
        if len(found) <= (self.scheme == PLAIN):
            held = f"only {next(iter(found))!r}" if found else "none"
            raise ValueError(f"{path}: of {what} it holds {held}, of which nothing can be learnt; give other columns.")
        if 2 * len(found) > count and len(found) > 1:
            raise ValueError(
                f"{path} holds {len(found):,} {what}, each fewer than twice on average: the column seems to be another "
                "one; give --tag_column, or a file of --labels where they are meant."
            )
        return sorted(found)

    # -- data ---------------------------------------------------------------------------------------------------

    def path(self, folder: str | Path, split: str) -> Path:
        return split_path(folder, split, CONLL, (*_COLUMNS, *JSON, *COLUMNAR))

    def read(self, path: Path, split: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
        known = frozenset(self.labels)
        if not _is_conll(path):
            rows = read_rows(path, on_error)
            yield from checked_rows(
                rows, lambda one, where, number: record_example(one, where, number, self.scheme, known), on_error
            )
            return
        sentences = read_tagged(path, self.word_column, self.tag_column, on_error)
        found = ((tagged.number, tagged.where, tagged) for tagged in sentences)
        yield from checked_rows(
            found, lambda one, where, number: sentence(one.words, one.tags, where, number, self.scheme, known), on_error
        )

    def encode(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        index = {label: i for i, label in enumerate(self.labels)}
        features: list[Feature] = []
        for example, windows in zip(examples, windows_of(examples, encoding, self.stride), strict=True):
            for feature, words in windows:
                feature["labels"] = [index[example["labels"][word]] for word in words]
                feature["items"] = len(words)
                features.append(feature)
        return features

    def encode_unlabelled(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        """The windows of each example, which `window_of` numbers."""
        found = list(windows_of(examples, encoding, self.stride))
        for i, windows in enumerate(found):
            for feature, _ in windows:
                feature["window_of"] = i
        return [feature for windows in found for feature, _ in windows]

    # -- prediction ---------------------------------------------------------------------------------------------

    def example(self, given: Any, where: str) -> dict[str, Any]:
        """A text, as it is or as `text`; or a list of words, as it is or as `tokens` or `words`."""
        words = given
        if isinstance(given, Mapping):
            words = next((given[name] for name in ("tokens", "words", "text", "sent") if name in given), None)
        if isinstance(words, str):
            return text_record(words, where)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            what = f"{where}: {shorten(given)} is not an input of this model"
            raise ValueError(f"{what}; give a text or a list of words.")
        return sentence(words, [OUTSIDE] * len(words), where, 0, BIO, frozenset())

    def kept(self, output: Any, batch: Mapping[str, Any]) -> Mapping[str, Kept]:
        """For each word the likeliest tag and its probability."""
        from kadapter.models.head import Kept

        scores, tags = output.logits.float().softmax(-1).max(-1)
        return {"predicted": Kept(tags), "scores": Kept(scores)}

    def merge_windows(self, outputs: Sequence[Outputs], features: Sequence[Feature]) -> tuple[Outputs, Feature]:
        """The words of all windows, one after the other."""
        counts = [len(feature["positions"]) for feature in features]
        names = ("predicted", "scores")
        whole = {
            name: np.concatenate([part[name][:count] for part, count in zip(outputs, counts, strict=True)])
            for name in names
        }
        columns: dict[str, Any] = {
            name: [value for feature in features for value in feature[name]]  # type: ignore[literal-required]
            for name in ("starts", "ends")
        }
        return whole, {**features[0], **columns}  # type: ignore[return-value, typeddict-item]

    def answer(self, outputs: Outputs, feature: Feature, example: Example, encoding: Encoding) -> Answer:
        """Entities as spans of the text, with the mean probability of their words' tags; or each word's tag."""
        tags = [self.labels[tag] for tag in outputs["predicted"]]
        spans = self._spans(tags, feature["starts"], feature["ends"])  # type: ignore[typeddict-item]
        scores = outputs["scores"].astype(np.float64)
        told = [
            {**_entity_as_row(span, example["text"]), "score": float(scores[first:last].mean())}
            for span, (first, last) in zip(spans, self._runs(tags), strict=True)
        ]
        return {"text": example["text"], "entities": told}

    def _runs(self, tags: Sequence[str]) -> list[tuple[int, int]]:
        if self.scheme == PLAIN:
            return [(i, i + 1) for i in range(len(tags))]
        return [(start, end) for start, end, _ in entities_in(tags)]

    def _spans(self, tags: Sequence[str], starts: Sequence[int], ends: Sequence[int]) -> list[Entity]:
        """What the tags of words stand for, in characters."""
        if self.scheme == PLAIN:
            return [Entity(int(start), int(end), tag) for start, end, tag in zip(starts, ends, tags, strict=True)]
        return [Entity(int(starts[start]), int(ends[end - 1]), label) for start, end, label in entities_in(tags)]

    # -- results ------------------------------------------------------------------------------------------------

    def is_labelled(self, features: Dataset) -> bool:
        return True

    def score(self, predictions: Predictions, features: Dataset) -> Scores:
        gold, predicted = self._tags(feature_column(features, "labels"), predictions["predicted"], features)
        return tag_scores(predicted, gold) if self.scheme == PLAIN else entity_scores(predicted, gold)

    def _tags(self, gold: Column, predicted: Column, features: Dataset) -> tuple[list[list[str]], list[list[str]]]:
        """Gold and predicted tags of every text, its windows joined."""
        records = feature_column(features, "record").values
        found: tuple[list[list[str]], list[list[str]]] = ([], [])
        before = None
        for record, *rows in zip(records, gold, predicted, strict=True):
            for texts, row in zip(found, rows, strict=True):
                if record != before:
                    texts.append([])
                texts[-1] += [self.labels[tag] for tag in row]
            before = record
        return found

    def rows(
        self, predictions: Predictions, features: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[dict[str, Any]]:
        """For each text the gold and predicted entities, or words with tags, as spans of characters."""
        records = feature_column(features, "record").values
        names = ("starts", "ends", "labels")
        columns = [*(feature_column(features, name) for name in names), predictions["predicted"]]
        texts = feature_column(features, "text").values
        begins = [i for i, record in enumerate(records) if not i or record != records[i - 1]]
        for begin, end in zip(begins, [*begins[1:], len(records)], strict=True):
            starts, ends, gold, predicted = (
                np.concatenate([column[i] for i in range(begin, end)]) for column in columns
            )
            found = {}
            for name, numbers in (("entities", gold), ("predicted", predicted)):
                spans = self._spans([self.labels[tag] for tag in numbers], starts.tolist(), ends.tolist())
                found[name] = [_entity_as_row(span, texts[begin]) for span in spans]
            yield {"record": int(records[begin]), "text": texts[begin], **found}

    def report(self, folder: Path, split: str, predictions: Predictions, features: Dataset) -> None:
        """A table of scores by type, in the log and as `per_type_<split>.json`."""
        gold, predicted = self._tags(feature_column(features, "labels"), predictions["predicted"], features)
        table = entity_table(predicted, gold, self.scheme == PLAIN)
        write_table(table, f"{split} by type", "type")
        write_json(folder / f"per_type_{split}.json", table)


def _entity_as_row(span: Entity, text: str) -> dict[str, Any]:
    return {"start": span.start, "end": span.end, "label": span.label, "text": text[span.start : span.end]}


def _is_conll(path: Path) -> bool:
    """Whether a split has CoNLL columns rather than records."""
    form = form_of(files_of(path)[0])
    return form not in (*JSON, *COLUMNAR) and not (form == TEXT and begins_with_object(files_of(path)[0]))
