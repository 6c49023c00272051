"""Choosing relations and splitting: cleaned examples to the trex-rc form, whatever corpus they come from.

A cleaned example: {"docid", "token", "relation", "subj_start", "subj_end", "obj_start", "obj_end", "subj_label",
"obj_label"}. The file is read twice and only counts are kept in memory.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kadapter.console import COUNT, SEED, SHARE
from kadapter.data.jsonio import check_keys, read_records, shorten, to_json, whole, write_json, write_jsonl
from kadapter.data.spans import CROSSING, Span, cross, is_blank
from kadapter.storage.errors import final_name
from kadapter.storage.files import atomic_files, atomic_writer

KEYS = ("docid", "token", "relation", "subj_start", "subj_end", "obj_start", "obj_end", "subj_label", "obj_label")
Example = dict[str, Any]


@dataclass(frozen=True)
class SubsetOptions:
    """Which examples are taken and how they are shared out; as the original's trex-rc unless told otherwise."""

    drop: tuple[str, ...] = ("P31",)
    """Relations that are left out."""
    min_examples: int = 50
    """Relations with fewer are left out."""
    count: str = "examples"
    """What they have fewer of: "examples" (the original's code) or entity "pairs" (the paper)."""
    max_per_relation: int | None = None
    """At most so many of a relation, drawn at random."""
    dev_fraction: float = 0.1
    """How much goes into dev, in expectation."""
    split_by: str = "example"
    """What is never in both train and dev: an "example", an entity "pair" or a "document"."""
    seed: int = 42
    labels: tuple[str, ...] | None = None
    """All labels, in the order of their numbers; None: those that are found, the most frequent first, then by name."""
    original_spans: bool = False
    """Keep examples whose mentions cross, as the original; the recipe reads them with a flag of that name alone."""

    def __post_init__(self) -> None:
        for name in ("min_examples", "max_per_relation"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"--{name} is {number}; give at least 1.")
        if not 0 < self.dev_fraction < 1:
            raise ValueError(f"--dev_fraction is {self.dev_fraction}; give a number between 0 and 1.")


_OWN = ("labels", "original_spans")  # which not every corpus has flags for
_FLAGS = {field.name: field.default for field in fields(SubsetOptions) if field.name not in _OWN}


