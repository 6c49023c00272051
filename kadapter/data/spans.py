"""Mentions: whether they can be seen, how two lie to each other, and whether a file's ends are read as they are meant.

Files of one form differ in whether the end of a span belongs to it, and no single record tells. A file does: where ends
are misread, most mentions end in words such as "," and "is", or within a word, although they begin as they should.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kadapter.data.jsonio import shorten

Span = tuple[int, int]  # the end exclusive
SPANS = ("inclusive", "exclusive")  # what --spans takes: whether ends belong to their spans
CROSSING = "the mentions cross"  # reason for which an example is left out

_ENOUGH = 3  # doubtful mentions, below which a file is too small to tell
# Shares of a file's mentions. Measured on Re-DocRED, FewRel, OpenEntity and FIGER (docs/formats.md): words, right at
# most 0.07, one too long at least 0.73; within a word 0 and 0.92; a last character that is no letter 0.07 and 1.
_DOUBTFUL_WORDS, _DOUBTFUL_CHARACTERS, _DOUBTFUL_LAST = 0.2, 0.15, 0.5
_CONTEXT = 80  # characters on each side of an excerpt
_COMMON = 0.01  # a word that stands outside of mentions more often than in this share of the sentences is common

# Units of offsets that are no characters: their encoding, and the last character that is one unit.
_UNITS = {"UTF-16 units": ("utf-16-le", "\uffff"), "bytes": ("utf-8", "\x7f")}
_COUNT = "count characters (code points) from 0"

# Seen by nobody, but not of the categories below: fillers, joiners and variation selectors.
_INVISIBLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10)}
_INVISIBLE |= set(range(0xE0100, 0xE01F0)) | {0x180B, 0x180C, 0x180D, 0x180F}


def is_invisible(character: str) -> bool:
    """Blanks, control characters and what only steers how others are shown (U+200B, U+200E, U+FEFF, ...)."""
    return (
        character.isspace()
        or unicodedata.category(character) in ("Cc", "Cf", "Zs", "Zl", "Zp")
        or ord(character) in _INVISIBLE
    )


def is_blank(text: str) -> bool:
    """Whether there is nothing to be seen."""
    return all(map(is_invisible, text))


def spans_cross(one: Span, other: Span) -> bool:
    """Whether two spans overlap, but neither contains the other."""
    (start, end), (later, last) = sorted((one, other))
    return start < later < end < last


def nested(one: Span, other: Span) -> bool:
    """Whether one of two spans contains the other."""
    return (one[0] <= other[0] and other[1] <= one[1]) or (other[0] <= one[0] and one[1] <= other[1])


def excerpt(before: str, marked: str, after: str) -> str:
    """What is marked, with as much around it as fits a line or two."""
    before, after = before.strip(), after.strip()
    before = before if len(before) <= _CONTEXT else f"…{before[-_CONTEXT:]}"
    after = after if len(after) <= _CONTEXT else f"{after[:_CONTEXT]}…"
    return " ".join(part for part in (before, marked, after) if part)


class Signs(Protocol):
    """What a file's examples show, one by one, and what that means for all of them."""

    def add(self, example: dict[str, Any]) -> bool:
        """Count an example; returns whether it looks wrong by itself."""
        ...

    def finding(self) -> str:
        """What looks wrong in the file as a whole, a sentence without its full stop; "" where nothing does."""
        ...


