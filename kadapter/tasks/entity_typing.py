"""Entity typing: reader and encoding of OpenEntity's and FIGER's form.

A record: {"sent": str, "start", "end", "labels": [...]}; character offsets, end exclusive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Features, List, Value
from transformers import PreTrainedTokenizerBase

from kadapter.data.encoding import Feature, Template, marker, tokenize_pieces, window
from kadapter.data.features import Source
from kadapter.data.jsonio import check_keys, checked, read_records, write_json
from kadapter.data.labels import read_labels

# run_finetune_openentity_adapter.py: the order that its saved heads use
OPENENTITY_LABELS = ("entity", "location", "time", "organization", "object", "event", "place", "person", "group")
MARKER = "@"
TYPING_SCHEMA = Features(
    {
        "sent": Value("string"),
        "start": Value("int32"),
        "end": Value("int32"),
        "labels": List(Value("string")),
        "record": Value("int64"),
    }
)


def typing_source(labels: Sequence[str]) -> Source:
    """Examples with those labels, in that order."""
    return Source(
        read=read_entity_typing,
        schema=TYPING_SCHEMA,
        encode=encode_entity_typing,
        read_options={"labels": labels},
        encode_options={"labels": labels},
    )


def read_entity_typing(
    path: str | Path, labels: Sequence[str] | None, on_error: Callable[[ValueError], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Checked examples; `labels` None takes any label; `on_error` as in `checked`.

    Raises:
        ValueError: names file, record, value and mend.
    """
    check = partial(_check, labels=None if labels is None else frozenset(labels))
    return checked(read_records(path), check, path, on_error=on_error)


def _check(record: dict[str, Any], where: str, number: int, labels: frozenset[str] | None) -> dict[str, Any]:
    check_keys(record, ("sent", "start", "end", "labels"), where)
    sent, start, end = record["sent"], record["start"], record["end"]
    if not isinstance(sent, str) or not isinstance(start, int) or not isinstance(end, int):
        raise ValueError(
            f"{where}: sent, start and end are {str(sent)[:30]!r}, {start!r}, {end!r}; give a text and two numbers."
        )
    if not 0 <= start <= end <= len(sent):
        raise ValueError(
            f"{where}: the mention spans {start} to {end}, but the sentence has {len(sent)} "
            "characters; offsets count from 0, the end is exclusive."
        )
    if not sent[start:end].strip():
        raise ValueError(f"{where}: the mention from {start} to {end} is empty; mend start and end.")
    if not isinstance(record["labels"], list) or not all(isinstance(label, str) for label in record["labels"]):
        raise ValueError(f"{where}: labels is {str(record['labels'])[:30]!r}; give a list of names.")
    unknown = [] if labels is None else [label for label in record["labels"] if label not in labels]
    if unknown:
        raise ValueError(
            f"{where}: the labels {unknown} are not among the {len(labels or ())} known; mend them or give --labels."
        )
    return {"sent": sent, "start": start, "end": end, "labels": record["labels"], "record": number}


def collect_labels(data_dir: str | Path, train: Path, others: Sequence[Path] = ()) -> list[str]:
    """FIGER's labels: `labels.json` in the data folder; where it is not, it is written.

    The order is that of first appearance in the files, training first, as in the original (utils_glue.py), which
    saved heads depend on. Labels of dev and test that training lacks come last.

    Raises:
        FileNotFoundError, ValueError: a file is missing or broken.
    """
    path = Path(data_dir) / "labels.json"
    if path.is_file():
        return read_labels(path)
    if not train.is_file():
        raise FileNotFoundError(f"{train} is missing; put the data there or give another --data_dir.")
    labels: dict[str, None] = {}
    for source in [train, *(other for other in others if other.is_file())]:
        for example in read_entity_typing(source, None):  # checked, so that a bad file leaves no labels behind
            labels.update(dict.fromkeys(example["labels"]))
    write_json(path, list(labels))
    return list(labels)


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
        for label in example["labels"]:
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
