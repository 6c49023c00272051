"""Turn TACRED as LDC ships it into data/TACRED, or into Re-TACRED with its patches.

    python scripts/convert_tacred.py --input tacred/data/json --output_dir data/TACRED
    python scripts/convert_tacred.py --input tacred/data/json --output_dir data/Re-TACRED --patch Re-TACRED/Re-TACRED

Reads {train,dev,test}.json and writes them with the keys of the recipe alone. A patch is a folder with
{split}_id2label.json, {id: relation}: it gives the relation of each example, and leaves out examples that it does not
name. Beside them labels.json is written for the recipe's --labels: no_relation first, then by name. Tokens such as
-LRB- stay as they are, as in the original.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kadapter.data.jsonio import check_keys, read_json, read_records, write_json, write_json_list
from kadapter.data.labels import TACRED_LABELS
from kadapter.data.relations import SPAN_KEYS, read_relations

SIZES = {"train": 68_124, "dev": 22_631, "test": 15_509}
RETACRED_SIZES = {"train": 58_465, "dev": 19_584, "test": 13_418}
KEYS = ("id", "docid", "token", "relation", *SPAN_KEYS, "subj_type", "obj_type")
Patch = dict[str, str]


def read_patch(folder: Path, split: str) -> Patch:
    """{id: relation} of one split.

    Raises:
        FileNotFoundError, ValueError: missing, or of another form.
    """
    path = folder / f"{split}_id2label.json"
    patch = read_json(path)
    if not isinstance(patch, dict) or not all(isinstance(label, str) for label in patch.values()):
        raise ValueError(f"{path} is not {{id: relation}}; give Re-TACRED's patches.")
    return patch


def read_examples(path: Path, patch: Patch | None) -> Iterator[dict[str, Any]]:
    """Records with the keys that the recipe reads, checked as it checks them.

    Raises:
        ValueError: names file, record, value and mend.
    """
    checked = read_relations(path, TACRED_LABELS)
    for (number, record), _ in zip(read_records(path), checked, strict=True):
        check_keys(record, KEYS, f"{path}, record {number}")
        if patch is None:
            yield {key: record[key] for key in KEYS}
        elif record["id"] in patch:
            yield {key: record[key] for key in KEYS} | {"relation": patch[record["id"]]}


def convert(source: Path, target: Path, patch: Patch | None, official: int) -> str:
    """Write one split; returns what was found."""
    ids: set[str] = set()

    def examples() -> Iterator[dict[str, Any]]:
        for example in read_examples(source, patch):
            ids.add(example["id"])
            yield example

    write_json_list(target, examples())
    note = "" if len(ids) == official else f" (the official number is {official:,})"
    if patch is None:
        return f"{len(ids):,} examples{note}"
    absent = [name for name in patch if name not in ids]
    note += f"; {len(absent):,} ids of the patch are not in {source.name}, first {absent[0]}" if absent else ""
    return f"{len(ids):,} examples{note}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True, help="folder with train.json, dev.json, test.json")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--patch", type=Path, help="folder with Re-TACRED's {split}_id2label.json")
    args = parser.parse_args(argv)
    try:
        if args.input.resolve() == args.output_dir.resolve():
            raise ValueError(f"--output_dir {args.output_dir} is --input; write elsewhere, TACRED stays as it is.")
        patches = {split: read_patch(args.patch, split) for split in SIZES} if args.patch else {}
        for split, size in (RETACRED_SIZES if args.patch else SIZES).items():
            source, target = (folder / f"{split}.json" for folder in (args.input, args.output_dir))
            print(f"{target}: {convert(source, target, patches.get(split), size)}")
        if patches:
            labels = {label for patch in patches.values() for label in patch.values()}
            ordered = sorted(labels, key=lambda label: (label != "no_relation", label))
            write_json(args.output_dir / "labels.json", ordered)
            print(f"{args.output_dir / 'labels.json'}: {len(ordered)} labels, for --labels")
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
