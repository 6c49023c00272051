"""Multiple choice: reader and encoding of CosmosQA.

A record: {"id", "context", "question", "answer0" .. "answer3", "label": "0" .. "3"}; the test split has no label.
The second form adds answerN_searched_evidence: {"basic": [{"text": str}]}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Features, List, Value
from transformers import PreTrainedTokenizerBase

from kadapter.configuration import IGNORE
from kadapter.data.encoding import Feature, Template, tokenize_pieces, truncate_pair
from kadapter.data.features import Source
from kadapter.data.jsonio import check_keys, check_unique, checked, read_records

CHOICES = 4
TEXT_KEYS = ("context", "question", *(f"answer{i}" for i in range(CHOICES)))
CHOICE_SCHEMA = Features(
    {
        "id": Value("string"),
        "context": Value("string"),
        "endings": List(List(Value("string"))),  # [choices][parts]: question, answer and what else follows
        "label": Value("int32"),
        "record": Value("int64"),
    }
)


def cosmosqa_source(evidence: bool = False) -> Source:
    """CosmosQA's files, whose dev split is called valid and whose test split keeps its labels back."""
    return Source(
        read=read_cosmosqa,
        schema=CHOICE_SCHEMA,
        encode=encode_choices,
        read_options={"evidence": evidence},
        files={"dev": "valid"},
        split_options={"test": {"labelled": False}},
    )


def read_cosmosqa(
    path: str | Path,
    evidence: bool = False,
    labelled: bool = True,
    on_error: Callable[[ValueError], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Checked questions.

    Args:
        evidence: append each answer's searched evidence (--preprocess_type read_examples_add_evidence).
        labelled: whether every record must have a label; else all have one or none, for which -100 stands.
        on_error: as in `checked`.

    Raises:
        ValueError: names file, record, value and mend.
    """
    check = partial(_check, evidence=evidence, labelled=labelled, seen={}, form={})
    return checked(read_records(path), check, path, on_error=on_error)


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
        if not isinstance(record[key], str):
            raise ValueError(f"{where}: {key} is {str(record[key])[:40]!r}; give a text.")
    if form.setdefault("labelled", "label" in record) != ("label" in record):
        raise ValueError(f"{where}: some records have a label and some have none; give all of them one, or none.")
    label = str(record.get("label", IGNORE))
    if label not in {str(i) for i in range(CHOICES)} and (labelled or label != str(IGNORE)):
        raise ValueError(f"{where}: label is {label!r}; it must be 0 to {CHOICES - 1}.")
    endings = [[record["question"], record[f"answer{i}"]] for i in range(CHOICES)]
    if evidence:
        endings = [[*ending, _evidence(record, i, where)] for i, ending in enumerate(endings)]
    return {
        "id": str(record.get("id", number)),
        "context": record["context"],
        "endings": endings,
        "label": int(label),
        "record": number,
    }


def _evidence(record: dict[str, Any], choice: int, where: str) -> str:
    key = f"answer{choice}_searched_evidence"
    check_keys(record, (key,), f"{where} (--preprocess_type read_examples_add_evidence)")
    try:
        return " # ".join(str(item["text"]) for item in record[key]["basic"])
    except (KeyError, TypeError):
        raise ValueError(f'{where}: {key} is not {{"basic": [{{"text": ...}}, ...]}}; mend it.') from None


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
        note = "context or answer was cut to max_seq_length" if cut else ""
        columns = {name: [choice[name] for choice in choices] for name in choices[0]}
        positions = [template.summary(len(ids), causal) for ids in columns["input_ids"]]
        features.append({**columns, "positions": positions, "labels": example["label"], "note": note})
    return features
