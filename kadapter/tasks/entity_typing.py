"""Entity typing: a marked mention and any number of types for it (K-Adapter, section 4.1).

A record: {"sent": str, "start", "end", "labels": [...]}; character offsets, end exclusive. Or {"tokens": [...],
"mentions": [{"start", "end", "labels"}]}, word numbers with exclusive ends, which makes an example a mention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy

from kadapter.data.encoding import Encoding, Feature, OnError, Template, marker, tokenize_pieces, window
from kadapter.data.forms import converted, typing_records
from kadapter.data.jsonio import check_keys, checked_rows, shorten, whole, write_json
from kadapter.data.labels import read_labels
from kadapter.data.spans import CharacterSigns, Signs, excerpt, is_blank
from kadapter.data.splits import files_of, missing
from kadapter.data.tables import read_rows
from kadapter.storage.locks import exclusive_after_waiting
from kadapter.tasks.scores import f1, numbers, rounded
from kadapter.training.task import Answer, Example, Outputs, Predictions, Scores, Task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

# run_finetune_openentity_adapter.py: the order that its saved heads use
OPENENTITY_LABELS = ("entity", "location", "time", "organization", "object", "event", "place", "person", "group")
MARKER = "@"
TYPING_SCHEMA = {
    "sent": "string",
    "start": "int32",
    "end": "int32",
    "labels": ["string"],
    "record": "int64",
}


@dataclass(frozen=True, kw_only=True)
class EntityTyping(Task):
    """A marked mention -> any number of types; without labels any are read, and none is encoded."""

    head = "entity_typing"
    metric = "f1"
    max_seq_length = 256
    schema = TYPING_SCHEMA
    labels_may_differ = True
    sample = '{"sent": "Ann lives in Oslo.", "start": 13, "end": 17}'

    spans: str = "exclusive"
    """Whether the ends in the files belong to their mentions ("inclusive"), or not."""

    def read(self, path: Path, split: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
        return read_entity_typing(path, self.labels or None, on_error, self.spans)

    def signs(self) -> Signs | None:
        given = self.spans == "inclusive"
        return TypingSigns(
            "count offsets in characters" if given else "look at some and give --spans inclusive",
            "look at some and leave --spans inclusive out" if given else "make the end the place behind the mention",
        )

    def marked(self, example: dict[str, Any]) -> str:
        text, start, end = example["sent"], example["start"], example["end"]
        return excerpt(text[:start], f"{MARKER} {text[start:end].strip()} {MARKER}", text[end:])

    def encode(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        return encode_entity_typing(examples, encoding.tokenizer, encoding.max_seq_length, self.labels, encoding.causal)

    def example(self, given: Any, where: str) -> dict[str, Any]:
        """A record without labels; the text may also be called `text`. Offsets are characters, as in the data."""
        record = dict(given) if isinstance(given, Mapping) else {}
        if "text" in record:
            record["sent"] = record.pop("text")
        return _check({**record, "labels": []}, where, 0, labels=None, inclusive=self.spans == "inclusive")

    def answer(self, outputs: Outputs, feature: Feature, example: Example, encoding: Encoding) -> Answer:
        """All labels of a probability above one half, and the probabilities of all."""
        shares = scipy.special.expit(outputs["logits"].astype(np.float64))
        scores = {label: float(share) for label, share in zip(self.labels, shares, strict=True)}
        return {"labels": [label for label, share in scores.items() if share > 0.5], "scores": scores}

    def score(self, predictions: Predictions, features: Dataset) -> Scores:
        """Also, as `best_type`, a score that has a chance level: the share whose likeliest type is a right one."""
        logits, labels = predictions["logits"].values, numbers(features)
        return {**entity_typing_scores(logits, labels), "best_type": best_type_accuracy(logits, labels)}

    def rows(
        self, predictions: Predictions, features: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[dict[str, Any]]:
        """Gold and predicted types, and all logits."""
        for logits, gold, record in zip(
            predictions["logits"], numbers(features), numbers(features, "record"), strict=True
        ):
            yield {
                "record": int(record),
                "labels": [name for name, present in zip(self.labels, gold, strict=True) if present],
                "predicted": [name for name, logit in zip(self.labels, logits, strict=True) if logit > 0],
                "logits": rounded(logits),
            }


class TypingSigns(CharacterSigns):
    """Signs of offsets that are misread, in examples of entity typing."""

    def add(self, example: dict[str, Any]) -> bool:
        return self.add_mention(example["record"], example["sent"], example["start"], example["end"])


class OpenEntity(EntityTyping):
    """OpenEntity's nine types."""

    name = "openentity"
    sizes: ClassVar = {"OpenEntity": {"train": 1998, "dev": 1998, "test": 1998}}

    @classmethod
    def own_labels(cls, folder: Path) -> Sequence[str]:
        return OPENENTITY_LABELS


