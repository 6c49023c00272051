"""Multiple choice: CosmosQA (K-Adapter, section 4.2).

A record: {"id", "context", "question", "answer0" .. "answer3", "label": "0" .. "3"}; the test split has no label,
or -1 or null for one.
The second form adds answerN_searched_evidence: {"basic": [{"text": str}]}.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy

from kadapter.data.encoding import Encoding, Feature, OnError, Template, tokenize_pieces, truncate_pair
from kadapter.data.jsonio import check_keys, check_unique, checked_rows, shorten, write_jsonl
from kadapter.data.spans import is_blank
from kadapter.data.splits import split_path
from kadapter.data.tables import read_rows
from kadapter.shapes import IGNORE, HeadConfig
from kadapter.storage.files import atomic_writer
from kadapter.tasks.scores import numbers, rounded, text_of
from kadapter.training.task import Answer, Example, Outputs, Predictions, Scores, Task, report_option

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

CHOICES = 4
# What str() makes of a label, a number or a text, in the files; pandas writes 1.0.
LABELS = {form: label for label in range(CHOICES) for form in (f"{label}", f"{label}.0")}
LABELS |= {"-1": IGNORE, "-1.0": IGNORE}
TEXT_KEYS = ("context", "question", *(f"answer{i}" for i in range(CHOICES)))
CHOICE_SCHEMA = {
    "id": "string",
    "context": "string",
    "endings": [["string"]],  # [choices][parts]: question, answer and what else follows
    "label": "int32",
    "record": "int64",
}


@dataclass(frozen=True, kw_only=True)
class CosmosQA(Task):
    """A question on a context -> one of four answers. Its dev split is called valid; test keeps its labels back."""

    name = "cosmosqa"
    head = "multiple_choice"
    metric = "accuracy"
    max_seq_length = 256
    schema = CHOICE_SCHEMA
    sample = '{"context": "It rained.", "question": "What got wet?", "answers": ["The street.", "The sea."]}'
    sizes: ClassVar = {"CosmosQA": {"train": 25262, "dev": 2985, "test": 6963}}

    evidence: bool = False
    """Append each answer's searched evidence."""
    original_padding: bool = False
    """Pad with id 0, as the original; it matters with `attend_padding` alone."""
    errors_of: str = report_option("")
    """The data folder whose wrongly answered dev questions are written; "" writes none."""

    def path(self, folder: str | Path, split: str) -> Path:
        return split_path(folder, "valid" if split == "dev" else split)

    def read(self, path: Path, split: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
        return read_cosmosqa(path, self.evidence, split != "test", on_error)

    def encode(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        return encode_choices(examples, encoding.tokenizer, encoding.max_seq_length, encoding.causal)

    def pad_token_id(self, tokenizer: PreTrainedTokenizerBase) -> int:
        return 0 if self.original_padding else super().pad_token_id(tokenizer)

    def head_config(self, max_seq_length: int, vocab_size: int) -> HeadConfig:
        return HeadConfig(self.head, 1)  # a score a choice, however many there are

    def score(self, predictions: Predictions, features: Dataset) -> Scores:
        return {"accuracy": float((_logits(predictions).argmax(1) == numbers(features)).mean())}

    def example(self, given: Any, where: str) -> dict[str, Any]:
        """A record as in the data, without label; or {"context", "question", "answers": [text, ...]}, any number."""
        record = dict(given) if isinstance(given, Mapping) else {}
        if "answers" not in record:
            record |= {"label": None, "id": None}
            return _check(record, where, 0, evidence=self.evidence, labelled=False, seen={}, form={})
        answers = record["answers"]
        if not isinstance(answers, list | tuple) or not answers or self.evidence:
            wanted = "the keys of CosmosQA with their evidence" if self.evidence else "a list of texts"
            raise ValueError(f"{where}: answers is {shorten(answers)}; give {wanted}.")
        context, question = (text_of(record.get(name), (name,), where) for name in ("context", "question"))
        endings = [[question, text_of(answer, ("answer",), where)] for answer in answers]
        return {"id": "", "context": context, "endings": endings, "label": IGNORE, "record": 0}

    def answer(self, outputs: Outputs, feature: Feature, example: Example, encoding: Encoding) -> Answer:
        """The number of the likeliest answer, its text and probability, and the probabilities of all."""
        shares = scipy.special.softmax(outputs["logits"].astype(np.float64))
        best = int(shares.argmax())
        return {
            "label": best,
            "answer": example["endings"][best][1],
            "score": float(shares[best]),
            "scores": shares.tolist(),
        }

    def rows(
        self, predictions: Predictions, features: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[dict[str, Any]]:
        """Gold (None where it is kept back) and predicted choice, and all logits."""
        columns = (_logits(predictions), numbers(features), numbers(features, "record"))
        for logits, gold, record in zip(*columns, strict=True):
            label = None if gold == IGNORE else int(gold)
            chosen = int(logits.argmax())
            yield {"record": int(record), "label": label, "predicted": chosen, "logits": rounded(logits)}

    def report(self, folder: Path, split: str, predictions: Predictions, features: Dataset) -> None:
        """`predictions.lst` for the leaderboard, one choice a line, and `errors_dev.jsonl`."""
        if split == "test":
            with atomic_writer(folder / "predictions.lst") as file:
                file.writelines(f"{choice}\n" for choice in _logits(predictions).argmax(1).tolist())
        if split == "dev" and self.errors_of:
            logits, records = _logits(predictions), numbers(features, "record")
            is_wrong = logits.argmax(1) != numbers(features)
            found = {int(records[i]): logits[i] for i in np.flatnonzero(is_wrong)}
            wrong = [
                {**record, "predicted": int(found[number].argmax()), "logits": rounded(found[number])}
                for number, _, record in read_rows(self.path(self.errors_of, "dev"))
                if number in found
            ]
            logger.info("%d of %d answers are wrong: %s", len(wrong), len(logits), folder / "errors_dev.jsonl")
            write_jsonl(folder / "errors_dev.jsonl", wrong)


def _logits(predictions: Predictions) -> np.ndarray:
    """[questions, choices]."""
    return predictions["logits"].values.reshape(-1, CHOICES)


def read_cosmosqa(
    path: str | Path,
    evidence: bool = False,
    labelled: bool = True,
    on_error: Callable[[ValueError], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Checked questions.

    Args:
        evidence: append each answer's searched evidence (--preprocess_type read_examples_add_evidence).
        labelled: whether every record must have a label; else all have one or none, for which -100 stands. A label of
            -1 or null is none.
        on_error: as in `checked`.

    Raises:
        ValueError: names file, record, value and mend.
    """
    check = partial(_check, evidence=evidence, labelled=labelled, seen={}, form={})
    return checked_rows(read_rows(path, on_error), check, on_error)


def _check(
    record: dict[str, Any],
    where: str,
    number: int,
    evidence: bool,
    labelled: bool,
    seen: dict[Any, int],
    form: dict[str, bool],
) -> dict[str, Any]:
    check_keys(record, (*TEXT_KEYS, *(["label"] if labelled else [])), where)
    check_unique(seen, record.get("id"), number, where)
    for key in TEXT_KEYS:
        if not isinstance(record[key], str) or is_blank(record[key]):
            raise ValueError(f"{where}: {key} is {shorten(record[key])}; give a text.")
    label = choice_label(record.get("label"))
    if label is None or (labelled and label == IGNORE):
        raise ValueError(f"{where}: label is {shorten(record['label'])}; it must be 0 to {CHOICES - 1}.")
    if form.setdefault("labelled", label != IGNORE) != (label != IGNORE):
        raise ValueError(f"{where}: some records have a label and some have none; give all of them one, or none.")
    endings = [[record["question"], record[f"answer{i}"]] for i in range(CHOICES)]
    if evidence:
        endings = [[*ending, _evidence(record, i, where)] for i, ending in enumerate(endings)]
    return {
        "id": str(record.get("id", number)),
        "context": record["context"],
        "endings": endings,
        "label": label,
        "record": number,
    }


def choice_label(value: Any) -> int | None:
    """The number of the right answer, -100 where it is kept back, None where the value is no label."""
    return IGNORE if value is None else LABELS.get(str(value))


def _evidence(record: dict[str, Any], choice: int, where: str) -> str:
    key = f"answer{choice}_searched_evidence"
    check_keys(record, (key,), f"{where} (--preprocess_type read_examples_add_evidence)")
    basic = record[key].get("basic") if isinstance(record[key], dict) else None
    items = basic if isinstance(basic, list) else [None]
    texts = [item["text"] for item in items if isinstance(item, dict) and isinstance(item.get("text"), str)]
    if len(texts) < len(items):
        raise ValueError(f'{where}: {key} is {shorten(record[key])}, not {{"basic": [{{"text": ...}}, ...]}}; mend it.')
    return " # ".join(texts)


def encode_choices(
    examples: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, max_seq_length: int, causal: bool = False
) -> list[Feature]:
    """Four sequences a question, `<s> context </s> question </s> answer [</s> evidence] </s>`, in the tokenizer's form.

    One separator stands between two parts, as in the original, also where the tokenizer's own pairs have two. Each is
    read at its cls token; causal: at its last.
    Where they are too long, the longer one of context and ending is cut at its right, token by token
    (run_finetune_cosmosqa_adapter.py: _truncate_seq_pair).
    """
    texts = [text for e in examples for text in (e["context"], *(part for ending in e["endings"] for part in ending))]
    pieces = iter(tokenize_pieces(tokenizer, texts))
    template = Template.of(tokenizer, 2).with_one_separator()
    sep = template.fixed[1]
    features: list[Feature] = []
    for example in examples:
        context, choices, cut = next(pieces), list[Feature](), False
        for ending in example["endings"]:
            parts = [[*next(pieces), *sep] for _ in ending]
            tail = [token for part in parts for token in part][:-1]
            first, second = truncate_pair(len(context), len(tail), max_seq_length - template.size)
            cut = cut or first < len(context) or second < len(tail)
            choices.append(template.join(context[:first], tail[:second]))
        feature: Feature = {"input_ids": [choice["input_ids"] for choice in choices]}
        if template.typed:
            feature["token_type_ids"] = [choice["token_type_ids"] for choice in choices]
        feature["positions"] = [template.summary(len(ids), causal) for ids in feature["input_ids"]]
        feature |= {"labels": example["label"], "note": "context or answer was cut to max_seq_length" if cut else ""}
        features.append(feature)
    return features
