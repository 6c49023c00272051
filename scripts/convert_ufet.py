"""Turn UFET's crowd files as released into OpenEntity's form with its nine labels.

    python scripts/convert_ufet.py --input release/crowd --output_dir data/OpenEntity

Of {train,dev,test}.json, those that are there. A line is {"annot_id", "left_context_token": [...], "mention_span": str,
"right_context_token": [...], "y_str": [label, ...]}. Words are joined by single blanks; of the labels the nine are
kept, in their order, so that an example may have none. The rows stay in order, and each is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kadapter.console import Parser, absolute, run
from kadapter.data.jsonio import check_keys, shorten, write_json_list
from kadapter.data.spans import is_blank
from kadapter.data.splits import files_of, missing, split_path
from kadapter.data.tables import read_rows
from kadapter.storage.files import atomic_files
from kadapter.tasks.entity_typing import OPENENTITY_LABELS

SPLITS = ("train", "dev", "test")
LISTS = ("left_context_token", "right_context_token", "y_str")


def read_examples(path: Path) -> Iterator[dict[str, Any]]:
    """One example a record.

    Raises:
        ValueError: names file, record, value and mend.
    """
    for _, where, record in read_rows(path):
        check_keys(record, ("mention_span", *LISTS), where)
        for key in LISTS:
            if not isinstance(record[key], list) or not all(isinstance(word, str) for word in record[key]):
                raise ValueError(f"{where}: {key} is {shorten(record[key])}; give a list of words.")
        mention = record["mention_span"]
        if not isinstance(mention, str) or is_blank(mention):
            raise ValueError(f"{where}: mention_span is {shorten(mention)}; give the words of the mention.")
        before = "".join(f"{word} " for word in record["left_context_token"])
        yield {
            "sent": " ".join([before + mention, *record["right_context_token"]]),
            "start": len(before),
            "end": len(before) + len(mention),
            "labels": [label for label in record["y_str"] if label in OPENENTITY_LABELS],
        }


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--input", type=absolute, required=True, help="folder of UFET's crowd files")
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write")
    args = parser.parse_args(argv)
    if args.input.resolve() == args.output_dir.resolve():
        raise ValueError(f"--output_dir {args.output_dir} is --input; write elsewhere, UFET's files stay.")
    sources = {split: split_path(args.input, split) for split in SPLITS}
    found = [split for split, source in sources.items() if files_of(source)]
    if not found:
        raise FileNotFoundError(
            f"{args.input} holds no train.json, dev.json or test.json; give UFET's crowd folder. "
            f"{missing(sources['train'])}"
        )
    report = []
    with atomic_files() as temporary:
        for split in found:
            examples = list(read_examples(sources[split]))
            target = args.output_dir / f"{split}.json"
            write_json_list(temporary(target), examples)
            bare = sum(not example["labels"] for example in examples)
            report.append(f"{target}: {len(examples):,} examples, {bare:,} without any of the 9 labels")
    print("\n".join(report))


if __name__ == "__main__":
    run(main)
