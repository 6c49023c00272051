"""What a frozen backbone makes of a split's sequences, kept on disk: each is computed once and read from then on.

Kept are the hidden states that adapters read, of all tokens, and of the last state what the head reads; but state 0 is
made anew where the embeddings alone give it. Where only the lowest layers are frozen, the state that enters the first
of the others is kept in place of the last. A store is named by what its states depend on: the backbone, the tokens,
the arithmetic. So runs with other seeds, rates or sizes of adapters share it, also at the same time.

Shapes: R = sequences of a batch, S = tokens, N = positions that the head reads, H = the backbone's width.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, send_to_device
from datasets import Dataset

from kadapter.data.collation import Batch
from kadapter.data.columns import Column, feature_column
from kadapter.data.jsonio import write_json
from kadapter.models.adapter import KnowledgeAdapter
from kadapter.models.bottleneck import layer_number
from kadapter.models.bottom import check_family
from kadapter.models.head import Head
from kadapter.models.modeling import KAdapterModel
from kadapter.models.positions import WHOLE_TEXT
from kadapter.models.tapping import LAST
from kadapter.models.task_model import TaskModel
from kadapter.storage.blocks import Blocks
from kadapter.storage.errors import free_bytes, shown_bytes
from kadapter.training.arguments import Arguments, DataArguments
from kadapter.training.content import state_digest
from kadapter.training.model_arguments import ModelArguments, TaskArguments

logger = logging.getLogger(__name__)

# numpy knows no bfloat16: its bytes are kept as those of integers.
DTYPES = {"float32": (torch.float32, np.float32), "bf16": (torch.bfloat16, np.int16), "fp16": (torch.float16, np.int16)}
ABOUT = "about.json"  # for people: what a store is of
ALL, WHOLE, MARKED = "all", "whole", "marked"  # where a head reads the last state
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "positions")
_OF_NO_MATTER = ("_name_or_path", "transformers_version", "fresh_pooler", "architectures", "_commit_hash", "dtype")


class States(Protocol):
    """Where the states of a split's batches come from."""

    def read(self, examples: Sequence[int], batch: Batch) -> dict[str, torch.Tensor]:
        """What `complete` finds as `states` of a batch of these examples; also called by processes that load."""
        ...

    def complete(
        self, accelerator: Accelerator, model: TaskModel, batch: Mapping[str, Any], step: int | None = None
    ) -> dict[str, Any]:
        """The batch on its device with all its states, for a step of training, or, without one, for evaluation."""
        ...