class TrexTyping(EntityTyping):
    """Types of T-REx's entities, to pretrain an adapter on."""

    name = "et"
    splits = ("train", "dev")

    @classmethod
    def own_labels(cls, folder: Path) -> Sequence[str]:
        return read_labels(folder / "labels.json")


class Figer(EntityTyping):
    """FIGER's types, which `labels.json` in the data folder lists; its recipe collects them where it is not there."""

    name = "figer"
    sizes: ClassVar = {"FIGER as in K-Adapter": {"train": 2000000, "dev": 10000, "test": 563}}

    @classmethod
    def own_labels(cls, folder: Path) -> Sequence[str]:
        return read_labels(path) if (path := folder / "labels.json").is_file() else ()

    @classmethod
    def with_collected_labels(cls, folder: str | Path, **options: Any) -> Figer:
        """The task with the labels of labels.json; where that is not there, it is collected and written.

        The order is that of first appearance in the files, training first, as in the original (utils_glue.py), which
        saved heads depend on. Labels of dev and test that training lacks come last.

        Raises:
            FileNotFoundError, ValueError: a file is missing or broken; then no labels are written.
        """
        task, path = cls.for_folder(folder, **options), Path(folder) / "labels.json"
        if not task.labels and not files_of(train := task.path(folder, "train")):
            raise FileNotFoundError(
                f"{train} is missing; put the data there or give another --data_dir. {missing(train)}"
            )
        if not task.labels:
            with exclusive_after_waiting(path):  # of the processes of a job one collects
                if not path.is_file():
                    write_json(path, task._collected(folder))
        return cls.for_folder(folder, **options)

    def _collected(self, folder: str | Path) -> list[str]:
        labels: dict[str, None] = {}
        paths = {split: self.path(folder, split) for split in self.splits}
        for split in [split for split, path in paths.items() if files_of(path)]:
            for example in self.read(paths[split], split):
                labels.update(dict.fromkeys(example["labels"]))
        return list(labels)

    def score(self, predictions: Predictions, features: Dataset) -> Scores:
        """Also, as `top_...`, those of the original's loop (docs/deviations.md, 26)."""
        in_loop = entity_typing_scores(predictions["logits"].values, numbers(features), top_if_none=True)
        return {**super().score(predictions, features), **{f"top_{name}": value for name, value in in_loop.items()}}


def read_entity_typing(
    path: str | Path,
    labels: Sequence[str] | None,
    on_error: Callable[[ValueError], None] | None = None,
    spans: str = "exclusive",
) -> Iterator[dict[str, Any]]:
    """Checked examples.

    Args:
        labels: those that there are; None takes any label.
        on_error: as in `checked`.
        spans: whether ends belong to their mentions ("inclusive"), or not.

    Raises:
        ValueError: names file, record, value and mend.
    """
    known = None if labels is None else frozenset(labels)
    check = partial(_check, labels=known, inclusive=spans == "inclusive")
    return checked_rows(converted(read_rows(path, on_error), typing_records, on_error), check, on_error)


