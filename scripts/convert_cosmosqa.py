"""Turn CosmosQA's csv files as released into the JSON lines of the reader.

    python scripts/convert_cosmosqa.py --input cosmosqa/data --output_dir data/cosmosQA

Of {train,valid,test}.csv, those that are there; their header is id,context,question,answer0..answer3,label. test.csv
may lack the labels (an empty field or -1), or the column; test.jsonl then has none. (A test.jsonl as released is in
this form already.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kadapter.console import Parser, absolute, run
from kadapter.data.jsonio import check_unique, write_jsonl
from kadapter.data.spans import is_blank
from kadapter.data.splits import files_of, missing, split_path
from kadapter.data.tables import csv_rows
from kadapter.shapes import IGNORE
from kadapter.storage.files import atomic_files
from kadapter.tasks.multiple_choice import CHOICES, TEXT_KEYS, choice_label

SPLITS = ("train", "valid", "test")


def read_questions(path: Path, labelled: bool | None) -> Iterator[dict[str, Any]]:
    """One record a row.

    Args:
        labelled: whether every row has a label; None: as the first row.

    Raises:
        ValueError: names file, line, value and mend.
    """
    rows = csv_rows(path)
    wanted = ("id", *TEXT_KEYS, *["label"] * bool(labelled))
    _, header = next(rows, (1, []))
    missing = [key for key in wanted if key not in header]
    if missing:
        raise ValueError(f"{path}, line 1: the columns {missing} are missing; give the header {','.join(wanted)}.")
    seen: dict[Any, int] = {}
    for number, row in rows:
        if len(row) != len(header):
            raise ValueError(f"{path}, line {number}: {len(row)} fields for {len(header)} columns; mend the row.")
        record = dict(zip(header, row, strict=True))
        check_unique(seen, record["id"], number, f"{path}, line {number}")
        if blank := [key for key in TEXT_KEYS if is_blank(record[key])]:
            raise ValueError(f"{path}, line {number}: {blank[0]} is empty; give a text.")
        label = choice_label(record.get("label") or None)
        labelled = label != IGNORE if labelled is None else labelled
        if label is None or (label != IGNORE) != labelled:
            mend = (
                f"it must be 0 to {CHOICES - 1}"
                if labelled or label is None
                else "rows before have none; label all rows, or none"
            )
            raise ValueError(f"{path}, line {number}: label is {record.get('label')!r}; {mend}.")
        yield {key: record[key] for key in ("id", *TEXT_KEYS)} | ({"label": str(label)} if labelled else {})


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--input", type=absolute, required=True, help="folder of the csv files")
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write")
    args = parser.parse_args(argv)
    sources = {split: split_path(args.input, split, ".csv", ()) for split in SPLITS}
    found = [split for split, source in sources.items() if files_of(source)]
    if not found:
        raise FileNotFoundError(
            f"{args.input} holds no train.csv, valid.csv or test.csv; give CosmosQA's data folder. "
            f"{missing(sources['train'])}"
        )
    report = []
    with atomic_files() as temporary:
        for split in found:
            questions = list(read_questions(sources[split], None if split == "test" else True))
            if not questions:
                raise ValueError(f"{sources[split]} holds no question; fetch the file again.")
            target = args.output_dir / f"{split}.jsonl"
            write_jsonl(temporary(target), questions)
            contexts = len({question["context"] for question in questions})
            labels = "labels" if "label" in questions[0] else "no labels"
            report.append(f"{target}: {len(questions):,} questions, {contexts:,} contexts, {labels}")
    print("\n".join(report))


if __name__ == "__main__":
    run(main)
