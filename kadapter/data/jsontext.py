"""A JSON text that is read value by value, as far as it is decoded: memory holds one value and no more."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kadapter.storage.reading import LONGEST, SURROGATE, check_surrogates, not_utf8, opened, unreadable
from kadapter.storage.reading import broken_json as _broken

_BLANK = re.compile(r"[ \t\n\r]*")
_OPENING = re.compile(r"\[[ \t\n\r]*(.)?", re.DOTALL)
# What matters to find the end of a value: whole strings, the quote of one that does not end, brackets and commas.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)
_DECODER = json.JSONDecoder()
_BLOCK = 1 << 20  # bytes read at a time


def _blocks(path: str | Path) -> Iterator[str]:
    """The text of a UTF-8 file, a block at a time."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with opened(path) as stream:
        line, raw = 1, b"-"
        while raw:
            offset = stream.tell() - len(decoder.getstate()[0])
            raw = stream.read(_BLOCK)
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                raise not_utf8(path, line, offset + error.start) from error
            line += text.count("\n")
            yield text


class UnusableValueError(ValueError):
    """A value that cannot be used, but behind which reading can go on."""


class JsonText:
    """A JSON text that is read as far as it is decoded."""

    def __init__(self, path: str | Path):
        self.path, self.blocks = path, _blocks(path)
        self.text, self.at = "", 0
        self.line, self.column = 1, 1  # of text[0]
        self.passed = 0  # characters before text[0]

    def peek(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            self.at = _BLANK.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise self.broken_json(f"Expecting {character!r}", self.at)
        self.at += 1

    def begins_objects(self) -> bool:
        """Whether a list of objects begins here."""
        self.peek()
        while found := _OPENING.match(self.text, self.at):
            if found[1] or not self._more():
                return found[1] == "{"
        return False

    def value(self, what: str) -> Any:
        """The next value, which messages call `what`."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if len(self.text) - self.at < LONGEST and self._more():
                    continue  # the block ended within the value
                raise self.broken_json(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:
                line = self.place(self.at)[0]
                raise UnusableValueError(
                    str(unreadable(f"{self.path}, {what}", line, error, self._skipped()))
                ) from error
            if end == len(self.text) and not isinstance(value, str | list | dict) and self._more():
                continue  # a number may go on in the next block
            begin, self.at = self.at, end
            if SURROGATE.search(self.text, begin, end):  # a place is found by counting lines, so only if need be
                try:
                    check_surrogates(f"{self.path}, {what}", self.place(begin)[0], value)
                except ValueError as error:
                    raise UnusableValueError(str(error)) from error
            return value

    def _skipped(self) -> str:
        """The next value as it stands there, without decoding it."""
        while True:
            depth = 0
            for token in _TOKEN.finditer(self.text, self.at):
                if token[0] == '"':
                    break  # the block ended within a string
                closes = token[0] in ("]", "}")
                depth += (token[0] in ("[", "{")) - closes
                if depth < 0 or (depth == 0 and (closes or token[0] == ",")):
                    begin, self.at = self.at, token.end() if closes and depth == 0 else token.start()
                    return self.text[begin : self.at]
            if len(self.text) - self.at >= LONGEST or not self._more():
                raise self.broken_json("a value does not end", self.at)

    def _more(self) -> bool:
        self.line, self.column = self.place(self.at)
        self.passed += self.at
        self.text, self.at = self.text[self.at :], 0
        block = next(self.blocks, None)
        self.text += block or ""
        return block is not None

    def place(self, at: int) -> tuple[int, int]:
        last = self.text.rfind("\n", 0, at)
        return self.line + self.text.count("\n", 0, at), at - last if last >= 0 else self.column + at

    def broken_json(self, reason: str, at: int) -> ValueError:
        return _broken(self.path, *self.place(at), reason)
