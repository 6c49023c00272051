"""CoNLL-U treebanks to the find_head format of the dependency adapter, and to words with tags.

A find_head record holds the sentence, the character span of each word (numbered from 1, ends
exclusive) and one (dependent, governor) pair a word in word order; governor 0 is the root. How the
parts of CoNLL-U that have no counterpart there are treated:

* Multiword tokens ("3-4 don't"): the syntactic words share one surface token. Where their forms put
  together are the surface form ("do" + "n't") it is split there; otherwise (German "zum" for "zu" +
  "dem") each word gets the whole surface span, so that no word is lost.
* Empty nodes ("5.1") belong to the enhanced graph, not to the tree, and are skipped.
* `# text` gives the spacing where it is present; otherwise the text is rebuilt from the forms, with
  a space after each surface token that is not marked SpaceAfter=No.
* Characters that cannot be seen (zero-width blanks, marks of direction) may stand in the text or in a
  form alone, and one of both may be composed (NFC) and the other not. A text that still does not match
  is rebuilt from the forms, for a sentence is not lost for a comment. Either is said in `note`.
* Tokens of blanks are no words, and heads lead past them. Line breaks in odd places: `conllu_lines`.
* A sentence whose forms are all "_", as its text is withheld, or whose heads run in a circle is refused.
* Several roots are kept, each with governor 0.
"""

import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from kadapter.data.alignment import find_visible, find_words
from kadapter.data.conll import as_conllu
from kadapter.data.conllu_lines import COLUMNS, sentence_blocks
from kadapter.data.jsonio import read_lines
from kadapter.data.spans import Span

ALIGNED = "text and words differ in invisible characters or in their composition"
REBUILT = "the text does not match the words and was rebuilt from them"
TAGS = {"upos": 3, "xpos": 4, "deprel": 7}  # columns, from 0, that hold a tag for each word
_NUMBER = re.compile(r"[0-9]{1,9}")
_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
_EMPTY_NODE = re.compile(r"[0-9]+\.[0-9]+")
_COMMENT = re.compile(r"#\s*(sent_id|text)\s*=(.*)")


@dataclass(frozen=True)
class Word:
    """A syntactic word; `start` and `end` (exclusive) are its character span in the sentence text."""

    form: str
    head: int
    misc: str
    start: int
    end: int
    tags: Mapping[str, str] = field(default_factory=dict)
    """By the names of TAGS."""


@dataclass(frozen=True)
class Sentence:
    """A sentence whose words were all found in its text and whose heads form a tree or several."""

    sent_id: str
    line: int
    text: str
    words: tuple[Word, ...]
    note: str = ""
    """What was done to have the words in the text; "" for nothing."""


