"""What a frozen backbone makes of a split's sequences, kept on disk: each is computed once and read from then on.

Kept are the hidden states that adapters read, of all tokens, and of the last state what the head reads. A store is
named by what its states depend on: the backbone, the tokens, the arithmetic. So runs with other seeds, rates or sizes
of adapters share it, also at the same time.

Shapes: R = sequences of a batch, S = tokens, N = positions that the head reads, H = the backbone's width.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from datasets import Dataset

from kadapter.data.collation import Batch
from kadapter.data.columns import Column, feature_column
from kadapter.models.modeling import LAST, KAdapterModel
from kadapter.models.positions import WHOLE_TEXT
from kadapter.models.task_model import TaskModel
from kadapter.storage.blocks import Blocks
from kadapter.storage.errors import free_bytes, shown_bytes
from kadapter.training.content import state_digest

logger = logging.getLogger(__name__)

# numpy knows no bfloat16: its bytes are kept as those of integers.
DTYPES = {"float32": (torch.float32, np.float32), "bf16": (torch.bfloat16, np.int16), "fp16": (torch.float16, np.int16)}
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "positions")
_OF_NO_MATTER = ("_name_or_path", "transformers_version", "fresh_pooler", "architectures", "_commit_hash", "dtype")


class SplitStates:
    """The states of one split's sequences.

    Args:
        folder: the split's store.
        features: the split.
        model: names the states and tells where its head reads.
        dtype: a name in `DTYPES`.
    """

    def __init__(self, folder: Path, features: Dataset, model: TaskModel, dtype: str):
        ids, positions = feature_column(features, "input_ids"), feature_column(features, "positions")
        grouped = isinstance(ids.values, Column)
        sequences = ids.values if grouped else ids
        self.lengths = sequences.sizes
        # Of each example its first sequence.
        self.begins = np.asarray(ids.offsets) if grouped else np.arange(len(ids) + 1)
        self.counts, self.wholes = _counts(model, self.lengths, positions, grouped)
        self.dtype, self.numpy_dtype = DTYPES[dtype]
        self.width = model.config.hidden_size
        self.files: dict[str, Blocks] = {}
        taps = model.encoder.read_taps()
        for tap in taps:
            self.files[str(tap)] = Blocks(folder / f"state-{tap}.bin", self._bytes(self.lengths))
        read = hashlib.sha256(np.ascontiguousarray(self.counts, np.int64).tobytes())
        read.update(b"" if self.wholes else np.ascontiguousarray(positions.values, np.int64).tobytes())
        self.files[LAST] = Blocks(folder / f"last-{read.hexdigest()[:16]}.bin", self._bytes(self.counts))
        self.sizes = self._bytes(len(taps) * self.lengths + self.counts)
        self.stored = len(self.lengths)  # sequences that are written; those behind are computed each time

    def _bytes(self, tokens: np.ndarray) -> np.ndarray:
        return np.asarray(tokens, np.int64) * self.width * np.dtype(self.numpy_dtype).itemsize

    def there(self) -> np.ndarray:
        """[sequences] whether all states of each are there."""
        return np.logical_and.reduce([file.there() for file in self.files.values()])

    def rows(self, examples: Sequence[int]) -> np.ndarray:
        """Numbers of the sequences of these examples."""
        return np.concatenate([np.arange(self.begins[i], self.begins[i + 1]) for i in examples])

    def read(self, examples: Sequence[int], batch: Batch) -> dict[str, torch.Tensor]:
        """What is known of a batch.

        Returns:
            `rows` [R], `known` [R], and the states, [R, S, H] or [R, N, H], with zeros where nothing is known.
        """
        rows = self.rows(examples)
        known = np.ones(len(rows), dtype=bool)
        longest = batch["input_ids"].shape[1]
        states = {}
        for name, file in self.files.items():
            sizes = self.counts if name == LAST else self.lengths
            width = self._places(batch) if name == LAST else longest
            array = np.zeros((len(rows), width, self.width), self.numpy_dtype)
            for i, row in enumerate(rows):
                block = file.read(row) if known[i] and sizes[row] <= width else None
                known[i] = block is not None
                if block is not None:
                    array[i, : sizes[row]] = block.view(self.numpy_dtype).reshape(-1, self.width)
            states[name] = torch.from_numpy(array).view(self.dtype)
        return {**states, "rows": torch.from_numpy(rows), "known": torch.from_numpy(known)}

    def _places(self, batch: Batch) -> int:
        """N of a batch."""
        if self.wholes or "positions" not in batch:
            return batch["input_ids"].shape[1] if self.wholes else 1
        return min(batch["positions"].shape[1], int(self.counts.max()))

    def write(self, rows: np.ndarray, states: Mapping[str, torch.Tensor]) -> None:
        """Keep the states [R, ...] of these sequences, but for those that are not to be stored."""
        for name, file in self.files.items():
            sizes = self.counts if name == LAST else self.lengths
            values = states[name].cpu().contiguous().view(getattr(torch, np.dtype(self.numpy_dtype).name)).numpy()
            kept = [(i, int(row)) for i, row in enumerate(rows) if row < self.stored]
            file.write({row: np.ascontiguousarray(values[i, : sizes[row]]) for i, row in kept})

    def complete(self, accelerator: Accelerator, model: TaskModel, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch on its device with all its states: the backbone runs for those that are not known, which are kept."""
        states = dict(batch["states"])
        rows, known = states.pop("rows").numpy(), states.pop("known")
        batch = send_to_device({**batch, "states": states}, accelerator.device)
        if bool(known.all()):
            return batch
        unknown = torch.nonzero(~known)[:, 0].to(accelerator.device)
        every = len(unknown) == len(rows)
        inputs = {name: batch[name] for name in INPUTS if name in batch}
        with accelerator.autocast():
            found = model.frozen_states(**(inputs if every else {k: v[unknown] for k, v in inputs.items()}))
        found = {name: state.to(self.dtype) for name, state in found.items()}
        self.write(rows[~known.numpy()], found)
        for name, state in found.items():
            if every:
                batch["states"][name] = state
            else:
                batch["states"][name][unknown] = state
        return batch