def add_subset_flags(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """The flags of SubsetOptions; `defaults` replace the dataclass's."""
    group = parser.add_argument_group("choice and split")
    group.add_argument("--drop", nargs="*", metavar="P", help="relations that are left out")
    group.add_argument("--min_examples", type=COUNT, help="drop relations with fewer (default: %(default)s)")
    group.add_argument("--count", choices=("examples", "pairs"), help="fewer of what (default: %(default)s)")
    group.add_argument("--max_per_relation", type=COUNT, help="take so many of a relation, chosen at random")
    group.add_argument("--dev_fraction", type=SHARE, help="share of dev (default: %(default)s)")
    group.add_argument(
        "--split_by",
        choices=("example", "pair", "document"),
        help="what is never in both train and dev (default: %(default)s)",
    )
    group.add_argument("--seed", type=SEED, help="of choice and split (default: %(default)s)")
    parser.set_defaults(**_FLAGS | defaults)


def subset_options(
    args: argparse.Namespace, labels: Sequence[str] | None = None, original_spans: bool = False
) -> SubsetOptions:
    """Parsed flags as options.

    Raises:
        ValueError: a number out of its range.
    """
    chosen = {name: getattr(args, name) for name in _FLAGS} | {"drop": tuple(args.drop)}
    return SubsetOptions(**chosen, labels=None if labels is None else tuple(labels), original_spans=original_spans)


def make_subset(path: Path, output_dir: Path, options: SubsetOptions) -> dict[str, Any]:
    """Write train.jsonl, dev.jsonl, relations.json ({relation: id}) and two plots; the same input gives the same bytes.

    They replace those of an earlier call together or not at all (`atomic_files`).

    Returns:
        "read"; "train", "dev", "dropped": Counters of examples by relation, for dropped by reason; "lengths": Counter
        of words a sentence; "relations": those that are kept; "labels": those of relations.json.

    Raises:
        ValueError: a bad record, or nothing left for train or dev.
    """
    with atomic_files("a relation corpus") as aside:
        return _write_subset(path, lambda name: aside(output_dir / name), options)


def _write_subset(path: Path, aside: Callable[[str], Path], options: SubsetOptions) -> dict[str, Any]:
    found, decisive, crossing = _count(path, options)
    relations = _choose(path, found, decisive, options)
    targets = {name: aside(f"{name}.jsonl") for name in ("train", "dev")}
    report = _split(path, targets, relations, _draw(found, relations, options), options)
    report |= {"relations": relations, "labels": list(options.labels or relations)}
    report["read"] += crossing
    report["dropped"] = _dropped(found, relations, options) + Counter({CROSSING: crossing})
    write_json(aside("relations.json"), {relation: i for i, relation in enumerate(report["labels"])})
    plot(report, aside("relations.png"), aside("lengths.png"))
    return report


def convert_corpus(args: argparse.Namespace, examples: Iterable[Example], counts: Counter[str]) -> None:
    """What a corpus's script does with its examples: all into cleaned.jsonl, then the choice and split of the flags.

    Args:
        args: with output_dir and the flags of `add_subset_flags`.
        counts: what reading the examples counts, printed behind it.

    Raises:
        ValueError, OSError: something is wrong with the flags or the corpus, in a sentence.
    """
    cleaned = args.output_dir / "cleaned.jsonl"
    options = subset_options(args)
    with atomic_files("a relation corpus") as aside:
        written = aside(cleaned)
        write_jsonl(written, examples)
        report = _write_subset(written, lambda name: aside(args.output_dir / name), options)
    print(f"{cleaned}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    print(f"{args.output_dir}: {summary(report)}")


def summary(report: dict[str, Any]) -> str:
    """One line of counts: what was read, what is in train and dev, what was dropped and why."""
    parts = [f"read {report['read']:,}", *(f"{name} {report[name].total():,}" for name in ("train", "dev"))]
    parts.append(f"relations {len(report['relations'])}")
    unseen = report["dev"].keys() - report["train"].keys()
    parts += [f"relations only in dev {len(unseen)}"] * bool(unseen)
    return ", ".join(parts + [f"dropped for {reason} {number:,}" for reason, number in report["dropped"].items()])


def read_cleaned(path: Path, what: str) -> Iterator[tuple[int, Example]]:
    """Checked cleaned examples with their numbers, and a bar on a terminal."""
    for number, example in tqdm(read_records(path), unit=" examples", unit_scale=True, desc=what, disable=None):
        check_keys(example, KEYS, f"{path}, record {number}")
        words = example["token"]
        is_list = isinstance(words, list) and all(isinstance(word, str) for word in words)
        if not is_list or not isinstance(example["relation"], str):
            raise ValueError(f"{path}, record {number}: give token as a list of words and relation as a name.")
        for key in ("docid", "subj_label", "obj_label"):
            name = example[key] if isinstance(example[key], str) else whole(example[key])
            if name is None:
                raise ValueError(f"{path}, record {number}: {key} is {shorten(example[key])}; give a name.")
            example[key] = name
        check_spans(example, f"{path}, record {number}")
        yield number, example


def check_spans(example: Example, where: str, exclusive: bool = False) -> None:
    """Raise ValueError where subject or object are no words to be seen; their numbers become integers, ends inclusive.

    Args:
        exclusive: ends are given as the word behind the mention.
    """
    words = example["token"]
    for name in ("subj", "obj"):
        keys = (f"{name}_start", f"{name}_end")
        start, end = (whole(example[key]) for key in keys)
        shown = " and ".join(f"{key} {shorten(example[key])}" for key in keys)
        if start is None or end is None or not 0 <= start <= end - exclusive < len(words):
            kind = "exclusive" if exclusive else "inclusive"
            if exclusive and start == end:
                kind += " (leave --spans exclusive out where ends are inclusive)"
            elif not exclusive and end == len(words):
                kind += " (--spans exclusive reads them as exclusive)"
            raise ValueError(
                f"{where}: {shown} do not lie in the {len(words)} words; both count from 0, the end is {kind}."
            )
        if is_blank("".join(words[start : end + 1 - exclusive])):
            raise ValueError(f"{where}: the mention of {shown} is blank; mend its words or its place.")
        example.update(zip(keys, (start, end - exclusive), strict=True))


def mention_spans(example: Example) -> tuple[Span, Span]:
    """Subject and object as [start, end) in words."""
    subject, object_ = ((example[f"{name}_start"], example[f"{name}_end"] + 1) for name in ("subj", "obj"))
    return subject, object_


def _pair(example: Example) -> str:
    return f"{example['subj_label']}\t{example['obj_label']}"


def fraction(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on the seed and the key alone."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=7).digest(), "big") / 2**56


def _can_be_marked(example: Example, options: SubsetOptions) -> bool:
    return options.original_spans or not cross(*mention_spans(example))


def _count(path: Path, options: SubsetOptions) -> tuple[Counter[str], Counter[str], int]:
    """Examples by relation; what decides whether a relation is rare: the same, or its entity pairs; how many cross."""
    found: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    seen: set[bytes] = set()
    crossing = 0
    for _, example in read_cleaned(path, "count"):
        if not _can_be_marked(example, options):
            crossing += 1
            continue
        relation = example["relation"]
        found[relation] += 1
        if options.count == "pairs":
            key = hashlib.blake2b(f"{relation}\t{_pair(example)}".encode(), digest_size=8).digest()
            pairs[relation] += key not in seen
            seen.add(key)
    return found, pairs if options.count == "pairs" else found, crossing


def _choose(path: Path, found: Counter[str], decisive: Counter[str], options: SubsetOptions) -> list[str]:
    """The relations whose examples are kept, the most frequent first, then by name."""
    known = found.keys() if options.labels is None else set(options.labels)
    kept = [name for name in found if name in known and name not in options.drop]
    kept = [name for name in kept if decisive[name] >= options.min_examples]
    if not kept:
        raise ValueError(
            f"{final_name(path)}: no relation has {options.min_examples} {options.count}; lower --min_examples."
        )
    return sorted(kept, key=lambda name: (-found[name], name))


def _draw(found: Counter[str], relations: Sequence[str], options: SubsetOptions) -> dict[str, set[int]]:
    """Relation -> which of its examples, counted from 0, are taken; relations below the cap are left out."""
    rng, cap = random.Random(options.seed), options.max_per_relation
    over = [name for name in sorted(relations) if cap is not None and found[name] > cap]
    return {name: set(rng.sample(range(found[name]), int(cap or 0))) for name in over}


def _split(
    path: Path,
    targets: Mapping[str, Path],
    relations: Sequence[str],
    chosen: dict[str, set[int]],
    options: SubsetOptions,
) -> dict[str, Any]:
    """Write train and dev by a seeded hash of example, pair or document; returns counts and lengths."""
    kept: dict[str, Counter[str]] = {name: Counter() for name in targets}
    seen: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    known = set(relations)
    with ExitStack() as stack:
        files = {name: stack.enter_context(atomic_writer(target)) for name, target in targets.items()}
        for number, example in read_cleaned(path, "split"):
            if not _can_be_marked(example, options):
                continue
            relation = example["relation"]
            place = seen[relation]
            seen[relation] += 1
            if relation not in known or (relation in chosen and place not in chosen[relation]):
                continue
            key = {"pair": _pair(example), "document": str(example["docid"])}.get(options.split_by, str(number))
            name = "dev" if fraction(options.seed, key) < options.dev_fraction else "train"
            files[name].write(to_json(example) + "\n")
            kept[name][relation] += 1
            lengths[len(example["token"])] += 1
        empty = [name for name in kept if not kept[name]]
        if empty:
            raise ValueError(
                f"{final_name(path)}: {lengths.total()} examples split by {options.split_by} leave {empty[0]} empty; "
                "give more of them, or another --dev_fraction or --seed."
            )
    return {"read": seen.total(), "train": kept["train"], "dev": kept["dev"], "lengths": lengths}


def _dropped(found: Counter[str], relations: Sequence[str], options: SubsetOptions) -> Counter[str]:
    """Examples that are left out, by reason."""
    reasons: Counter[str] = Counter()
    for name, number in found.items():
        if name in options.drop:
            reasons["--drop"] += number
        elif options.labels is not None and name not in options.labels:
            reasons["relations without a label"] += number
        elif name not in relations:
            reasons["rare relations"] += number
        elif options.max_per_relation is not None and number > options.max_per_relation:
            reasons["--max_per_relation"] += number - options.max_per_relation
    return reasons


def plot(report: dict[str, Any], relations: Path, words: Path) -> None:
    """Two images: examples by relation, most frequent first; words a sentence."""
    from matplotlib.figure import Figure  # here: slow to import; not pyplot, which would change the caller's backend

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    order = [name for name, _ in (report["train"] + report["dev"]).most_common()]
    for name in ("train", "dev"):
        axes.plot(range(1, len(order) + 1), [report[name][relation] or np.nan for relation in order], ".-", label=name)
    axes.set(yscale="log", xlabel="relation, by frequency", ylabel="examples")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(relations, dpi=150)

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    lengths = report["lengths"]
    mean = sum(length * number for length, number in lengths.items()) / lengths.total()
    bins = np.arange(0.5, max(lengths) + 1.5, max(1, -(-max(lengths) // 60)))
    axes.hist(list(lengths), bins=bins.tolist(), weights=list(lengths.values()))
    axes.axvline(mean, color="black", linestyle=":")
    axes.set(xlabel=f"words a sentence (mean {mean:.1f})", ylabel="examples")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(words, dpi=150)
