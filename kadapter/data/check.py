"""What is in a task's data folder, and what is wrong with it, before a run depends on it."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from kadapter.data import semeval
from kadapter.data.dependencies import encode_dependencies, read_dependencies
from kadapter.data.entity_typing import OPENENTITY_LABELS, encode_entity_typing, read_entity_typing
from kadapter.data.features import Encoder, Reader, sequences
from kadapter.data.glue import TASKS as GLUE_TASKS
from kadapter.data.glue import GlueTask, encode_glue, glue_task, read_glue
from kadapter.data.jsonio import split_path
from kadapter.data.labels import TACRED_LABELS, read_labels
from kadapter.data.multiple_choice import encode_choices, read_cosmosqa
from kadapter.data.relations import encode_relations, read_relations

TASKS = ("fac", "lin", "et", "openentity", "figer", "tacred", "semeval", "cosmosqa", *(g.name for g in GLUE_TASKS))
TAKES_LABELS = ("fac", "et", "openentity", "figer", "tacred")
ANSWERS = ("relation", "labels", "label", "heads")  # what is asked for
NAMES = ("record", "id", "index", "fault")  # neither that nor what is given
UNLIMITED = 1 << 30  # tokens
BATCH = 1000  # examples that are tokenized together


@dataclass(frozen=True, kw_only=True)
class Source:
    """How a task's folder is read.

    files: split -> name of its file, where that is not the split's own with .jsonl or .json.
    split_options: split -> further options of `read` there.
    required: splits that a run cannot do without.
    official: release -> split -> number of examples.
    """

    read: Reader
    encode: Encoder
    max_seq_length: int
    splits: tuple[str, ...] = ("train", "dev", "test")
    files: Mapping[str, str] = field(default_factory=dict)
    split_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    required: tuple[str, ...] = ("train", "dev")
    official: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def find_source(task: str, folder: Path, labels_file: Path | None = None) -> Source:
    """How that task's recipe reads the folder.

    Raises:
        FileNotFoundError, ValueError: the labels are missing or broken, or the task has its own and takes no others.
    """
    if labels_file is not None and task not in TAKES_LABELS:
        raise ValueError(f"--labels is not for {task}, whose labels are its own; leave it out.")
    given = read_labels(labels_file) if labels_file else None
    match task:
        case "fac":
            labels = given or read_labels(folder / "relations.json")
            return _relation_source(labels, max_seq_length=64, splits=("train", "dev"))
        case "tacred":
            return _relation_source(given or list(TACRED_LABELS), max_seq_length=184, official=TACRED_SIZES)
        case "lin":
            encode = partial(encode_dependencies, original_labels=False)
            return Source(read=read_dependencies, encode=encode, max_seq_length=64, splits=("train", "dev"))
        case "et":
            return _typing_source(given or read_labels(folder / "labels.json"), splits=("train", "dev"))
        case "openentity":
            return _typing_source(given or list(OPENENTITY_LABELS), official=OPENENTITY_SIZES)
        case "figer":  # whose recipe collects the labels where they are not written down
            known = given or (read_labels(path) if (path := folder / "labels.json").is_file() else None)
            return _typing_source(known, official=FIGER_SIZES)
        case "semeval":
            return Source(
                read=partial(semeval.read_semeval, labels=semeval.LABELS),
                encode=partial(encode_relations, labels=semeval.LABELS, markers=semeval.MARKERS, bare=False),
                max_seq_length=184,
                files={split: f"{split}.txt" for split in ("train", "dev", "test")},
                required=("train",),
                official=SEMEVAL_SIZES,
            )
        case "cosmosqa":
            return Source(
                read=read_cosmosqa,
                encode=encode_choices,
                max_seq_length=256,
                splits=("train", "valid", "test"),
                split_options={"test": {"labelled": False}},
                required=("train", "valid"),
                official=COSMOSQA_SIZES,
            )
    return _glue_source(glue_task(task), folder)


def _relation_source(labels: Sequence[str], **options: Any) -> Source:
    read, encode = partial(read_relations, labels=labels), partial(encode_relations, labels=labels)
    return Source(read=read, encode=encode, **options)


def _typing_source(labels: Sequence[str] | None, **options: Any) -> Source:
    read, encode = partial(read_entity_typing, labels=labels), partial(_encode_typing, labels=labels)
    return Source(read=read, encode=encode, max_seq_length=256, **options)


def _glue_source(task: GlueTask, folder: Path) -> Source:
    files = task.files(folder)
    return Source(
        read=partial(read_glue, task=task.name),
        encode=partial(encode_glue, labels=task.labels),
        max_seq_length=128,
        splits=tuple(files),
        files=files,
        split_options={split: {"labelled": False} for split in files if split.startswith("test")},
    )


OPENENTITY_SIZES = {"OpenEntity": {"train": 1998, "dev": 1998, "test": 1998}}
FIGER_SIZES = {"FIGER as in K-Adapter": {"train": 2000000, "dev": 10000, "test": 563}}
TACRED_SIZES = {
    "TACRED": {"train": 68124, "dev": 22631, "test": 15509},
    "Re-TACRED": {"train": 58465, "dev": 19584, "test": 13418},
}
SEMEVAL_SIZES = {"SemEval-2010 Task 8": {"train": 8000, "test": 2717}}
COSMOSQA_SIZES = {"CosmosQA": {"train": 25262, "valid": 2985, "test": 6963}}


def _encode_typing(
    examples: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, max_seq_length: int, labels: Any
) -> Any:
    """FIGER's labels may not be known yet, and lengths do not depend on them."""
    known = labels or sorted({label for example in examples for label in example["labels"]})
    return encode_entity_typing(examples, tokenizer, max_seq_length, known)


