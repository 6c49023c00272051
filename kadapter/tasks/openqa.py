"""Open-domain question answering: SearchQA and Quasar-T (K-Adapter, section 4.2).

A question comes with paragraphs that a search found, as thunlp/OpenQA keeps them (`kadapter.data.openqa`). A selector
weighs the paragraphs, a reader finds spans in each (`kadapter.models.openqa`), and the spans of all paragraphs together
give the answer (`openqa_answers`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kadapter.data.answers import bears_answer, find_answers
from kadapter.data.columns import feature_column
from kadapter.data.encoding import Encoding, Feature, OnError, dropped_feature
from kadapter.data.jsonio import shorten, to_json
from kadapter.data.openqa import read_openqa, split_files
from kadapter.data.question_windows import question_features
from kadapter.data.splits import data_digest, file_digest, files_of
from kadapter.shapes import IGNORE, HeadConfig
from kadapter.tasks.openqa_answers import HITS, Windows, answer_scores, hit_scores
from kadapter.tasks.scores import text_of
from kadapter.training.task import Answer, Example, Outputs, Predictions, Scores, Task, report_option

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from kadapter.data.collation import Augment
    from kadapter.models.head import Kept
    from kadapter.models.openqa import Reading
    from kadapter.models.question_heads import OpenQAHead

SHOWN = 5  # answers and paragraphs of a question that predictions name
UNANSWERABLE = "no paragraph bears an answer"
TOO_LONG = "every place of an answer has more than max_answer_tokens tokens"
UNREADABLE = "the tokenizer makes nothing of its paragraphs"
QUESTION_SCHEMA = {
    "question": "string",
    "answers": ["string"],
    "paragraphs": ["string"],
    "split": "string",
    "fault": "string",  # why the question cannot be used, "" where it can
    "record": "int64",
}


@dataclass(frozen=True, kw_only=True)
class OpenQA(Task):
    """A question and its paragraphs -> an answer with the paragraph that says so."""

    head = "openqa"
    in_windows = True
    max_seq_length = 128
    schema = QUESTION_SCHEMA
    sample = '{"question": "Who sang?", "paragraphs": ["Ann sang.", "It rained."]}'

    mode: str = "all"
    """What is trained: "reader", "selector" or "all"."""
    answer_marginal: str = "sum"
    """How the places of answers in a paragraph are combined, "sum" or "max"."""
    no_paragraph_confidence: bool = False
    """All paragraphs weigh the same."""
    regex_answers: bool = False
    """Answers are regular expressions."""
    num_paragraphs: int = 50
    """Of a question of train, the first ones of the file."""
    num_paragraphs_test: int = 50
    """Of all other splits."""
    stride: int = 32
    """Tokens that two windows of a long paragraph share."""
    max_answer_tokens: int = 15
    """Longest span."""
    chunk_tokens: int = report_option(2048)
    """Tokens that are computed at once; the result does not depend on it."""
    init_from: str = report_option("")
    """Folder of the saved model of an earlier stage whose weights training starts from; "" for none."""

    @property
    def metric(self) -> str:  # type: ignore[override]
        """The score that chooses the best checkpoint."""
        return "exact_match" if self.reading.reads else "hits_at_1"

    @property
    def reading(self) -> Reading:
        from kadapter.models.openqa import Reading

        return Reading(self.mode, self.answer_marginal, not self.no_paragraph_confidence, self.max_answer_tokens)

    # -- data ---------------------------------------------------------------------------------------------------

    def path(self, folder: str | Path, split: str) -> Path:
        return split_files(folder, split)[0]

    def key(self, path: Path, split: str) -> Mapping[str, Any]:
        names = ("regex_answers", "stride", "max_answer_tokens")
        paragraphs = self.num_paragraphs if split == "train" else self.num_paragraphs_test
        of_paragraphs = split_files(path.parent, split)[1]
        digest = data_digest(of_paragraphs) if files_of(of_paragraphs) else ""
        return {name: getattr(self, name) for name in names} | {"count": paragraphs, "paragraphs": digest}

    def content(self, folder: str | Path) -> dict[str, str]:
        files = {split: split_files(folder, split)[1] for split in ("train", "dev")}
        found = {f"the {split} paragraphs": data_digest(file) for split, file in files.items() if files_of(file)}
        return found | ({"the model of --init_from": file_digest(_weights(self.init_from))} if self.init_from else {})

    def read(self, path: Path, split: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
        """Questions with their first paragraphs; those of train without an answer in these have a fault."""
        count = self.num_paragraphs if split == "train" else self.num_paragraphs_test
        for one in read_openqa(path.parent, split, on_error):
            paragraphs = list(one.paragraphs[:count])
            try:
                bears = split != "train" or self._bears(paragraphs, one.answers)
            except ValueError as error:  # a regular expression
                fault = ValueError(f"{one.where}: {error}")
                if on_error is None:
                    raise fault from error
                on_error(fault)
                continue
            yield {
                "question": one.question,
                "answers": list(one.answers),
                "paragraphs": paragraphs,
                "split": split,
                "fault": "" if bears else UNANSWERABLE,
                "record": one.number,
            }

    def _bears(self, paragraphs: Sequence[str], answers: Sequence[str]) -> bool:
        if self.regex_answers:
            return any(find_answers(text, answers, are_patterns=True) for text in paragraphs)
        return bears_answer(paragraphs, answers)

    def encode(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        found = question_features(examples, encoding, self.stride, self.regex_answers, self.max_answer_tokens)
        return [self._feature(example, feature) for example, feature in zip(examples, found, strict=True)]

    @staticmethod
    def _feature(example: Mapping[str, Any], feature: Feature) -> Feature:
        """With what answers are found by; of train, which nobody answers, without it."""
        reason = example["fault"]
        if not feature["input_ids"]:
            reason = UNREADABLE
        elif example["split"] == "train" and not reason and feature["labels"][0] == IGNORE:
            reason = TOO_LONG
        if reason:
            feature |= dropped_feature(reason, [IGNORE] * 3, [0] * 3)
            feature |= {"input_ids": [[0]], "paragraphs": [0]}
            feature |= {"token_type_ids": [[0]]} if "token_type_ids" in feature else {}
        if reason or example["split"] == "train":
            return feature | {"starts": [0], "ends": [0], "text": ""}
        return feature | {"text": to_json({name: example[name] for name in ("question", "answers", "paragraphs")})}

    def augmentation(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> Augment | None:
        """Where nothing is selected, paragraphs without an answer have no part in the loss and are left out."""
        return None if self.reading.selects else bearing_alone

    # -- model --------------------------------------------------------------------------------------------------

    def head_config(self, max_seq_length: int, vocab_size: int) -> HeadConfig:
        return HeadConfig(self.head, 2)  # start and end

    def initialize(self, model: Any, source: str, **hub: Any) -> None:
        """The weights of --init_from; and what the head needs to know of this run."""
        if self.init_from:
            from kadapter.storage.checkpoint import load_strict, read_state_dict

            load_strict(model, read_state_dict(_weights(self.init_from)), Path(self.init_from))
        head: OpenQAHead = model.head
        head.reading, head.chunk_tokens = self.reading, self.chunk_tokens
        head.selector.requires_grad_(self.reading.selects)  # distributed training must not wait for what is not used
        head.qa_outputs.requires_grad_(self.reading.reads)

    def kept(self, output: Any, batch: Mapping[str, Any]) -> Mapping[str, Kept]:
        from kadapter.models.question_heads import openqa_kept

        return openqa_kept(output, self.reading)

    # -- prediction ---------------------------------------------------------------------------------------------

    def example(self, given: Any, where: str) -> dict[str, Any]:
        """A dictionary with a question and a list of paragraphs, each a text."""
        question = text_of(given if isinstance(given, Mapping) else None, ("question",), where)
        paragraphs = given.get("paragraphs")
        if not isinstance(paragraphs, list | tuple) or not paragraphs:
            raise ValueError(f"{where}: paragraphs is {shorten(paragraphs)}; give a list of texts.")
        texts = [text_of(text, ("text",), f"{where}, paragraph {i}") for i, text in enumerate(paragraphs)]
        nothing: dict[str, Any] = {"answers": [], "split": "", "fault": "", "record": 0}
        return {"question": question, "paragraphs": texts, **nothing}

    def answer(self, outputs: Outputs, feature: Feature, example: Example, encoding: Encoding) -> Answer:
        """The answer, its score, the paragraph that supports it and the place there; or the paragraphs as ranked."""
        return self._answer_as_row(outputs, Windows.of(feature, example["paragraphs"]))

    def _answer_as_row(self, found: Outputs, windows: Windows) -> dict[str, Any]:
        told: dict[str, Any] = {}
        if self.reading.reads:
            answers = windows.answers(found, self.reading.selects)
            best = answers[0]
            told = {"answer": best.text, "score": best.score, "paragraph": best.paragraph}
            told |= {"start": best.start, "end": best.end, "text": windows.texts[best.paragraph]}
            told["best"] = [{"answer": one.text, "score": one.score} for one in answers[:SHOWN]]
        if self.reading.selects:
            ranked = windows.ranked(found["selected"])[:SHOWN]
            told["paragraphs"] = [{"paragraph": number, "score": share} for number, share in ranked]
        return told

    # -- results ------------------------------------------------------------------------------------------------

    def is_labelled(self, features: Dataset) -> bool:
        return True

    def score(self, predictions: Predictions, features: Dataset) -> Scores:
        """The mean over all questions of exact match and F1; of a selector its hits."""
        found = [scores for _, _, scores in self._scored(predictions, features)]
        return {name: float(np.mean([scores[name] for scores in found])) for name in found[0]}

    def rows(
        self, predictions: Predictions, features: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[dict[str, Any]]:
        """Question, gold answers, what was answered with its paragraph, and the scores."""
        records = feature_column(features, "record").values
        for record, (asked, told, scores) in zip(records, self._scored(predictions, features), strict=True):
            told["predicted"] = told.pop("answer", None)
            row = {"record": int(record), "question": asked["question"], "answers": asked["answers"]}
            yield row | told | scores

    def _scored(
        self, predictions: Predictions, features: Dataset
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, float]]]:
        """Of each question what was asked, what is told, and its scores."""
        names = ("positions", "paragraphs", "starts", "ends", "labels", "text")
        columns = {name: feature_column(features, name) for name in names}
        for i in range(len(features)):
            asked = json.loads(columns["text"][i])
            windows = Windows.of({name: columns[name][i] for name in names[:-1]}, asked["paragraphs"])
            found = {name: column[i] for name, column in predictions.items()}
            told, scores = self._answer_as_row(found, windows), dict[str, float]()
            if self.reading.reads:
                scores |= answer_scores(told["answer"], asked["answers"], self.regex_answers)
            if self.reading.selects:
                scores |= hit_scores(windows.ranked(found["selected"])[: max(HITS)], windows.bearing)
            yield asked, told, scores


@dataclass(frozen=True, kw_only=True)
class SearchQA(OpenQA):
    """Questions of Jeopardy! with snippets of a web search (Dunn et al., 2017)."""

    name = "searchqa"
    sizes: ClassVar = {"SearchQA": {"train": 99811, "dev": 13893, "test": 27247}}


@dataclass(frozen=True, kw_only=True)
class QuasarT(OpenQA):
    """Trivia questions with sentences of ClueWeb09 (Dhingra et al., 2017)."""

    name = "quasart"
    max_seq_length = 256
    sizes: ClassVar = {
        "Quasar-T": {"train": 37012, "dev": 3000, "test": 3000},
        "those with an answer": {"train": 28496, "dev": 3000, "test": 3000},
    }


def bearing_alone(feature: Feature, epoch: int) -> Feature:
    """A question with those of its sequences alone in which an answer stands."""
    labels = np.array(feature["labels"]).reshape(-1, 3)
    kept, labels[:, 0] = np.unique(labels[:, 0], return_inverse=True)
    columns: dict[str, Any] = {
        name: [feature[name][i] for i in kept]  # type: ignore[literal-required]
        for name in ("input_ids", "token_type_ids")
        if name in feature
    }
    positions = np.asarray(feature["positions"]).reshape(-1, 3)[kept]
    return {**feature, **columns, "positions": positions.ravel(), "labels": labels.ravel()}  # type: ignore[typeddict-item]


def _weights(folder: str) -> Path:
    """The weights of a saved model; raises FileNotFoundError where there are none."""
    path = Path(folder) / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give --init_from the best/ of an earlier stage's run.")
    return path
