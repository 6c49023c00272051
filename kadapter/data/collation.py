"""Features into batches of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from kadapter.data.columns import padded, ragged
from kadapter.data.encoding import Feature
from kadapter.shapes import IGNORE

Augment = Callable[[Feature, int], Feature]
Batch = dict[str, torch.Tensor]
# The columns of features that a collator reads, and behind them those of an `Augment`; no others are loaded.
COLLATED = ("input_ids", "token_type_ids", "context_mask", "positions", "labels", "record", "block", "spans")


class Collator:
    """Pads features into a batch of tensors.

    An example is one sequence, or a group of any number of them, such as the choices of a question.

    Args:
        pad_token_id: id of padding (its attention mask is 0).
        max_length: None pads to the longest of the batch, a number to that length (`--pad_to_max_length`).
        multiple: round dynamic lengths up to this, which suits GPUs.
        augment: `augment(feature, epoch)`, what an epoch of training makes of each feature first.
    """

    def __init__(
        self, pad_token_id: int, max_length: int | None = None, multiple: int = 1, augment: Augment | None = None
    ):
        self.pad_token_id, self.max_length, self.multiple, self.augment = pad_token_id, max_length, multiple, augment

    def __call__(self, features: Sequence[Feature], epoch: int | None = None) -> Batch:
        """A batch of B examples with R sequences of S tokens; R is B, or more where examples are groups.

        Args:
            epoch: that of training, None at evaluation.

        Returns:
            `input_ids`, `attention_mask` and, where there are any, `token_type_ids` and `context_mask` [R, S];
            `group_sizes` [B] of groups; `positions` [R, N] of heads that read some; `labels`, where there are any, [B],
            [B, labels], [B, N] or [B, S] as the head takes them; of groups [B] or, filled up, [B, most labels].
            Examples that lack positions get position 0 with label IGNORE.
        """
        if self.augment is not None and epoch is not None:
            features = [self.augment(feature, epoch) for feature in features]
        first = features[0]
        grouped = not np.isscalar(first["input_ids"][0])
        ids = ragged(self._sequences(features, "input_ids", grouped))
        longest = int(ids.sizes.max())
        size = self.max_length or -(-longest // self.multiple) * self.multiple
        arrays = {
            "input_ids": padded(ids, size, self.pad_token_id),
            "attention_mask": (np.arange(size) < ids.sizes[:, None]).astype(np.int64),
        }
        if "token_type_ids" in first:
            arrays["token_type_ids"] = padded(ragged(self._sequences(features, "token_type_ids", grouped)), size, 0)
        if "context_mask" in first:
            arrays["context_mask"] = padded(ragged(self._sequences(features, "context_mask", grouped)), size, 0)
        if grouped:
            arrays["group_sizes"] = np.array([len(feature["input_ids"]) for feature in features])
        positions = ragged([feature["positions"] for feature in features])
        if grouped:  # each sequence of a group is read at as many places
            arrays["positions"] = positions.values.reshape(len(ids), -1)
        elif len(positions.values):
            arrays["positions"] = padded(positions, int(positions.sizes.max()), 0)
        if "labels" in first:
            arrays["labels"] = self._labels([feature["labels"] for feature in features], positions.sizes, grouped, size)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    @staticmethod
    def _sequences(features: Sequence[Feature], name: str, grouped: bool) -> list[Any]:
        rows: list[Any] = [feature[name] for feature in features]  # type: ignore[literal-required]
        return [row for group in rows for row in group] if grouped else rows

    @staticmethod
    def _labels(labels: list[Any], places: np.ndarray, grouped: bool, size: int) -> np.ndarray:
        """One label an example, one a class, one a position, or one a token."""
        if grouped and not np.isscalar(labels[0]):
            rows = ragged(labels)
            return padded(rows, int(rows.sizes.max()), IGNORE)
        if np.isscalar(labels[0]) or (places[0] and (places == places[0]).all()):
            array = np.array(labels)
            return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        return padded(ragged(labels), int(places.max()) or size, IGNORE)
