"""Answers as SQuAD judges them: normalised, compared with several gold answers, and found in a text as it stands.

The normalised form is that of SQuAD's official evaluation (Rajpurkar et al., 2016, https://arxiv.org/abs/1606.05250):
lower case, without ASCII punctuation and the articles a, an and the, and with single blanks. So "The  Beatles," and
"Beatles" are the same.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import regex

from kadapter.data.spans import Span

_PUNCTUATION = frozenset(string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_WORD = re.compile(r"\S+")
LONGEST_PATTERN = 2000  # characters of a regular expression
MATCH_SECONDS = 5.0  # in one text; what people write as answers takes microseconds


class _Word(NamedTuple):
    """A word of the normalised form, and the span of the original text that it comes from, its end exclusive."""

    form: str
    start: int
    end: int


# -- scores -----------------------------------------------------------------------------------------------------


def normalize_answer(text: str) -> str:
    """SQuAD's normalised form of an answer."""
    kept = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", kept).split())


def exact_match(prediction: str, answers: Sequence[str], are_patterns: bool = False) -> int:
    """1 where the prediction is one of the answers in their normalised forms, else 0.

    Args:
        are_patterns: the answers are regular expressions, of which one must match where the prediction begins, in any
            case, as in the evaluation of DrQA (Chen et al., 2017) on CuratedTREC.

    Raises:
        ValueError: a pattern is broken, too long, or takes too long.
    """
    if are_patterns:
        return int(any(_matches(pattern, prediction) for pattern in answers))
    return int(normalize_answer(prediction) in map(normalize_answer, answers))


def f1_score(prediction: str, answers: Sequence[str]) -> float:
    """F1 of the words of the normalised forms, in [0, 1], with the answer that it is highest with.

    Where one of the two has no words, it is 1 if neither has, as in SQuAD 2.0's official evaluation.
    """
    words = normalize_answer(prediction).split()
    return max((_f1(words, normalize_answer(answer).split()) for answer in answers), default=0.0)


def _f1(words: Sequence[str], gold: Sequence[str]) -> float:
    if not words or not gold:
        return float(words == gold)
    shared = sum((Counter(words) & Counter(gold)).values())
    return 2 * shared / (len(words) + len(gold))


# -- places -----------------------------------------------------------------------------------------------------


def find_answers(text: str, answers: Sequence[str], are_patterns: bool = False) -> list[Span]:
    """Where answers stand in a text, in its order.

    A span begins with the first and ends with the last character that belongs to the answer's normalised form, so its
    own normalised form is the answer's: of "by The  Beatles, in" the answer "the Beatles" has "Beatles". Quotation
    marks and dashes that SQuAD's form keeps (“Beatles”) may stand around it. An answer with nothing left in its
    normalised form stands nowhere.

    Args:
        are_patterns: the answers are regular expressions, found in any case; empty matches do not count.

    Returns:
        Spans in characters of `text`, ends exclusive, each once; those of different answers may overlap.

    Raises:
        ValueError: a pattern is broken, too long, or takes too long.
    """
    if are_patterns:
        return sorted({span for pattern in answers for span in _pattern_spans(pattern, text)})
    words = _words(text)
    return sorted({span for answer in answers for span in _places(text, words, answer)})


def bears_answer(texts: Sequence[str], answers: Sequence[str]) -> bool:
    """Whether one of the texts holds one of the answers, as `find_answers` finds them."""
    forms = [(answer, normalize_answer(answer)) for answer in answers]
    # A first look that is much faster: what is in the words of a text is in its normalised form.
    return any(
        any(form and form in shown for _, form in forms) and bool(find_answers(text, answers))
        for text, shown in ((text, normalize_answer(text)) for text in texts)
    )


def _places(text: str, words: Sequence[_Word], answer: str) -> Iterator[Span]:
    wanted = _forms(answer)
    if not wanted:
        return
    normalised = normalize_answer(answer)
    for i in range(len(words) - len(wanted) + 1):
        if words[i].form == wanted[0] and all(words[i + j].form == form for j, form in enumerate(wanted)):
            span = words[i].start, words[i + len(wanted) - 1].end
            if normalize_answer(text[slice(*span)]) == normalised:  # marks parted here may be one word there
                yield span


@lru_cache(maxsize=1024)  # a question's answers are looked for in all its paragraphs
def _forms(answer: str) -> tuple[str, ...]:
    return tuple(word.form for word in _words(answer))


def _words(text: str) -> list[_Word]:
    """The words of the normalised form; marks that it keeps at the edges of a word are words of their own."""
    lowered = text.lower()
    # The lower case of a few characters is two: İ.
    origins = (
        range(len(text))
        if len(lowered) == len(text)
        else [position for position, character in enumerate(text) for _ in character.lower()]
    )
    kept = [position for position, character in enumerate(lowered) if character not in _PUNCTUATION]
    form = "".join(lowered[position] for position in kept)
    form = _ARTICLES.sub(lambda found: " " * len(found[0]), form)
    return [
        _Word(form[start:end], origins[kept[start]], origins[kept[end - 1]] + 1)
        for found in _WORD.finditer(form)
        for start, end in _edges_parted(form, *found.span())
    ]


def _edges_parted(form: str, start: int, end: int) -> Iterator[Span]:
    """The spans of a word and of the marks at its edges."""
    first, last = start, end
    while first < end and _is_mark(form[first]):
        first += 1
    while last > first and _is_mark(form[last - 1]):
        last -= 1
    yield from ((position, position + 1) for position in range(start, first))
    if first < last:
        yield first, last
    yield from ((position, position + 1) for position in range(last, end))


def _is_mark(character: str) -> bool:
    return not character.isascii() and unicodedata.category(character).startswith("P")


# -- regular expressions ----------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> regex.Pattern[str]:
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(
            f"the answer {pattern[:40]!r}... is a regular expression of {len(pattern):,} characters; give one of at "
            f"most {LONGEST_PATTERN:,}."
        )
    try:
        return regex.compile(pattern, flags=regex.IGNORECASE | regex.MULTILINE)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ValueError(f"the answer {pattern!r:.60} is not a regular expression ({error}); mend it.") from error


def _matches(pattern: str, text: str) -> bool:
    try:
        return _compiled(pattern).match(text, timeout=MATCH_SECONDS) is not None
    except TimeoutError as error:
        raise _too_slow(pattern) from error


def _pattern_spans(pattern: str, text: str) -> list[Span]:
    try:
        spans = [found.span() for found in _compiled(pattern).finditer(text, timeout=MATCH_SECONDS)]
    except TimeoutError as error:
        raise _too_slow(pattern) from error
    return [span for span in spans if span[0] < span[1]]


def _too_slow(pattern: str) -> ValueError:
    return ValueError(
        f"the answer {pattern!r:.60} takes more than {MATCH_SECONDS:g} seconds in one text; "
        "repeat nothing within it that is repeated already."
    )
