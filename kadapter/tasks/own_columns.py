"""A table of one's own: which columns hold texts and labels, and what kind of labels they are.

What the user does not say is guessed from the header and from the labels of train, and the guess is said in the log.
Where a guess could be wrong without anybody noticing, it is an error that lists what there is.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kadapter.data.jsonio import shorten
from kadapter.data.tables import read_rows

SINGLE, MULTIPLE, NUMBER = "single_label_classification", "multi_label_classification", "regression"
PROBLEM_TYPES = (SINGLE, MULTIPLE, NUMBER)  # by transformers' names

# Names of columns that are known, in small letters.
_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
    ("query", "passage"),
)
_TEXTS = frozenset(
    {"text", "sentence", "content", "review", "comment", "tweet", "document", "body", "message", "utterance", "query"}
    | {"question", "premise", "title", "headline", "abstract", "description", "sentence1"}
)
_LABELS = frozenset(
    {"label", "labels", "target", "targets", "class", "classes", "category", "categories", "gold_label", "y"}
    | {"sentiment", "intent", "topic", "topics", "tag", "tags", "score", "rating", "stars"}
)
_MOST_NUMBERED_CLASSES = 20  # more different whole numbers than these may be classes or amounts
_LEAST_ROWS = 2  # a label on average; with fewer a column holds texts or ids rather than labels


@dataclass(frozen=True)
class Columns:
    """Names of the columns; `pair` "" where there is one text."""

    text: str
    pair: str
    label: str

    @property
    def texts(self) -> list[str]:
        return [name for name in (self.text, self.pair) if name]

    def __str__(self) -> str:
        texts = " and ".join(map(repr, self.texts))
        return f"the text{'s' * bool(self.pair)} in {texts}, the labels in {self.label!r}"


def find_columns(path: Path, text: str, pair: str, label: str) -> Columns:
    """The columns of a file, by their given names or guessed where these are "".

    Raises:
        ValueError: a column is not there, or it is not clear which is meant; lists the columns.
    """
    first = next(read_rows(path, lambda error: None), None)
    if first is None:
        raise ValueError(f"{path} holds no rows that can be read; give at least one.")
    names = [str(name) for name in first.record]
    listed = f"its columns are {', '.join(map(repr, names))}"
    for flag, name in (("text_column", text), ("pair_column", pair), ("label_column", label)):
        if name and name not in names:
            raise ValueError(f"{path}: there is no column {name!r} for --{flag}; {listed}.")
    if not label:
        label = _only([name for name in names if name.lower() in _LABELS and name not in (text, pair)], names, text)
        if not label:
            raise ValueError(f"{path}: it is not clear which column holds the labels; give --label_column: {listed}.")
    free = [name for name in names if name not in (label, pair)]
    if not text and not pair:
        text, pair = next(iter(_pairs(free)), ("", ""))
    if not text:
        text = _only([name for name in free if name.lower() in _TEXTS], free, "")
    if not text:
        raise ValueError(f"{path}: it is not clear which column holds the texts; give --text_column: {listed}.")
    if len({text, pair, label}) < 3:
        raise ValueError(f"{path}: one column cannot be two of text, pair and label ({text!r}, {pair!r}, {label!r}).")
    return Columns(text, pair, label)


def _only(known: list[str], names: list[str], taken: str) -> str:
    """The one column of a known name, or else the only one that is not taken; "" where that is none or several."""
    others = [name for name in names if name != taken]
    if not known and len(others) == 1:
        return others[0]
    return known[0] if len(known) == 1 else ""


def _pairs(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    by_name = {name.lower(): name for name in names}
    return ((by_name[one], by_name[other]) for one, other in _PAIRS if one in by_name and other in by_name)


# -- labels ------------------------------------------------------------------------------------------------------


def label_name(value: Any) -> str:
    """A label as it is called: a text without blanks around it, whole numbers as such, also where pandas made 1.0.

    "" for none, which NaN is too: pandas writes it for an empty cell. Raises ValueError, without a place, for what is
    no label.
    """
    if value is None or value in ("NaN", "nan") or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"the label {shorten(value)} is neither a text nor a number")
    name = value.strip()
    return name[:-2] if name.endswith(".0") and name[:-2].removeprefix("-").isdecimal() else name


def label_names(value: Any, separator: str) -> list[str]:
    """Several labels: a list, a list as JSON in a text, or a text in parts; none where there is nothing."""
    value = value if separator else _as_list(value)
    if isinstance(value, str):
        value = value.split(separator) if separator else [value]
    values = value if isinstance(value, list | tuple) else [value]
    return list(dict.fromkeys(name for part in values if (name := label_name(part))))


def _as_list(value: Any) -> Any:
    """The list that a text of JSON holds; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def number_of(value: Any) -> float | None:
    """A number, also written as a text; None for what is none, NaN and infinite ones among them."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


@dataclass
class LabelSurvey:
    """What stands in a column of labels.

    counts: name -> rows, of single labels or of several; more than `rows` in all where rows have several.
    """

    rows: int = 0
    lists: int = 0
    numbers: int = 0
    fractions: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, value: Any, separator: str) -> None:
        self.rows += 1
        is_list = isinstance(_as_list(value), list)
        self.lists += is_list
        if not is_list and (number := number_of(value)) is not None:
            self.numbers += 1
            self.fractions += not number.is_integer()
        with suppress(ValueError):  # which the reader says with its row
            self.counts.update(label_names(value, separator))

    def problem_type(self, column: str, separator: str) -> str:
        """What the labels are; raises ValueError where that is not clear."""
        if separator or self.lists:
            return MULTIPLE
        if self.fractions and self.numbers > self.rows / 2:
            return NUMBER  # what is none among them is an error with its row
        if self.rows and self.numbers == self.rows and len(self.counts) > _MOST_NUMBERED_CLASSES:
            raise ValueError(
                f"the column {column!r} holds {len(self.counts):,} different whole numbers, which may be amounts "
                f"or classes; give --problem_type {NUMBER} or {SINGLE}."
            )
        return SINGLE

    def labels(self, column: str, kind: str) -> list[str]:
        """The labels in order, numbers by size; none of numbers to be predicted.

        Raises:
            ValueError: nothing can be learnt of them: one value in all rows, or hardly any value twice.
        """
        if len(self.counts) <= (kind != MULTIPLE):
            held = f"only the label {next(iter(self.counts))!r}" if self.counts else "no labels"
            raise ValueError(
                f"the column {column!r} holds {held} in {self.rows:,} rows, of which nothing can be learnt; give "
                "another --label_column or other data."
            )
        if kind == NUMBER:
            return []
        if len(self.counts) * _LEAST_ROWS > sum(self.counts.values()):
            raise ValueError(
                f"the column {column!r} holds {len(self.counts):,} different labels in {self.rows:,} rows, fewer than "
                f"{_LEAST_ROWS} rows for each: it seems to hold texts, ids or amounts; give another --label_column, "
                f"--problem_type {NUMBER}, --label_separator where a cell holds several, or a file of --labels where "
                "they are meant."
            )
        return sorted(self.counts, key=lambda name: (number_of(name) is None, number_of(name) or 0, name))

    def alike(self) -> list[list[str]]:
        """Labels that differ in capitals and blanks alone, and may be one that was written in several ways."""
        groups: dict[str, list[str]] = {}
        for name in sorted(self.counts):
            groups.setdefault("".join(name.split()).casefold(), []).append(name)
        return [names for names in groups.values() if len(names) > 1]
