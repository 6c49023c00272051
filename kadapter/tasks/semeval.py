"""SemEval-2010 Task 8: relations of two nominals, from the official files.

Four lines an example, ended by LF or CRLF: `id<TAB>"sentence with <e1>..</e1> and <e2>..</e2>"`, the relation,
a comment, a blank line. TRAIN_FILE.TXT and TEST_FILE_FULL.TXT have this form. Records of OpenNRE's form, h being e1,
are read too.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kadapter.data.encoding import OnError
from kadapter.data.forms import semeval_lines
from kadapter.data.jsonio import check_unique, checked_rows, read_lines
from kadapter.data.spans import CROSSING, Span, is_blank, spans_cross
from kadapter.data.splits import TABLES, TEXT, files_of, form_of, split_path
from kadapter.data.tables import begins_with_object, read_rows
from kadapter.tasks.marking import five_pieces
from kadapter.tasks.relations import RelationClassification
from kadapter.tasks.scores import f1, numbers, text_of
from kadapter.training.task import Predictions, Scores

if TYPE_CHECKING:
    from datasets import Dataset

RELATIONS = (
    "Cause-Effect",
    "Content-Container",
    "Entity-Origin",
    "Member-Collection",
    "Component-Whole",
    "Entity-Destination",
    "Instrument-Agency",
    "Message-Topic",
    "Product-Producer",
)
OTHER = "Other"
# The original's order of classes, which saved heads depend on.
LABELS = (*(f"{name}({way})" for name in RELATIONS for way in ("e1,e2", "e2,e1")), OTHER)
_TAG = re.compile(r"<(/?)e([12])>")


@dataclass(frozen=True, kw_only=True)
class Semeval(RelationClassification):
    """The official files; where there is no dev.txt beside train.txt, a part of train is dev."""

    name = "semeval"
    metric = "macro_f1"
    max_seq_length = 184
    required = ("train",)
    sample = '"The <e1>storm</e1> caused a <e2>flood</e2>."'
    sizes: ClassVar = {"SemEval-2010 Task 8": {"train": 8000, "test": 2717}}
    markers = ("@", "^")  # around e1 and around e2, as in the original (utils_glue.py)
    bare = False

    dev_share: float = 0.1
    """Share of train that is dev where there is no dev.txt."""
    split_seed: int = 42

    @classmethod
    def own_labels(cls, folder: Path) -> Sequence[str]:
        return LABELS

    def path(self, folder: str | Path, split: str) -> Path:
        own = split_path(folder, split, TEXT, TABLES)
        return own if split != "dev" or files_of(own) else self.path(folder, "train")

    def key(self, path: Path, split: str) -> Mapping[str, Any]:
        return {**super().key(path, split), "part": self._part(path, split)}

    def _part(self, path: Path, split: str) -> str:
        """Which part of the file the split is: train and dev share one where there is no dev file beside it."""
        is_shared = path == self.path(path.parent, "train") == self.path(path.parent, "dev")
        return split if is_shared else "all"

    def read(self, path: Path, split: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
        return read_semeval(path, self.labels, self._part(path, split), self.dev_share, self.split_seed, on_error)

    def example(self, given: Any, where: str) -> dict[str, Any]:
        """A sentence with one <e1>...</e1> and one <e2>...</e2>, as it is or as `text` or `sentence`."""
        sentence = text_of(given, ("text", "sentence"), where)
        return _check([f"0\t{sentence}", self.labels[0]], where, 0, labels=frozenset(self.labels), seen={})

    def score(self, predictions: Predictions, features: Dataset) -> Scores:
        return semeval_scores(predictions["logits"].values.argmax(1), numbers(features), self.labels)


def read_semeval(
    path: str | Path,
    labels: Sequence[str],
    part: str = "all",
    dev_share: float = 0.1,
    seed: int = 42,
    on_error: Callable[[ValueError], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Checked examples, the record being the line that an example begins on.

    Args:
        part: "all"; or "train" or "dev", which share a file that has no dev split beside it.
        dev_share, seed: which share of the examples is "dev", chosen at random.
        on_error: as in `checked`.

    Raises:
        ValueError: names file, line, value and mend.
    """
    check = partial(_check, labels=frozenset(labels), seen={})
    examples = list(checked_rows(_read(path, on_error), check, on_error))
    if not examples and on_error is None:
        raise ValueError(f"{path} is empty; give the task's TRAIN_FILE.TXT or TEST_FILE_FULL.TXT.")
    held_out = set(np.random.default_rng(seed).permutation(len(examples))[: round(dev_share * len(examples))].tolist())
    for i, example in enumerate(examples):
        if part == "all" or (i in held_out) == (part == "dev"):
            yield example


