"""Typed mentions from cleaned T-REx, for --objective entity_typing of the factual adapter.

    python scripts/create_subdataset-entity-typing.py --input trex-cleaned.jsonl --output_dir data/trex-et
    python scripts/create_subdataset-entity-typing.py ... --types types.json --labels original
    python scripts/create_subdataset-entity-typing.py ... --split_by document --dev_fraction 0.5 --shots 20

A mention's types are the objects of P31 ("instance of") whose subject it is, for the original's reader types a fact's
subject by its object; or, with --types, a JSON object {entity: [type, ...]}, those of any subject or object. Rare types
are left out. Splits 90/10 by a seeded hash of the sentence or document; --shots leaves few mentions of each type in
train. Writes train.jsonl, dev.jsonl (OpenEntity's form, with the docid) and labels.json, most frequent first, or in the
order of the original's 570. Holds the mentions in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kadapter.console import COUNT, SEED, SHARE, Parser, absolute, run
from kadapter.data.cleaned import Example, fraction, read_cleaned
from kadapter.data.few_shot import draw_few
from kadapter.data.jsonio import read_json, shorten, write_json, write_jsonl
from kadapter.data.labels import read_labels
from kadapter.data.spans import is_blank
from kadapter.storage.files import atomic_files

ORIGINAL_LABELS = Path(__file__).with_name("trex_et_labels.json")
Mention = tuple[str, int, int]  # sentence, start, end


def typed(example: Example, types: Mapping[str, Sequence[str]] | None) -> Iterator[tuple[Mention, Sequence[str]]]:
    """The mentions of an example that have types, with these (or none, where --types lacks them)."""
    for role in ("subj", "obj"):
        words, first, last = example["token"], example[f"{role}_start"], example[f"{role}_end"]
        start = len(" ".join(words[:first])) + bool(first)
        mention = " ".join(words), start, start + len(" ".join(words[first : last + 1]))
        if types is not None:
            yield mention, types.get(str(example[f"{role}_label"]), [])
        elif role == "subj" and example["relation"] == "P31":
            yield mention, [str(example["obj_label"])]


def read_types(path: Path) -> dict[str, list[str]]:
    """The file of --types, checked."""
    types = read_json(path)
    if not (isinstance(types, dict) and all(isinstance(value, list) for value in types.values())):
        raise ValueError(f"{path} is not {{entity: [type, ...]}}; write a list of types for each entity.")
    for entity, found in types.items():
        if wrong := [value for value in found if not isinstance(value, str) or is_blank(value)]:
            raise ValueError(f"{path}: the types of {entity!r:.60} hold {shorten(wrong[0])}; give names.")
    return types


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--input", type=absolute, required=True, help="cleaned examples, JSON lines or a JSON list")
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write")
    parser.add_argument(
        "--types",
        type=absolute,
        help="JSON object of entities and their types; default: the facts of P31 (instance of)",
    )
    parser.add_argument(
        "--labels", choices=("frequency", "original"), default="frequency", help="order of the types in labels.json"
    )
    parser.add_argument("--min_examples", type=COUNT, default=50, help="mentions that a type must have")
    parser.add_argument("--shots", type=COUNT, help="leave so many mentions of a type in train, chosen at random")
    parser.add_argument("--dev_fraction", type=SHARE, default=0.1, help="share of dev")
    parser.add_argument(
        "--split_by", choices=("sentence", "document"), default="sentence", help="what is never in both train and dev"
    )
    parser.add_argument("--seed", type=SEED, default=42, help="seed of choice and split")
    args = parser.parse_args(argv)
    types = read_types(args.types) if args.types else None
    mentions: dict[Mention, dict[str, None]] = {}
    documents: dict[str, str] = {}  # of each sentence the first that has it
    for _, example in read_cleaned(args.input, "read"):
        for mention, found in typed(example, types):
            mentions.setdefault(mention, {}).update(dict.fromkeys(found))
            documents.setdefault(mention[0], str(example["docid"]))
    counts = Counter(name for names in mentions.values() for name in names)
    frequent = [name for name, n in sorted(counts.items(), key=lambda c: (-c[1], c[0])) if n >= args.min_examples]
    labels = read_labels(ORIGINAL_LABELS) if args.labels == "original" else frequent
    known = {*labels} & {*frequent}
    kept: dict[str, list[Example]] = {"train": [], "dev": []}
    for (sent, start, end), names in mentions.items():
        key = documents[sent] if args.split_by == "document" else sent
        split = "dev" if fraction(args.seed, key) < args.dev_fraction else "train"
        row: Example = {"sent": sent, "start": start, "end": end, "labels": [name for name in names if name in known]}
        kept[split] += [row | {"docid": documents[sent]}] * bool(row["labels"])
    dropped = f"dropped for want of such a type {len(mentions) - sum(map(len, kept.values())):,}"
    if args.shots:
        chosen = draw_few([row["labels"] for row in kept["train"]], args.shots, args.seed)
        dropped += f", dropped for --shots {len(kept['train']) - len(chosen):,}"
        kept["train"] = [kept["train"][number] for number in chosen]
    if not all(kept.values()):
        raise ValueError(f"{args.input}: {len(mentions)} mentions leave train or dev empty; lower --min_examples.")
    with atomic_files() as temporary:
        for split, rows in kept.items():
            write_jsonl(temporary(args.output_dir / f"{split}.jsonl"), rows)
        write_json(temporary(args.output_dir / "labels.json"), labels)
    sizes = ", ".join(f"{split} {len(rows):,}" for split, rows in kept.items())
    print(f"{args.output_dir}: {sizes}, types {len(labels)}, {dropped}")


if __name__ == "__main__":
    run(main)
