"""Microsoft's paraphrase corpus to GLUE's MRPC: train.tsv, dev.tsv and test.tsv.

    python scripts/convert_mrpc.py --input raw --output_dir data/glue/MRPC

--input holds msr_paraphrase_train.txt, msr_paraphrase_test.txt and GLUE's list of dev pairs, mrpc_dev_ids.tsv, with two
ids a line. The pairs of that list become dev.tsv, the others train.tsv, in their order; test.tsv loses its labels, as
GLUE's has none, and its rows are numbered from 0, as the server wants them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kadapter.console import Parser, absolute, run
from kadapter.data.jsonio import read_lines
from kadapter.storage.files import atomic_files

HEADER = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]


def read_pairs(path: Path) -> list[list[str]]:
    """The rows below the header: label, two ids, two texts; raises ValueError where one has other columns."""
    rows = []
    for number, line in read_lines(path):
        cells = line.split("\t")
        if number == 1 and [cell.strip() for cell in cells] != HEADER:
            raise ValueError(f"{path}, line 1: the columns are {cells[:5]}, not {HEADER}; fetch the file again.")
        if number > 1 and line.strip():
            if len(cells) != len(HEADER):
                raise ValueError(f"{path}, line {number}: {len(cells)} columns instead of 5; fetch the file again.")
            rows.append([cell.strip() for cell in cells])
    if not rows:
        raise ValueError(f"{path} holds no rows; fetch it again.")
    return rows


def read_ids(path: Path) -> set[tuple[str, ...]]:
    """The pairs of ids; raises ValueError where a line has not two."""
    found = set[tuple[str, ...]]()
    for number, line in read_lines(path):
        if line.strip():
            ids = tuple(line.split())
            if len(ids) != 2:
                raise ValueError(f"{path}, line {number}: {line[:60]!r} is no pair of ids; fetch the file again.")
            found.add(ids)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--input", type=absolute, required=True, help="folder of the three files")
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write")
    args = parser.parse_args(argv)
    train, test = (read_pairs(args.input / f"msr_paraphrase_{split}.txt") for split in ("train", "test"))
    of_dev = read_ids(args.input / "mrpc_dev_ids.tsv")
    if missing := of_dev - {(row[1], row[2]) for row in train}:
        raise ValueError(
            f"{args.input / 'mrpc_dev_ids.tsv'}: {len(missing)} of {len(of_dev)} pairs, such as {min(missing)}, are "
            "not in msr_paraphrase_train.txt; fetch both again."
        )
    tables = {
        "train": [HEADER, *(row for row in train if (row[1], row[2]) not in of_dev)],
        "dev": [HEADER, *(row for row in train if (row[1], row[2]) in of_dev)],
        "test": [["index", *HEADER[1:]], *([str(i), *row[1:]] for i, row in enumerate(test))],
    }
    with atomic_files("MRPC") as temporary:
        for split, rows in tables.items():
            text = "".join("\t".join(row) + "\n" for row in rows)
            temporary(args.output_dir / f"{split}.tsv").write_text(text, encoding="utf-8")
    print(", ".join(f"{split} {len(rows) - 1:,}" for split, rows in tables.items()))


if __name__ == "__main__":
    run(main)
