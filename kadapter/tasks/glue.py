"""GLUE: its nine tasks, reader of the download's tab-separated files, encoding.

Quotes are text, columns go by the header's names, and CoLA's files without header by their known order. In train and
dev a row that ends before its columns do (QQP has some) is dropped and counted; in a test file, of which the server
wants every row, it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from datasets import Features, List, Value
from transformers import PreTrainedTokenizerBase

from kadapter.configuration import IGNORE
from kadapter.data.encoding import Feature, encode_texts
from kadapter.data.features import Source
from kadapter.data.jsonio import checked, read_lines

GLUE_SCHEMA = Features(
    {
        "texts": List(Value("string")),  # one or two
        "label": Value("string"),  # "" where it is kept back
        "index": Value("int64"),  # of the row, as the server knows it
        "fault": Value("string"),  # why the row cannot be used; "" where it can
        "record": Value("int64"),
    }
)
MAX_SIMILARITY = 5.0  # STS-B's numbers are 0 to 5


@dataclass(frozen=True)
class GlueTask:
    """A task of GLUE.

    name: as the server writes it.
    texts, label: columns.
    labels: in the original's order; none for STS-B, whose label is a number.
    scores: the official ones and accuracy; the first chooses the best checkpoint.
    header: the columns of files without header.
    """

    name: str
    texts: tuple[str, ...]
    label: str = "label"
    labels: tuple[str, ...] = ("0", "1")
    scores: tuple[str, ...] = ("accuracy",)
    header: tuple[str, ...] = ()

    def files(self, data_dir: str | Path) -> dict[str, str]:
        """Split -> its file in the task's folder."""
        if self.name == "MNLI":
            kinds = {"": "_matched", "_mismatched": "_mismatched"}
            ends = {f"{split}{key}": f"{split}{kind}.tsv" for split in ("dev", "test") for key, kind in kinds.items()}
            return {"train": "train.tsv", **ends}
        files = {split: f"{split}.tsv" for split in ("train", "dev", "test")}
        for split in ("train", "test"):  # Microsoft's own files, which have all columns of GLUE's
            raw = f"msr_paraphrase_{split}.txt"
            if (
                self.name == "MRPC"
                and not (Path(data_dir) / files[split]).is_file()
                and (Path(data_dir) / raw).is_file()
            ):
                files[split] = raw
        return files

    def server_files(self) -> dict[str, str]:
        """Test split -> name of the file that the server takes."""
        if self.name == "MNLI":
            return {"test": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv"}
        return {"test": f"{self.name}.tsv"}


PAIR = ("sentence1", "sentence2")
ENTAILMENT = ("entailment", "not_entailment")
F1 = ("accuracy", "f1")
COLA_HEADER = ("source", "label", "star", "sentence")
MNLI_LABELS = ("contradiction", "entailment", "neutral")
TASKS = (
    GlueTask("CoLA", ("sentence",), scores=("matthews", "accuracy"), header=COLA_HEADER),
    GlueTask("SST-2", ("sentence",)),
    GlueTask("MRPC", ("#1 String", "#2 String"), label="Quality", scores=F1),
    GlueTask("STS-B", PAIR, label="score", labels=(), scores=("pearson", "spearman")),
    GlueTask("QQP", ("question1", "question2"), label="is_duplicate", scores=F1),
    GlueTask("MNLI", PAIR, label="gold_label", labels=MNLI_LABELS),
    GlueTask("QNLI", ("question", "sentence"), labels=ENTAILMENT),
    GlueTask("RTE", PAIR, labels=ENTAILMENT),
    GlueTask("WNLI", PAIR),
)


def glue_task(name: str) -> GlueTask:
    """The task of that name, whatever its case; raises ValueError where there is none."""
    for task in TASKS:
        if name.lower().replace("-", "") == task.name.lower().replace("-", ""):
            return task
    raise ValueError(f"--task_name is {name!r}; choose one of {', '.join(task.name for task in TASKS)}.")


def glue_source(task: GlueTask, folder: str | Path) -> Source:
    """The task's files in that folder; the labels of test splits are kept back."""
    files = task.files(folder)
    return Source(
        read=read_glue,
        schema=GLUE_SCHEMA,
        encode=encode_glue,
        read_options={"task": task.name},
        encode_options={"labels": task.labels},
        files=files,
        split_options={split: {"labelled": False} for split in files if split.startswith("test")},
    )


def read_glue(
    path: str | Path,
    task: str,
    labelled: bool = True,
    on_error: Callable[[ValueError], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Checked rows, the record being the line.

    Args:
        task: name of a `GlueTask`.
        labelled: train and dev; a test file may have labels or not.
        on_error: as in `checked`.

    Raises:
        ValueError: names file, line, value and mend.
    """
    known = glue_task(task)
    lines = ((number, line) for number, line in read_lines(path) if line.strip())
    first = next(lines, None)
    if first is None:
        raise ValueError(f"{path} holds no rows; fetch the file of {known.name} again.")
    columns, is_header = _columns(known, first[1].split("\t"), path, labelled)
    rows = enumerate(lines if is_header else chain([first], lines))
    numbered = ((number, (row, line.split("\t"))) for row, (number, line) in rows)
    check = partial(_check, task=known, columns=columns, labelled=labelled)
    empty = True
    for example in checked(numbered, check, path, "line", on_error):
        empty = False
        yield example
    if empty and on_error is None:
        raise ValueError(f"{path} holds no rows; fetch the file of {known.name} again.")


def _columns(task: GlueTask, cells: list[str], path: str | Path, labelled: bool) -> tuple[dict[str, int], bool]:
    """Column -> place, and whether the first line is a header."""
    is_header = task.texts[0] in cells
    header = cells if is_header else task.header
    needed = [*task.texts, *([task.label] if labelled else [])]
    if missing := [name for name in needed if name not in header]:
        raise ValueError(
            f"{path}, line 1: the columns {missing} of {task.name} are not among {[cell[:20] for cell in cells]}; "
            "give the file of GLUE's download."
        )
    return {name: header.index(name) for name in (*needed, task.label, "index", "id") if name in header}, is_header


def _check(
    numbered: tuple[int, list[str]], where: str, number: int, task: GlueTask, columns: dict[str, int], labelled: bool
) -> dict[str, Any]:
    row, cells = numbered
    if len(cells) <= max(columns.values()):
        if not labelled:
            raise ValueError(f"{where}: {len(cells)} columns are too few; complete the row, which the server wants.")
        fault = {"index": row, "fault": "columns are missing", "record": number}
        return {"texts": [""] * len(task.texts), "label": "", **fault}
    label = cells[columns[task.label]].strip() if task.label in columns else ""
    if task.label in columns and not _is_label(task, label):
        wanted = ", ".join(task.labels) or f"a number from 0 to {MAX_SIMILARITY:g}"
        raise ValueError(f"{where}: the label {label!r} is not {wanted}; mend it or take the line out.")
    index = cells[columns["index"]] if "index" in columns else cells[columns["id"]] if "id" in columns else str(row)
    if not labelled and not index.isdecimal():
        raise ValueError(f"{where}: the index {index!r} is no number; number the rows as in GLUE's download.")
    return {
        "texts": [cells[columns[name]] for name in task.texts],
        "label": label,
        "index": int(index) if index.isdecimal() else row,
        "fault": "",
        "record": number,
    }


def _is_label(task: GlueTask, label: str) -> bool:
    if task.labels:
        return label in task.labels
    try:
        return 0 <= float(label) <= MAX_SIMILARITY
    except ValueError:
        return False


def encode_glue(
    examples: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    labels: Sequence[str],
    causal: bool = False,
) -> list[Feature]:
    """One or two texts as the tokenizer joins them; the head reads the cls token, causal: the last one.

    Args:
        labels: names in order; none where the label is a number.
    """
    features = encode_texts(tokenizer, [example["texts"] for example in examples], max_seq_length, causal)
    for example, feature in zip(examples, features, strict=True):
        label = example["label"]
        known: int | float = IGNORE
        if label:
            known = labels.index(label) if labels else float(label)
        feature["labels"] = known if labels else float(known)
        feature |= {"index": example["index"], "dropped": example["fault"]}
    return features
