"""Raw releases of open-domain question answering to the form of thunlp/OpenQA: in parts, by workers, resumable.

A corpus's own module says which pieces of work there are, and reads one. Each piece becomes a part: two files of lines,
and the counts, whose presence says that the part is whole. At the end the parts of a split are joined in their order,
so that the output does not depend on where and by how many workers it was made.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from kadapter.data.answers import bears_answer
from kadapter.data.executors import as_finished, executor
from kadapter.data.jsonio import write_json
from kadapter.data.openqa import PARAGRAPHS, QUESTIONS, openqa_lines
from kadapter.data.spans import is_blank
from kadapter.storage.errors import writing
from kadapter.storage.files import atomic_files
from kadapter.storage.locks import exclusive
from kadapter.storage.reading import read_object

SPLITS = ("train", "dev", "test")
QUESTIONS_READ, KEPT = "questions", "kept"
NO_PARAGRAPH = "it has no paragraph"
WITHOUT = "without an answer-bearing paragraph"
_VERSION = 1  # of what the same input becomes


class Piece(NamedTuple):
    """Some of a split's questions, small enough to be sent to a worker: what `read` needs to find them."""

    split: str
    what: Any


class RawQuestion(NamedTuple):
    """A question of a raw release, before anything is left out. name: what it is called there, unique in its split."""

    name: str
    question: str
    answers: Sequence[str]
    paragraphs: Sequence[str]


Read = Callable[[Any], Iterable[RawQuestion]]  # of Piece.what


def convert(
    pieces: Sequence[Piece], read: Read, output_dir: Path, origin: Any, workers: int, cluster: str, shared: Path
) -> dict[str, dict[str, int]]:
    """Write the splits that pieces are there for; returns their counts by reason.

    Args:
        read: a function of a module, or a `partial` of one.
        origin: what, as JSON, changes with the input and the options; parts of another origin are not gone on with.
        shared: the input, which workers of a cluster must see.

    Raises:
        BlockingIOError: another process does so already.
        ValueError: a record is wrong, or no question of a split is left.
    """
    with exclusive(output_dir, "give another --output_dir"):
        key = hashlib.sha256(json.dumps([_VERSION, origin, pieces]).encode()).hexdigest()[:12]
        folder = output_dir.with_name(f".{output_dir.name}.{key}.parts")
        with writing(folder, "the parts"):
            folder.mkdir(parents=True, exist_ok=True)
        parts = {folder / f"{i:06d}.counts": piece for i, piece in enumerate(pieces)}
        left = [(piece, part) for part, piece in parts.items() if not part.is_file()]
        with (
            tqdm(total=len(parts), initial=len(parts) - len(left), unit=" parts", desc="convert", disable=None) as bar,
            executor(min(workers, len(left) or 1), cluster, [shared, folder]) as pool,
        ):
            for _ in as_finished(pool, partial(_write_part, read=read), left):
                bar.update()
        counts = _join(parts, output_dir)
        shutil.rmtree(folder)
        return counts


def _write_part(work: tuple[Piece, Path], read: Read) -> None:
    (split, what), part = work
    counts: Counter[str] = Counter()
    names: list[str] = []
    with (
        atomic_files() as temporary,
        temporary(part.with_suffix(QUESTIONS)).open("w", encoding="utf-8", newline="\n") as questions,
        temporary(part.with_suffix(PARAGRAPHS)).open("w", encoding="utf-8", newline="\n") as paragraphs,
    ):
        for found in read(what):
            names.append(found.name)
            if lines := _kept_lines(found, split, counts):
                questions.write(lines[0] + "\n")
                paragraphs.write(lines[1] + "\n")
    write_json(part, {"counts": counts, "names": names})


def _kept_lines(found: RawQuestion, split: str, counts: Counter[str]) -> tuple[str, str] | None:
    """The lines of a question; None where it is left out, which is counted."""
    counts[QUESTIONS_READ] += 1
    texts = [text for text in found.paragraphs if not is_blank(text)]
    counts["blank paragraphs left out"] += len(found.paragraphs) - len(texts)
    answers = [answer for answer in found.answers if not is_blank(answer)]
    reason = "the question is blank" if is_blank(found.question) else "it has no answer" if not answers else ""
    reason = reason or (NO_PARAGRAPH if not texts else "")
    if not reason and not bears_answer(texts, answers):
        counts[f"kept {WITHOUT}"] += split != "train"
        reason = "no paragraph bears the answer" if split == "train" else ""
    if reason:
        counts[f"dropped: {reason}"] += 1
        return None
    counts[KEPT] += 1
    counts["paragraphs"] += len(texts)
    return openqa_lines(found.question, answers, texts)


def _join(parts: Mapping[Path, Piece], output_dir: Path) -> dict[str, dict[str, int]]:
    """Write the parts of each split into its two files; returns the counts of each."""
    by_split = {split: [part for part, piece in parts.items() if piece.split == split] for split in SPLITS}
    by_split = {split: own for split, own in by_split.items() if own}
    counts = {split: _count(split, own) for split, own in by_split.items()}
    with atomic_files() as temporary:
        for split, own in by_split.items():
            for ending in (QUESTIONS, PARAGRAPHS):
                target = output_dir / f"{split}{ending}"
                written = temporary(target)
                with writing(target), written.open("wb") as stream:
                    for part in own:
                        with part.with_suffix(ending).open("rb") as lines:
                            shutil.copyfileobj(lines, stream, 1 << 20)
    return counts


def _count(split: str, parts: Sequence[Path]) -> dict[str, int]:
    """The counts of a split's parts, checked: no question twice, and some are left."""
    reports = [read_object(part, "delete it and convert again.", ["counts", "names"]) for part in parts]
    names = Counter(name for report in reports for name in report["names"])
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"{split} has the question {twice[0]} twice; remove one of them.")
    counts = sum((Counter(report["counts"]) for report in reports), Counter())
    if not counts[KEPT]:
        reasons = "; ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))
        raise ValueError(f"no question of {split} is left ({reasons or 'none was there'}); give the release as it is.")
    return dict(sorted(counts.items()))


def print_counts(counts: Mapping[str, Mapping[str, int]]) -> None:
    for split, own in counts.items():
        for name, count in sorted(own.items()):
            print(f"{count:>12,}  {split}: {name}")
