"""Dependency heads, to pretrain an adapter on (K-Adapter, section 3.4): find_head.

A record: {"sent": str, "tokens": [{"1": {"start", "end"}}, {"2": ...}], "pairs": [{"dependent_index",
"governor_index"}]}; words numbered from 1, governor 0 = root, character offsets with exclusive ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kadapter.data.columns import feature_column
from kadapter.data.conllu import word_on_cycle
from kadapter.data.encoding import Encoding, Feature, OnError, Template, dropped_feature, tokenize_pieces
from kadapter.data.jsonio import check_keys, checked_rows, shorten, whole
from kadapter.data.spans import Span
from kadapter.data.tables import read_rows
from kadapter.shapes import IGNORE, HeadConfig
from kadapter.tasks.scores import numbers, text_of
from kadapter.training.task import Answer, Example, Outputs, Predictions, Scores, Task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

DEPENDENCY_SCHEMA = {
    "words": ["string"],
    "heads": ["int32"],
    "fault": "string",  # why the sentence cannot be used; "" where it can
    "record": "int64",
}


@dataclass(frozen=True, kw_only=True)
class DependencyHeads(Task):
    """A sentence -> the position of each word's governor."""

    name = "lin"
    head = "dependency"
    metric = "accuracy"
    max_seq_length = 64
    schema = DEPENDENCY_SCHEMA
    sample = '"The cat sleeps ."'
    splits = ("train", "dev")

    original_labels: bool = False
    """Label positions as the original does (docs/deviations.md, 3)."""

    def read(self, path: Path, split: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
        return read_dependencies(path, on_error)

    def encode(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        size, original = encoding.max_seq_length, self.original_labels
        return encode_dependencies(examples, encoding.tokenizer, size, original, encoding.causal)

    def head_config(self, max_seq_length: int, vocab_size: int) -> HeadConfig:
        return HeadConfig(self.head, max_seq_length)  # the original's classifier: one class a position

    def score(self, predictions: Predictions, features: Dataset) -> Scores:
        gold = feature_column(features, "labels").values
        return head_scores(predictions["predicted"].values, predictions["attended"].values, gold)

    def example(self, given: Any, where: str) -> dict[str, Any]:
        """A list of words, as it is or as `words`; a text with blanks between words; or a find_head record."""
        if self.original_labels:
            raise ValueError(
                f"{where}: this model was trained with --original_labels, whose labels do not stand at their words; "
                "train it without, to ask it for governors."
            )
        if isinstance(given, Mapping) and "tokens" in given:
            check_keys(given, ("sent", "tokens"), where)
            pairs = [{"dependent_index": i, "governor_index": 0} for i, _ in enumerate(given["tokens"], start=1)]
            return _check({**given, "pairs": pairs}, where, 0)
        words = given.get("words") if isinstance(given, Mapping) and "words" in given else given
        if not isinstance(words, list | tuple):
            words = text_of(given, ("text", "sent"), where).split()
        if not words or not all(isinstance(word, str) and word.strip() for word in words):
            raise ValueError(f"{where}: words is {shorten(list(words))}; give a list of words.")
        return {"words": list(words), "heads": [0] * len(words), "fault": "", "record": 0}

    def answer(self, outputs: Outputs, feature: Feature, example: Example, encoding: Encoding) -> Answer:
        """For each word its governor: the number of a word from 1, or 0 for the root, and that word.

        A position within a word counts as that word. A word of which the tokenizer makes nothing has None.
        """
        words = example["words"]
        known = [i for i, ids in enumerate(tokenize_pieces(encoding.tokenizer, words), start=1) if ids]
        places = np.flatnonzero(np.asarray(feature["labels"]) != IGNORE)  # of the known words
        predicted = outputs["predicted"][places]
        # A word is read at its first sub-word, with a causal backbone at its last.
        reached = (
            np.searchsorted(places, predicted, "left") + 1
            if encoding.causal
            else np.searchsorted(places, predicted, "right")
        )
        heads: list[int | None] = [None] * len(words)
        for word, at, number in zip(known, predicted.tolist(), reached.tolist(), strict=True):
            heads[word - 1] = 0 if at == 0 or number == 0 else known[min(number, len(known)) - 1]
        return {"words": words, "heads": heads, "governors": [words[head - 1] if head else None for head in heads]}

    def rows(
        self, predictions: Predictions, features: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[dict[str, Any]]:
        """Governors of all positions: gold, predicted by the classifier, most attended."""
        columns = (feature_column(features, "labels"), predictions["predicted"], predictions["attended"])
        for record, *heads in zip(numbers(features, "record"), *columns, strict=True):
            names = zip(("heads", "predicted", "attended"), heads, strict=True)
            yield {"record": int(record), **{name: found.tolist() for name, found in names}}


def read_dependencies(
    path: str | Path, on_error: Callable[[ValueError], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Checked sentences as words and the number of each word's governor (0 = root); `on_error` as in `checked`.

    Those whose words overlap or whose governors run in a circle have a `fault`.
    """
    return checked_rows(read_rows(path, on_error), _check, on_error)


def _check(record: dict[str, Any], where: str, number: int) -> dict[str, Any]:
    check_keys(record, ("sent", "tokens", "pairs"), where)
    for key, kind in (("sent", str), ("tokens", list), ("pairs", list)):
        if not isinstance(record[key], kind):
            raise ValueError(f"{where}: {key} is {shorten(record[key])}; give a {kind.__name__}.")
    spans = [_span(record["sent"], token, i, where) for i, token in enumerate(record["tokens"], start=1)]
    heads = _heads(record["pairs"], len(spans), where)
    words = [record["sent"][slice(*span)] for span in spans]
    return {"words": words, "heads": heads, "fault": _fault(spans, heads), "record": number}


def _fault(spans: Sequence[Span], heads: Sequence[int]) -> str:
    """Why words and governors are no tree over a sentence, "" where they are one, or several."""
    if any(later[0] < one[1] and later != one for one, later in pairwise(spans)):
        return "words overlap or are not in order"  # those that share a token, as German "zum", have one span
    looping = word_on_cycle(heads)
    if looping is None:
        return ""
    return "a word is its own governor" if heads[looping - 1] == looping else "the governors run in a circle"


def _span(sentence: str, token: Any, number: int, where: str) -> Span:
    span = token.get(str(number)) if isinstance(token, dict) else None
    if not isinstance(span, dict) or not {"start", "end"} <= set(span):
        raise ValueError(
            f'{where}: token {number} is {shorten(token)}; write {{"{number}": {{"start": ..., "end": ...}}}}.'
        )
    start, end = whole(span["start"]), whole(span["end"])
    if start is None or end is None or not 0 <= start < end <= len(sentence):
        raise ValueError(
            f"{where}: token {number} spans {shorten(span['start'])} to {shorten(span['end'])}, but the sentence has "
            f"{len(sentence)} characters; offsets count from 0, the end is exclusive."
        )
    return start, end


def _heads(pairs: Sequence[dict[str, Any]], count: int, where: str) -> list[int]:
    heads: dict[int, int] = {}
    for pair in pairs:
        if not isinstance(pair, dict):
            raise ValueError(
                f"{where}: the pair {shorten(pair)} is not an object; give dependent_index and governor_index."
            )
        given = pair.get("dependent_index"), pair.get("governor_index")
        dependent, governor = map(whole, given)
        if dependent is None or not 1 <= dependent <= count:
            raise ValueError(f"{where}: dependent_index {shorten(given[0])} is not a word; they run from 1 to {count}.")
        if governor is None or not 0 <= governor <= count:
            raise ValueError(
                f"{where}: governor_index {shorten(given[1])} is neither 0 (root) nor a word up to {count}."
            )
        if dependent in heads:
            raise ValueError(f"{where}: word {dependent} has two governors; keep one pair for each word.")
        heads[dependent] = governor
    lacking = [word for word in range(1, count + 1) if word not in heads]
    if lacking or not count:
        raise ValueError(f"{where}: the words {lacking[:5]} have no pair; give every word one governor.")
    return [heads[word] for word in range(1, count + 1)]


def encode_dependencies(
    examples: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    original_labels: bool,
    causal: bool = False,
) -> list[Feature]:
    """Ids, word by word, and for each position the position of the governor there.

    By default the first sub-word of each word (causal: the last) carries the position of that of its governor (root
    = 0, the position of `<s>`) and all other positions are ignored. `original_labels` restores what lin-adapter.py
    does (docs/deviations.md, 3): label i stands at position i, whatever sub-word that is, counts from 1, and
    every unpadded position counts.

    Raises:
        ValueError: the tokenizer puts nothing before a text, so that position 0 is not free for the root.
    """
    template = Template.of(tokenizer)
    if not template.before:
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path!r} puts nothing before a sentence that could stand for its root; "
            "take another backbone."
        )
    pieces = tokenize_pieces(tokenizer, [word for example in examples for word in example["words"]])
    features: list[Feature] = []
    taken = 0
    for example in examples:
        words = pieces[taken : taken + len(example["words"])]
        taken += len(words)
        places, position = [], template.before
        for word in words:
            places.append(position + len(word) - 1 if causal and word else position)
            position += len(word)
        ids = template.join([token for word in words for token in word])["input_ids"]
        if (fault := example.get("fault", "")) and not original_labels:  # the original takes any pairs
            features.append(dropped_feature(fault, [IGNORE], []))
        elif len(ids) > max_seq_length - original_labels:
            features.append(dropped_feature("longer than max_seq_length", [IGNORE], []))
        elif original_labels:
            features.append(_original(ids, places, example["heads"]))
        else:
            features.append(_aligned(ids, words, places, example["heads"]))
    return features


def _aligned(ids: list[int], words: list[list[int]], places: list[int], heads: list[int]) -> Feature:
    labels = [IGNORE] * len(ids)
    items = 0
    for word, position, head in zip(words, places, heads, strict=True):
        if word and (head == 0 or words[head - 1]):  # a word without sub-words (a lone blank) has no position
            labels[position] = 0 if head == 0 else places[head - 1]
            items += 1
    return {"input_ids": ids, "positions": [], "labels": labels, "items": items}


def _original(ids: list[int], places: list[int], heads: list[int]) -> Feature:
    if len(heads) in heads:  # its governor is missing from the table, an exception that the original swallows
        return dropped_feature("the last word is a governor (original labels)", [IGNORE], [])
    labels = [0] + [1 if head == 0 else places[head - 1] + 1 for head in heads] + [0]
    labels = (labels + [0] * len(ids))[: len(ids)]
    return {"input_ids": ids, "positions": [], "labels": labels, "items": len(ids)}


def head_scores(predicted: np.ndarray, attended: np.ndarray, gold: np.ndarray) -> Scores:
    """Share of words whose governor is found, by the classifier and by the most attended position.

    Over all labelled words; the original averages over batches (lin-adapter.py: eval_accuracy,
    att_eval_accuracy).

    Args:
        predicted, attended, gold: positions, [all tokens of all sentences].
    """
    counted = gold != IGNORE
    hits, attention_hits = predicted[counted] == gold[counted], attended[counted] == gold[counted]
    return {"accuracy": float(hits.mean()), "att_accuracy": float(attention_hits.mean())}