class SentenceError(ValueError):
    """A sentence that cannot be used; `reason` is a short name to count such sentences by."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Row(NamedTuple):
    """The columns of a syntactic word."""

    number: str
    form: str
    head: str
    misc: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class _Surface:
    """A token as it stands in the text: a word, or a multiword token over words [first, last)."""

    form: str
    first: int
    last: int
    space_after: bool


class _Block:
    """The lines of one sentence, parsed step by step; keeps the place that its errors name."""

    def __init__(self, path: str | Path, lines: list[tuple[int, str]]) -> None:
        self.path = path
        self.line = lines[0][0]
        self.sent_id = ""
        self.text = self.note = ""
        self.rows: list[_Row] = []  # of each syntactic word
        self.ranges: list[tuple[int, int, str, str]] = []  # (first, last, form, misc), last inclusive
        for number, line in lines:
            if line.startswith("#"):
                self._read_comment(line)
            else:
                self._read_row(number, line)

    def error(self, reason: str, detail: str, line: int | None = None) -> SentenceError:
        """The error to raise for this sentence, with its place before the detail."""
        name = f"sentence {self.sent_id!r}" if self.sent_id else "a sentence without sent_id"
        return SentenceError(reason, f"{self.path}, line {line or self.line}, {name}: {detail}")

    def _read_comment(self, line: str) -> None:
        found = _COMMENT.match(line)
        if found is not None and found[1] == "text":
            self.text = found[2].strip()
        elif found is not None:
            self.sent_id = found[2].strip()

    def _read_row(self, number: int, line: str) -> None:
        """File a line under words or multiword tokens; empty nodes are left out."""
        columns = line.split("\t")
        if len(columns) != COLUMNS:
            raise self.error(
                "broken line",
                f"{len(columns)} tab-separated columns instead of {COLUMNS}; mend the line.",
                number,
            )
        identifier, form, head, misc = columns[0], columns[1], columns[6], columns[9]
        if _EMPTY_NODE.fullmatch(identifier):
            return
        if not form:
            raise self.error("broken line", f"word {identifier} has no form; fill column 2.", number)
        if "\n" in form:  # of a row that was broken there
            form = " ".join(form.split()) or " "
        span = _RANGE.fullmatch(identifier)
        if span is not None:
            self.ranges.append((int(span[1]), int(span[2]), form, misc))
        elif identifier == str(len(self.rows) + 1):
            tags = {name: columns[place] for name, place in TAGS.items()}
            self.rows.append(_Row(identifier, form, head, misc, tags))
        else:
            raise self.error(
                "word numbering",
                f"the word number is {identifier!r} where {len(self.rows) + 1} is due; "
                "number the words 1, 2, 3 and so on.",
                number,
            )

    def surface_tokens(self) -> list[_Surface]:
        """The tokens of the text in order: multiword tokens in place of the words they cover."""
        surface: list[_Surface] = []
        done = 0
        for first, last, form, misc in sorted(self.ranges):
            if not done < first <= last <= len(self.rows):
                raise self.error(
                    "word numbering",
                    f"the multiword token {first}-{last} {form!r} overlaps another or leaves the sentence "
                    f"of {len(self.rows)} words; mend its range.",
                )
            surface.extend(self._single(index) for index in range(done, first - 1))
            surface.append(_Surface(form, first - 1, last, _has_space_after(misc)))
            done = last
        surface.extend(self._single(index) for index in range(done, len(self.rows)))
        return surface

    def _single(self, index: int) -> _Surface:
        row = self.rows[index]
        return _Surface(row.form, index, index + 1, _has_space_after(row.misc))

    def locate(self, surface: list[_Surface]) -> list[list[Span]]:
        """The spans of the words of each surface token in the text, which is rebuilt where that gives none."""
        pieces = [self._pieces(token) for token in surface]
        forms = [form for token in pieces for form in token]
        spans = find_words(forms, self.text)
        if spans is None:
            spans = find_visible(forms, self.text)
            self.note = ALIGNED
        if spans is None:
            self.note = REBUILT if self.text else ""
            self.text, spans = _rebuild(surface, pieces)
        left = iter(spans)
        found = [[next(left) for _ in token] for token in pieces]
        return [
            each if len(each) > 1 else each * (token.last - token.first)
            for token, each in zip(surface, found, strict=True)
        ]

    def _pieces(self, token: _Surface) -> list[str]:
        """The forms of the words inside a surface token where they make it up, else its own form for all of them."""
        forms = [row.form for row in self.rows[token.first : token.last]]
        composed = (unicodedata.normalize("NFC", form) for form in ("".join(forms), token.form))
        return forms if next(composed) == next(composed) else [token.form]

    def heads(self) -> list[int]:
        """The head of each word, checked: a number, within the sentence, and leading to a root."""
        heads: list[int] = []
        for number, form, head, *_ in self.rows:
            if not _NUMBER.fullmatch(head):
                raise self.error(
                    "head is not a number",
                    f"word {number} {form!r} has the head {head!r}; give the number of a word, or 0 for a root.",
                )
            if int(head) > len(self.rows):
                raise self.error(
                    "head out of range",
                    f"word {number} {form!r} has the head {head} in a sentence of {len(self.rows)} words; "
                    "give the number of a word, or 0 for a root.",
                )
            heads.append(int(head))
        looping = word_on_cycle(heads)
        if looping is not None:
            raise self.error(
                "cycle",
                f"following the heads from word {looping} {self.rows[looping - 1].form!r} leads back to it; "
                "give one word of the circle a head outside it, or 0.",
            )
        return heads

    def sentence(self) -> Sentence:
        """The checked sentence; raises SentenceError."""
        heads = self._without_blanks(self.heads())
        if not self.rows:
            raise self.error("no words", "it has no words but blanks; remove it or add the words.")
        if all(row.form == "_" for row in self.rows):
            raise self.error("the text is withheld", "every form is '_'; get the treebank's text from its publisher.")
        surface = self.surface_tokens()
        words: list[Word] = []
        for token, spans in zip(surface, self.locate(surface), strict=True):
            for index, (begin, end) in enumerate(spans, start=token.first):
                row = self.rows[index]
                words.append(Word(row.form, heads[index], row.misc, begin, end, row.tags))
        return Sentence(self.sent_id, self.line, self.text, tuple(words), self.note)

    def _without_blanks(self, heads: list[int]) -> list[int]:
        """Take tokens of blanks out of rows and ranges; the heads of the other words, which lead past them."""
        kept = [number for number, row in enumerate(self.rows, start=1) if row.form.strip()]
        if len(kept) == len(self.rows):
            return heads
        new = {number: position for position, number in enumerate(kept, start=1)} | {0: 0}
        self.ranges = [
            (min(inside), max(inside), form, misc)
            for first, last, form, misc in self.ranges
            if (inside := [new[number] for number in kept if first <= number <= last])
        ]
        for number in range(1, len(self.rows)):
            if number + 1 not in new and number in new:  # a blank follows, whatever the word says
                self.rows[number - 1] = self.rows[number - 1]._replace(misc="_")
        self.rows = [self.rows[number - 1] for number in kept]
        found = []
        for number in kept:
            governor = heads[number - 1]
            while governor not in new:
                governor = heads[governor - 1]
            found.append(new[governor])
        return found


def _has_space_after(misc: str) -> bool:
    return "SpaceAfter=No" not in misc.split("|")


def _rebuild(surface: list[_Surface], pieces: list[list[str]]) -> tuple[str, list[Span]]:
    """A text of the surface tokens, and the spans of their pieces in it."""
    text, spans = "", list[Span]()
    for token, forms in zip(surface, pieces, strict=True):
        for form in forms:
            spans.append((len(text), len(text) + len(form)))
            text += form
        text += " " * token.space_after
    return text.removesuffix(" ") if surface[-1].space_after else text, spans


def word_on_cycle(heads: Sequence[int]) -> int | None:
    """A word (from 1) whose heads lead back to it, or None; each word is visited once."""
    reaches_root = {0}
    for word in range(1, len(heads) + 1):
        trail: list[int] = []
        on_trail: set[int] = set()
        while word not in reaches_root:
            if word in on_trail:
                return word
            trail.append(word)
            on_trail.add(word)
            word = heads[word - 1]
        reaches_root.update(trail)
    return None


def read_conllu(path: str | Path, on_error: Callable[[SentenceError], None] | None = None) -> Iterator[Sentence]:
    """Stream the sentences of a CoNLL-U file, or of another dialect (`kadapter.data.conll`).

    A sentence that cannot be used raises SentenceError; with `on_error` that function gets the error
    instead and reading goes on with the next sentence. A missing, empty or non-UTF-8 file always raises.
    """
    found = False
    for lines in sentence_blocks(as_conllu(path, read_lines(path))):
        found = True
        try:
            sentence = _Block(path, lines).sentence()
        except SentenceError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        yield sentence
    if not found:
        raise ValueError(f"{path} is empty or has only comments; give a CoNLL-U file with at least one sentence.")


def to_find_head(sentence: Sentence) -> dict[str, Any]:
    """The find_head record of a sentence."""
    numbered = list(enumerate(sentence.words, start=1))
    return {
        "sent": sentence.text,
        "tokens": [{str(number): {"start": word.start, "end": word.end}} for number, word in numbered],
        "pairs": [{"dependent_index": number, "governor_index": word.head} for number, word in numbered],
    }


def to_tagged(sentence: Sentence, column: str, universal: bool = False) -> dict[str, Any]:
    """The record of a sentence for the tagging recipe: its words, and the tags of one column.

    Args:
        column: a name of TAGS.
        universal: cut what stands behind a colon, the subtypes that a language adds to the universal relations.

    Raises:
        SentenceError: a word has no such tag.
    """
    tags = [word.tags[column] for word in sentence.words]
    if missing := [number for number, tag in enumerate(tags, start=1) if tag in ("", "_")]:
        detail = f"word {missing[0]} has no {column}; fill column {TAGS[column] + 1} or choose another one."
        raise SentenceError(f"no {column}", f"line {sentence.line}, sentence {sentence.sent_id!r}: {detail}")
    kept = [tag.partition(":")[0] if universal else tag for tag in tags]
    return {"tokens": [word.form for word in sentence.words], "tags": kept}


def shuffle_tree(sentence: Sentence, seed: int) -> Sentence:
    """The sentence with another tree of the same shape, on whose nodes the words stand at random."""
    count = len(sentence.words)
    places = [0, *random.Random(f"{seed}/{sentence.text}").sample(range(1, count + 1), count)]
    heads = {places[number]: places[word.head] for number, word in enumerate(sentence.words, start=1)}
    words = (replace(word, head=heads[number]) for number, word in enumerate(sentence.words, start=1))
    return replace(sentence, words=tuple(words))
