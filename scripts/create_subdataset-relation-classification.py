"""Choose relations of cleaned T-REx and split it: cleaned examples to data/trex-rc.

    python scripts/create_subdataset-relation-classification.py --input trex-cleaned.jsonl --output_dir data/trex-rc
    python scripts/create_subdataset-relation-classification.py ... --count pairs --split_by pair --max_per_relation 900

Drops P31 ("instance of") and rare relations: fewer than 50 examples, as the original's code counts, or fewer than 50
entity pairs, as the paper says (--count pairs). Splits 90/10 by a seeded hash of each example, or of its entity pair,
so that dev holds pairs that training never shows. Reads the file twice and keeps counts alone in memory. Writes
train.jsonl, dev.jsonl, relations.json, and plots of examples by relation and of sentence lengths.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from tqdm import tqdm

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from kadapter.data.jsonio import atomic_writer, check_keys, read_records, write_json
from kadapter.data.labels import read_labels

KEYS = ("token", "relation", "subj_start", "subj_end", "obj_start", "obj_end", "subj_label", "obj_label")
ORIGINAL_LABELS = Path(__file__).with_name("trex_rc_labels.json")
Example = dict[str, Any]


def examples(path: Path, what: str) -> Iterator[tuple[int, Example]]:
    """Checked cleaned examples with their numbers, and a bar on a terminal."""
    for number, example in tqdm(read_records(path), unit=" examples", unit_scale=True, desc=what, disable=None):
        check_keys(example, KEYS, f"{path}, record {number}")
        yield number, example


def pair(example: Example) -> str:
    return f"{example['subj_label']}\t{example['obj_label']}"


def fraction(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on the seed and the key alone."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=7).digest(), "big") / 2**56


def count(path: Path, by: str) -> tuple[Counter[str], Counter[str]]:
    """Examples by relation, and what decides whether a relation is rare: the same, or its entity pairs."""
    found: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    seen: set[bytes] = set()
    for _, example in examples(path, "count"):
        relation = example["relation"]
        found[relation] += 1
        if by == "pairs":
            key = hashlib.blake2b(f"{relation}\t{pair(example)}".encode(), digest_size=8).digest()
            pairs[relation] += key not in seen
            seen.add(key)
    return found, pairs if by == "pairs" else found


def choose(found: Counter[str], decisive: Counter[str], args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The relations whose examples are kept, and the labels in the order of their numbers.

    Raises:
        ValueError: none is left.
    """
    known = read_labels(ORIGINAL_LABELS) if args.labels == "original" else None
    kept = [name for name in found if name not in args.drop and decisive[name] >= args.min_examples]
    kept = sorted((name for name in kept if known is None or name in known), key=lambda name: (-found[name], name))
    if not kept:
        raise ValueError(f"{args.input}: no relation has {args.min_examples} {args.count}; lower --min_examples.")
    return kept, known or kept


def draw(found: Counter[str], relations: Sequence[str], cap: int | None, seed: int) -> dict[str, set[int]]:
    """Relation -> which of its examples, counted from 0, are taken; relations below the cap are left out."""
    rng = random.Random(seed)
    over = [name for name in sorted(relations) if cap is not None and found[name] > cap]
    return {name: set(rng.sample(range(found[name]), int(cap or 0))) for name in over}


def split(args: argparse.Namespace, relations: Sequence[str], chosen: dict[str, set[int]]) -> dict[str, Any]:
    """Write train.jsonl and dev.jsonl; returns counts and lengths."""
    kept: dict[str, Counter[str]] = {"train": Counter(), "dev": Counter()}
    seen: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    known = set(relations)
    with ExitStack() as stack:
        files = {name: stack.enter_context(atomic_writer(args.output_dir / f"{name}.jsonl")) for name in kept}
        for number, example in examples(args.input, "split"):
            relation = example["relation"]
            place = seen[relation]
            seen[relation] += 1
            if relation not in known or (relation in chosen and place not in chosen[relation]):
                continue
            key = pair(example) if args.split_by == "pair" else str(number)
            name = "dev" if fraction(args.seed, key) < args.dev_fraction else "train"
            files[name].write(json.dumps(example, ensure_ascii=False) + "\n")
            kept[name][relation] += 1
            lengths[len(example["token"])] += 1
        if not all(kept.values()):
            raise ValueError(f"{args.input}: {sum(seen.values())} examples are too few for train and dev.")
    return {"train": kept["train"], "dev": kept["dev"], "lengths": lengths, "read": sum(seen.values())}


def plot(report: dict[str, Any], folder: Path) -> None:
    """relations.png: examples by relation, most frequent first; lengths.png: words a sentence."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    order = [name for name, _ in (report["train"] + report["dev"]).most_common()]
    for name in ("train", "dev"):
        axes.plot(range(1, len(order) + 1), [report[name][relation] or np.nan for relation in order], ".-", label=name)
    axes.set(yscale="log", xlabel="relation, by frequency", ylabel="examples")
    axes.legend(frameon=False)
    _save(figure, axes, folder / "relations.png")
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    lengths = report["lengths"]
    mean = sum(length * number for length, number in lengths.items()) / lengths.total()
    bins = np.arange(0.5, max(lengths) + 1.5, max(1, -(-max(lengths) // 60)))
    axes.hist(list(lengths), bins=bins.tolist(), weights=list(lengths.values()))
    axes.axvline(mean, color="black", linestyle=":")
    axes.set(xlabel=f"words a sentence (mean {mean:.1f})", ylabel="examples")
    _save(figure, axes, folder / "lengths.png")


def _save(figure: Any, axes: Any, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True, help="cleaned examples, JSON lines or a JSON list")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--drop", nargs="*", default=["P31"], help="relations that are left out")
    parser.add_argument("--min_examples", type=int, default=50, help="drop relations with fewer")
    parser.add_argument("--count", choices=("examples", "pairs"), default="examples", help="what they have fewer of")
    parser.add_argument("--max_per_relation", type=int, help="take so many of a relation, chosen at random")
    parser.add_argument("--dev_fraction", type=float, default=0.1)
    parser.add_argument("--split_by", choices=("example", "pair"), default="example")
    parser.add_argument(
        "--labels", choices=("frequency", "original"), default="frequency", help="order of relations.json"
    )
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args(argv)
    try:
        found, decisive = count(args.input, args.count)
        relations, labels = choose(found, decisive, args)
        report = split(args, relations, draw(found, relations, args.max_per_relation, args.seed))
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    write_json(args.output_dir / "relations.json", {relation: i for i, relation in enumerate(labels)})
    plot(report, args.output_dir)
    sizes = ", ".join(f"{name} {report[name].total():,}" for name in ("train", "dev"))
    print(f"{args.output_dir}: {sizes} of {report['read']:,} examples, {len(relations)} of {len(found)} relations")
    return report


if __name__ == "__main__":
    main()
