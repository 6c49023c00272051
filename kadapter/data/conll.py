"""Dialects of CoNLL in CoNLL-U's columns: CoreNLP's, CoNLL-X, CoNLL-2009, and those that name their columns.

Number, form, head, relation, parts of speech and MISC are carried over, as far as a dialect has them. How many columns
the first row has decides, as no two dialects have the same number in another order:

* 10: CoNLL-U, and CoNLL-X, which has the same in the same places and no MISC.
* 7: CoreNLP's `conll` output (number, word, lemma, tag, entity, head, relation).
* 14 or more: CoNLL-2009 (its ninth column is the head, the tenth what a parser predicted).
* `# global.columns = ID FORM ...`: CoNLL-U Plus, `.cupt` (PARSEME) among others; the names decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
_CARRIED = frozenset(("ID", "FORM", "UPOS", "XPOS", "HEAD", "DEPREL", "MISC"))
_NAMES = re.compile(r"#\s*global\.columns\s*=(.*)")


@dataclass(frozen=True)
class _Layout:
    """Places of columns by CoNLL-U's names; `open_ended`: rows may have more than `width`."""

    places: Mapping[str, int]
    width: int
    open_ended: bool = False

    def as_ten_columns(self, line: str) -> str:
        """A row in CoNLL-U's columns; one of another width with a wrong number of columns, so that it is refused."""
        cells = line.split("\t")
        if len(cells) < self.width or (len(cells) > self.width and not self.open_ended):
            return line if len(cells) != len(_COLUMNS) else f"{line}\t"
        return "\t".join(cells[self.places[name]] if name in self.places else "_" for name in _COLUMNS)


_CORENLP = _Layout({"ID": 0, "FORM": 1, "XPOS": 3, "HEAD": 5, "DEPREL": 6}, 7)
_CONLL_2009 = _Layout({"ID": 0, "FORM": 1, "XPOS": 4, "HEAD": 8, "DEPREL": 10}, 14, open_ended=True)


def as_conllu(path: str | Path, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The numbered lines of a file with rows in CoNLL-U's ten columns; CoNLL-U passes as it is.

    Raises:
        ValueError: the columns that a file names lack number, form or head.
    """
    layout: _Layout | None = None
    is_known = False
    for number, line in lines:
        if named := _NAMES.match(line):
            layout, is_known = _named(path, number, named[1].split()), True
        is_row = line.strip() and not line.startswith("#")
        if is_row and not is_known:
            layout, is_known = _detected(line), True
        yield number, layout.as_ten_columns(line) if layout and is_row else line


def _named(path: str | Path, number: int, names: list[str]) -> _Layout:
    if missing := [name for name in ("ID", "FORM", "HEAD") if name not in names]:
        raise ValueError(
            f"{path}, line {number}: the columns {' '.join(names)} lack {' and '.join(missing)}; give a treebank with "
            "heads."
        )
    return _Layout({name: place for place, name in enumerate(names) if name in _CARRIED}, len(names))


def _detected(row: str) -> _Layout | None:
    """The layout of a file that begins with this row; None for CoNLL-U's, and for what is none of them."""
    cells = row.split("\t")
    layout = _CORENLP if len(cells) == _CORENLP.width else _CONLL_2009 if len(cells) >= _CONLL_2009.width else None
    return layout if layout and cells[0].isdecimal() and cells[layout.places["HEAD"]].isdecimal() else None
