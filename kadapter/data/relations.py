"""Relation classification: readers and encodings of T-REx (trex-rc), whose form TACRED shares.

A record: {"token": [...], "relation": "P17", "subj_start", "subj_end", "obj_start", "obj_end", ...}; word
numbers from 0, ends inclusive.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import Features, List, Value
from transformers import PreTrainedTokenizerBase

from kadapter.data.encoding import Feature, add_special_tokens, bare_token, tokenize_pieces
from kadapter.data.features import dropped
from kadapter.data.jsonio import read_records

SUBJECT_MARKER, OBJECT_MARKER = "@", "#"
SPAN_KEYS = ("subj_start", "subj_end", "obj_start", "obj_end")
RELATION_SCHEMA = Features(
    {
        "token": List(Value("string")),
        "relation": Value("string"),
        **{key: Value("int32") for key in SPAN_KEYS},
        "record": Value("int64"),
    }
)


def read_relations(path: str | Path, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Checked examples of a trex-rc file.

    Raises:
        ValueError: names file, record, value and mend.
    """
    known = set(labels)
    for number, record in read_records(path):
        where = f"{path}, record {number}"
        missing = [key for key in ("token", "relation", *SPAN_KEYS) if key not in record]
        if missing:
            raise ValueError(f"{where}: the keys {missing} are missing; a relation example has them all.")
        words = record["token"]
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{where}: token is {str(words)[:60]!r}; give a list of words.")
        if record["relation"] not in known:
            raise ValueError(
                f"{where}: relation {record['relation']!r} is not among the {len(known)} labels; "
                "mend it or add it to the label file."
            )
        for name in ("subj", "obj"):
            start, end = record[f"{name}_start"], record[f"{name}_end"]
            if not all(isinstance(value, int) for value in (start, end)) or not 0 <= start <= end < len(words):
                raise ValueError(
                    f"{where}: {name}_start {start!r} and {name}_end {end!r} do not lie in the "
                    f"{len(words)} words; both count from 0, the end is inclusive."
                )
        yield {key: record[key] for key in ("token", "relation", *SPAN_KEYS)} | {"record": number}


def encode_relations(
    examples: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, max_seq_length: int, labels: Sequence[str]
) -> list[Feature]:
    """Ids with bare `@` around the subject and bare `#` around the object; positions of the first of each.

    Cut at the right; an example whose marker is cut off is dropped, as in the original (utils_glue.py), and
    counted.
    """
    index = {label: i for i, label in enumerate(labels)}
    pieces = tokenize_pieces(tokenizer, [piece for example in examples for piece in _pieces(example)])
    subject, object_ = bare_token(tokenizer, SUBJECT_MARKER), bare_token(tokenizer, OBJECT_MARKER)
    features: list[Feature] = []
    for i, example in enumerate(examples):
        before, first, between, second, after = pieces[5 * i : 5 * i + 5]
        mark, other = (subject, object_) if _subject_first(example) else (object_, subject)
        ids = [*before, mark, *first, mark, *between, other, *second, other, *after][: max_seq_length - 2]
        at = 1 + len(before), 1 + len(before) + 2 + len(first) + len(between)
        label = index[example["relation"]]
        if at[1] > max_seq_length - 2:
            features.append(dropped("a marker lies beyond max_seq_length", label, [0, 0]))
            continue
        positions = at if _subject_first(example) else at[::-1]
        features.append(
            {"input_ids": add_special_tokens(tokenizer, ids), "positions": list(positions), "labels": label}
        )
    return features


def _subject_first(example: dict[str, Any]) -> bool:
    return example["subj_start"] < example["obj_start"]


def _pieces(example: dict[str, Any]) -> list[str]:
    """The five texts around and inside the two mentions, in their order in the sentence."""
    spans = [(example["subj_start"], example["subj_end"] + 1), (example["obj_start"], example["obj_end"] + 1)]
    (start1, end1), (start2, end2) = spans if _subject_first(example) else spans[::-1]
    words = example["token"]
    cuts = [words[:start1], words[start1:end1], words[end1:start2], words[start2:end2], words[end2:]]
    return [" ".join(cut) for cut in cuts]


def read_labels(path: str | Path) -> list[str]:
    """Label names in order from a JSON list, or from `{name: id}` with ids 0, 1, 2, ... (`relations.json`)."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; write the labels there as a JSON list or as {{name: id}}.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); give a list of labels or {{name: id}}.") from None
    if isinstance(value, dict):
        if sorted(value.values(), key=str) != sorted(range(len(value)), key=str):
            raise ValueError(f"{path}: the ids are not 0 to {len(value) - 1}, each once; number the labels anew.")
        value = sorted(value, key=value.__getitem__)
    if not isinstance(value, list) or not value or not all(isinstance(label, str) for label in value):
        raise ValueError(f"{path} holds no labels; give a JSON list of names or {{name: id}}.")
    if len(set(value)) != len(value):
        raise ValueError(f"{path}: the label {next(v for v in value if value.count(v) > 1)!r} stands there twice.")
    return value
