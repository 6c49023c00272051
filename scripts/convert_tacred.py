"""Turn TACRED as LDC ships it into data/TACRED, or into Re-TACRED with its patches.

    python scripts/convert_tacred.py --input tacred/data/json --output_dir data/TACRED
    python scripts/convert_tacred.py --input tacred/data/json --output_dir data/Re-TACRED --patch Re-TACRED/Re-TACRED

Reads {train,dev,test}.json and writes them with the keys of the recipe alone. A patch is a folder with
{split}_id2label.json, {id: relation}: it gives the relation of each example, and leaves out examples that it does not
name. Beside them labels.json is written for the recipe's --labels: no_relation first, then by name. Tokens such as
-LRB- stay as they are, as in the original.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kadapter.console import Parser, absolute, run
from kadapter.data.cleaned import check_spans
from kadapter.data.jsonio import check_keys, read_json, read_records, write_json, write_json_list
from kadapter.data.spans import SPANS
from kadapter.storage.files import atomic_files
from kadapter.tasks.relations import SPAN_KEYS, TACRED_LABELS, read_relations

SIZES = {"train": 68_124, "dev": 22_631, "test": 15_509}
RETACRED_SIZES = {"train": 58_465, "dev": 19_584, "test": 13_418}
KEYS = ("id", "docid", "token", "relation", *SPAN_KEYS, "subj_type", "obj_type")
NONE = "no_relation"
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


def read_examples(
    path: Path, patch: Patch | None, counts: Counter[str], spans: str = "inclusive"
) -> Iterator[dict[str, Any]]:
    """Records with the keys that the recipe reads, checked as it checks them; uses the patch up.

    Those whose mentions cross are left out, as the recipe would; ends become inclusive.

    Raises:
        ValueError: names file, record, value and mend.
    """
    checked = read_relations(path, TACRED_LABELS, spans=spans)
    for (number, record), example in zip(read_records(path), checked, strict=True):
        check_keys(record, KEYS, f"{path}, record {number}")
        check_spans(record, f"{path}, record {number}", spans == "exclusive")  # whole numbers, ends inclusive
        relation = record["relation"] if patch is None else patch.pop(record["id"], None)
        fault = "not in the patch" if relation is None else example["fault"]
        counts[f"left out, {fault}" if fault else "examples"] += 1
        if not fault:
            yield {key: record[key] for key in KEYS} | {"relation": relation}


def convert(source: Path, target: Path, patch: Patch | None, official: int, spans: str = "inclusive") -> str:
    """Write one split; returns the counts as text."""
    counts: Counter[str] = Counter()
    write_json_list(target, read_examples(source, patch, counts, spans))
    parts = [f"{number:,} {name}" for name, number in counts.items()]
    if patch:
        parts.append(f"{len(patch):,} ids of the patch are not in {source}, first {min(patch)}")
    if counts["examples"] != official:
        parts.append(f"officially {official:,} examples")
    return ", ".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--input", type=absolute, required=True, help="folder with train.json, dev.json, test.json")
    parser.add_argument("--output_dir", type=absolute, required=True)
    parser.add_argument("--patch", type=absolute, help="folder with Re-TACRED's {split}_id2label.json")
    parser.add_argument("--spans", choices=SPANS, default="inclusive", help="ends in the input (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.input.resolve() == args.output_dir.resolve():
        raise ValueError(f"--output_dir {args.output_dir} is --input; write elsewhere, TACRED's files stay.")
    patches = {split: read_patch(args.patch, split) for split in SIZES} if args.patch else {}
    labels = {label for patch in patches.values() for label in patch.values()}
    report = []
    with atomic_files() as aside:
        for split, size in (RETACRED_SIZES if patches else SIZES).items():
            source, target = (folder / f"{split}.json" for folder in (args.input, args.output_dir))
            report.append(f"{target}: {convert(source, aside(target), patches.get(split), size, args.spans)}")
        if patches:
            target = args.output_dir / "labels.json"
            write_json(aside(target), sorted(labels, key=lambda label: (label != NONE, label)))
            report.append(f"{target}: {len(labels)} labels, for --labels")
    print("\n".join(report))


if __name__ == "__main__":
    run(main)