def _read(path: Any, on_error: OnError | None) -> Iterator[tuple[int, str, list[str]]]:
    """The lines of each example, with its number and place: of the official files, or of records of another form."""
    if isinstance(path, zipfile.Path) or not _is_table(Path(path)):
        yield from ((number, f"{path}, line {number}", lines) for number, lines in _blocks(path, on_error))
        return
    for number, where, record in read_rows(path, on_error):
        try:
            lines = semeval_lines(record, where, number)
        except ValueError as error:
            if on_error is None:
                raise
            on_error(error)
        else:
            yield number, where, lines


def _is_table(path: Path) -> bool:
    """Whether it is no single file of the official form."""
    return form_of(path) in TABLES or files_of(path) != [path] or (form_of(path) == TEXT and begins_with_object(path))


def _check(lines: list[str], where: str, number: int, labels: frozenset[str], seen: dict[Any, int]) -> dict[str, Any]:
    name, tab, sentence = lines[0].partition("\t")
    sentence = re.sub(r'^\s*"(.*)"\s*$', r"\1", sentence)
    spans = _spans(sentence)
    if not (tab and name.strip().isdigit() and spans):
        raise ValueError(
            f"{where}: {lines[0][:50]!r} is no example; write number, tab and the sentence with one "
            "<e1>...</e1> and one <e2>...</e2>."
        )
    check_unique(seen, name.strip(), number, where)
    relation = lines[1].strip() if len(lines) > 1 else ""
    if relation not in labels:
        raise ValueError(
            f"{where}: the relation {relation[:60]!r} is not among the {len(labels)} labels; it stands on the line "
            "after the sentence (TEST_FILE_FULL.TXT has it, TEST_FILE.TXT has not)."
        )
    plain = _TAG.sub("", sentence)
    if any(is_blank(plain[slice(*span)]) for span in spans):
        raise ValueError(f"{where}: an entity is empty; mend the sentence.")
    crossing = spans_cross(*spans)
    pieces = {"pieces": [plain, "", "", "", ""], "subject_first": True, "nested": False}
    return {
        **(pieces if crossing else five_pieces(plain, *spans)),
        "relation": relation,
        "fault": CROSSING if crossing else "",
        "record": number,
    }


def _spans(sentence: str) -> tuple[Span, ...]:
    """Where e1 and e2 are in the sentence without its four tags; () where it does not have these, each once."""
    places: dict[str, int] = {}
    removed = 0
    for tag in _TAG.finditer(sentence):
        if tag[0] in places:
            return ()
        places[tag[0]] = tag.start() - removed
        removed += len(tag[0])
    if len(places) < 4 or any(places[f"<e{i}>"] > places[f"</e{i}>"] for i in (1, 2)):
        return ()
    return tuple((places[f"<e{i}>"], places[f"</e{i}>"]) for i in (1, 2))


def _blocks(path: str | Path, on_error: OnError | None) -> Iterator[tuple[int, list[str]]]:
    """Runs of lines that are not blank, with the number of the first."""
    begin, block = 0, list[str]()
    for number, line in read_lines(path, on_error):
        if line.strip():
            begin = begin if block else number
            block.append(line)
        elif block:
            yield begin, block
            block = []
    if block:
        yield begin, block


def semeval_scores(predicted: np.ndarray, gold: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """SemEval-2010 Task 8's official score: macro F1 over the nine relations, direction taken into account.

    A relation with the wrong direction is an error, but counts as predicted and as gold of that relation; "Other"
    is left out of the mean. That is the scorer's "(9+1)-way evaluation with directionality". `original_macro_f1`
    is the original's, which does not count a wrong direction against recall and takes the mean over "Other" too
    (utils_glue.py: macro_f1_semeval).

    Args:
        predicted, gold: [examples], numbers of labels such as "Cause-Effect(e1,e2)".
    """
    predicted, gold = np.asarray(predicted), np.asarray(gold)
    relation = np.array([label.partition("(")[0] for label in labels])
    scores, original = [], []
    for name in dict.fromkeys(relation.tolist()):
        is_predicted, is_gold = relation[predicted] == name, relation[gold] == name
        hits = int((is_gold & (predicted == gold)).sum())
        turned = int((is_gold & is_predicted & (predicted != gold)).sum())
        precision = hits / max(1, int(is_predicted.sum()))
        if name != "Other":
            scores.append((precision, hits / max(1, int(is_gold.sum()))))
        original.append(f1(precision, hits / max(1, int(is_gold.sum()) - turned)))
    precision, recall = np.mean(scores, axis=0)
    return {
        "macro_precision": float(precision),
        "macro_recall": float(recall),
        "macro_f1": float(np.mean([f1(*pair) for pair in scores])),
        "original_macro_f1": float(np.mean(original)),
        "accuracy": float((predicted == gold).mean()),
    }