def _counts(model: TaskModel, lengths: np.ndarray, positions: Column, grouped: bool) -> tuple[np.ndarray, bool]:
    """How many positions of each sequence the head reads, and whether these are all of it."""
    head: Any = model.head
    if head.reads != "positions":
        return lengths, True
    if grouped:
        return np.ones_like(lengths), False
    sizes = positions.sizes if positions.offsets is not None else np.full(len(lengths), positions.values.shape[1])
    if not sizes.any():
        of_text = model.config.head_config().kind in WHOLE_TEXT
        return (np.ones_like(lengths), False) if of_text else (lengths, True)
    return (sizes if head.places is None else np.minimum(sizes, head.places)), False


def open_states(
    folder: str | Path,
    model: TaskModel,
    features: Mapping[str, Dataset],
    dtype: str,
    max_gb: float | None,
    precision: str,
) -> dict[str, SplitStates]:
    """The stores of these splits, whose size is told first.

    Args:
        folder: that of --cache_states, below which each store has one of its own.
        max_gb: GB (10^9 bytes) that the states may take; what is beyond is computed each time. None for no limit.
        precision: that of the arithmetic, as accelerate names it.

    Raises:
        ValueError: the disk cannot hold them.
    """
    backbone = backbone_digest(model.encoder)
    found = {}
    for split, store in features.items():
        key = {"backbone": backbone, "tokens": _tokens_digest(store), "dtype": dtype, "precision": precision}
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        found[split] = SplitStates(Path(folder) / name, store, model, dtype)
    _fit_in(Path(folder), found, dtype, max_gb)
    return found


def _fit_in(folder: Path, found: Mapping[str, SplitStates], dtype: str, max_gb: float | None) -> None:
    """Say what the states take, keep within `max_gb`, and refuse what the disk cannot hold."""
    left = None if max_gb is None else int(max_gb * 10**9)
    missing = 0
    for split, states in found.items():
        total, there = int(states.sizes.sum()), states.there()
        if left is not None:
            states.stored = int(np.searchsorted(np.cumsum(states.sizes), left, side="right"))
            left -= int(states.sizes[: states.stored].sum())
        missing += int(states.sizes[: states.stored][~there[: states.stored]].sum())
        logger.info(
            "cached states of %s: %s of %s sequences are there; all take %s (%d tokens, states %s, %s)%s",
            *(split, f"{there.sum():,}", f"{len(there):,}", shown_bytes(total), states.lengths.sum()),
            *(", ".join(states.files), dtype),
            "" if states.stored == len(there) else f"; {states.stored:,} sequences are kept, by --cache_max_gb",
        )
    if missing > (free := free_bytes(folder)):
        fewer = "--cache_dtype bf16, " if dtype == "float32" else ""
        raise ValueError(
            f"--cache_states needs {shown_bytes(missing)} more in {folder}, where {shown_bytes(free)} are free; give "
            f"another disk, {fewer}--cache_max_gb to keep a part, or leave it out."
        )


def backbone_digest(encoder: KAdapterModel) -> str:
    """Of all that a backbone's hidden states depend on beside its input; the pooler is no part of that."""
    weights = {k: v for k, v in encoder.backbone.state_dict().items() if not k.startswith("pooler.")}
    config = {k: v for k, v in encoder.config.backbone_config.to_dict().items() if k not in _OF_NO_MATTER}
    key = {
        "weights": state_digest(weights),
        "config": config,
        "bottlenecks": [encoder.active_bottlenecks, encoder.config.bottlenecks],
        "attention": encoder.config._attn_implementation,
        "transformers": version("transformers"),
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()


def _tokens_digest(features: Dataset) -> str:
    """Of the sequences of a split, in their order."""
    digest = hashlib.sha256()
    for name in ("input_ids", "token_type_ids"):
        if name in features.column_names:
            digest.update(name.encode())
            column: Any = feature_column(features, name)
            while isinstance(column, Column):
                if column.offsets is not None:
                    digest.update(np.ascontiguousarray(column.offsets, np.int64).tobytes())
                column = column.values
            digest.update(np.ascontiguousarray(column, np.int64).tobytes())
    return digest.hexdigest()