class SplitStates:
    """The states of one split's sequences, kept on disk (`States`).

    Args:
        folder: the split's store.
        features: the split.
        model: tells where its head reads.
        taps: numbers of the hidden states.
        dtype: a name in `DTYPES`.
        layers: how many of the lowest layers are frozen, None for the whole backbone.
    """

    def __init__(
        self,
        folder: Path,
        features: Dataset,
        model: TaskModel,
        taps: Sequence[int],
        dtype: str,
        layers: int | None = None,
    ):
        ids, positions = feature_column(features, "input_ids"), feature_column(features, "positions")
        grouped = isinstance(ids.values, Column)
        self.lengths = ids.values.sizes if grouped else ids.sizes
        # Of each example its first sequence.
        self.begins = np.asarray(ids.offsets) if grouped else np.arange(len(ids) + 1)
        self.reads, self.counts = _read_places(model, self.lengths, positions, grouped)
        self.layers = layers
        if layers is not None:  # what enters a layer is read whole
            taps = sorted({layers, *(tap for tap in taps if tap < layers)})
            self.reads, self.counts = ALL, np.zeros_like(self.lengths)
        self.dtype, self.numpy_dtype = DTYPES[dtype]
        self.width = model.config.hidden_size
        self.embedded = 0 in taps and model.encoder.begins_with_embeddings
        self.taps = taps = [tap for tap in taps if tap or not self.embedded]
        places = hashlib.sha256(self.reads.encode() + np.ascontiguousarray(self.counts, np.int64).tobytes())
        if self.reads == MARKED:
            places.update(np.ascontiguousarray(positions.values, np.int64).tobytes())
        names = {str(tap): f"state-{tap}.bin" for tap in taps}
        names |= {LAST: f"last-{places.hexdigest()[:16]}.bin"} if layers is None else {}
        self.files = {key: Blocks(folder / name, self._bytes(self._tokens(key))) for key, name in names.items()}
        self.sizes = self._bytes(len(taps) * self.lengths + self.counts)
        self.stored = len(self.lengths)  # sequences that are written; those behind are computed each time

    def _tokens(self, name: str) -> np.ndarray:
        """[sequences] of how many tokens that state is kept."""
        return self.counts if name == LAST else self.lengths

    def _bytes(self, tokens: np.ndarray) -> np.ndarray:
        return np.asarray(tokens, np.int64) * self.width * np.dtype(self.numpy_dtype).itemsize

    @property
    def lengths_of_examples(self) -> np.ndarray:
        """[examples] tokens of the longest sequence of each."""
        return np.maximum.reduceat(self.lengths, self.begins[:-1])

    def rows(self, examples: Sequence[int]) -> np.ndarray:
        """The numbers of these examples' sequences."""
        return np.concatenate([np.arange(self.begins[i], self.begins[i + 1]) for i in examples])

    def there(self) -> np.ndarray:
        """[sequences] whether all states of each are there."""
        return np.logical_and.reduce([file.there() for file in self.files.values()])

    def read(self, examples: Sequence[int], batch: Batch) -> dict[str, torch.Tensor]:
        """What is there for a batch.

        Returns:
            `rows` [R], the sequences' numbers, `known` [R], and the states, [R, S, H] or [R, N, H], with zeros behind
            the tokens and where nothing is known.
        """
        rows = self.rows(examples)
        # A batch without any marked place is read as a whole.
        known = np.full(len(rows), self.reads != MARKED or "positions" in batch)
        states = {}
        for name, file in self.files.items():
            tokens = self._tokens(name)[rows]
            width = max(1, tokens.max()) if name == LAST and self.reads != ALL else batch["input_ids"].shape[1]
            array = np.zeros((len(rows), width, self.width), self.numpy_dtype)
            for i in np.flatnonzero(known):
                block = file.read(rows[i])
                if block is None:
                    known[i] = False
                else:
                    array[i, : tokens[i]] = block.view(self.numpy_dtype).reshape(-1, self.width)
            states[name] = torch.from_numpy(array).view(self.dtype)
        return {**states, "rows": torch.from_numpy(rows), "known": torch.from_numpy(known)}

    def complete(
        self, accelerator: Accelerator, model: TaskModel, batch: Mapping[str, Any], step: int | None = None
    ) -> dict[str, Any]:
        """A batch on its device with all its states: the backbone runs for those that are not known, which are kept.

        Args:
            batch: with what `read` gave as `states`.

        Raises:
            FloatingPointError: a state is beyond what fp16 can hold.
        """
        states = dict(batch["states"])
        rows, known = states.pop("rows").numpy(), states.pop("known").numpy()
        ready = send_to_device({**batch, "states": states}, accelerator.device, non_blocking=True)  # pinned
        if not known.all():
            self._compute(accelerator, model, ready, rows, known)
        if self.embedded:
            ready["states"]["0"] = model.encoder.first_state(ready["input_ids"], ready.get("token_type_ids"))
        return ready

    def _compute(
        self, accelerator: Accelerator, model: TaskModel, ready: dict[str, Any], rows: np.ndarray, known: np.ndarray
    ) -> None:
        """Put what is not known into `ready`, and keep it."""
        inputs = {name: ready[name] for name in INPUTS if name in ready}
        unknown = torch.from_numpy(np.flatnonzero(~known)).to(accelerator.device)
        if known.any():
            inputs = {name: value[unknown] for name, value in inputs.items()}
        with accelerator.autocast():
            found = model.frozen_states(**inputs, taps=self.taps, layers=self.layers)
        found = {name: state.to(self.dtype) for name, state in found.items()}
        if self.dtype == torch.float16 and not all(state.isfinite().all() for state in found.values()):
            raise FloatingPointError("this backbone's states are beyond --cache_dtype fp16; give bf16 or float32.")
        self.write(rows[~known], found)
        if known.any():
            for name, state in found.items():
                ready["states"][name][unknown] = state
        else:
            ready["states"] = found

    def write(self, rows: np.ndarray, states: Mapping[str, torch.Tensor]) -> None:
        """Keep the states [R, ...] of these sequences, but for those that are not to be stored."""
        kept = [(i, int(row)) for i, row in enumerate(rows) if row < self.stored]
        for name, file in self.files.items():
            values, tokens = states[name].cpu(), self._tokens(name)
            file.write({row: _as_bytes(values[i, : tokens[row]]) for i, row in kept})


def _as_bytes(states: torch.Tensor) -> np.ndarray:
    return states.contiguous().flatten().view(torch.uint8).numpy()


def _read_places(model: TaskModel, lengths: np.ndarray, positions: Column, grouped: bool) -> tuple[str, np.ndarray]:
    """Where the head reads the last state, and at how many places of each sequence."""
    head, ones = cast(Head, model.head), np.ones_like(lengths)
    if head.reads != "positions":
        return ALL, lengths
    sizes = ones if grouped else positions.sizes
    if not sizes.any():
        return (WHOLE, ones) if model.config.head_config().kind in WHOLE_TEXT else (ALL, lengths)
    return MARKED, sizes if head.places is None else np.minimum(sizes, head.places)


