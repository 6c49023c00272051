"""Choosing relations and splitting: cleaned examples to the trex-rc form, whatever corpus they come from.

A cleaned example is described in `kadapter.data.cleaned`. The file is read twice, a large one in pieces by several
workers, and only counts are kept in memory.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kadapter.data.cleaned import Example, fraction, mention_spans, pair, read_piece
from kadapter.data.executors import executor, in_order
from kadapter.data.few_shot import change_train
from kadapter.data.jsonio import to_json, write_json, write_jsonl
from kadapter.data.pieces import Piece, pieces
from kadapter.data.relation_pictures import draw_lengths, draw_relations
from kadapter.data.spans import CROSSING, spans_cross
from kadapter.data.subset_options import SubsetOptions, subset_options
from kadapter.storage.errors import final_name
from kadapter.storage.files import atomic_files, atomic_writer

AHEAD = 3  # pieces a worker that are handed out at once


def make_subset(
    path: Path, output_dir: Path, options: SubsetOptions, workers: int = 1, cluster: str = ""
) -> dict[str, Any]:
    """Write train.jsonl, dev.jsonl, relations.json ({relation: id}) and two plots; the same input gives the same bytes.

    They replace those of an earlier call together or not at all (`atomic_files`).

    Args:
        workers, cluster: as in `kadapter.data.executors.executor`; they matter for large files of JSON lines alone.

    Returns:
        "read"; "train", "dev", "dropped": Counters of examples by relation, for dropped by reason; "lengths": Counter
        of words a sentence; "relations": those that are kept; "labels": those of relations.json.

    Raises:
        ValueError: a bad record, or nothing left for train or dev.
    """
    with atomic_files("a relation corpus") as temporary:
        return _write_subset(path, lambda name: temporary(output_dir / name), options, workers, cluster)


def _write_subset(
    path: Path, temporary: Callable[[str], Path], options: SubsetOptions, workers: int = 1, cluster: str = ""
) -> dict[str, Any]:
    targets = {name: temporary(f"{name}.jsonl") for name in ("train", "dev")}
    parts = targets["train"].parent / "parts"
    parts.mkdir()
    found_pieces = pieces(path)
    workers = min(workers, len(found_pieces))
    with executor(workers, cluster, [path, parts]) as pool:
        each = partial(_each_piece, pool, ahead=AHEAD * workers)
        counts, found, decisive = _count(each, found_pieces, options)
        crossing = sum(counted.crossing for counted in counts)
        relations = _choose(path, found, decisive, options)
        shares = list(_shares(found_pieces, counts, _draw(found, relations, options), parts))
        report = _split(each, shares, targets, relations, options)
    thinned = change_train(targets["train"], report, options) if options.shots or options.shuffle_labels else 0
    report |= {"read": found.total() + crossing, "relations": relations, "labels": list(options.labels or relations)}
    report["dropped"] = _dropped(found, relations, options) + Counter({CROSSING: crossing, "--shots": thinned})
    write_json(temporary("relations.json"), {relation: i for i, relation in enumerate(report["labels"])})
    plot(report, lambda path: temporary(path.name))
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
    with atomic_files("a relation corpus") as temporary:
        written = temporary(cleaned)
        write_jsonl(written, examples)
        report = _write_subset(written, lambda name: temporary(args.output_dir / name), options)
    print(f"{cleaned}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    print(f"{args.output_dir}: {summary(report)}")


def summary(report: dict[str, Any]) -> str:
    """One line of counts: what was read, what is in train and dev, what was dropped and why."""
    parts = [f"read {report['read']:,}", *(f"{name} {report[name].total():,}" for name in ("train", "dev"))]
    parts.append(f"relations {len(report['relations'])}")
    unseen = report["dev"].keys() - report["train"].keys()
    parts += [f"relations only in dev {len(unseen)}"] * bool(unseen)
    return ", ".join(parts + [f"dropped for {reason} {number:,}" for reason, number in report["dropped"].items()])


@dataclass(frozen=True)
class _Counts:
    """What the first reading of a piece finds; `pairs`: relation -> digests of its entity pairs, where they count."""

    found: Counter[str]
    pairs: dict[str, set[bytes]]
    crossing: int
    lines: int


def _can_be_marked(example: Example, options: SubsetOptions) -> bool:
    return options.original_spans or not spans_cross(*mention_spans(example))


def _count_piece(piece: Piece, options: SubsetOptions) -> _Counts:
    found: Counter[str] = Counter()
    pairs: dict[str, set[bytes]] = {}
    crossing = 0
    for _, example in read_piece(piece):
        if not _can_be_marked(example, options):
            crossing += 1
            continue
        found[example["relation"]] += 1
        if options.count == "pairs":
            digest = hashlib.blake2b(pair(example).encode(), digest_size=8).digest()
            pairs.setdefault(example["relation"], set()).add(digest)
    return _Counts(found, pairs, crossing, piece.lines())


def _count(
    each: Callable, found_pieces: Sequence[Piece], options: SubsetOptions
) -> tuple[list[_Counts], Counter[str], Counter[str]]:
    """Of each piece; examples by relation; and what decides whether a relation is rare: these, or its entity pairs."""
    counts: list[_Counts] = []
    found: Counter[str] = Counter()
    pairs: dict[str, set[bytes]] = {}
    for counted in each(partial(_count_piece, options=options), found_pieces, found_pieces, "count"):
        found += counted.found
        for relation, digests in counted.pairs.items():
            pairs.setdefault(relation, set()).update(digests)
        counts.append(replace(counted, pairs={}))
    decisive = Counter({name: len(digests) for name, digests in pairs.items()}) if options.count == "pairs" else found
    return counts, found, decisive


def _each_piece(
    pool: Executor | None, function: Callable, work: Sequence[Any], of: Sequence[Piece], desc: str, ahead: int
) -> Iterator[Any]:
    """What `function` makes of the work on each piece, in their order, with a bar in bytes on a terminal."""
    with tqdm(total=sum(piece.size for piece in of), unit="B", unit_scale=True, desc=desc, disable=None) as bar:
        for piece, result in zip(of, in_order(pool, function, work, ahead), strict=True):
            bar.update(piece.size)
            yield result


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


@dataclass(frozen=True)
class _SubsetPart:
    """A piece of the corpus to split: `chosen` are numbers within the piece of the examples that the cap leaves."""

    piece: Piece
    targets: Mapping[str, Path]
    chosen: Mapping[str, frozenset[int]]


def _split_piece(
    share: _SubsetPart, relations: frozenset[str], options: SubsetOptions
) -> tuple[dict[str, Counter[str]], Counter[int]]:
    """Write train and dev by a seeded hash of example, pair or document; returns counts and lengths."""
    kept: dict[str, Counter[str]] = {name: Counter() for name in share.targets}
    seen: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    with ExitStack() as stack:
        files = {name: stack.enter_context(atomic_writer(target)) for name, target in share.targets.items()}
        for number, example in read_piece(share.piece):
            if not _can_be_marked(example, options):
                continue
            relation = example["relation"]
            place = seen[relation]
            seen[relation] += 1
            if relation not in relations or (relation in share.chosen and place not in share.chosen[relation]):
                continue
            key = {"pair": pair(example), "document": str(example["docid"])}.get(options.split_by, str(number))
            name = "dev" if fraction(options.seed, key) < options.dev_fraction else "train"
            files[name].write(to_json(example) + "\n")
            kept[name][relation] += 1
            lengths[len(example["token"])] += 1
    return kept, lengths


def _shares(
    found_pieces: Sequence[Piece], counts: Sequence[_Counts], chosen: Mapping[str, set[int]], folder: Path
) -> Iterator[_SubsetPart]:
    """The pieces with the numbers of their first lines, and of the drawn examples those that lie in each."""
    line, before = 1, Counter[str]()
    for i, (piece, counted) in enumerate(zip(found_pieces, counts, strict=True)):
        targets = {name: folder / f"{i:05d}.{name}.jsonl" for name in ("train", "dev")}
        own = {name: range(before[name], before[name] + counted.found[name]) for name in chosen}
        within = {name: frozenset(n - own[name].start for n in chosen[name] if n in own[name]) for name in chosen}
        yield _SubsetPart(replace(piece, first_line=line), targets, within)
        line += counted.lines
        before += counted.found


def _split(
    each: Callable,
    shares: Sequence[_SubsetPart],
    targets: Mapping[str, Path],
    relations: Sequence[str],
    options: SubsetOptions,
) -> dict[str, Any]:
    """Split all pieces and put their parts together, in their order."""
    kept: dict[str, Counter[str]] = {name: Counter() for name in targets}
    lengths: Counter[int] = Counter()
    work = partial(_split_piece, relations=frozenset(relations), options=options)
    found_pieces = [share.piece for share in shares]
    with ExitStack() as stack:
        files = {name: stack.enter_context(target.open("xb")) for name, target in targets.items()}
        for share, (own, own_lengths) in zip(shares, each(work, shares, found_pieces, "split"), strict=True):
            lengths += own_lengths
            for name, part in share.targets.items():
                kept[name] += own[name]
                with part.open("rb") as stream:
                    shutil.copyfileobj(stream, files[name], 1 << 20)
                part.unlink()
    empty = [name for name in kept if not kept[name]]
    if empty:
        raise ValueError(
            f"{final_name(shares[0].piece.path)}: {lengths.total()} examples split by {options.split_by} leave "
            f"{empty[0]} empty; give more of them, or another --dev_fraction or --seed."
        )
    return {"train": kept["train"], "dev": kept["dev"], "lengths": lengths}


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


def plot(report: dict[str, Any], temporary: Callable[[Path], Path]) -> None:
    """Examples by relation, and words by sentence, each as PNG and PDF."""
    names = {name: name for name in report["train"] + report["dev"]}
    draw_relations(Path("relations.png"), names, {split: report[split] for split in ("train", "dev")}, temporary)
    draw_lengths(Path("lengths.png"), report["lengths"], temporary)
