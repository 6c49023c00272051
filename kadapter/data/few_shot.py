"""A training split with few examples of each label, or with labels that mean nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kadapter.data.jsonio import read_records, write_jsonl
from kadapter.data.subset_options import SubsetOptions


def draw_few(labels: Sequence[Sequence[str]], shots: int, seed: int) -> list[int]:
    """Examples drawn at random, as long as each of an example's labels has fewer than `shots`; numbers in order.

    Args:
        labels: those of each example; one without any is never drawn.
    """
    counts: Counter[str] = Counter()
    drawn = []
    for number in random.Random(seed).sample(range(len(labels)), len(labels)):
        if labels[number] and all(counts[label] < shots for label in labels[number]):
            counts.update(labels[number])
            drawn.append(number)
    return sorted(drawn)


def change_train(path: Path, report: dict[str, Any], options: SubsetOptions) -> int:
    """Thin a split's relations to options.shots each and, with options.shuffle_labels, exchange them at random.

    Args:
        path: JSON lines with a relation each, which are written anew.
        report: with the counts "train" and "lengths", which are put right.

    Returns:
        How many examples were left out.
    """
    relations = [record["relation"] for _, record in read_records(path)]
    kept = draw_few([[name] for name in relations], options.shots or len(relations), options.seed)
    names = [relations[number] for number in kept]
    if options.shuffle_labels:
        random.Random(options.seed).shuffle(names)
    given = dict(zip(kept, names, strict=True))
    rows = []
    for number, (_, record) in enumerate(read_records(path)):
        if number in given:
            rows.append({**record, "relation": given[number]})
        else:
            report["lengths"][len(record["token"])] -= 1
    write_jsonl(path, rows)
    report["train"], report["lengths"] = Counter(names), +report["lengths"]
    return len(relations) - len(kept)