def check_cacheable(args: Arguments) -> None:
    """Raise ValueError where --cache_states is given to a run whose states do not stay the same, before work starts."""
    if not args.data.cache_states:
        return
    if not args.model.freeze_bert:
        _check_bottom(args.model)
    if args.model.attend_padding:
        raise ValueError(
            "--cache_states keeps no states of padding, to which adapters would attend by --attend_padding; give one "
            "of the two."
        )


def _check_bottom(args: ModelArguments) -> None:
    """Raise ValueError where no lower layers are frozen, or where they drop out."""
    if not isinstance(args, TaskArguments) or not args.lowest_trained_layer():
        also = " or --bottleneck_layers without the lowest layers" if isinstance(args, TaskArguments) else ""
        raise ValueError(
            f"--cache_states keeps what a frozen backbone computes, but this one is trained; give --freeze_bert{also}, "
            "or leave it out."
        )
    if args.frozen_dropout:
        raise ValueError(
            "--cache_states keeps what the frozen layers compute, but these drop out differently each time; give "
            "--frozen_dropout False, or leave it out."
        )


def open_states(
    args: DataArguments,
    model: TaskModel,
    features: Mapping[str, Dataset],
    accelerator: Accelerator,
    taps: Sequence[int] | None = None,
) -> dict[str, SplitStates]:
    """The stores of these splits below --cache_states, whose size is told first.

    Args:
        taps: numbers of the hidden states, by default those that the model reads.

    Raises:
        ValueError: the disk cannot hold them, parameters are sharded, an adapter attends to padding, or the lowest
            layers are trained or cannot run apart from the others.
    """
    adapters = cast(Mapping[str, KnowledgeAdapter], model.encoder.adapters)
    if padded := [name for name, adapter in adapters.items() if adapter.config.attend_padding]:
        raise ValueError(
            f"--cache_states keeps no states of padding, to which adapter {padded[0]!r} attends, as it was trained; "
            "leave it out."
        )
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ValueError(
            "--cache_states is not for FSDP and DeepSpeed, where all processes must run the backbone at once; leave it "
            "out, or start plain processes (torchrun)."
        )
    layers = None if model.encoder.backbone_is_frozen else _frozen_layers(model.encoder)
    backbone, found = backbone_digest(model.encoder, layers), {}
    taps = model.encoder.read_taps() if taps is None else taps
    for split, store in features.items():
        key = {"backbone": backbone, "tokens": _tokens_digest(store), "dtype": args.cache_dtype}
        key["precision"] = accelerator.mixed_precision
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        place = Path(args.cache_states) / name
        found[split] = SplitStates(place, store, model, taps, args.cache_dtype, layers)
        if accelerator.is_main_process and not (place / ABOUT).exists():
            write_json(
                place / ABOUT, {**key, "family": model.config.backbone_config.model_type, "examples": len(store)}
            )
    _fit_in(Path(args.cache_states), found, args.cache_dtype, args.cache_max_gb)
    return found


def _fit_in(folder: Path, found: Mapping[str, SplitStates], dtype: str, max_gb: float | None) -> None:
    """Say what the states take, keep within `max_gb` (10^9 bytes), and refuse what the disk cannot hold."""
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


def _frozen_layers(encoder: KAdapterModel) -> int:
    """How many of the lowest layers stay as they are; raises ValueError where none do, or where they drop out."""
    check_family(encoder.config.backbone_config)
    if not encoder.frozen_layers or encoder.frozen_dropout:
        raise ValueError(
            "--cache_states keeps what frozen layers compute, but the lowest ones are trained or drop out; leave it "
            "out."
        )
    return encoder.frozen_layers


def backbone_digest(encoder: KAdapterModel, layers: int | None = None) -> str:
    """Of all that a backbone's hidden states depend on beside its input; the pooler is no part of that.

    Args:
        layers: how many of the lowest layers the states come from, None for all.
    """
    weights = {k: v for k, v in encoder.backbone.state_dict().items() if not k.startswith("pooler.")}
    bottlenecks: list[Any] = [encoder.active_bottlenecks, encoder.config.bottlenecks]
    if layers is not None:
        weights = {k: v for k, v in weights.items() if (layer_number(k) or 0) < layers}
        if not any(".bottlenecks." in name or ".norms." in name for name in weights):
            bottlenecks = []  # those above do not matter
    config = {k: v for k, v in encoder.config.backbone_config.to_dict().items() if k not in _OF_NO_MATTER}
    key = {
        "weights": state_digest(weights),
        "config": config,
        "bottlenecks": bottlenecks,
        "attention": encoder.config._attn_implementation,
        "transformers": version("transformers"),
    }
    key |= {} if layers is None else {"layers": layers}
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
