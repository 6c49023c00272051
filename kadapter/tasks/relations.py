"""Relation classification: reader of T-REx (trex-rc) and TACRED, encoding of these and of SemEval-2010 Task 8.

A record: {"token": [...], "relation": "P17", "subj_start", "subj_end", "obj_start", "obj_end", ...}; word
numbers from 0, ends inclusive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Features, List, Value
from transformers import PreTrainedTokenizerBase

from kadapter.data.encoding import Feature, Template, marker, tokenize_pieces, window
from kadapter.data.features import Source, dropped
from kadapter.data.jsonio import check_keys, check_unique, checked, read_records
from kadapter.data.subset import check_spans

MARKERS = ("@", "#")  # around the subject and around the object
SPAN_KEYS = ("subj_start", "subj_end", "obj_start", "obj_end")
RELATION_SCHEMA = Features(
    {
        "pieces": List(Value("string")),  # before, first mention, between, second mention, after
        "subject_first": Value("bool"),
        "relation": Value("string"),
        "record": Value("int64"),
    }
)


def relation_source(labels: Sequence[str], train: Mapping[str, Any] | None = None, **encode_options: Any) -> Source:
    """Examples with those labels, in that order; `train`: further options of `read_relations` for that split."""
    return Source(
        read=read_relations,
        schema=RELATION_SCHEMA,
        encode=encode_relations,
        read_options={"labels": labels},
        encode_options={"labels": labels, **encode_options},
        split_options={"train": train or {}},
    )


def read_relations(
    path: str | Path,
    labels: Sequence[str],
    negative: str = "",
    negative_sample: int = 0,
    on_error: Callable[[ValueError], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Checked examples of a trex-rc or TACRED file.

    Args:
        negative, negative_sample: keep the first `negative_sample - 1` examples of the relation `negative`, as
            the original does (utils_glue.py); 0 keeps all.
        on_error: as in `checked`.

    Raises:
        ValueError: names file, record, value and mend.
    """
    check, negatives = partial(_check, labels=frozenset(labels), seen={}), 0
    for example in checked(read_records(path), check, path, on_error=on_error):
        negatives += example["relation"] == negative
        if not negative_sample or example["relation"] != negative or negatives < negative_sample:
            yield example


def _check(
    record: dict[str, Any], where: str, number: int, labels: frozenset[str], seen: dict[Any, int]
) -> dict[str, Any]:
    check_keys(record, ("token", "relation", *SPAN_KEYS), where)
    check_unique(seen, record.get("id"), number, where)
    words, relation = record["token"], record["relation"]
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{where}: token is {str(words)[:60]!r}; give a list of words.")
    if relation not in labels:
        raise ValueError(
            f"{where}: relation {relation!r} is not among the {len(labels)} labels; mend it or give the right --labels."
        )
    check_spans(record, where)
    return {
        "pieces": _pieces(record),
        "subject_first": _subject_first(record),
        "relation": relation,
        "record": number,
    }


def _subject_first(record: dict[str, Any]) -> bool:
    return record["subj_start"] < record["obj_start"]


def _pieces(record: dict[str, Any]) -> list[str]:
    """The five texts around and inside the two mentions, in their order in the sentence."""
    spans = [(record["subj_start"], record["subj_end"] + 1), (record["obj_start"], record["obj_end"] + 1)]
    (start1, end1), (start2, end2) = spans if _subject_first(record) else spans[::-1]
    words = record["token"]
    cuts = [words[:start1], words[start1:end1], words[end1:start2], words[start2:end2], words[end2:]]
    return [" ".join(cut) for cut in cuts]


def encode_relations(
    examples: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    labels: Sequence[str],
    markers: tuple[str, str] = MARKERS,
    bare: bool = True,
    keep_markers: bool = False,
    causal: bool = False,
) -> list[Feature]:
    """Ids with markers around subject and object; positions of the first of each, causal: of the closing one.

    Args:
        bare: markers are the tokens themselves, as for T-REx and TACRED; else what the tokenizer makes of them, as
            for SemEval (in RoBERTa's case with a space before).
        keep_markers: where a cut at the right would lose a marker, take a window that holds both; else, or where
            no window does, the example is dropped, as in the original's T-REx (utils_glue.py), and counted.
    """
    index = {label: i for i, label in enumerate(labels)}
    pieces = tokenize_pieces(tokenizer, [piece for example in examples for piece in example["pieces"]])
    subject, object_ = (marker(tokenizer, token, bare) for token in markers)
    template = Template.of(tokenizer)
    size = max_seq_length - template.size
    features: list[Feature] = []
    for i, example in enumerate(examples):
        before, first, between, second, after = pieces[5 * i : 5 * i + 5]
        mark, other = (subject, object_) if example["subject_first"] else (object_, subject)
        ids = [*before, *mark, *first, *mark, *between, *other, *second, *other, *after]
        starts = len(before), len(before) + 2 * len(mark) + len(first) + len(between)
        ends = starts[0] + 2 * len(mark) + len(first) - 1, starts[1] + 2 * len(other) + len(second) - 1
        at = ends if causal else starts
        label = index[example["relation"]]
        span = (starts[0], ends[1]) if ends[1] - starts[0] < size else at
        begin = window(len(ids), *span, size) if keep_markers else 0
        if at[1] - begin >= size:
            features.append(dropped("a marker lies beyond max_seq_length", label, [0, 0]))
            continue
        found = [template.before + position - begin for position in at]
        features.append(
            {
                "input_ids": template.join(ids[begin : begin + size])["input_ids"],
                "positions": found if example["subject_first"] else found[::-1],
                "labels": label,
                "note": "a window was taken that holds both markers" if begin else "",
            }
        )
    return features
