"""What a task's data folder holds and what is wrong with it, before a run depends on it."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from kadapter.data.encoding import Encoding, sequences
from kadapter.data.splits import files_of, missing
from kadapter.shapes import IGNORE
from kadapter.training.task import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWERS = ("relation", "labels", "label", "heads", "answers", "starts")  # what is asked for
NAMES = ("record", "id", "index", "fault", "split")  # neither that nor what is given
UNLIMITED = 1 << 30  # tokens
MARKED = 3  # examples of a split that are shown with their markers
BATCH = 1000  # examples that are tokenized together


@dataclass
class SplitReport:
    """What one file holds.

    dropped: reason -> records that runs leave out; first_dropped: the first of them.
    repeated: examples whose input stands in the file before; contradicting: those of them with another answer.
    shared: split read before -> examples whose input stands there too.
    doubt: what looks wrong in the file as a whole, a sentence; "" where nothing does.
    marked: some examples with their records as the model sees their mentions, those that look wrong among them.
    lengths: tokens of each example, its longest sequence; empty without a tokenizer.
    """

    path: Path
    examples: int = 0
    faults: list[str] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    first_dropped: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    contradicting: int = 0
    shared: Counter[str] = field(default_factory=Counter)
    doubt: str = ""
    marked: list[tuple[int, str]] = field(default_factory=list)
    lengths: array = field(default_factory=lambda: array("I"))

    def share_longer(self, max_seq_length: int) -> float:
        return float(np.mean(np.asarray(self.lengths) > max_seq_length)) if self.lengths else 0.0


def check_folder(task: Task, folder: Path, tokenizer: PreTrainedTokenizerBase | None = None) -> dict[str, SplitReport]:
    """Read every split that is there; a bad record becomes a fault and reading goes on."""
    reports: dict[str, SplitReport] = {}
    seen: dict[str, dict[bytes, bytes]] = {}
    for split in task.splits:
        try:
            path = task.path(folder, split)
            is_there = bool(files_of(path))
        except ValueError as error:  # it is there twice, or not whole
            reports[split] = SplitReport(folder / split, faults=[str(error)])
            continue
        if is_there:
            reports[split], seen[split] = _check_split(task, path, split, seen, tokenizer)
        elif split in task.required:
            reports[split] = SplitReport(
                path, faults=[f"{path} is missing; put the {split} split there. {missing(path)}"]
            )
    return reports


def _check_split(
    task: Task,
    path: Path,
    split: str,
    earlier: Mapping[str, Mapping[bytes, bytes]],
    tokenizer: PreTrainedTokenizerBase | None,
) -> tuple[SplitReport, dict[bytes, bytes]]:
    """The file's report, and digests of its inputs with those of their answers."""
    report, found = SplitReport(path), dict[bytes, bytes]()
    survey = MentionSurvey(task)
    read = partial(task.read, path, split)
    records = tqdm(_tolerant(read, report), desc=path.name, unit=" examples", disable=None)
    examples = (example for example in records if not _is_dropped(example, report))
    while batch := list(islice(examples, BATCH)):
        for example in batch:
            given = _digest(value for key, value in example.items() if key not in (*ANSWERS, *NAMES))
            answer = _digest(example.get(key) for key in ANSWERS)
            report.examples += 1
            survey.add(example)
            report.labels.update(_labels(example))
            report.repeated += given in found
            report.contradicting += found.setdefault(given, answer) != answer
            report.shared.update(split for split, digests in earlier.items() if given in digests)
        if tokenizer is not None:
            features = task.encode(batch, Encoding(tokenizer, UNLIMITED))
            report.lengths.extend(max(map(len, sequences(feature))) for feature in features)
    report.doubt, report.marked = survey.finding(), survey.marked
    return report, found


class MentionSurvey:
    """A look at a file's mentions: signs that they are misread, and some of them to be shown."""

    def __init__(self, task: Task) -> None:
        self.task, self.signs = task, task.signs()
        self.first = list[tuple[int, str]]()
        self.odd = list[tuple[int, str]]()

    def add(self, example: dict[str, Any]) -> None:
        is_odd = self.signs is not None and self.signs.add(example)
        shown = self.odd if is_odd else self.first
        if len(shown) < MARKED and (text := self.task.marked(example)):
            shown.append((example["record"], text))

    def finding(self) -> str:
        return self.signs.finding() if self.signs is not None else ""

    @property
    def marked(self) -> list[tuple[int, str]]:
        return sorted([*self.odd[: MARKED - 1], *self.first][:MARKED])


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
    report.first_dropped.setdefault(fault, example["record"])
    return bool(fault)


def _digest(values: Iterable[Any]) -> bytes:
    return hashlib.blake2b(json.dumps(list(values)).encode(), digest_size=8).digest()


def _labels(example: Mapping[str, Any]) -> list[str]:
    if "labels" in example:
        return example["labels"]
    known = [example[key] for key in ("relation", "label") if key in example]
    return [str(label) for label in known if label not in (IGNORE, "")]  # else it is kept back


def findings(task: Task, reports: Mapping[str, SplitReport], max_seq_length: int) -> list[str]:
    """What is legal but should be known, a sentence each."""
    found = []
    for split, report in reports.items():
        sizes = {release: official[split] for release, official in task.sizes.items() if split in official}
        in_file = sum(other.examples for other in reports.values() if other.path == report.path)  # dev may be a part
        if sizes and in_file not in sizes.values() and not report.faults:
            expected = " or ".join(f"{size:,} ({release})" for release, size in sizes.items())
            found.append(f"{report.path.name} has {in_file:,} examples, not {expected}.")
        if report.doubt:
            found.append(f"of {split}, {report.doubt}.")
        for reason, number in report.dropped.items():
            first = report.first_dropped[reason]
            found.append(f"{number:,} records of {split} are left out: {reason} (the first is record {first}).")
        for other, number in report.shared.items():
            found.append(f"{number:,} examples of {split} stand in {other} too: scores on {split} will flatter.")
        if report.contradicting:
            found.append(f"{report.contradicting:,} examples of {split} repeat an earlier input with another answer.")
        unseen = report.labels.keys() - reports[task.splits[0]].labels.keys()
        if unseen and task.splits[0] in reports:
            names = ", ".join(sorted(unseen)[:5])
            found.append(f"{split} has labels that never stand in {task.splits[0]} ({len(unseen)}): {names}.")
        if (share := report.share_longer(max_seq_length)) > 0.01:
            what = "read in windows" if task.in_windows else "cut or dropped"
            found.append(f"{share:.1%} of {split} are longer than {max_seq_length} tokens and will be {what}.")
    return found
