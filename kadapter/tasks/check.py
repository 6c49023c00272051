"""What is in a task's data folder, and what is wrong with it, before a run depends on it."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from kadapter.data.encoding import Feature
from kadapter.data.features import Source, sequences
from kadapter.data.labels import TACRED_LABELS, read_labels
from kadapter.tasks.dependencies import dependency_source
from kadapter.tasks.entity_typing import OPENENTITY_LABELS, encode_entity_typing, typing_source
from kadapter.tasks.glue import TASKS as GLUE_TASKS
from kadapter.tasks.glue import glue_source, glue_task
from kadapter.tasks.multiple_choice import cosmosqa_source
from kadapter.tasks.relations import relation_source
from kadapter.tasks.semeval import semeval_source

TASKS = ("fac", "lin", "et", "openentity", "figer", "tacred", "semeval", "cosmosqa", *(g.name for g in GLUE_TASKS))
TAKES_LABELS = ("fac", "et", "openentity", "figer", "tacred")
ANSWERS = ("relation", "labels", "label", "heads")  # what is asked for
NAMES = ("record", "id", "index", "fault")  # neither that nor what is given
UNLIMITED = 1 << 30  # tokens
BATCH = 1000  # examples that are tokenized together
PRETRAINING = ("train", "dev")

# release -> split -> number of examples
OPENENTITY_SIZES = {"OpenEntity": {"train": 1998, "dev": 1998, "test": 1998}}
FIGER_SIZES = {"FIGER as in K-Adapter": {"train": 2000000, "dev": 10000, "test": 563}}
TACRED_SIZES = {
    "TACRED": {"train": 68124, "dev": 22631, "test": 15509},
    "Re-TACRED": {"train": 58465, "dev": 19584, "test": 13418},
}
SEMEVAL_SIZES = {"SemEval-2010 Task 8": {"train": 8000, "test": 2717}}
COSMOSQA_SIZES = {"CosmosQA": {"train": 25262, "dev": 2985, "test": 6963}}


@dataclass(frozen=True)
class Corpus:
    """What a task's folder should hold.

    source, max_seq_length: as in the task's recipe.
    required: splits that a run cannot do without.
    official: release -> split -> number of examples.
    """

    source: Source
    max_seq_length: int
    splits: Sequence[str] = ("train", "dev", "test")
    required: Sequence[str] = ("train", "dev")
    official: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def find_corpus(task: str, folder: Path, labels_file: Path | None = None) -> Corpus:
    """What that task's recipe reads from the folder.

    Raises:
        FileNotFoundError, ValueError: the labels are missing or broken, or the task has its own and takes no others.
    """
    if labels_file is not None and task not in TAKES_LABELS:
        raise ValueError(f"--labels is not for {task}, whose labels are its own; leave it out.")
    given = read_labels(labels_file) if labels_file else None
    match task:
        case "fac":
            return Corpus(relation_source(given or read_labels(folder / "relations.json")), 64, PRETRAINING)
        case "et":
            return Corpus(typing_source(given or read_labels(folder / "labels.json")), 256, PRETRAINING)
        case "lin":
            return Corpus(dependency_source(), 64, PRETRAINING)
        case "openentity":
            return Corpus(typing_source(given or OPENENTITY_LABELS), 256, official=OPENENTITY_SIZES)
        case "figer":
            return Corpus(_figer_source(folder, given), 256, official=FIGER_SIZES)
        case "tacred":
            return Corpus(relation_source(given or TACRED_LABELS), 184, official=TACRED_SIZES)
        case "semeval":  # whose train split is read whole
            splits = [split for split in ("train", "dev", "test") if split != "dev" or (folder / "dev.txt").is_file()]
            return Corpus(semeval_source(folder, dev_share=0.0), 184, splits, ("train",), SEMEVAL_SIZES)
        case "cosmosqa":
            return Corpus(cosmosqa_source(), 256, official=COSMOSQA_SIZES)
    source = glue_source(glue_task(task), folder)
    return Corpus(source, 128, tuple(source.files))


def _figer_source(folder: Path, given: list[str] | None) -> Source:
    """The recipe collects the labels where they are not written down: then any are taken."""
    labels = given or (read_labels(path) if (path := folder / "labels.json").is_file() else None)
    if labels is not None:
        return typing_source(labels)
    return replace(typing_source(()), read_options={"labels": None}, encode=_encode_any, encode_options={})


def _encode_any(
    examples: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, max_seq_length: int
) -> list[Feature]:
    """Features for their lengths, which do not depend on the labels."""
    return encode_entity_typing([{**example, "labels": ()} for example in examples], tokenizer, max_seq_length, ())


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
    corpus: Corpus, folder: Path, tokenizer: PreTrainedTokenizerBase | None = None
) -> dict[str, SplitReport]:
    """Read every split that is there; a bad record becomes a fault and reading goes on."""
    reports: dict[str, SplitReport] = {}
    seen: dict[str, dict[bytes, bytes]] = {}
    source = corpus.source
    for split in corpus.splits:
        path = source.path(folder, split)
        if path.is_file():
            read = partial(source.read, path, **source.options(split))
            encode = partial(source.encode, tokenizer=tokenizer, max_seq_length=UNLIMITED, **source.encode_options)
            reports[split], seen[split] = _check_split(path, read, seen, encode if tokenizer else None)
        elif split in corpus.required:
            reports[split] = SplitReport(path, faults=[f"{path} is missing; put the {split} split there."])
    return reports


def _check_split(
    path: Path,
    read: Callable[..., Iterator[dict[str, Any]]],
    earlier: Mapping[str, Mapping[bytes, bytes]],
    encode: Callable[..., list[Feature]] | None,
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
        if encode is not None:
            report.lengths.extend(max(map(len, sequences(feature))) for feature in encode(batch))
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


def findings(corpus: Corpus, reports: Mapping[str, SplitReport], max_seq_length: int) -> list[str]:
    """What is legal but should be known, a sentence each."""
    found = []
    for split, report in reports.items():
        sizes = {release: official[split] for release, official in corpus.official.items() if split in official}
        if sizes and report.examples not in sizes.values() and not report.faults:
            expected = " or ".join(f"{size:,} ({release})" for release, size in sizes.items())
            found.append(f"{split} has {report.examples:,} examples, not {expected}.")
        for reason, number in report.dropped.items():
            found.append(f"{number:,} records of {split} are left out: {reason}.")
        for other, number in report.shared.items():
            found.append(f"{number:,} examples of {split} stand in {other} too: scores on {split} will flatter.")
        if report.contradicting:
            found.append(f"{report.contradicting:,} examples of {split} repeat an earlier input with another answer.")
        unseen = report.labels.keys() - reports[corpus.splits[0]].labels.keys()
        if unseen and corpus.splits[0] in reports:
            names = ", ".join(sorted(unseen)[:5])
            found.append(f"{split} has labels that never stand in {corpus.splits[0]} ({len(unseen)}): {names}.")
        if (share := report.share_longer(max_seq_length)) > 0.01:
            found.append(f"{share:.1%} of {split} are longer than {max_seq_length} tokens and will be cut or dropped.")
    return found
