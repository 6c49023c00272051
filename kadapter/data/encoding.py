"""From text to ids, as the original's tokenizer made them; windows; padding.

The old tokenizer strips every piece of text and puts one space before it, so that pieces tokenize the same
wherever they stand; special tokens inside a text split it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from transformers import PreTrainedTokenizerBase

from kadapter.configuration import IGNORE

Feature = dict[str, Any]
Augment = Callable[[Feature, int], Feature]


def tokenize_pieces(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text without special tokens around it; one call of the tokenizer for all of them."""
    special = {token: _id(tokenizer, token) for token in tokenizer.all_special_tokens}
    splitter = re.compile("(" + "|".join(re.escape(token) for token in sorted(special, key=len, reverse=True)) + ")")
    segments: list[str] = []
    plans: list[list[int | None]] = []  # per text: an id, or None for the next segment
    for text in texts:
        plan: list[int | None] = []
        for part in splitter.split(text) if special else [text]:
            if part in special:
                plan.append(special[part])
            elif stripped := part.strip():
                segments.append(" " + stripped)
                plan.append(None)
        plans.append(plan)
    ids_alone = {"return_attention_mask": False, "return_token_type_ids": False}
    found = tokenizer(segments, add_special_tokens=False, verbose=False, **ids_alone) if segments else {"input_ids": []}
    encoded = iter(found["input_ids"])
    return [[token for step in plan for token in ([step] if step is not None else next(encoded))] for plan in plans]


def _id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    return cast(int, tokenizer.convert_tokens_to_ids(token))


def bare_token(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """The id of a token that is inserted as it stands, such as the marker "@".

    Raises:
        ValueError: the vocabulary does not hold it.
    """
    index = _id(tokenizer, token)
    if index is None or index == tokenizer.unk_token_id:
        raise ValueError(f"the tokenizer {tokenizer.name_or_path!r} has no token {token!r}, which marks entities here.")
    return index


def add_special_tokens(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """`<s> ids </s>`, with the tokenizer's own special tokens."""
    return [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]


def window(length: int, first: int, last: int, size: int) -> int:
    """Where a window of `size` tokens begins that holds tokens `first` to `last` with equal room around them.

    0 where cutting at the right does no harm; `first` where the span itself is too long.
    """
    if last < size:
        return 0
    if last - first >= size:
        return first
    return max(0, min((first + last + 1 - size) // 2, length - size))


def truncate_pair(first: int, second: int, size: int) -> tuple[int, int]:
    """Lengths after taking tokens from the longer of two, the second where they are equal."""
    first = min(first, max(size - second, size - size // 2))
    return first, min(second, size - first)


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Sequence[str]], max_seq_length: int
) -> list[Feature]:
    """Ids of one text each, or of two, in the tokenizer's own template, with token types where it makes them.

    What is too long is cut at its right, token by token from the longer text (adapter-bert run_classifier.py:
    _truncate_seq_pair), which differs from the tokenizer's own cut where an odd number of tokens is left.
    """
    texts = [list(column) for column in zip(*examples, strict=True)]
    found = tokenizer(*texts, verbose=False, return_attention_mask=False)
    features: list[Feature] = []
    for i, ids in enumerate(found["input_ids"]):
        types = {"token_type_ids": found["token_type_ids"][i]} if "token_type_ids" in found else {}
        feature: Feature = {"input_ids": ids, **types, "note": ""}
        if len(ids) > max_seq_length:
            owners = found.sequence_ids(i)  # 0, 1, or None for what the template adds
            lengths = owners.count(0), owners.count(1)
            left = list(truncate_pair(*lengths, max_seq_length - owners.count(None)))
            kept = []
            for j, owner in enumerate(owners):
                if owner is not None:
                    left[owner] -= 1
                if owner is None or left[owner] >= 0:
                    kept.append(j)
            feature = {name: [values[j] for j in kept] for name, values in feature.items() if name != "note"}
            feature["note"] = "the texts were cut to max_seq_length"
        features.append(feature)
    return features


class Collator:
    """Pads features into a batch of tensors.

    Args:
        pad_token_id: id of padding (its attention mask is 0).
        max_length: None pads to the longest of the batch, a number to that length (`--pad_to_max_length`).
        multiple: round dynamic lengths up to this, which suits GPUs.
        augment: what an epoch of training makes of each feature first.
    """

    def __init__(
        self, pad_token_id: int, max_length: int | None = None, multiple: int = 1, augment: Augment | None = None
    ):
        self.pad_token_id, self.max_length, self.multiple, self.augment = pad_token_id, max_length, multiple, augment

    def __call__(self, features: Sequence[Mapping[str, Any]], epoch: int | None = None) -> dict[str, torch.Tensor]:
        """ids, mask [batch, seq], or [batch, choices, seq]; positions [batch, n]; labels as the head takes them.

        Where examples have different numbers of positions, those that lack some get position 0 with label IGNORE.
        `epoch` is that of training, None at evaluation.
        """
        if self.augment is not None and epoch is not None:
            features = [self.augment(dict(feature), epoch) for feature in features]
        ids = [feature["input_ids"] for feature in features]
        choices = len(ids[0]) if isinstance(ids[0][0], list) else 0
        rows = [row for choice in ids for row in choice] if choices else ids
        longest = max(map(len, rows))
        size = self.max_length or -(-longest // self.multiple) * self.multiple
        shape = (len(ids), choices, size) if choices else (len(ids), size)
        batch = {
            "input_ids": _padded(rows, size, self.pad_token_id).view(shape),
            "attention_mask": _padded([[1] * len(row) for row in rows], size, 0).view(shape),
        }
        if "token_type_ids" in features[0]:
            batch["token_type_ids"] = _padded([feature["token_type_ids"] for feature in features], size, 0)
        positions = [feature["positions"] for feature in features]
        labels = [feature["labels"] for feature in features]
        widest, ragged = max(map(len, positions)), len(set(map(len, positions))) > 1
        if widest:
            batch["positions"] = _padded(positions, widest, 0)
        # A head without positions reads the sequence, a label a token; else labels are an example's or a position's.
        width = widest if ragged else 0 if widest else size
        batch["labels"] = _padded(labels, width, IGNORE) if width else torch.tensor(labels)
        return batch


def _padded(rows: Sequence[Sequence[int]], size: int, value: int) -> torch.Tensor:
    out = torch.full((len(rows), size), value, dtype=torch.long)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.as_tensor(row)
    return out