def _check(
    record: dict[str, Any], where: str, number: int, labels: frozenset[str] | None, inclusive: bool
) -> dict[str, Any]:
    check_keys(record, ("sent", "start", "end", "labels"), where)
    sent, start, end = record["sent"], whole(record["start"]), whole(record["end"])
    if not isinstance(sent, str) or start is None or end is None:
        shown = ", ".join(shorten(record[key]) for key in ("sent", "start", "end"))
        raise ValueError(f"{where}: sent, start and end are {shown}; give a text and two numbers.")
    if not 0 <= start <= end + inclusive <= len(sent):
        raise ValueError(
            f"{where}: the mention spans {shorten(start)} to {shorten(end)}, but the sentence has {len(sent)} "
            f"characters; offsets count from 0, the end is {'inclusive' if inclusive else 'exclusive'}."
        )
    end += inclusive
    if is_blank(sent[start:end]):
        raise ValueError(f"{where}: the mention from {start} to {end} is empty; mend start and end.")
    if not isinstance(record["labels"], list) or not all(isinstance(label, str) for label in record["labels"]):
        raise ValueError(f"{where}: labels is {shorten(record['labels'])}; give a list of names.")
    unknown = [] if labels is None else [label for label in record["labels"] if label not in labels]
    if unknown:
        raise ValueError(
            f"{where}: the labels {unknown} are not among the {len(labels or ())} known; mend them or give --labels."
        )
    return {"sent": sent, "start": start, "end": end, "labels": record["labels"], "record": number}


def encode_entity_typing(
    examples: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    labels: Sequence[str],
    causal: bool = False,
) -> list[Feature]:
    """Ids with " @" around the mention, the position of the first of them (causal: the second), a 0 or 1 a label.

    Where the text is too long, a window around the mention is kept (the original crashes there).
    """
    index = {label: i for i, label in enumerate(labels)}
    texts = [
        part
        for e in examples
        for part in (e["sent"][: e["start"]], e["sent"][e["start"] : e["end"]], e["sent"][e["end"] :])
    ]
    pieces = tokenize_pieces(tokenizer, texts)
    mark = marker(tokenizer, MARKER)
    template = Template.of(tokenizer)
    size = max_seq_length - template.size
    features: list[Feature] = []
    for i, example in enumerate(examples):
        before, mention, after = pieces[3 * i : 3 * i + 3]
        ids = [*before, *mark, *mention, *mark, *after]
        last = len(before) + 2 * len(mark) + len(mention) - 1
        begin = window(len(ids), len(before), last, size)
        at = min(last, begin + size - 1) if causal else len(before)
        present = np.zeros(len(labels), dtype=np.int8)  # a byte a label: FIGER has 113 and two million examples
        for label in example["labels"] if labels else ():
            present[index[label]] = 1
        features.append(
            {
                "input_ids": template.join(ids[begin : begin + size])["input_ids"],
                "positions": [template.before + at - begin],
                "labels": present,
                "note": "a window around the mention was taken" if len(ids) > size else "",
            }
        )
    return features


def entity_typing_scores(logits: np.ndarray, labels: np.ndarray, top_if_none: bool = False) -> dict[str, float]:
    """Loose micro (OpenEntity's headline: precision, recall, f1), loose macro, and exact match.

    A label is predicted when its logit is positive (run_finetune_openentity_adapter.py: accuracy, f1_score).

    Args:
        logits, labels: [examples, labels]; labels of 0 and 1.
        top_if_none: where no logit is positive, predict the largest, as FIGER's loop does
            (run_finetune_figer_adapter.py).
    """
    logits = np.asarray(logits)
    predicted, gold = logits > 0, np.asarray(labels) > 0.5
    if top_if_none:
        none = ~predicted.any(1)
        predicted[none, logits[none].argmax(1)] = True
    hits, n_predicted, n_gold = (predicted & gold).sum(1), predicted.sum(1), gold.sum(1)
    precision = float(hits.sum() / max(1, n_predicted.sum()))
    recall = float(hits.sum() / max(1, n_gold.sum()))
    # Examples without any (predicted or gold) label count as zero in the macro averages, as in the original.
    macro_precision = float((hits / np.maximum(1, n_predicted)).mean())
    macro_recall = float((hits / np.maximum(1, n_gold)).mean())
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1(precision, recall),
        "macro_precision": macro_precision,
        "macro_recall": macro_recall,
        "macro_f1": f1(macro_precision, macro_recall),
        "accuracy": float((predicted == gold).all(1).mean()),
    }


def best_type_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of examples whose largest logit is that of one of their labels; both [examples, labels]."""
    best = np.asarray(logits).argmax(1)
    return float(np.mean(np.take_along_axis(np.asarray(labels) > 0.5, best[:, None], axis=1)))
