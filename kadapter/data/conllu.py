"""CoNLL-U treebanks to the find_head format of the dependency adapter.

A find_head record holds the sentence, the character span of each word (numbered from 1, ends
exclusive) and one (dependent, governor) pair a word in word order; governor 0 is the root. How the
parts of CoNLL-U that have no counterpart there are treated:

* Multiword tokens ("3-4 don't"): the syntactic words share one surface token. Where their forms put
  together are the surface form ("do" + "n't") it is split there; otherwise (German "zum" for "zu" +
  "dem") each word gets the whole surface span, so that no word is lost.
* Empty nodes ("5.1") belong to the enhanced graph, not to the tree, and are skipped.
* `# text` gives the spacing where it is present; otherwise the text is rebuilt from the forms, with
  a space after each surface token that is not marked SpaceAfter=No.
* Several roots are kept, each with governor 0; a sentence whose heads run in a circle is refused.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kadapter.data.conll import as_conllu
from kadapter.data.jsonio import read_lines

_COLUMNS = 10
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


@dataclass(frozen=True)
class Sentence:
    """A sentence whose words were all found in its text and whose heads form a tree or several."""

    sent_id: str
    line: int
    text: str
    words: tuple[Word, ...]


class SentenceError(ValueError):
    """A sentence that cannot be used; `reason` is a short name to count such sentences by."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


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
        self.text = ""
        self.rows: list[tuple[str, str, str, str]] = []  # (number, form, head, misc) of each syntactic word
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
        if len(columns) != _COLUMNS:
            raise self.error(
                "broken line",
                f"{len(columns)} tab-separated columns instead of {_COLUMNS}; mend the line.",
                number,
            )
        identifier, form, head, misc = columns[0], columns[1], columns[6], columns[9]
        if _EMPTY_NODE.fullmatch(identifier):
            return
        if not form.strip():
            raise self.error("broken line", f"word {identifier} has no form; fill column 2.", number)
        span = _RANGE.fullmatch(identifier)
        if span is not None:
            self.ranges.append((int(span[1]), int(span[2]), form, misc))
        elif identifier == str(len(self.rows) + 1):
            self.rows.append((identifier, form, head, misc))
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
        _, form, _, misc = self.rows[index]
        return _Surface(form, index, index + 1, _has_space_after(misc))

    def locate(self, surface: list[_Surface]) -> list[int]:
        """The offset of each surface token in the text, which is rebuilt where there is none."""
        if not self.text:
            return self._rebuild(surface)
        starts: list[int] = []
        position = 0
        for token in surface:
            while not (fits := self.text.startswith(token.form, position)):
                if not self.text[position : position + 1].isspace():
                    break
                position += 1
            if not fits:
                seen = self.text[position : position + 20]
                raise self.error(
                    "text does not match the words",
                    f"{token.form!r} (word {token.first + 1}) is due at character {position} of the text, "
                    f"where {seen!r} stands; mend # text or the word.",
                )
            starts.append(position)
            position += len(token.form)
        if self.text[position:].strip():
            raise self.error(
                "text does not match the words",
                f"{self.text[position:][:20]!r} follows the last word at character {position} of the text; "
                "mend # text or add the missing words.",
            )
        return starts

    def _rebuild(self, surface: list[_Surface]) -> list[int]:
        starts: list[int] = []
        for token in surface:
            starts.append(len(self.text))
            self.text += token.form + (" " if token.space_after else "")
        if surface[-1].space_after:
            self.text = self.text[:-1]
        return starts

    def heads(self) -> list[int]:
        """The head of each word, checked: a number, within the sentence, and leading to a root."""
        heads: list[int] = []
        for number, form, head, _ in self.rows:
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
        looping = _word_on_cycle(heads)
        if looping is not None:
            raise self.error(
                "cycle",
                f"following the heads from word {looping} {self.rows[looping - 1][1]!r} leads back to it; "
                "give one word of the circle a head outside it, or 0.",
            )
        return heads

    def sentence(self) -> Sentence:
        """The checked sentence; raises SentenceError."""
        if not self.rows:
            raise self.error("no words", "there are only comments; remove them or add the words.")
        surface = self.surface_tokens()
        heads = self.heads()
        starts = self.locate(surface)
        words: list[Word] = []
        for token, start in zip(surface, starts, strict=True):
            forms = [row[1] for row in self.rows[token.first : token.last]]
            spans = _word_spans(token.form, forms, start)
            for index, (begin, end) in enumerate(spans, start=token.first):
                _, form, _, misc = self.rows[index]
                words.append(Word(form, heads[index], misc, begin, end))
        return Sentence(self.sent_id, self.line, self.text, tuple(words))


def _has_space_after(misc: str) -> bool:
    return "SpaceAfter=No" not in misc.split("|")


def _word_spans(surface_form: str, forms: list[str], start: int) -> list[tuple[int, int]]:
    """The spans of the words inside a surface token: split where the forms allow it, else all of it."""
    if "".join(forms) != surface_form:
        return [(start, start + len(surface_form))] * len(forms)
    spans: list[tuple[int, int]] = []
    for form in forms:
        spans.append((start, start + len(form)))
        start += len(form)
    return spans


def _word_on_cycle(heads: list[int]) -> int | None:
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


def _blocks(lines: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Group the lines into sentences, which are parted by blank lines."""
    block: list[tuple[int, str]] = []
    for number, line in lines:
        if line.strip():
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def read_conllu(path: str | Path, on_error: Callable[[SentenceError], None] | None = None) -> Iterator[Sentence]:
    """Stream the sentences of a CoNLL-U file, or of another dialect (`kadapter.data.conll`).

    A sentence that cannot be used raises SentenceError; with `on_error` that function gets the error
    instead and reading goes on with the next sentence. A missing, empty or non-UTF-8 file always raises.
    """
    found = False
    for lines in _blocks(as_conllu(path, read_lines(path))):
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
        raise ValueError(f"{path} is empty; give a CoNLL-U file with at least one sentence.")


def to_find_head(sentence: Sentence) -> dict[str, Any]:
    """The find_head record of a sentence."""
    numbered = list(enumerate(sentence.words, start=1))
    return {
        "sent": sentence.text,
        "tokens": [{str(number): {"start": word.start, "end": word.end}} for number, word in numbered],
        "pairs": [{"dependent_index": number, "governor_index": word.head} for number, word in numbered],
    }
