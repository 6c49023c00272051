"""Tagged words: CoNLL columns, and the entities that tags such as B-PER and I-PER stand for.

A row is a word; a blank line ends a sentence. Columns are separated by tabs, or by blanks if a file has no tabs. Lines
of `-DOCSTART-` part documents, and a line that begins with "#" and has not as many columns as the rows is a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kadapter.data.jsonio import OnError, read_lines
from kadapter.data.splits import files_of

OUTSIDE = "O"
PLAIN, BIO, IOB1, BIOES = "plain", "BIO", "IOB1", "BIOES"
_PREFIXED = re.compile(r"([BIESLU])-(\S.*)")
_LAST_OF_BILOU = {"L": "E", "U": "S"}  # BILOU's names of the same two
# Characters of scripts that part no words by blanks are words of their own; others are runs of letters or of digits.
_UNPARTED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNPARTED}]|(?:(?![{_UNPARTED}\d_])\w)+|\d+|[^\w\s]|_")


class Entity(NamedTuple):
    """A run of words, or of characters, of one type; the end is exclusive."""

    start: int
    end: int
    label: str


class Tagged(NamedTuple):
    """A sentence of a file: the line that it begins on, what messages call it, its words and their tags."""

    number: int
    where: str
    words: list[str]
    tags: list[str]


def split_tag(tag: str) -> tuple[str, str]:
    """Prefix and type, ("O", "") for none; raises ValueError, without a place, for any other tag."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    found = _PREFIXED.fullmatch(tag)
    if not found:
        raise ValueError(f"the tag {tag[:60]!r} is neither O nor one such as B-PER")
    return _LAST_OF_BILOU.get(found[1], found[1]), found[2]


def entities_in(tags: Sequence[str]) -> list[Entity]:
    """The entities of a sentence, by the rules of CoNLL's own conlleval, which seqeval has by default.

    They read BIO, IOB1, BIOES and BILOU alike: B and S begin an entity, and so does I or E where no entity of its type
    goes on; O, B, S, and another type end one, and E and S end with their word.

    Raises:
        ValueError: a tag that is none of these.
    """
    found: list[Entity] = []
    begin, before, kind = 0, OUTSIDE, ""
    for i, (prefix, label) in enumerate([*map(split_tag, tags), (OUTSIDE, "")]):
        goes_on = before in ("B", "I") and prefix in ("I", "E") and label == kind
        if before != OUTSIDE and not goes_on:
            found.append(Entity(begin, i, kind))
        if not goes_on:
            begin = i
        before, kind = prefix, label
    return found


def odd_prefixes(tags: Sequence[str]) -> tuple[int, int]:
    """How many entities begin with I or E, and how many with a B that IOB1 would not write there."""
    prefixes = [split_tag(tag) for tag in tags]
    inside = begun = 0
    for start, _, label in entities_in(tags):
        follows = start > 0 and prefixes[start - 1][1] == label
        inside += prefixes[start][0] in ("I", "E")
        begun += prefixes[start][0] in ("B", "S") and not follows
    return inside, begun


def scheme_of(sentences: Iterable[Sequence[str]]) -> str:
    """How a file's tags are written; "plain" where they are no parts of entities, such as parts of speech.

    IOB1 begins an entity with I and has B only between two of one type. So a file with an I that begins and a B that
    IOB1 would not write is BIO, in which that I is a mistake.
    """
    prefixes: set[str] = set()
    inside = begun = 0
    for tags in sentences:
        known = [tag for tag in tags if tag == OUTSIDE or _PREFIXED.fullmatch(tag)]
        prefixes |= {split_tag(tag)[0] for tag in known}
        if len(known) == len(tags):
            more_inside, more_begun = odd_prefixes(tags)
            inside, begun = inside + more_inside, begun + more_begun
    if not prefixes - {OUTSIDE}:
        return PLAIN
    if prefixes & {"E", "S"}:
        return BIOES
    return IOB1 if inside and not begun else BIO


def bio_tags(count: int, entities: Iterable[Entity]) -> list[str]:
    """BIO tags of so many words."""
    tags = [OUTSIDE] * count
    for start, end, label in entities:
        tags[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
    return tags


def word_spans(text: str) -> list[tuple[int, int]]:
    """Words and marks of a text as places of characters, the ends exclusive."""
    return [found.span() for found in _WORD.finditer(text)]


# -- CoNLL columns ----------------------------------------------------------------------------------------------


def read_tagged(path: Path, word_column: int, tag_column: int, on_error: OnError | None = None) -> Iterator[Tagged]:
    """The sentences of a file, or of its shards.

    Args:
        word_column, tag_column: from 1; -1 is the last.
        on_error: called with the fault of a bad sentence, which is left out; None lets it raise.

    Raises:
        ValueError: names file, line, value and mend.
    """
    for file in files_of(path):
        width, mark = _layout(file)
        places = [column - (column > 0) for column in (word_column, tag_column)]
        highest = max(column for column in (word_column, tag_column))
        if highest > width or width < 2:
            raise ValueError(
                f"{file} has {width} columns; give --word_column and --tag_column from 1 to {width}, of a file with "
                "words and tags."
            )
        for number, rows in _sentences(file, width, mark):
            where = f"{file}, line {number}"
            if bad := next((line for line, cells in rows if len(cells) != width), None):
                error = ValueError(f"{file}, line {bad}: the row has not {width} columns as the first one; mend it.")
                if on_error is None:
                    raise error
                on_error(error)
                continue
            words, tags = ([cells[position] for _, cells in rows] for position in places)
            yield Tagged(number, where, words, tags)


def _layout(file: Path) -> tuple[int, str | None]:
    """How many columns the rows have, and what parts them: a tab, or None for blanks."""
    for _, line in read_lines(file):
        if line.strip() and not line.startswith(("#", "-DOCSTART-")):
            mark = "\t" if "\t" in line else None
            return len(line.rstrip().split(mark)), mark
    raise ValueError(f"{file} holds no rows of words; give a word and its tag on each line.")


def _sentences(file: Path, width: int, mark: str | None) -> Iterator[tuple[int, list[tuple[int, list[str]]]]]:
    """Runs of rows with their line numbers, and the number of the first."""
    rows: list[tuple[int, list[str]]] = []
    for number, line in read_lines(file):
        cells = line.rstrip().split(mark)
        is_comment = line.startswith("#") and len(cells) != width
        if line.strip() and not is_comment and not line.startswith("-DOCSTART-"):
            rows.append((number, cells))
        elif rows and not is_comment:
            yield rows[0][0], rows
            rows = []
    if rows:
        yield rows[0][0], rows
