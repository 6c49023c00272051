"""Raw text to CoNLL-U through spaCy or Stanza, which are imported only here and only when asked for.

    parse_text([Path("books.txt")], Path("books.conllu"), load_parser("spacy", "en_core_web_sm"))

A line is a text of one or more sentences; runs of blanks in it become one space, because CoNLL-U can hold neither
tabs nor line ends. Texts are read as a stream and parsed a batch at a time. Beside the CoNLL-U lies a small JSON
file that says what it was made of: a killed run goes on behind the last whole batch, and a finished one is not
parsed again as long as texts, parser and model are the same.
"""

from __future__ import annotations

import logging
import os
import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache, partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from kadapter.data.executors import in_order
from kadapter.data.jsonio import read_lines, write_json
from kadapter.storage.errors import writing
from kadapter.storage.locks import exclusive
from kadapter.storage.reading import read_object

AHEAD = 2  # batches a worker that are handed out at once
logger = logging.getLogger(__name__)

DEFAULT_MODELS = {"spacy": "en_core_web_sm", "stanza": "en"}

Parsed = tuple[str, list[str]]  # a sentence: its text and the CoNLL-U lines of its words


@dataclass(frozen=True)
class Parser:
    """What parses, and what the result depends on: library and model with their versions.

    stream: parses batches of texts in their order, by default one after the other.
    """

    identity: dict[str, str]
    parse: Callable[[Sequence[str]], list[list[Parsed]]]
    stream: Callable[[Iterable[Sequence[str]]], Iterator[list[list[Parsed]]]] | None = None

    def each(self, batches: Iterable[Sequence[str]]) -> Iterator[list[list[Parsed]]]:
        return map(self.parse, batches) if self.stream is None else self.stream(batches)


def load_parser(name: str, model: str | None = None) -> Parser:
    """A parser by name, "spacy" or "stanza", with one of its models, on a GPU where there is one.

    Raises:
        ValueError, FileNotFoundError: the library or the model is missing, or the model is no parser.
    """
    try:
        return {"spacy": _load_spacy, "stanza": _load_stanza}[name](model or DEFAULT_MODELS[name])
    except ImportError as error:
        raise ValueError(f"{name} cannot be imported ({error}); run: pip install {name}") from error


def parser_of_workers(pool: Executor | None, name: str, model: str | None, workers: int) -> Parser:
    """A parser by name that each worker of `pool` loads for itself; None: this process loads it."""
    if pool is None:
        return load_parser(name, model)
    identity = pool.submit(_identity, name, model).result()
    work = partial(_parse_by_name, name=name, model=model, identity=identity)
    return Parser(
        identity,
        lambda texts: pool.submit(work, texts).result(),
        lambda batches: in_order(pool, work, batches, AHEAD * workers),
    )


class OtherParserError(ValueError):
    """Two workers would parse differently."""


@cache
def _loaded(name: str, model: str | None) -> Parser:
    return load_parser(name, model)


def _identity(name: str, model: str | None) -> dict[str, str]:
    return _loaded(name, model).identity


def _parse_by_name(
    texts: Sequence[str], name: str, model: str | None, identity: Mapping[str, str]
) -> list[list[Parsed]]:
    parser = _loaded(name, model)
    if parser.identity != identity:
        raise OtherParserError(
            f"the worker on {platform.node()} parses with {parser.identity}, another with {identity}; install the same "
            "parser and model on all machines."
        )
    return parser.parse(texts)


def _load_spacy(model: str) -> Parser:
    import spacy

    spacy.prefer_gpu()
    if not spacy.util.is_package(model) and not Path(model).exists():
        raise FileNotFoundError(
            f"spaCy's pipeline {model!r} is not installed; run: python -m spacy download {model}, "
            "or give the folder of a pipeline."
        )
    try:
        # Heads need none of these; names that a pipeline does not have are ignored.
        unneeded = ["tagger", "morphologizer", "attribute_ruler", "lemmatizer", "ner", "entity_linker", "textcat"]
        return spacy_parser(spacy.load(model, exclude=unneeded), model)
    except (ValueError, OSError) as error:
        raise ValueError(f"spaCy cannot use the pipeline {model!r}: {error}") from error


