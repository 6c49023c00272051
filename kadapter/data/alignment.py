"""Where words are in their text, although tools write one or the other in other characters."""

from __future__ import annotations

import unicodedata

from kadapter.data.spans import Span, is_invisible


def find_words(forms: list[str], text: str) -> list[Span] | None:
    """The spans of the forms in the text, one behind the other with nothing but blanks between; None where not."""
    spans: list[Span] = []
    position = 0
    for form in forms:
        while not text.startswith(form, position):
            if not text[position : position + 1].isspace():
                return None
            position += 1
        spans.append((position, position + len(form)))
        position += len(form)
    return spans if not text[position:].strip() else None


def find_visible(forms: list[str], text: str) -> list[Span] | None:
    """The same by what can be seen alone, and whether or not characters are composed; None where not."""
    seen = _seen(text)
    spans: list[Span] = []
    position = 0
    for form in forms:
        wanted = [character for character, _ in _seen(form)]
        part = seen[position : position + len(wanted)]
        if [character for character, _ in part] != wanted or not part:
            return None
        places = [position for _, position in part]
        span = min(places), max(places) + 1
        if spans and span[0] < spans[-1][1]:  # two words share a composed character
            return None
        spans.append(span)
        position += len(wanted)
    return spans if position == len(seen) else None


def _seen(text: str) -> list[tuple[str, int]]:
    """The characters that can be seen, decomposed and in canonical order, with their places in the text."""
    found = [
        (part, position)
        for position, character in enumerate(text)
        if not is_invisible(character)
        for part in unicodedata.normalize("NFD", character)
    ]
    begin = 0
    for end in range(1, len(found) + 1):
        if end == len(found) or not unicodedata.combining(found[end][0]):
            found[begin:end] = sorted(found[begin:end], key=lambda part: unicodedata.combining(part[0]))
            begin = end
    return found
