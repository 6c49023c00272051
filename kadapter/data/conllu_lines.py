"""Lines of CoNLL-U files to the lines of one sentence each, although tools leave line breaks in the wrong places.

* Comments behind which a blank line stands (a file's header, or those of a sentence) belong to the next sentence.
* A row may be broken within a column, as spaCy's tokens that are nothing but line breaks are in the files of
  spacy_conll: its parts are put together again.
* Blank lines within a sentence: where the word numbers go on behind one, and heads lead over it, both parts are one
  sentence. Where no head does, they are sentences whose words are numbered through, and are numbered anew.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby

COLUMNS = 10
Line = tuple[int, str]  # with its number
_LONGEST = 20  # lines of a row
_BEGIN = re.compile(r"[0-9]+([-.][0-9]+)?\t")
_NUMBER = re.compile(r"[0-9]{1,9}")


def sentence_blocks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """The lines of each sentence, comments first; comments that no sentence follows are left out."""
    comments, held = list[Line](), list[Line]()  # held: a sentence that may go on behind the blank line
    last = 0  # number of its last word, in the file
    for block in _parted(_whole_rows(lines)):
        if all(line.startswith("#") for _, line in block):
            comments += block
            continue
        first, end = _ends(block)
        goes_on = first > 1 and first == last + 1
        words = _words(block) if goes_on else []
        if goes_on and not comments and not block[0][1].startswith("#") and _are_linked(held, words, last):
            held += block
        else:
            if held:
                yield held
            own = goes_on and bool(words) and all(head == 0 or last < head <= words[-1][0] for _, head in words)
            held = comments + (_renumbered(block, last) if own else block)
        comments, last = [], end
    if held:
        yield held


def _parted(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Runs of lines that are not blank."""
    for is_text, run in groupby(lines, key=lambda line: bool(line[1].strip())):
        if is_text:
            yield list(run)


def _whole_rows(lines: Iterable[Line]) -> Iterator[Line]:
    """The lines, with the parts of a broken row put together, by the line breaks that part them."""
    stream, ahead = iter(lines), deque[Line]()
    while ahead or (ahead := deque([line for line in [next(stream, None)] if line])):
        number, text = ahead.popleft()
        parts = _parts(text, stream, ahead) if _BEGIN.match(text) else 1
        for _ in range(parts - 1):
            text += "\n" + ahead.popleft()[1]
        yield number, text


def _parts(text: str, stream: Iterator[Line], ahead: deque[Line]) -> int:
    """How many lines a row has: 1 unless just so many together have all columns; reads on into `ahead`."""
    tabs = text.count("\t")
    for size in range(1, _LONGEST):
        if tabs >= COLUMNS - 1:
            return size if tabs == COLUMNS - 1 else 1
        if len(ahead) < size and (line := next(stream, None)):
            ahead.append(line)
        if len(ahead) < size or ahead[size - 1][1].startswith("#") or _BEGIN.match(ahead[size - 1][1]):
            return 1
        tabs += ahead[size - 1][1].count("\t")
    return 1


def _ends(block: list[Line]) -> tuple[int, int]:
    """Numbers of the first and of the last word of a block; 0 where a row has none."""
    first = next(line for _, line in block if not line.startswith("#"))
    found = [_NUMBER.match(line) for line in (first, block[-1][1])]
    begin, end = (int(match[0]) if match else 0 for match in found)
    return begin, end


def _words(block: list[Line]) -> list[tuple[int, int]]:
    """Number and head of the words of a block; 0 for a head that is not a number."""
    rows = [line.split("\t") for _, line in block]
    return [
        (int(row[0]), int(row[6]) if _NUMBER.fullmatch(row[6]) else 0)
        for row in rows
        if len(row) == COLUMNS and _NUMBER.fullmatch(row[0])
    ]


def _are_linked(held: list[Line], words: list[tuple[int, int]], last: int) -> bool:
    """Whether a head leads from the held sentence, which ends with word `last`, into these words, or back."""
    ahead = words[-1][0] if words else last
    return any(last < head <= ahead for _, head in _words(held)) or any(0 < head <= last for _, head in words)


def _renumbered(block: list[Line], offset: int) -> list[Line]:
    """The block with its words numbered from 1."""
    found = list[Line]()
    for number, line in block:
        row = line.split("\t")
        if len(row) == COLUMNS and not line.startswith("#"):
            row[0] = re.sub(r"(?<![.\d])\d+", lambda match: str(int(match[0]) - offset), row[0])
            if row[6].isdecimal() and int(row[6]):
                row[6] = str(int(row[6]) - offset)
            line = "\t".join(row)
        found.append((number, line))
    return found