def spacy_parser(nlp: Any, model: str = "") -> Parser:
    """A spaCy pipeline as a parser."""
    import spacy

    if not any("token.head" in nlp.get_pipe_meta(name).assigns for name in nlp.pipe_names):
        raise ValueError(f"none of its components {nlp.pipe_names} assigns heads; give a pipeline with a parser.")

    def parse(texts: Sequence[str]) -> list[list[Parsed]]:
        parts = [_parts(text, nlp.max_length) for text in texts]
        with nlp.memory_zone():  # else the vocabulary grows with every new word
            docs = iter(nlp.pipe([part for own in parts for part in own]))
            return [[sentence for _ in own for sentence in spacy_sentences(next(docs))] for own in parts]

    version = f"{nlp.meta['lang']}_{nlp.meta['name']} {nlp.meta['version']}"
    return Parser({"parser": f"spacy {spacy.__version__}", "model": model, "version": version}, parse)


def _parts(text: str, limit: int) -> list[str]:
    """A text in parts of at most `limit` characters, beyond which spaCy parses nothing; cut at blanks if it has any."""
    parts: list[str] = []
    while len(text) > limit:
        at = text.rfind(" ", 1, limit + 1)
        at = limit if at < 1 else at
        parts.append(text[:at])
        text = text[at:].lstrip(" ")
    if parts:
        logger.warning("a text is longer than the %d characters that spaCy parses at once: it is cut up.", limit)
    return [*parts, text]


def spacy_sentences(doc: Any) -> list[Parsed]:
    """The sentences of a spaCy Doc; tokens that are blanks are no words, and heads lead past them."""
    sentences: list[Parsed] = []
    for span in doc.sents:
        words = [token for token in span if not token.is_space]
        numbers = {word.i: number for number, word in enumerate(words, start=1)}
        rows: list[str] = []
        for number, word in enumerate(words, start=1):
            head = _spacy_head(word, numbers)
            relation = (word.dep_ or "_") if head else "root"
            spaced = word.whitespace_ or word.i + 1 == len(doc) or doc[word.i + 1].is_space
            misc = "_" if spaced else "SpaceAfter=No"
            rows.append(f"{number}\t{word.text}\t_\t_\t_\t_\t{head}\t{relation}\t_\t{misc}")
        if rows:
            sentences.append((" ".join(span.text.split()), rows))
    return sentences


def _spacy_head(word: Any, numbers: dict[int, int]) -> int:
    """The number of the nearest word above in the tree, 0 where there is none in the sentence."""
    while word.head.i != word.i:
        word = word.head
        if word.i in numbers:
            return numbers[word.i]
    return 0


def _load_stanza(model: str) -> Parser:
    import stanza

    try:
        # Stanza would fetch models without asking, and fail with a trace where there is no network.
        pipeline = stanza.Pipeline(
            model, processors="tokenize,pos,lemma,depparse", download_method=None, logging_level="ERROR"
        )
    except (ValueError, OSError) as error:
        raise FileNotFoundError(
            f"Stanza's models for the language {model!r} cannot be loaded ({error}); "
            f"run: python -c \"import stanza; stanza.download('{model}')\""
        ) from error
    return stanza_parser(pipeline, model)


def stanza_parser(pipeline: Any, model: str = "") -> Parser:
    """A Stanza pipeline as a parser."""
    import stanza

    def parse(texts: Sequence[str]) -> list[list[Parsed]]:
        return [stanza_sentences(document) for document in pipeline.bulk_process(list(texts))]

    packages = (f"{name} {'+'.join(spec.package for spec in specs)}" for name, specs in pipeline.load_list)
    return Parser({"parser": f"stanza {stanza.__version__}", "model": model, "version": ", ".join(packages)}, parse)


def stanza_sentences(document: Any) -> list[Parsed]:
    """The sentences of a Stanza Document."""
    return [(sentence.text, f"{sentence:c}".split("\n")) for sentence in document.sentences]


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
            raise ValueError(f"{', '.join(map(str, inputs))}: there is no sentence to parse; give one text a line.")
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