@dataclass
class WordSigns:
    """Signs of ends that lie a word too far.

    advice: what to do where they do.
    """

    advice: str
    mentions: int = 0
    sentences: int = 0
    outside: Counter[str] = field(default_factory=Counter)
    first: Counter[str] = field(default_factory=Counter)  # words of mentions of several words
    last: Counter[str] = field(default_factory=Counter)
    seen: dict[str, tuple[int, str]] = field(default_factory=dict)  # last word -> a record and its mention

    def add_words(self, number: int, words: Sequence[str], spans: Sequence[Span]) -> bool:
        """Count a sentence's mentions; returns whether one of them ends with a mark of punctuation."""
        self.sentences += 1
        within = {position for span in spans for position in range(*span)}
        self.outside.update({word for position, word in enumerate(words) if position not in within})
        marked = False
        for start, end in spans:
            self.mentions += 1
            if end - start > 1:
                self.first[words[start]] += 1
                self.last[words[end - 1]] += 1
                self.seen.setdefault(words[end - 1], (number, " ".join(words[start:end])))
                marked |= _is_punctuation(words[end - 1])
        return marked

    def finding(self) -> str:
        common = max(2, _COMMON * self.sentences)
        doubtful = {word for word in self.last if _is_punctuation(word) or self.outside[word] >= common}
        count = sum(self.last[word] for word in doubtful)
        begins = sum(n for word, n in self.first.items() if _is_punctuation(word) or self.outside[word] >= common)
        # Titles and names that are common words themselves begin as often with one as they end with one.
        if count < _ENOUGH or count - begins / 2 < _DOUBTFUL_WORDS * self.mentions:
            return ""
        number, mention = self.seen[max(doubtful, key=lambda word: self.last[word])]
        return (
            f"{_of(count, self.mentions)} end with punctuation or with a word that is common outside of mentions, "
            f"such as {shorten(mention)} in record {number}: their ends seem to be exclusive; {self.advice}"
        )


@dataclass
class CharacterSigns:
    """Signs of ends that lie a character too early or too far, and of offsets that count something else.

    early, far: what to do where ends do.
    """

    early: str
    far: str
    mentions: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    seen: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add_mention(self, number: int, text: str, start: int, end: int) -> bool:
        """Count a mention; returns whether it begins or ends within a word or ends in a blank."""
        self.mentions += 1
        found = {
            "early": _within_word(text, end),
            "shifted": _within_word(text, start),
            "far": not text[end - 1].isalnum(),
            "opened": not text[start].isalnum(),
        }
        is_odd = found["early"] or found["shifted"]
        for unit, (encoding, last) in _UNITS.items():
            if max(text[:end], default="") > last:  # else offsets in these units are the same
                read = [_in_units(text, position, encoding) for position in (start, end)] if is_odd else []
                found[unit] = (
                    is_odd and read[0] < read[1] and not any(_within_word(text, position) for position in read)
                )
                found[f"no {unit}"] = not is_odd
        for name in (name for name, holds in found.items() if holds):
            self.counts[name] += 1
            self.seen.setdefault(name, (number, text[start:end]))
        return is_odd or text[end - 1].isspace()

    def finding(self) -> str:
        counts = self.counts
        shares = {name: count / self.mentions for name, count in counts.items() if count >= _ENOUGH}
        if shares.get("early", 0) >= _DOUBTFUL_CHARACTERS and counts["shifted"] < counts["early"] / 2:
            return self._say("early", f"end within a word, {{}}: their ends seem to be inclusive; {self.early}")
        for unit in _UNITS:
            if counts[unit] > counts[f"no {unit}"]:
                return self._say(unit, f"lie within words, {{}}, but between words if offsets count {unit}; {_COUNT}")
        if shares.get("shifted", 0) >= _DOUBTFUL_CHARACTERS:
            return self._say("shifted", f"begin within a word, {{}}; {_COUNT}")
        if shares.get("far", 0) >= _DOUBTFUL_LAST and counts["opened"] < counts["far"] / 2:
            return self._say("far", f"end with a blank or punctuation, {{}}: they seem too long; {self.far}")
        return ""

    def _say(self, name: str, what: str) -> str:
        number, mention = self.seen[name]
        return f"{_of(self.counts[name], self.mentions)} " + what.format(
            f"such as {shorten(mention)} in record {number}"
        )


def _of(count: int, mentions: int) -> str:
    return f"{count:,} of {mentions:,} mentions ({count / mentions:.0%})"


def _is_punctuation(word: str) -> bool:
    return not any(map(str.isalnum, word))


def _in_units(text: str, position: int, encoding: str) -> int:
    """The character that `position` units of an encoding lead to."""
    size = len("a".encode(encoding))
    return len(text.encode(encoding)[: position * size].decode(encoding, "ignore"))


def _within_word(text: str, position: int) -> bool:
    """Whether a word runs over that place, in a script that parts words with blanks (not in Chinese or Thai)."""
    return 0 < position < len(text) and all(
        character.isalnum() and (character < "\u0e00" or "\u1e00" <= character < "\u2000")
        for character in text[position - 1 : position + 1]
    )