@dataclass
class SplitReport:
    """What one file holds.

    dropped: reason -> records that runs leave out.
    repeated: examples whose input stands in the file before; contradicting: those of them with another answer.
    shared: split read before -> examples whose input stands there too.
    lengths: tokens of each example, its longest sequence; empty without a tokenizer.
    """

    path: Path
    examples: int = 0
    faults: list[str] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    contradicting: int = 0
    shared: Counter[str] = field(default_factory=Counter)
    lengths: array = field(default_factory=lambda: array("I"))

    def share_longer(self, max_seq_length: int) -> float:
        return float(np.mean(np.asarray(self.lengths) > max_seq_length)) if self.lengths else 0.0


def check_folder(
    source: Source, folder: Path, tokenizer: PreTrainedTokenizerBase | None = None
) -> dict[str, SplitReport]:
    """Read every split that is there; a bad record becomes a fault and reading goes on."""
    reports: dict[str, SplitReport] = {}
    seen: dict[str, dict[bytes, bytes]] = {}
    for split in source.splits:
        path = split_path(folder, source.files.get(split, split))
        if path.is_file():
            read = partial(source.read, path, **source.split_options.get(split, {}))
            reports[split], seen[split] = _check_split(path, read, seen, tokenizer, source.encode)
        elif split in source.required:
            reports[split] = SplitReport(path, faults=[f"{path} is missing; put the {split} split there."])
    return reports


def _check_split(
    path: Path,
    read: Callable[..., Iterator[dict[str, Any]]],
    earlier: Mapping[str, Mapping[bytes, bytes]],
    tokenizer: PreTrainedTokenizerBase | None,
    encode: Encoder,
) -> tuple[SplitReport, dict[bytes, bytes]]:
    """The file's report, and digests of its inputs with those of their answers."""
    report, found = SplitReport(path), dict[bytes, bytes]()
    records = tqdm(_tolerant(read, report), desc=path.name, unit=" examples", disable=None)
    examples = (example for example in records if not _is_dropped(example, report))
    while batch := list(islice(examples, BATCH)):
        for example in batch:
            given = _digest(value for key, value in example.items() if key not in (*ANSWERS, *NAMES))
            answer = _digest(example.get(key) for key in ANSWERS)
            report.examples += 1
            report.labels.update(_labels(example))
            report.repeated += given in found
            report.contradicting += found.setdefault(given, answer) != answer
            report.shared.update(split for split, digests in earlier.items() if given in digests)
        if tokenizer is not None:
            features = encode(batch, tokenizer, max_seq_length=UNLIMITED)
            report.lengths.extend(max(map(len, sequences(feature))) for feature in features)
    return report, found


def _tolerant(read: Callable[..., Iterator[dict[str, Any]]], report: SplitReport) -> Iterator[dict[str, Any]]:
    """The good examples; what is wrong with the others, or with the file, becomes faults of the report."""
    try:
        yield from read(on_error=lambda error: report.faults.append(str(error)))
    except (ValueError, OSError) as error:  # nothing can be read behind it
        report.faults.append(str(error))


def _is_dropped(example: Mapping[str, Any], report: SplitReport) -> bool:
    """Whether the reader gave it a fault, for which the encoder would leave it out."""
    fault = example.get("fault", "")
    report.dropped.update([fault] * bool(fault))
    return bool(fault)


def _digest(values: Iterable[Any]) -> bytes:
    return hashlib.blake2b(json.dumps(list(values)).encode(), digest_size=8).digest()


def _labels(example: Mapping[str, Any]) -> list[str]:
    if "labels" in example:
        return example["labels"]
    return [str(example[key]) for key in ("relation", "label") if key in example]


def findings(source: Source, reports: Mapping[str, SplitReport], max_seq_length: int) -> list[str]:
    """What is legal but should be known, a sentence each."""
    found = []
    for split, report in reports.items():
        sizes = {release: official[split] for release, official in source.official.items() if split in official}
        if sizes and report.examples not in sizes.values() and not report.faults:
            expected = " or ".join(f"{size:,} ({release})" for release, size in sizes.items())
            found.append(f"{split} has {report.examples:,} examples, not {expected}.")
        for reason, number in report.dropped.items():
            found.append(f"{number:,} records of {split} are left out: {reason}.")
        for other, number in report.shared.items():
            found.append(f"{number:,} examples of {split} stand in {other} too: scores on {split} will flatter.")
        if report.contradicting:
            found.append(f"{report.contradicting:,} examples of {split} repeat an earlier input with another answer.")
        unseen = report.labels.keys() - reports[source.splits[0]].labels.keys()
        if unseen and source.splits[0] in reports:
            names = ", ".join(sorted(unseen)[:5])
            found.append(f"{split} has labels that never stand in {source.splits[0]} ({len(unseen)}): {names}.")
        if (share := report.share_longer(max_seq_length)) > 0.01:
            found.append(f"{share:.1%} of {split} are longer than {max_seq_length} tokens and will be cut or dropped.")
    return found
