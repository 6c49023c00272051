"""Raw text to CoNLL-U by a parser (`kadapter.data.parsers`).

    parse_text([Path("books.txt")], Path("books.conllu"), load_parser("spacy", "en_core_web_sm"))

A line is a text of one or more sentences; runs of blanks in it become one space, because CoNLL-U can hold neither
tabs nor line ends. Texts are read as a stream and parsed a batch at a time. Beside the CoNLL-U lies a small JSON
file that says what it was made of: a killed run goes on behind the last whole batch, and a finished one is not
parsed again as long as texts, parser and model are the same.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from kadapter.data.jsonio import read_lines, write_json
from kadapter.data.parsers import OtherParserError, Parsed, Parser
from kadapter.storage.errors import writing
from kadapter.storage.locks import exclusive
from kadapter.storage.reading import read_object

logger = logging.getLogger(__name__)


class _Texts:
    """The texts of files, line by line, with a digest of what was read so far and where it stood."""

    def __init__(self, inputs: Sequence[Path]) -> None:
        self.read = self.blank = 0
        self.digest = blake2b(digest_size=16)
        self._texts = self._stream(inputs)

    def _stream(self, inputs: Sequence[Path]) -> Iterator[tuple[Path, int, str]]:
        for path in inputs:
            for number, line in read_lines(path):
                text = " ".join(line.split())
                if not text:
                    self.blank += 1
                    continue
                self.read += 1
                self.digest.update(f"{path.stem}\n{number}\n{text}\n".encode())
                yield path, number, text

    def skip(self, count: int) -> str:
        """Read on without keeping anything; gives the digest."""
        deque(islice(self._texts, count), maxlen=0)
        return self.digest.hexdigest()

    def take(self, count: int) -> list[tuple[Path, int, str]]:
        return list(islice(self._texts, count))


@dataclass(frozen=True)
class _Batch:
    """Texts, and what was read when they were taken."""

    texts: list[tuple[Path, int, str]]
    read: int
    digest: str


def _batches(texts: _Texts, first: list[tuple[Path, int, str]], size: int) -> Iterator[_Batch]:
    """`first`, which was taken already, and what follows it."""
    while first:
        yield _Batch(first, texts.read, texts.digest.hexdigest())
        first = texts.take(size)


STATE_KEYS = ("parser", "texts", "digest", "sentences", "bytes")  # of the report beside the output


def parse_text(inputs: Sequence[Path], conllu: Path, parser: Parser, batch_size: int = 512) -> dict[str, int]:
    """Parse the lines of text files into one CoNLL-U file and return the counts of texts, blank lines and sentences.

    Raises:
        ValueError, FileNotFoundError: an input cannot be read or parsed (what was parsed stays for the next call),
            or `conllu` exists and was not written here.
        OSError: the place is full or cannot be written, or another process parses into the same file.
    """
    with exclusive(conllu, "give another --output"):
        return _parse_text(inputs, conllu, parser, batch_size)


def _parse_text(inputs: Sequence[Path], conllu: Path, parser: Parser, batch_size: int) -> dict[str, int]:
    part, report = conllu.with_name(f".{conllu.name}.part"), conllu.with_name(f"{conllu.name}.json")
    state = _read_state(conllu, part, report)
    texts = _Texts(inputs)
    same = state.get("parser") == parser.identity and texts.skip(state["texts"]) == state["digest"]
    batch = texts.take(batch_size) if same else []
    if part.is_file() or not same or batch:  # else it is finished
        if not same or not part.is_file():
            texts, state = _Texts(inputs), {"sentences": 0, "bytes": 0}
            batch = texts.take(batch_size)
        with (
            writing(part, "the parsed text"),
            part.open("r+b" if part.is_file() else "x+b") as stream,
            tqdm(initial=texts.read - len(batch), unit=" texts", disable=None) as bar,
        ):
            stream.seek(state["bytes"])
            stream.truncate()
            for taken, parsed in _parsed(_batches(texts, batch, batch_size), parser):
                state["sentences"] += _write(stream, taken.texts, parsed)
                state |= {"parser": parser.identity, "texts": taken.read, "digest": taken.digest}
                write_json(report, state | {"bytes": stream.tell()})
                bar.update(len(taken.texts))
        if not state["sentences"]:
            part.unlink()
            raise ValueError(f"{', '.join(map(str, inputs))}: there is nothing to parse; give one text on each line.")
        os.replace(part, conllu)
    return {"texts": texts.read, "blank lines": texts.blank, "sentences": state["sentences"]}


def _read_state(conllu: Path, part: Path, report: Path) -> dict[str, Any]:
    """What the report says of the file at hand, {} where nothing can be gone on with."""
    mend = f"delete it, {conllu.name} and {part.name}, and parse anew."
    state = read_object(report, mend, STATE_KEYS) if report.is_file() else {}
    if part.is_file():
        return state if state and part.stat().st_size >= state["bytes"] else {}
    if conllu.exists() and (not state or conllu.stat().st_size != state["bytes"]):
        raise ValueError(
            f"{conllu} would be overwritten, but was not written by this parser or was changed since; "
            "move it away, or convert it without a parser."
        )
    return state if conllu.exists() else {}


def _parsed(batches: Iterator[_Batch], parser: Parser) -> Iterator[tuple[_Batch, list[list[Parsed]]]]:
    """Each batch with its sentences, as far as the texts can be read and parsed; then what is wrong is raised."""
    waiting: deque[_Batch] = deque()
    unreadable: list[Exception] = []

    def texts() -> Iterator[list[str]]:
        try:
            for batch in batches:
                waiting.append(batch)
                yield [text for _, _, text in batch.texts]
        except (ValueError, OSError) as error:
            unreadable.append(error)

    results = parser.each(texts())
    while True:
        try:
            found = next(results, None)
        except OtherParserError:
            raise
        except Exception as error:  # of whatever kind a parser raises
            raise _blame(waiting[0].texts, parser, f"{type(error).__name__}: {error}") from error
        if found is None:
            break
        yield waiting.popleft(), found
    if unreadable:
        raise unreadable[0]


def _blame(batch: Sequence[tuple[Path, int, str]], parser: Parser, reason: str) -> ValueError:
    """The error that names the text which cannot be parsed."""
    for path, line, text in batch:
        try:
            parser.parse([text])
        except Exception as error:
            return ValueError(
                f"{path}, line {line}: a text of {len(text)} characters cannot be parsed "
                f"({type(error).__name__}: {error}); mend or remove the line."
            )
    path, line, _ = batch[0]
    return ValueError(
        f"{path}, line {line}: the {len(batch)} texts from here cannot be parsed at once ({reason}); "
        "lower --parse_batch_size."
    )


def _write(stream: BinaryIO, batch: Sequence[tuple[Path, int, str]], parsed: Sequence[Sequence[Parsed]]) -> int:
    """Append the sentences of a batch to the file, on disk when this returns; gives their number."""
    count = 0
    for (path, line, _), sentences in zip(batch, parsed, strict=True):
        for number, (text, rows) in enumerate(sentences, start=1):
            head = f"# sent_id = {path.stem}-{line}-{number}\n# text = {text}\n"
            stream.write((head + "\n".join(rows) + "\n\n").encode())
            count += 1
    stream.flush()
    os.fsync(stream.fileno())
    return count
