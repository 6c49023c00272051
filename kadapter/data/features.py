"""The feature store: examples read, checked and tokenized once, then memory-mapped.

A store is named by everything that it depends on: the file's content, the reader, the tokenizer, the encoding
and its options. So a changed file, tokenizer or length makes a new one, and an unchanged one is found again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from kadapter.data.encoding import Feature
from kadapter.data.jsonio import split_path
from kadapter.storage.files import scratch_folder

logger = logging.getLogger(__name__)

VERSION = 5  # raise it when an encoding changes, so that old stores are not found again
DROPPED = "dropped"  # column of the reason why an example cannot be used; "" where it can
NOTE = "note"  # column of what was done to an example that is used; "" for nothing

COUNTS = "counts.json"
Reader = Callable[..., Iterator[dict[str, Any]]]
Encoder = Callable[..., list[Feature]]


@dataclass(frozen=True, kw_only=True)
class Source:
    """How the files of a data folder are read and become features.

    read: `read(path, **read_options)` yields checked examples with their record numbers.
    schema: the examples' columns.
    encode: `encode(examples, tokenizer, max_seq_length, **encode_options)` turns a list of them into features.
    files: split -> name of its file, where that is not the split's own with .jsonl or .json.
    split_options: split -> further options of `read` there.
    """

    read: Reader
    schema: datasets.Features
    encode: Encoder
    read_options: Mapping[str, Any] = field(default_factory=dict)
    encode_options: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    split_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def path(self, folder: str | Path, split: str) -> Path:
        """The split's file, whether it is there or not."""
        return split_path(folder, self.files.get(split, split))

    def options(self, split: str) -> dict[str, Any]:
        """All options of `read` for that split."""
        return {**self.read_options, **self.split_options.get(split, {})}


def default_cache() -> Path:
    return Path(datasets.config.HF_DATASETS_CACHE) / "kadapter"


def load_features(
    source: Source,
    folder: str | Path,
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    encode_options: Mapping[str, Any],
    cache_dir: str | Path | None = None,
    num_workers: int = 1,
    overwrite: bool = False,
) -> datasets.Dataset:
    """Features of a split: columns input_ids, positions, labels, record, items, length.

    Args:
        folder: the data folder.
        encode_options: what `source.encode` needs beside the source's own options, max_seq_length above all.
        cache_dir: where stores live; None takes the folder of datasets (HF_DATASETS_CACHE).
        num_workers: processes that tokenize; the order of examples does not depend on it.
        overwrite: make the store anew.

    Raises:
        FileNotFoundError, ValueError: from the reader, naming file and record; or nothing is left to use.
    """
    path = source.path(folder, split)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; put the data there or give another --data_dir.")
    options = {"reader": source.options(split), "encoder": {**encode_options, **source.encode_options}}
    place = Path(cache_dir or default_cache()) / _store_name(path, source, options, tokenizer)
    if overwrite:
        shutil.rmtree(place, ignore_errors=True)
    if not place.is_dir():
        read = partial(source.read, path, **options["reader"])
        encode = partial(_encode, encoder=source.encode, tokenizer=tokenizer, options=options["encoder"])
        _build(place, path, read, source.schema, encode, num_workers)
    store = datasets.load_from_disk(str(place))
    _report(path, store, json.loads((place / COUNTS).read_text(encoding="utf-8")))
    return store


def _store_name(path: Path, source: Source, options: dict, tokenizer: PreTrainedTokenizerBase) -> str:
    key = {
        "version": VERSION,
        "file": _digest(path),
        "reader": source.read.__name__,
        "encoder": source.encode.__name__,
        "options": options,
        "tokenizer": _tokenizer_digest(tokenizer),
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]


def _report(path: Path, store: datasets.Dataset, counts: dict[str, dict[str, int]]) -> None:
    """Say what was dropped or changed; raise ValueError where nothing is left."""
    dropped = counts[DROPPED]
    for reason, count in dropped.items():
        logger.warning("%s: %d of %d examples dropped: %s.", path, count, len(store) + sum(dropped.values()), reason)
    for note, count in counts[NOTE].items():
        logger.warning("%s: %d of %d examples are kept, but %s.", path, count, len(store), note)
    if not len(store):
        raise ValueError(f"{path}: no example is left to use ({dropped}); raise --max_seq_length or mend the file.")


def _build(folder: Path, path: Path, read: Callable, schema: datasets.Features, encode: Callable, workers: int) -> None:
    """Make a store aside and rename it, so that a killed run leaves none that is half made."""
    with scratch_folder(folder, f"the features of {path}") as scratch:
        try:
            examples = datasets.Dataset.from_generator(
                _restarted,
                features=schema,
                gen_kwargs={"read": read},
                cache_dir=str(scratch / "examples"),
                fingerprint=folder.name,
            )
        except datasets.exceptions.DatasetGenerationError as error:
            raise (error.__cause__ or error) from None  # the reader's own words
        columns = examples.column_names
        features = examples.map(
            encode,
            batched=True,
            remove_columns=columns,
            num_proc=workers if workers > 1 else None,
            desc=f"tokenizing {path.name}",
            cache_file_name=str(scratch / "features.arrow"),
            new_fingerprint=folder.name,  # the store's name says it all; hashing a tokenizer takes seconds
        )
        counts = {name: _counts(features, name) for name in (DROPPED, NOTE)}
        usable = np.asarray(pc.equal(features.data[DROPPED], ""))
        kept = features.select(np.flatnonzero(usable)).remove_columns([DROPPED, NOTE])
        kept.save_to_disk(str(scratch / "store"))
        (scratch / "store" / COUNTS).write_text(json.dumps(counts), encoding="utf-8")
        del features, kept, examples
        if not folder.is_dir():  # another process may have been faster
            (scratch / "store").rename(folder)


def _counts(features: datasets.Dataset, column: str) -> dict[str, int]:
    found = pc.value_counts(features.data[column]).to_pylist()
    return {row["values"]: row["counts"] for row in found if row["values"]}


def _restarted(read: Callable[[], Iterator[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    yield from read()


def _encode(batch: dict[str, list], encoder: Encoder, tokenizer: PreTrainedTokenizerBase, options: dict) -> dict:
    rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    features = encoder(rows, tokenizer, **options)
    if "record" not in features[0]:  # else the encoder made other examples of these, such as blocks of text
        for row, feature in zip(rows, features, strict=True):
            feature["record"] = row["record"]
    for feature in features:
        feature.setdefault(DROPPED, "")
        feature.setdefault(NOTE, "")
        feature.setdefault("items", 1)  # what the loss counts: one an example, or more (words)
        feature["length"] = max(map(len, sequences(feature)))
    return {name: [_compact(feature[name]) for feature in features] for name in features[0]}


def _compact(value: Any) -> Any:
    """Integers in half the bytes that datasets would give them."""
    if not isinstance(value, list):
        return value
    nested = bool(value) and isinstance(value[0], list)
    return [_compact(part) for part in value] if nested else np.asarray(value, dtype=np.int32)


def sequences(feature: Feature) -> list[list[int]]:
    """The token sequences of an example: one, or one a choice."""
    ids = feature["input_ids"]
    return ids if isinstance(ids[0], list) else [ids]


def dropped(reason: str, labels: Any, positions: list[int]) -> Feature:
    """Stands for an example that cannot be used; labels and positions only give the columns their types."""
    return {"input_ids": [0], "positions": positions, "labels": labels, DROPPED: reason}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    special = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    return hashlib.sha256((text + json.dumps(special, sort_keys=True)).encode()).hexdigest()
