"""Reading comprehension: an answer is a span of the context, or that there is none (SQuAD 1.1 and 2.0).

Windows, loss and the search for spans are those of BERT's recipe (Devlin et al., 2019, sections 4.2 and 4.3): a window
without the answer is to say that it has none, and the best span of all windows is the answer.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import scipy

from kadapter.data.columns import Column, feature_column
from kadapter.data.encoding import Encoding, Feature, OnError
from kadapter.data.jsonio import shorten, write_json
from kadapter.data.spans import is_blank
from kadapter.data.splits import files_of
from kadapter.data.squad import read_squad, squad_path
from kadapter.shapes import IGNORE, HeadConfig
from kadapter.tasks.answer_scores import answer_scores, best_threshold, squad_scores
from kadapter.tasks.span_windows import best_spans, question_windows, spans_in
from kadapter.training.task import Answer, Example, Outputs, Predictions, Scores, Task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

SQUAD_SCHEMA = {
    "id": "string",
    "question": "string",
    "context": "string",
    "answers": ["string"],
    "starts": ["int32"],  # of answers, in characters
    "known": "bool",
    "note": "string",
    "record": "int64",
}
NO_ANSWER_TOKENS = "the tokenizer makes nothing of its answer"
COLUMNS = ("record", "name", "question", "text", "answers", "positions", "starts", "ends")  # that answers are read from


class Candidate(NamedTuple):
    """A span of a context, in characters, its end exclusive; score: the sum of its logits."""

    text: str
    start: int
    end: int
    score: float


class Reading(NamedTuple):
    """What was found for a question.

    candidates: the best first, each text once; none where the context has no tokens.
    nothing: the sum of the logits of no answer, the lowest of the windows'.
    """

    candidates: list[Candidate]
    nothing: float

    @property
    def best(self) -> str:
        return self.candidates[0].text if self.candidates else ""

    @property
    def no_answer(self) -> float:
        """How much no answer is above the best span; below the threshold, the span is given."""
        return self.nothing - self.candidates[0].score if self.candidates else np.inf


@dataclass(frozen=True, kw_only=True)
class Squad(Task):
    """A question on a context -> the span that answers it; `for_folder` finds out whether none may be an answer."""

    name = "squad"
    head = "span"
    metric = "f1"
    in_windows = True
    max_seq_length = 384
    schema = SQUAD_SCHEMA
    sample = '{"question": "Where does Ann live?", "context": "Ann lives in Oslo."}'

    no_answer: bool = False
    """Whether questions may have no answer, as in SQuAD 2.0."""
    doc_stride: int = 128
    """Tokens of the context that two windows share."""
    max_query_length: int = 64
    """Tokens of a question, beyond which it is cut."""
    max_answer_tokens: int = 30
    n_best_size: int = 20
    """How many spans of a window, and of a question, are looked at."""
    null_threshold: float = 0.0
    """No answer is given where its score is more than this above the best span's; dev says which is best."""

    @classmethod
    def for_folder(cls, folder: str | Path, labels: str | Path = "", **options: Any) -> Self:
        """The task for a data folder; a question without an answer in train (else in dev) makes that an answer."""
        paths = [squad_path(folder, split) for split in ("train", "dev")]
        found = next((path for path in paths if files_of(path)), None)
        if found is not None and "no_answer" not in options:
            read = read_squad(found, on_error=lambda error: None)
            options["no_answer"] = any(one["known"] and not one["answers"] for one in read)
            what = "some questions have no answer, as in SQuAD 2.0" if options["no_answer"] else "all have an answer"
            logger.info("%s: %s.", found, what)
        return super().for_folder(folder, labels, **options)

    def key(self, path: Path, split: str) -> Mapping[str, Any]:
        names = ("no_answer", "doc_stride", "max_query_length")
        return {name: getattr(self, name) for name in names}

    # -- data ---------------------------------------------------------------------------------------------------

    def path(self, folder: str | Path, split: str) -> Path:
        return squad_path(folder, split)

    def read(self, path: Path, split: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
        return read_squad(path, self.no_answer, split != "test", on_error)

    def encode(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        features: list[Feature] = []
        for example, windows in zip(examples, self._windows(examples, encoding), strict=True):
            gold = self._gold(example, windows)
            unread = bool(example["answers"]) and not any(gold)
            for window, span in zip(windows, gold, strict=True):
                nothing = window["positions"][0]
                window["labels"] = [nothing, nothing] if span is None else [*span]
                if unread or not example["known"]:
                    window["labels"] = [IGNORE, IGNORE]
                # What is said of the question stands with its first window.
                window |= {"record": example["record"], "name": "", "question": "", "text": "", "answers": ""}
            first, notes = windows[0], [windows[0]["note"], example["note"], NO_ANSWER_TOKENS if unread else ""]
            first |= {"name": example["id"], "question": example["question"], "text": example["context"]}
            first["answers"] = json.dumps(example["answers"]) if example["known"] else ""
            first["note"] = "; ".join(note for note in notes if note)
            features += windows
        return features

    def encode_unlabelled(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        """The windows of each question, which `window_of` numbers."""
        found = list(self._windows(examples, encoding))
        for i, windows in enumerate(found):
            for window in windows:
                window["window_of"] = i
        return [window for windows in found for window in windows]

    def _windows(self, examples: Sequence[Mapping[str, Any]], encoding: Encoding) -> Iterator[list[Feature]]:
        pairs = [(example["question"], example["context"]) for example in examples]
        return question_windows(pairs, encoding, self.doc_stride, self.max_query_length)

    @staticmethod
    def _gold(example: Mapping[str, Any], windows: Sequence[Feature]) -> list[tuple[int, int] | None]:
        """For each window the tokens of the first answer, by which it is trained."""
        if not example["answers"]:
            return [None] * len(windows)
        text, start = example["answers"][0], example["starts"][0]
        start += len(text) - len(text.lstrip())
        return spans_in(windows, start, start + len(text.strip()))

    def head_config(self, max_seq_length: int, vocab_size: int) -> HeadConfig:
        return HeadConfig(self.head, 2)

    # -- prediction ---------------------------------------------------------------------------------------------

    def example(self, given: Any, where: str) -> dict[str, Any]:
        """A question and a context, as a pair or by these names; further keys are passed over."""
        pair = given
        if isinstance(given, Mapping):
            pair = (given.get("question"), given.get("context"))
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"{where}: {shorten(given)} is not a question with its context; give both.")
        for name, text in zip(("question", "context"), pair, strict=True):
            if not isinstance(text, str) or is_blank(text):
                raise ValueError(f"{where}: {name} is {shorten(text)}; give a text.")
        return {"question": pair[0], "context": pair[1]}

    def merge_windows(self, outputs: Sequence[Outputs], features: Sequence[Feature]) -> tuple[Outputs, Feature]:
        """The best spans of all windows, in characters: `starts`, `ends` and `scores`, and `nothing`, one number."""
        spans = [span for one, window in zip(outputs, features, strict=True) for span in self._spans(one, window)]
        spans = sorted(spans, key=lambda span: -span[2])
        nothing = min(_nothing(one, window) for one, window in zip(outputs, features, strict=True))
        names = ("starts", "ends", "scores")
        columns = dict(zip(names, np.array(spans, dtype=np.float64).reshape(-1, 3).T, strict=True))
        return {**columns, "nothing": np.array([nothing], dtype=np.float64)}, features[0]

    def answer(self, outputs: Outputs, feature: Feature, example: Example, encoding: Encoding) -> Answer:
        """The answer with its place and probability, or "" for none, and the best ones.

        Probabilities are shares among the best spans and, where that may be the answer, none. The `logit` of a span,
        which can be compared with those of other contexts, is the sum of its two, less that of no answer.
        """
        reading = self._reading(outputs, example["context"])
        logits = [one.score for one in reading.candidates] + [reading.nothing] * self.no_answer
        shares = scipy.special.softmax(np.array(logits, dtype=np.float64)).tolist()
        base = reading.nothing if self.no_answer else 0.0
        best = [
            {"answer": one.text, "score": share, "start": one.start, "end": one.end, "logit": one.score - base}
            for one, share in zip(reading.candidates, shares, strict=False)
        ]
        answer: Answer = {**best[0], "best": best}
        if not self.no_answer:
            return answer
        if not self._given(reading, self.null_threshold):
            answer |= {"answer": "", "score": shares[-1], "start": None, "end": None}
        return {**answer, "no_answer_score": shares[-1]}

    # -- spans --------------------------------------------------------------------------------------------------

    def _spans(self, found: Mapping[str, np.ndarray], window: Mapping[str, Any]) -> list[tuple[int, int, float]]:
        """The best spans of a window in characters, with their scores."""
        begin, starts, ends = window["positions"][1], window["starts"], window["ends"]
        own = slice(begin, begin + len(starts))
        spans = best_spans(found["start"][own], found["end"][own], self.n_best_size, self.max_answer_tokens)
        return [(int(starts[first]), int(ends[last]), score) for first, last, score in spans]

    def _reading(self, found: Outputs, text: str) -> Reading:
        """What `merge_windows` found in a context, each text once."""
        candidates: dict[str, Candidate] = {}
        columns = (found["starts"].astype(int).tolist(), found["ends"].astype(int).tolist(), found["scores"].tolist())
        for start, end, score in zip(*columns, strict=True):
            candidates.setdefault(text[start:end], Candidate(text[start:end], start, end, score))
        return Reading(list(candidates.values())[: self.n_best_size], float(found["nothing"][0]))

    def _readings(self, predictions: Predictions, features: Dataset) -> Iterator[tuple[Reading, dict[str, Any]]]:
        """For each question what was found in its windows, and the first of these as a row of the store."""
        columns: dict[str, Column] = {name: feature_column(features, name) for name in COLUMNS}
        records = columns["record"].values
        begins = [i for i, record in enumerate(records) if not i or record != records[i - 1]]
        for begin, end in zip(begins, [*begins[1:], len(records)], strict=True):
            own = range(begin, end)
            windows: list[Any] = [{name: columns[name][i] for name in ("positions", "starts", "ends")} for i in own]
            found = [{name: predictions[name][i] for name in ("start", "end")} for i in own]
            first = {name: column[begin] for name, column in columns.items()}
            yield self._reading(self.merge_windows(found, windows)[0], first["text"]), first

    # -- results ------------------------------------------------------------------------------------------------

    def is_labelled(self, features: Dataset) -> bool:
        return bool(features[0]["answers"])

    def tuned_on_dev(self, predictions: Predictions, features: Dataset) -> Self:
        """With the threshold of no answer that is best for these predictions, which are those of dev."""
        if not self.no_answer:
            return self
        readings, gold = self._judged(predictions, features)
        _, f1 = answer_scores([reading.best for reading in readings], gold)
        scores = np.array([reading.no_answer for reading in readings])
        unanswerable = np.array([not answers for answers in gold], dtype=np.float64)
        return replace(self, null_threshold=best_threshold(scores, f1, unanswerable))

    def score(self, predictions: Predictions, features: Dataset) -> Scores:
        """SQuAD's; where no answer may be one, with dev's best threshold, and with 0, the official default."""
        readings, gold = self._judged(predictions, features)
        scores = squad_scores([self._given(reading, self.null_threshold) for reading in readings], gold)
        if self.no_answer:
            plain = squad_scores([self._given(reading, 0.0) for reading in readings], gold)
            scores |= {f"{name}_at_0": plain[name] for name in ("exact_match", "f1")}
            scores["null_threshold"] = self.null_threshold
        return scores

    def _judged(self, predictions: Predictions, features: Dataset) -> tuple[list[Reading], list[list[str]]]:
        """What was found for each question, and its gold answers."""
        found = [*self._readings(predictions, features)]
        return [reading for reading, _ in found], [json.loads(first["answers"]) for _, first in found]

    def _given(self, reading: Reading, threshold: float) -> str:
        return "" if self.no_answer and reading.no_answer > threshold else reading.best

    def rows(
        self, predictions: Predictions, features: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[dict[str, Any]]:
        """For each question gold and predicted answers, the place of the latter, and its scores where gold is known."""
        for reading, first in self._readings(predictions, features):
            given = self._given(reading, self.null_threshold)
            position = (reading.candidates[0].start, reading.candidates[0].end) if given else (None, None)
            row = {"record": int(first["record"]), "id": first["name"], "question": first["question"]}
            gold = json.loads(first["answers"]) if first["answers"] else None
            row |= {"answers": gold, "predicted": given, "start": position[0], "end": position[1]}
            if self.no_answer:
                row["no_answer"] = round(reading.no_answer, 4)
            if gold is not None:
                exact, f1 = answer_scores([given], [gold])
                row |= {"exact_match": float(exact[0]), "f1": float(f1[0])}
            yield row

    def report(self, folder: Path, split: str, predictions: Predictions, features: Dataset) -> None:
        """`answers_<split>.json` as SQuAD's evaluation reads it, and scores of no answer, `null_odds_<split>.json`."""
        readings = [*self._readings(predictions, features)]
        given = {first["name"]: self._given(reading, self.null_threshold) for reading, first in readings}
        write_json(folder / f"answers_{split}.json", given)
        if self.no_answer:
            odds = {first["name"]: round(reading.no_answer, 4) for reading, first in readings}
            write_json(folder / f"null_odds_{split}.json", odds)


def _nothing(found: Mapping[str, np.ndarray], window: Mapping[str, Any]) -> float:
    position = window["positions"][0]
    return float(found["start"][position] + found["end"][position])
