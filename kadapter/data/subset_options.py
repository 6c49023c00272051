"""Which examples of a relation corpus are taken and how they are shared out, and the flags for it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from kadapter.console import COUNT, SEED, SHARE


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
    shots: int | None = None
    """At most so many examples of a relation in train, drawn at random behind the split; dev keeps all of its own."""
    shuffle_labels: bool = False
    """Exchange train's relations at random among its examples: what a control is pretrained on."""
    split_by: str = "example"
    """What is never in both train and dev: an "example", an entity "pair" or a "document"."""
    seed: int = 42
    labels: tuple[str, ...] | None = None
    """All labels, in the order of their numbers; None: those that are found, the most frequent first, then by name."""
    original_spans: bool = False
    """Keep examples whose mentions cross, as the original; the recipe reads them with a flag of that name alone."""

    def __post_init__(self) -> None:
        for name in ("min_examples", "max_per_relation", "shots"):
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
    group.add_argument("--min_examples", type=COUNT, help="drop relations with fewer examples, or pairs")
    group.add_argument("--count", choices=("examples", "pairs"), help="what --min_examples counts")
    group.add_argument(
        "--max_per_relation", type=COUNT, help="examples of a relation at most, chosen at random; default: all"
    )
    group.add_argument("--shots", type=COUNT, help="leave so many of a relation in train, chosen at random; dev stays")
    group.add_argument(
        "--shuffle_labels", action="store_true", help="exchange train's relations at random, for a control; dev stays"
    )
    group.add_argument("--dev_fraction", type=SHARE, help="share of dev")
    group.add_argument(
        "--split_by",
        choices=("example", "pair", "document"),
        help="what is never in both train and dev",
    )
    group.add_argument("--seed", type=SEED, help="seed of choice and split")
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
