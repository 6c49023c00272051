"""GLUE as hubs have it: other columns than the download's, labels as numbers in an order of their own, -1 for none.

The columns and orders are those of the data set `nyu-mll/glue`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kadapter.data.jsonio import shorten, whole

# The task's texts there, where they have other names than in the download.
_TEXTS = {"MRPC": ("sentence1", "sentence2"), "MNLI": ("premise", "hypothesis")}
# Labels in the order of their numbers there, where it is not 0 and 1.
_ORDER = {
    "MNLI": ("entailment", "neutral", "contradiction"),
    "QNLI": ("entailment", "not_entailment"),
    "RTE": ("entailment", "not_entailment"),
}
# What files of `datasets` call the labels that the download writes as "0" and "1".
_NAMES = {
    "CoLA": ("unacceptable", "acceptable"),
    "SST-2": ("negative", "positive"),
    "MRPC": ("not_equivalent", "equivalent"),
    "QQP": ("not_duplicate", "duplicate"),
    "WNLI": ("not_entailment", "entailment"),
}


def hub_example(
    record: dict[str, Any], where: str, number: int, task: Any, labelled: bool, is_label: Callable[[str], bool]
) -> dict[str, Any]:
    """The example of a row, its columns named as in the hub's data set or as in the download.

    Args:
        task: a class of `kadapter.tasks.glue`. labelled: whether the row must have a label.
        is_label: whether a text is one of the download's labels.

    Raises:
        ValueError: names file, row, value and mend.
    """
    columns = next((names for names in (_TEXTS.get(task.name), task.texts) if names and names[0] in record), None)
    missing = [name for name in columns or task.texts if name not in record]
    if missing:
        raise ValueError(
            f"{where}: the columns {missing} of {task.name} are not among {[*map(shorten, record)]}; give GLUE's data."
        )
    texts = [record[name] for name in columns or ()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: {' and '.join(map(shorten, texts))} should be texts; mend them.")
    value = record.get(task.label, record.get("label"))
    label = _label(task, value)
    if (label and not is_label(label)) or (labelled and not label):
        wanted = ", ".join(_ORDER.get(task.name) or _NAMES.get(task.name) or ()) or "a number from 0 to 5"
        raise ValueError(
            f"{where}: the label {shorten(value)} is not {wanted}, or its number; mend it or take the row out."
        )
    index = whole(record.get("idx", record.get("index")))
    index = index if index is not None and 0 <= index < 1 << 60 else number - 1
    return {
        "texts": texts,
        "label": label,
        "index": index,
        "fault": "",
        "record": number,
    }


def _label(task: Any, value: Any) -> str:
    """The label as the download writes it; "" for none (-1, null), what is no label as it is."""
    is_number = isinstance(value, str) and len(value) < 3 and value.removeprefix("-").isdecimal()  # of csv
    number = int(value) if is_number else whole(value)
    if value is None or value == "" or number == -1:
        return ""
    if not task.LABELS:  # STS-B's numbers
        return str(value)
    names = _NAMES.get(task.name, ())
    if value in names:
        return str(names.index(value))
    if number is None or task.name not in _ORDER:
        return str(value if number is None else number)
    return _ORDER[task.name][number] if 0 <= number < len(_ORDER[task.name]) else str(value)
