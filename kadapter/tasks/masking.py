"""Masked language modelling on plain text: reader, blocks of tokens, masks.

A file holds one sentence or paragraph a line; blank lines part nothing. 15 % of a block's tokens are hidden: 80 % of
them become the mask token, 10 % a random one, 10 % stay (BERT). A mask is a function of seed, epoch and block alone,
so that it changes from epoch to epoch, and a resumed run or one with other workers sees the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Features, List, Value
from transformers import PreTrainedTokenizerBase

from kadapter.data.encoding import Feature, Template
from kadapter.data.features import Source, dropped
from kadapter.data.jsonio import read_lines

LINES_TOGETHER = 100  # that are strung together and cut into blocks; only the last block of them is shorter
TEXT_SCHEMA = Features(
    {
        "lines": List(Value("string")),
        "numbers": List(Value("int64")),  # of these lines in the file
        "masked": Value("bool"),  # once for all, as dev is
        "record": Value("int64"),
    }
)


def text_source(line_by_line: bool, share: float) -> Source:
    """Plain text, of whose tokens that share is hidden: anew in every epoch of train, once for all in dev."""
    return Source(
        read=read_text,
        schema=TEXT_SCHEMA,
        encode=encode_text,
        read_options={"line_by_line": line_by_line},
        encode_options={"share": share},
        files={"train": "train.txt", "dev": "dev.txt"},
        split_options={"dev": {"masked": True}},
    )


def read_text(path: str | Path, line_by_line: bool = False, masked: bool = False) -> Iterator[dict[str, Any]]:
    """Groups of lines that make blocks together.

    Args:
        line_by_line: a group is one line.
        masked: hide tokens once, instead of anew in every epoch.

    Raises:
        ValueError: not UTF-8, or nothing but blank lines.
    """
    lines = ((number, line.strip()) for number, line in read_lines(path) if line.strip())
    numbers: tuple[int, ...] = ()
    while group := list(islice(lines, 1 if line_by_line else LINES_TOGETHER)):
        numbers, texts = zip(*group, strict=True)
        yield {"lines": list(texts), "numbers": list(numbers), "masked": masked, "record": numbers[0]}
    if not numbers:
        raise ValueError(f"{path} holds no text; write one sentence or paragraph a line.")


def encode_text(
    examples: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    share: float,
    causal: bool = False,
) -> list[Feature]:
    """Blocks of up to `max_seq_length` tokens, special ones included; a block's record is the line it begins in.

    Lines are joined by a space, as running text.

    "items" is how many tokens will be hidden. Blocks of training have no positions and labels yet.
    """
    if causal:
        raise ValueError("a decoder sees nothing behind a hidden token; take an encoder for masked language modelling.")
    masking, template = Masking.of(tokenizer, share, seed=0), Template.of(tokenizer)
    texts = [" " * bool(i) + line for example in examples for i, line in enumerate(example["lines"])]
    found = tokenizer(texts, add_special_tokens=False, verbose=False, return_attention_mask=False)
    pieces = iter(found["input_ids"])
    size = max_seq_length - template.size
    features: list[Feature] = []
    for example in examples:
        rows = [next(pieces) for _ in example["lines"]]
        ids = [token for row in rows for token in row]
        numbers = np.repeat(example["numbers"], [len(row) for row in rows])
        for block, begin in enumerate(range(0, max(1, len(ids)), size)):
            feature: Feature = template.join(ids[begin : begin + size])
            record = int(numbers[begin]) if ids else example["record"]
            feature |= {"positions": [], "labels": [], "record": record, "block": block}
            count = masking.count(feature["input_ids"])
            if not count:
                feature |= dropped("they hold nothing but special tokens", [], [])
            feature |= masking(feature, 0) if example["masked"] and count else {}
            features.append({**feature, "items": count})
    return features


@dataclass(frozen=True)
class Masking:
    """Hides tokens of a block: `masking(feature, epoch)`.

    Exactly `share` of the tokens, at least one, as in BERT's own data: so the number of items of a step, by which
    the loss is divided, is known before. The collator of transformers draws each token for itself, with one
    generator a worker, which a resumed run could not repeat.
    """

    mask_token: int
    special: frozenset[int]
    vocabulary: int
    share: float
    seed: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, share: float, seed: int) -> Masking:
        """Raises ValueError where the tokenizer has no mask token, or the share is none."""
        if tokenizer.mask_token_id is None:
            raise ValueError(
                f"the tokenizer {tokenizer.name_or_path!r} has no mask token; take a masked-language model."
            )
        if not 0 < share < 1:
            raise ValueError(f"--mlm_probability is {share}; it must be between 0 and 1.")
        return cls(tokenizer.mask_token_id, frozenset(tokenizer.all_special_ids), len(tokenizer), share, seed)

    def _usable(self, ids: Sequence[int]) -> list[int]:
        return [i for i, token in enumerate(ids) if token not in self.special]

    def count(self, ids: Sequence[int]) -> int:
        """How many tokens will be hidden; 0 where all are special ones."""
        usable = len(self._usable(ids))
        return min(usable, max(1, round(self.share * usable)))

    def __call__(self, feature: Feature, epoch: int) -> Feature:
        """The feature with tokens hidden, their `positions` in order, and as `labels` what stood there."""
        rng = np.random.default_rng([self.seed, epoch, feature["record"], feature["block"]])
        ids = np.array(feature["input_ids"])
        positions = np.sort(rng.choice(self._usable(feature["input_ids"]), self.count(feature["input_ids"]), False))
        labels, fate = ids[positions], rng.random(len(positions))
        replaced = np.where(fate < 0.9, rng.integers(self.vocabulary, size=len(positions)), labels)
        ids[positions] = np.where(fate < 0.8, self.mask_token, replaced)
        return {**feature, "input_ids": ids.tolist(), "positions": positions.tolist(), "labels": labels.tolist()}
