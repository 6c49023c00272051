"""The feature store: examples read, checked and tokenized once, then memory-mapped.

A store is named by everything that it depends on: the file's content, the code of reader and encoder with its options,
the tokenizer, and the versions of what tokenizes and stores. So a changed file, tokenizer or length makes a new one,
and an unchanged one is found again.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import datasets
import numpy as np
import pyarrow.compute as pc
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from kadapter.data.encoding import Encoding, Feature, OnError, Schema, sequences
from kadapter.data.executors import executor, in_order
from kadapter.data.spans import Signs
from kadapter.data.splits import data_digest, file_digest, files_of, form_of, missing
from kadapter.storage.files import scratch_folder
from kadapter.storage.locks import exclusive_after_waiting
from kadapter.storage.manifest import find_fault, write_manifest
from kadapter.storage.reading import read_object

logger = logging.getLogger(__name__)

DROPPED = "dropped"  # column of the reason why an example cannot be used; "" where it can
NOTE = "note"  # column of what was done to an example that is used; "" for nothing
DOUBT = "doubt"  # what looks wrong in the file as a whole; "" for nothing
COUNTS = "counts.json"
EXAMPLES_LOOKED_AT = 20_000  # of a file, spread over it, for signs that it is misread
EXAMPLES_A_SHARD = 20_000  # some seconds of a cluster's worker
EXAMPLES_A_WORKER = 5_000  # fewer are tokenized sooner than a further process starts


class Source(Protocol):
    """How the files of a data folder are read and become features: the part of a task that the store knows.

    schema: the examples' columns, on disk between reading and encoding.
    """

    @property
    def schema(self) -> Schema: ...

    def path(self, folder: str | Path, split: str) -> Path:
        """The split's file, folder or pattern of shards (`kadapter.data.splits`), whether it is there or not."""
        ...

    def read(self, path: Path, split: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
        """Checked examples with their record numbers; a bad one goes to `on_error`, or raises."""
        ...

    def encode(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        """Features of those examples, in their order."""
        ...

    def signs(self) -> Signs | None:
        """What counts signs of a misread file over its examples; None where there are none to look for."""
        ...

    def key(self, path: Path, split: str) -> Mapping[str, Any]:
        """All that reading and encoding depend on beside the file, tokenizer and length: JSON values."""
        ...


def default_cache() -> Path:
    return Path(datasets.config.HF_DATASETS_CACHE) / "kadapter"


def load_features(
    source: Source,
    folder: str | Path,
    split: str,
    encoding: Encoding,
    *,
    cache_dir: str | Path | None = None,
    num_workers: int | None = None,
    cluster: str = "",
    overwrite: bool = False,
) -> datasets.Dataset:
    """Features of a split: the columns of `Feature`.

    Args:
        folder: the data folder.
        cache_dir: where stores live; None takes the folder of datasets (HF_DATASETS_CACHE).
        num_workers: processes that tokenize; None takes as many as there are cores, fewer where that does not pay.
            The order of examples does not depend on it.
        cluster: address of a Dask scheduler whose workers tokenize instead, over a `cache_dir` that all of them share.
        overwrite: make the store anew.

    Raises:
        FileNotFoundError, ValueError: from the reader, naming file and record; or nothing is left to use.
    """
    path = source.path(folder, split)
    if not files_of(path):
        raise FileNotFoundError(f"{path} is missing; put the data there or give another --data_dir. {missing(path)}")
    place = Path(cache_dir or default_cache()) / store_name(source, path, split, encoding)
    found = None if overwrite else _open(place, tell=False)
    if found is None:
        with exclusive_after_waiting(place):  # of the processes of a job one builds, and the others find what it built
            found = None if overwrite else _open(place)
            if found is None:
                shutil.rmtree(place, ignore_errors=True)  # an old one, or a damaged one
                _build(place, path, partial(source.read, path, split), source, encoding, num_workers, cluster)
                found = _open(place)
    if found is None:
        raise ValueError(f"{place} is damaged again as soon as it is made; look at the disk, or give another folder.")
    store, counts = found
    _report(path, store, counts)
    return store


def _open(place: Path, tell: bool = True) -> tuple[datasets.Dataset, dict[str, Any]] | None:
    """A store and its counts; None where there is none, or, said in the log, where it is damaged.

    Sizes alone are compared, for speed.
    """
    if not place.is_dir():
        return None
    fault = find_fault(place, (COUNTS,), digests=False)
    if fault is None:
        try:
            counts = read_object(place / COUNTS, "it is damaged.", (DROPPED, NOTE))
            return datasets.load_from_disk(str(place)), counts
        except Exception as error:  # a cache: whatever its files raise, it is made anew
            fault = f"{type(error).__name__}: {error}"
    if tell:
        logger.warning("the feature store %s is damaged (%s): it is made anew.", place, fault)
    return None


def store_name(source: Source, path: Path, split: str, encoding: Encoding) -> str:
    """The name of the store for that file and everything else that its features depend on."""
    kind = type(source)
    key = {
        "source": f"{kind.__module__}.{kind.__qualname__}",
        "code": code_digest(kind),
        "options": source.key(path, split),
        "schema": str(_columns(source.schema)),
        "split": split,
        "file": data_digest(path),
        "form": [form_of(file) for file in files_of(path)],
        "tokenizer": tokenizer_digest(encoding.tokenizer),
        "max_seq_length": encoding.max_seq_length,
        "causal": encoding.causal,
        "versions": {name: version(name) for name in ("datasets", "tokenizers", "transformers")},
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]


@cache
def code_digest(kind: type) -> str:
    """Of the source files that define a class of sources and its bases, of what these use of their own package, and of
    all that encodes in this package.
    """
    modules = {base.__module__ for base in kind.__mro__ if base is not object}
    used = {
        found
        for name in modules
        for value in vars(sys.modules[name]).values()
        if (found := getattr(value, "__module__", None)) and found.partition(".")[0] == name.partition(".")[0]
    }
    files = {file for name in modules | used if (file := _source_file(name))}
    files |= {*map(str, Path(__file__).parent.glob("*.py"))}
    code = [(Path(file).name, file_digest(Path(file))) for file in files]
    return hashlib.sha256(json.dumps(sorted(code)).encode()).hexdigest()


def _source_file(module: str) -> str | None:
    """None for what was typed in or is built in."""
    try:
        file = inspect.getsourcefile(sys.modules[module])
    except (KeyError, TypeError):
        return None
    return file if file and os.path.isfile(file) else None


def _report(path: Path, store: datasets.Dataset, counts: dict[str, Any]) -> None:
    """Say what was dropped or changed; raise ValueError where nothing is left."""
    if doubt := counts.get(DOUBT):
        logger.warning("%s: %s (scripts/check_data.py shows some).", path, doubt)
    dropped = counts[DROPPED]
    for reason, count in dropped.items():
        logger.warning("%s: %d of %d examples dropped: %s.", path, count, len(store) + sum(dropped.values()), reason)
    for note, count in counts[NOTE].items():
        logger.warning("%s: %d of %d examples are kept, but %s.", path, count, len(store), note)
    if not len(store):
        raise ValueError(f"{path}: no example is left to use ({dropped}); raise --max_seq_length or mend the file.")


def _build(
    folder: Path, path: Path, read: Callable, source: Source, encoding: Encoding, num_workers: int | None, cluster: str
) -> None:
    """Make a store aside and rename it, so that a killed run leaves none that is half made."""
    with scratch_folder(folder, f"the features of {path}") as scratch:
        try:
            examples = datasets.Dataset.from_generator(
                _restarted,
                features=_columns(source.schema),
                gen_kwargs={"read": read},
                cache_dir=str(scratch / "examples"),
                fingerprint=folder.name,
            )
        except datasets.exceptions.DatasetGenerationError as error:
            raise (error.__cause__ or error) from None  # the reader's own words
        doubt = _doubt(source, examples)
        encode = partial(_encode, source=source, encoding=encoding)
        features = _encoded(examples, encode, scratch, folder.name, num_workers, cluster, f"tokenizing {path.name}")
        counts = {name: _counts(features, name) for name in (DROPPED, NOTE)}
        usable = np.asarray(pc.equal(features.data[DROPPED], ""))
        kept = features.select(np.flatnonzero(usable)).remove_columns([DROPPED, NOTE])
        kept.save_to_disk(str(scratch / "store"))
        (scratch / "store" / COUNTS).write_text(json.dumps(counts | {DOUBT: doubt}), encoding="utf-8")
        write_manifest(scratch / "store")
        del features, kept, examples
        if not folder.is_dir():  # another process may have been faster
            (scratch / "store").rename(folder)


def _encoded(
    examples: datasets.Dataset, encode: Callable, scratch: Path, name: str, workers: int | None, cluster: str, desc: str
) -> datasets.Dataset:
    """The features of the examples in their order, made by processes of this machine or by a cluster."""
    if not cluster:
        workers = workers or min(_cores(), -(-len(examples) // EXAMPLES_A_WORKER))
        return _map(
            examples, encode, scratch / "features.arrow", name, num_proc=workers if workers > 1 else None, desc=desc
        )
    files = [Path(file["filename"]) for file in examples.cache_files]
    begins = range(0, len(examples), EXAMPLES_A_SHARD)
    shards = [(i, range(begin, min(begin + EXAMPLES_A_SHARD, len(examples)))) for i, begin in enumerate(begins)]
    work = partial(_encode_shard, files=files, encode=encode, folder=scratch, name=name)
    with executor(1, cluster, [scratch, *files]) as pool:
        found = in_order(pool, work, shards, ahead=len(shards))
        places = list(tqdm(found, total=len(shards), desc=desc, unit="shard", disable=None))
    return datasets.concatenate_datasets([datasets.Dataset.from_file(str(place)) for place in places])


def _encode_shard(shard: tuple[int, range], files: Sequence[Path], encode: Callable, folder: Path, name: str) -> Path:
    """Features of some of the examples, written to a file of their own; done again, it replaces that file."""
    number, rows = shard
    examples = datasets.concatenate_datasets([datasets.Dataset.from_file(str(file)) for file in files])
    place = folder / f"features-{number:05d}.arrow"
    _map(examples.select(rows), encode, place, f"{name}-{number}")
    return place


def _map(examples: datasets.Dataset, encode: Callable, place: Path, name: str, **options: Any) -> datasets.Dataset:
    return examples.map(
        encode,
        batched=True,
        remove_columns=examples.column_names,
        cache_file_name=str(place),
        load_from_cache_file=False,
        new_fingerprint=name,  # the store's name says it all; hashing a tokenizer takes seconds
        **options,
    )


def _doubt(source: Source, examples: datasets.Dataset) -> str:
    """What the signs in a file's examples say of it as a whole; "" for nothing."""
    signs = source.signs()
    if signs is None:
        return ""
    step = max(1, len(examples) // EXAMPLES_LOOKED_AT)
    for example in examples.select(range(0, len(examples), step)):
        if not example.get("fault"):
            signs.add(example)
    return signs.finding()


def _counts(features: datasets.Dataset, column: str) -> dict[str, int]:
    found = pc.value_counts(features.data[column]).to_pylist()
    return {row["values"]: row["counts"] for row in found if row["values"]}


def _columns(schema: Schema) -> datasets.Features:
    """The columns of examples as datasets describes them."""
    return datasets.Features({name: _column(kind) for name, kind in schema.items()})


def _column(kind: Any) -> Any:
    return datasets.List(_column(kind[0])) if isinstance(kind, list) else datasets.Value(kind)


def _restarted(read: Callable[[], Iterator[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    yield from read()


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _encode(batch: dict[str, list], source: Source, encoding: Encoding) -> dict:
    rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    features = source.encode(rows, encoding)
    if "record" not in features[0]:  # else the encoder made other examples of these, such as blocks of text
        for row, feature in zip(rows, features, strict=True):
            feature["record"] = row["record"]
    for feature in features:
        feature.setdefault("dropped", "")
        feature.setdefault("note", "")
        feature.setdefault("items", 1)  # what the loss counts: one an example, or more (words)
        feature["length"] = max(map(len, sequences(feature)))
    rows = [dict(feature) for feature in features]
    return {name: [_compact(row[name]) for row in rows] for name in rows[0]}


def _compact(value: Any) -> Any:
    """Integers in half the bytes that datasets would give them."""
    if not isinstance(value, list):
        return value
    nested = bool(value) and isinstance(value[0], list)
    return [_compact(part) for part in value] if nested else np.asarray(value, dtype=np.int32)


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Of all that decides about ids; how a call padded or truncated stays with a tokenizer and is left out."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        values = json.loads(backend.to_str())
        text = json.dumps({**values, "padding": None, "truncation": None}, sort_keys=True)
    else:
        text = json.dumps(sorted(tokenizer.get_vocab().items()))
    special = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    return hashlib.sha256((text + json.dumps(special, sort_keys=True)).encode()).hexdigest()
