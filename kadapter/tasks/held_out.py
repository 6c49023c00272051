"""A part of train that is held out as dev, by seed and with about the same share of every label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np


def held_out_rows(rows: Sequence[tuple[int, Hashable]], share: float, seed: int, path: Path) -> set[int]:
    """The records that are dev.

    Rows of one kind (a label, or a set of labels) that stands once stay in train, from which it could not be learnt
    otherwise.

    Args:
        rows: record and kind of each example.
        share: of all rows, in dev.

    Raises:
        ValueError: so few rows would be dev that not every kind has one.
    """
    from sklearn.model_selection import train_test_split  # here: slow to import

    counts = Counter(kind for _, kind in rows)
    usable = [(record, kind) for record, kind in rows if counts[kind] > 1]
    kinds = {kind: i for i, kind in enumerate(dict.fromkeys(kind for _, kind in usable))}
    size = round(share * len(rows))
    if size < max(1, len(kinds)) or len(usable) - size < len(kinds):
        raise ValueError(
            f"{path}: {size:,} of {len(rows):,} rows would be dev, with {len(kinds):,} kinds of labels; give a dev "
            "file beside it, or another --dev_share."
        )
    _, held_out = train_test_split(
        [record for record, _ in usable],
        test_size=size,
        random_state=seed,
        stratify=np.array([kinds[kind] for _, kind in usable]) if len(kinds) > 1 else None,
    )
    return set(held_out)
