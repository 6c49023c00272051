"""Turn TACRED as LDC ships it into data/TACRED, or into Re-TACRED with its patches.

    python scripts/convert_tacred.py --input tacred/data/json --output_dir data/TACRED
    python scripts/convert_tacred.py --input tacred/data/json --output_dir data/Re-TACRED --patch Re-TACRED/Re-TACRED
    python scripts/convert_tacred.py --input tacred/data/json --output_dir data/TACREV --patch tacrev/patch

Reads {train,dev,test}.json and writes them with the keys of the recipe alone. Re-TACRED's patch is a folder with
{split}_id2label.json, {id: relation}: it gives the relation of each example, and leaves out examples that it does not
name. TACREV's has {dev,test}_patch.json, [{"id", "relation"}, ...]: it gives the relations of those, and all else
stays. Files that are patched already are taken too, TACREV's also under the names dev_rev.json and test_rev.json. Of
Re-TACRED labels.json is written for the recipe's --labels: no_relation first, then by name. Tokens such as -LRB- stay
as they are, as in the original.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kadapter.console import Parser, absolute, run
from kadapter.data.cleaned import check_spans
from kadapter.data.jsonio import check_keys, read_json, shorten, write_json, write_json_list
from kadapter.data.spans import SPANS
from kadapter.data.splits import files_of, split_path
from kadapter.data.tables import read_rows
from kadapter.storage.files import atomic_files
from kadapter.tasks.relations import SPAN_KEYS, TACRED_LABELS, read_relations

SIZES = {"train": 68_124, "dev": 22_631, "test": 15_509}
RETACRED_SIZES = {"train": 58_465, "dev": 19_584, "test": 13_418}
KEYS = ("id", "docid", "token", "relation", *SPAN_KEYS, "subj_type", "obj_type")
NONE = "no_relation"
# What Re-TACRED has and has not of TACRED's relations.
NEW = frozenset((*(f"org:{place}_of_branch" for place in ("city", "stateorprovince", "country")), "per:identity"))
GONE = frozenset(
    (*(f"org:{place}_of_headquarters" for place in ("city", "stateorprovince", "country")), "org:parents")
    + ("org:subsidiaries", "per:alternate_names")
)


class Patch(NamedTuple):
    """Relations by id, which are used up; `drops`: whether examples that it does not name are left out."""

    relations: dict[str, str]
    drops: bool


def read_patch(folder: Path, split: str) -> Patch | None:
    """The patch of one split: Re-TACRED's, or TACREV's, which has none for train.

    Raises:
        FileNotFoundError, ValueError: missing, or of another form.
    """
    whole, revised = folder / f"{split}_id2label.json", folder / f"{split}_patch.json"
    if whole.is_file() or not any((folder / f"{name}_patch.json").is_file() for name in SIZES):
        patch = read_json(whole)
        if not isinstance(patch, dict) or not all(isinstance(label, str) for label in patch.values()):
            raise ValueError(f"{whole} is not {{id: relation}}; give Re-TACRED's patches.")
        return Patch(patch, drops=True)
    if not revised.is_file():
        return None
    found: dict[str, str] = {}
    for _, where, record in read_rows(revised):
        name, relation = record.get("id"), record.get("relation")
        if not isinstance(name, str) or not isinstance(relation, str) or name in found:
            raise ValueError(
                f"{where}: {shorten(record)} is no id, given once, with a relation; give TACREV's patches."
            )
        found[name] = relation
    return Patch(found, drops=False)


def read_examples(
    path: Path, patch: Patch | None, counts: Counter[str], spans: str = "inclusive"
) -> Iterator[dict[str, Any]]:
    """Records with the keys that the recipe reads, checked as it checks them; uses the patch up.

    Those whose mentions cross are left out, as the recipe would; ends become inclusive.

    Raises:
        ValueError: names file, record, value and mend.
    """
    checked = read_relations(path, (*TACRED_LABELS, *sorted(NEW)), spans=spans, numbered=False)
    for (_, where, record), example in zip(read_rows(path), checked, strict=True):
        check_keys(record, KEYS, where)
        check_spans(record, where, spans == "exclusive")  # whole numbers, ends inclusive
        relation = record["relation"]
        if patch is not None:
            relation = patch.relations.pop(record["id"], None if patch.drops else relation)
        fault = "not in the patch" if relation is None else example["fault"]
        counts[f"left out, {fault}" if fault else "examples"] += 1
        if not fault:
            yield {key: record[key] for key in KEYS} | {"relation": relation}


def convert(source: Path, target: Path, patch: Patch | None, found: set[str], spans: str = "inclusive") -> str:
    """Write one split; returns the counts as text, and adds its relations to `found`."""
    counts: Counter[str] = Counter()
    own: set[str] = set()

    def examples() -> Iterator[dict[str, Any]]:
        for example in read_examples(source, patch, counts, spans):
            own.add(example["relation"])
            yield example

    write_json_list(target, examples())
    found |= own
    parts = [f"{number:,} {name}" for name, number in counts.items()]
    if patch and patch.relations:
        left = patch.relations
        parts.append(f"{len(left):,} ids of the patch are not in {source}, first {min(left)}")
    official = (RETACRED_SIZES if (patch and patch.drops) or own & NEW else SIZES)[target.stem]
    if counts["examples"] != official:
        parts.append(f"officially {official:,} examples")
    return ", ".join(parts)


def labels_of(patches: Mapping[str, Patch | None], found: set[str], source: Path) -> list[str]:
    """The relations that the recipe must be told with --labels: Re-TACRED's; none where they are TACRED's own.

    Raises:
        ValueError: some examples have TACRED's relations and others Re-TACRED's.
    """
    if found & NEW and found & GONE:
        raise ValueError(
            f"{source} holds relations of Re-TACRED ({min(found & NEW)}) and of TACRED alone ({min(found & GONE)}); "
            "give files that are all patched, or none."
        )
    given = {label for patch in patches.values() if patch and patch.drops for label in patch.relations.values()}
    labels = given or ({*TACRED_LABELS} - GONE | NEW if found & NEW else set())
    return sorted(labels, key=lambda label: (label != NONE, label))


def split_file(folder: Path, split: str) -> Path:
    """The split of TACRED in any form, or dev_rev.json and test_rev.json, as TACREV writes them."""
    path, revised = split_path(folder, split), split_path(folder, f"{split}_rev")
    return revised if not files_of(path) and files_of(revised) else path


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--input", type=absolute, required=True, help="folder with train.json, dev.json, test.json")
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write")
    parser.add_argument("--patch", type=absolute, help="folder with Re-TACRED's or TACREV's patches")
    parser.add_argument(
        "--spans", choices=SPANS, default="inclusive", help="whether the ends of mentions in the input count in"
    )
    args = parser.parse_args(argv)
    if args.input.resolve() == args.output_dir.resolve():
        raise ValueError(f"--output_dir {args.output_dir} is --input; write elsewhere, TACRED's files stay.")
    patches = {split: read_patch(args.patch, split) for split in SIZES} if args.patch else {}
    named = {split: Patch(dict(patch.relations), patch.drops) for split, patch in patches.items() if patch}
    report, found = [], set[str]()
    with atomic_files() as temporary:
        for split in SIZES:
            source, target = split_file(args.input, split), args.output_dir / f"{split}.json"
            report.append(f"{target}: {convert(source, temporary(target), patches.get(split), found, args.spans)}")
        if labels := labels_of(named, found, args.input):
            target = args.output_dir / "labels.json"
            write_json(temporary(target), labels)
            report.append(f"{target}: {len(labels)} labels, for --labels")
    print("\n".join(report))


if __name__ == "__main__":
    run(main)
