"""Reading cleaned examples, the form between a corpus of facts and trex-rc.

A cleaned example: {"docid", "token", "relation", "subj_start", "subj_end", "obj_start", "obj_end", "subj_label",
"obj_label"}.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kadapter.data.jsonio import check_keys, read_records, shorten, whole
from kadapter.data.pieces import Piece
from kadapter.data.spans import Span, is_blank
from kadapter.data.tables import read_rows

KEYS = ("docid", "token", "relation", "subj_start", "subj_end", "obj_start", "obj_end", "subj_label", "obj_label")
Example = dict[str, Any]


def read_cleaned(path: Path, what: str) -> Iterator[tuple[int, Example]]:
    """Checked cleaned examples with their numbers, and a bar on a terminal."""
    yield from tqdm(_checked(path), unit=" examples", unit_scale=True, desc=what, disable=None)


def read_piece(piece: Piece) -> Iterator[tuple[int, Example]]:
    """As `read_cleaned`, without a bar; a bad example is named by its number in the whole file."""
    try:
        yield from _checked(piece)
    except ValueError:
        if piece.begin and piece.first_line == 1:  # which is not known in the first reading
            deque(_checked(piece.with_line_number()), maxlen=0)
        raise


def _records(path: Path | Piece) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records with their numbers, of a file of any form or of a piece of JSON lines."""
    if isinstance(path, Piece) and path.end is not None:
        yield from read_records(path)  # type: ignore[arg-type]  # a piece is opened like a path
    else:
        yield from ((row.number, row.record) for row in read_rows(path.path if isinstance(path, Piece) else path))


def _checked(path: Path | Piece) -> Iterator[tuple[int, Example]]:
    for number, example in _records(path):
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


def pair(example: Example) -> str:
    return f"{example['subj_label']}\t{example['obj_label']}"


def fraction(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on the seed and the key alone."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=7).digest(), "big") / 2**56
