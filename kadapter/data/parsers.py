"""Parsers of raw text, spaCy and Stanza, which are imported only here and only when asked for."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from kadapter.data.executors import in_order

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
