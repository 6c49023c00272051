"""Running text: files cut into pieces for workers, pieces into documents, documents into sentences of words.

Words are runs of letters and digits, and single other marks; "U.S.", "3,000.5" and "don't" are one word, "Ada's" is
two. Sentences end as spaCy's Sentencizer ends them, but not behind an abbreviation or an initial; its rule needs no
more than the words, so that spaCy's own tokenizer, which takes most of its time, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

from kadapter.data.jsonio import read_records, shorten, whole
from kadapter.data.pieces import PIECE_BYTES, Piece, pieces
from kadapter.data.splits import TABLES, TEXT, form_of
from kadapter.data.tables import read_rows
from kadapter.storage.reading import read_lines

FORMS = ("lines", "paragraphs", "id_lines")
WORD = re.compile(r"\d+(?:[.,]\d+)+|(?:[^\W\d_]\.){2,}|\w+(?:['’](?!s\b)\w+)*|['’]s\b|[^\w\s]")
_ID_FIELDS = ("docid", "doc_id", "id")


@dataclass(frozen=True)
class TextOptions:
    """How text files are read.

    form: of plain text, a document is a line, a paragraph (blank lines part them), or a line of an id, a tab and a
    text. text_field, id_field: of records; "" takes the first of docid, doc_id and id. split: whether documents are
    cut into sentences; else each is one.
    """

    form: str = "lines"
    text_field: str = "text"
    id_field: str = ""
    split: bool = True


def find_texts(places: Sequence[Path]) -> dict[Path, str]:
    """The text files in those places, which are files or folders: path -> its name in messages and documents.

    Raises:
        FileNotFoundError, ValueError: nothing there, or two files have one name.
    """
    found: dict[Path, str] = {}
    for place in places:
        if place.is_dir():
            inner = sorted(path for path in place.rglob("*") if path.is_file() and _is_text(path.relative_to(place)))
            found |= {path: _without_ending(str(path.relative_to(place)), path) for path in inner}
            if not inner:
                raise ValueError(f"{place} holds no text; give files that end in {', '.join((TEXT, *TABLES))}.")
        elif place.is_file():
            found[place] = _without_ending(place.name, place)
        else:
            raise FileNotFoundError(f"{place}: there is no such file or folder; check --text.")
    names: dict[str, Path] = {}
    for path, name in found.items():
        if other := names.get(name):
            raise ValueError(f"{path} and {other} would name documents alike; rename one.")
        names[name] = path
    return found


def _is_text(path: Path) -> bool:
    return form_of(path) in (TEXT, *TABLES) and not any(part.startswith((".", "_")) for part in path.parts)


def _without_ending(name: str, path: Path) -> str:
    at = path.name.lower().rfind(form_of(path)) if form_of(path) else -1
    return name[: len(name) - len(path.name) + at] if at > 0 else name


def text_pieces(path: Path, options: TextOptions, size: int = PIECE_BYTES) -> list[Piece]:
    """A file in pieces of about `size` bytes, with the numbers of their first lines; what is packed is one piece."""
    by = "paragraphs" if form_of(path) == TEXT and options.form == "paragraphs" else "lines"
    found, line = [], 1
    for piece in pieces(path, size, endings=(TEXT, ".jsonl", ".ndjson"), by=by):
        found.append(replace(piece, first_line=line))
        line += piece.lines() if piece.end is not None else 0
    return found


def documents(piece: Piece, name: str, options: TextOptions) -> Iterator[tuple[str, str]]:
    """Documents as (id, text); where files give no id it is the file's name with the line or record.

    Raises:
        FileNotFoundError, ValueError: name file, line or record, value and mend.
    """
    is_table = form_of(piece.path) in TABLES
    read = _of_records if is_table else _paragraphs if options.form == "paragraphs" else _of_lines
    count = 0
    for count, found in enumerate(read(piece, name, options), start=1):  # noqa: B007
        yield found
    if not count and piece.end is None:
        raise ValueError(f"{piece} holds no text; give text, or leave it out.")


def _of_lines(piece: Piece, name: str, options: TextOptions) -> Iterator[tuple[str, str]]:
    for number, line in read_lines(piece):  # type: ignore[arg-type]  # a piece is opened like a path
        own, tab, text = line.partition("\t") if options.form == "id_lines" else (f"{name}-{number}", "\t", line)
        if not tab and line.strip():
            raise ValueError(f"{piece}, line {number}: no tab parts id and text in {shorten(line)}; write both.")
        if text.strip():
            yield own, text


def _paragraphs(piece: Piece, name: str, options: TextOptions) -> Iterator[tuple[str, str]]:
    lines: list[str] = []
    first = 0
    for number, line in read_lines(piece):  # type: ignore[arg-type]
        if line.strip():
            first = first if lines else number
            lines.append(line)
        elif lines:
            yield f"{name}-{first}", " ".join(lines)
            lines = []
    if lines:
        yield f"{name}-{first}", " ".join(lines)


def _of_records(piece: Piece, name: str, options: TextOptions) -> Iterator[tuple[str, str]]:
    if piece.end is not None:
        lines = read_records(piece)  # type: ignore[arg-type]
        rows = ((number, f"{piece}, record {number}", record) for number, record in lines)
    else:
        rows = ((row.number, row.where, row.record) for row in read_rows(piece.path))
    for number, where, record in rows:
        text = record.get(options.text_field)
        if not isinstance(text, str):
            raise ValueError(
                f"{where}: {options.text_field} is {shorten(text)} among {shorten([*record])}; name the field that "
                "holds the text by --text_field."
            )
        names = [options.id_field] if options.id_field else [field for field in _ID_FIELDS if field in record][:1]
        own = record.get(names[0]) if names else f"{name}-{number}"
        own = str(whole(own)) if whole(own) is not None else own
        if not isinstance(own, str):
            raise ValueError(f"{where}: {names[0]} is {shorten(own)}; give a name of the document by --id_field.")
        if text.strip():
            yield own, text


# -- words and sentences ----------------------------------------------------------------------------------------


def words_of(text: str) -> list[str]:
    """The words of a text; parts of letters and digits alone, which most are, need no further look."""
    words: list[str] = []
    for part in text.split():
        if part.isalnum():
            words.append(part)
        else:
            words += _parts(part)
    return words


@lru_cache(maxsize=1 << 16)
def _parts(part: str) -> list[str]:
    return WORD.findall(part)


@cache
def _spacy_rules() -> tuple[frozenset[str], frozenset[str]]:
    """What ends a sentence, and what a full stop belongs to, such as "Dr"."""
    try:
        from spacy.lang.en import English
        from spacy.pipeline import Sentencizer
    except ImportError as error:
        raise ValueError(
            f"sentences are split by spaCy's rules ({error}); run: pip install 'kadapter[graph]', or give a sentence "
            "a line and --sentences given."
        ) from error
    exceptions = English.Defaults.tokenizer_exceptions or {}
    short = {text[:-1] for text in exceptions if text.endswith(".") and text[:-1].isalpha()}
    return frozenset(Sentencizer.default_punct_chars), frozenset(short)


def sentences_of(words: list[str]) -> list[list[str]]:
    """The words of a document by sentences.

    A sentence ends with the marks behind a full stop or its like, as spaCy's Sentencizer has it. That full stop does
    not count behind an abbreviation of spaCy's English or a single capital letter.
    """
    ends, short = _spacy_rules()
    found, begin, size = [], 0, len(words)
    for i, word in enumerate(words):
        if word not in ends or i < begin:
            continue
        before = words[i - 1] if i > begin else ""
        if word == "." and (before in short or (len(before) == 1 and before.isupper())):
            continue
        end = i + 1
        while end < size and not words[end][0].isalnum() and _is_mark(words[end]):
            end += 1
        found.append(words[begin:end])
        begin = end
    return found + [words[begin:]] * (begin < size)


def _is_mark(word: str) -> bool:
    """Whether Unicode calls it punctuation, as spaCy's is_punct does."""
    import unicodedata

    return all(unicodedata.category(character)[0] == "P" for character in word)
