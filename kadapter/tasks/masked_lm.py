"""Masked language modelling on plain text, to pretrain an adapter on a domain.

A file holds one sentence or paragraph on each line; blank lines are ignored. 15 % of a block's tokens are hidden: 80 %
of them become the mask token, 10 % a random one, 10 % stay (BERT). A mask is a function of seed, epoch and block alone,
so that it changes from epoch to epoch, and a resumed run or one with other workers sees the same. With `mask_spans` the
same number of tokens is hidden as whole spans that the data mark (`kadapter.tasks.span_masking`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kadapter.data.columns import feature_column
from kadapter.data.encoding import Encoding, Feature, OnError, Template, dropped_feature
from kadapter.data.spans import Span
from kadapter.data.splits import TABLES, TEXT, split_path
from kadapter.data.tables import read_texts
from kadapter.shapes import HeadConfig
from kadapter.tasks.scores import numbers, text_of
from kadapter.tasks.span_masking import choose, read_spanned, token_spans
from kadapter.training.task import Answer, Example, Outputs, Predictions, Scores, Task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from kadapter.data.collation import Augment
    from kadapter.models.head import Kept

TOP = 5  # tokens that are named for a hidden one
LINES_TOGETHER = 100  # that are joined and cut into blocks; only the last block of them is shorter
TEXT_SCHEMA = {
    "lines": ["string"],
    "numbers": ["int64"],  # of these lines in the file
    "spans": ["int64"],  # flat: line from 0, start, end in characters
    "masked": "bool",  # once for all, as dev is
    "record": "int64",
}


@dataclass(frozen=True, kw_only=True)
class MaskedLM(Task):
    """Hidden tokens of plain text: hidden anew in every epoch of train, once for all in dev."""

    name = "mlm"
    head = "masked_lm"
    metric = "log_likelihood"
    max_seq_length = 128
    schema = TEXT_SCHEMA
    sample = 'f"Oslo is the {predict.encoding.tokenizer.mask_token} of Norway."'
    splits = ("train", "dev")

    line_by_line: bool = False
    """Cut each line for itself instead of joining lines."""
    mlm_probability: float = 0.15
    """Share of the tokens that are hidden."""
    mask_spans: bool = False
    """Hide whole spans that the data mark, as far as they fit this share, before single tokens."""

    def path(self, folder: str | Path, split: str) -> Path:
        return split_path(folder, split, TEXT, TABLES)

    def read(self, path: Path, split: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
        return read_text(path, self.line_by_line, masked=split != "train", spanned=self.mask_spans)

    def encode(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        size, share = encoding.max_seq_length, self.mlm_probability
        return encode_text(examples, encoding.tokenizer, size, share, encoding.causal, self.mask_spans)

    def augmentation(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> Augment:
        return Masking.of(tokenizer, self.mlm_probability, seed)

    def head_config(self, max_seq_length: int, vocab_size: int) -> HeadConfig:
        return HeadConfig(self.head, vocab_size)

    def initialize(self, model: Any, source: str, **hub: Any) -> None:
        """The model begins as the backbone alone, with its own pretrained head where it has one."""
        from kadapter.models.language_model import start_from_backbone

        start_from_backbone(model, source, **hub)

    def score(self, predictions: Predictions, features: Dataset) -> Scores:
        gold = feature_column(features, "labels").values
        return masked_lm_scores(predictions["predicted"].values, predictions["losses"].values, gold)

    def example(self, given: Any, where: str) -> dict[str, Any]:
        """A text, as it is or as `text`, in which the tokenizer's mask token stands for what is hidden."""
        return {"lines": [text_of(given, ("text",), where)], "numbers": [0], "spans": [], "masked": False, "record": 0}

    def encode_unlabelled(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        tokenizer, template = encoding.tokenizer, Template.of(encoding.tokenizer)
        size = encoding.max_seq_length - template.size
        features: list[Feature] = []
        for example in examples:
            ids = tokenizer(example["lines"][0], add_special_tokens=False, verbose=False)["input_ids"]
            feature = template.join(ids[:size])
            hidden = [i for i, token in enumerate(feature["input_ids"]) if token == tokenizer.mask_token_id]
            feature |= {"positions": hidden, "note": "the text was cut to max_seq_length" if len(ids) > size else ""}
            lacking = f"no {tokenizer.mask_token} stands within {encoding.max_seq_length} tokens of the text"
            features.append(feature if hidden else dropped_feature(lacking, [], []))
        return features

    def kept(self, output: Any, batch: Mapping[str, Any]) -> Mapping[str, Kept]:
        """The likeliest tokens of each hidden one, and their probabilities."""
        from kadapter.models.head import Kept

        scores, tokens = output.logits.float().softmax(-1).topk(min(TOP, output.logits.shape[-1]))
        return {"tokens": Kept(tokens), "scores": Kept(scores)}

    def answer(self, outputs: Outputs, feature: Feature, example: Example, encoding: Encoding) -> Answer:
        """For each hidden token, in order, the likeliest ones with their probabilities."""
        count = len(feature["positions"])
        named = [
            {str(encoding.tokenizer.decode([token])).strip(): float(score) for token, score in zip(*row, strict=True)}
            for row in zip(outputs["tokens"][:count].tolist(), outputs["scores"][:count].tolist(), strict=True)
        ]
        return {"tokens": [max(scores, key=scores.__getitem__) for scores in named], "scores": named}

    def rows(
        self, predictions: Predictions, features: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[dict[str, Any]]:
        """Hidden and predicted tokens."""
        columns = (numbers(features, "record"), feature_column(features, "labels"), predictions["predicted"])
        for record, *found in zip(*columns, strict=True):
            gold, predicted = (tokenizer.convert_ids_to_tokens(ids.tolist()) for ids in found)
            yield {"record": int(record), "hidden": gold, "predicted": predicted}


def read_text(
    path: str | Path, line_by_line: bool = False, masked: bool = False, spanned: bool = False
) -> Iterator[dict[str, Any]]:
    """Groups of lines that make blocks together.

    Args:
        line_by_line: a group is one line.
        masked: hide tokens once, instead of anew in every epoch.
        spanned: the file marks spans (`read_spanned`).

    Raises:
        ValueError: not UTF-8, or nothing but blank lines; with `spanned` a bad record.
    """
    if spanned:
        lines = ((number, line, spans) for number, line, spans in read_spanned(path) if line.strip())
    else:
        lines = ((number, line.strip(), []) for number, line in read_texts(path) if line.strip())
    numbers: tuple[int, ...] = ()
    while group := list(islice(lines, 1 if line_by_line else LINES_TOGETHER)):
        numbers, texts, marked = zip(*group, strict=True)
        spans = [part for i, own in enumerate(marked) for span in own for part in (i, *span)]
        yield {"lines": list(texts), "numbers": list(numbers), "spans": spans, "masked": masked, "record": numbers[0]}
    if not numbers:
        raise ValueError(f"{path} holds no text; write one sentence or paragraph on each line.")


def encode_text(
    examples: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    share: float,
    causal: bool = False,
    spanned: bool = False,
) -> list[Feature]:
    """Blocks of up to `max_seq_length` tokens, special ones included; a block's record is the line it begins in.

    Lines are joined by a space, as running text.

    "items" is how many tokens will be hidden. Blocks of training have no positions and labels yet. With `spanned` they
    have "spans", flat: start and end of each in tokens of the block; those that two blocks share are left out.
    """
    masking, template = Masking.of(tokenizer, share, seed=0), Template.of(tokenizer)
    if causal:
        raise ValueError("a decoder sees nothing behind a hidden token; take an encoder for masked language modelling.")
    pieces = _tokenized(examples, tokenizer, spanned)
    size = max_seq_length - template.size
    features: list[Feature] = []
    for example in examples:
        found = [next(pieces) for _ in example["lines"]]
        ids = [token for row, _ in found for token in row]
        numbers = np.repeat(example["numbers"], [len(row) for row, _ in found])
        spans = _spans_of(example["spans"], found) if spanned else []
        for block, begin in enumerate(range(0, max(1, len(ids)), size)):
            record = int(numbers[begin]) if ids else example["record"]
            feature = template.join(ids[begin : begin + size])
            feature |= {"positions": [], "labels": [], "record": record, "block": block}
            count = masking.count(feature["input_ids"])
            if not count:
                feature |= dropped_feature("they hold nothing but special tokens", [], [])
            if spanned:
                inside = [(s - begin, e - begin) for s, e in spans if begin <= s and e <= begin + size]
                feature |= _marked(inside, template.before, count)
            feature |= masking(feature, 0) if example["masked"] and count else {}
            features.append(cast(Feature, {**feature, "items": count}))
    return features


def _marked(inside: Sequence[Span], before: int, count: int) -> Feature:
    """What a block keeps of the spans in it.

    Args:
        before: special tokens before the text.
        count: tokens that will be hidden.
    """
    too_long = bool(inside) and all(end - start > count for start, end in inside)
    note = "all their spans are longer than what is hidden (raise --mlm_probability)" if too_long else ""
    return {"spans": [before + position for span in inside for position in span], "note": note}


Line = tuple[list[int], list[Span]]  # tokens, and the characters of each where they are asked for


def _tokenized(examples: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, offsets: bool) -> Iterator[Line]:
    """The tokens of all lines; offsets count in a line, before which a space stands if it is not the first."""
    if offsets and not tokenizer.is_fast:
        raise ValueError(f"--mask_spans needs a fast tokenizer, and {tokenizer.name_or_path!r} has none.")
    texts = [" " * bool(i) + line for example in examples for i, line in enumerate(example["lines"])]
    found = tokenizer(
        texts,
        add_special_tokens=False,
        verbose=False,
        return_attention_mask=False,
        return_offsets_mapping=offsets,
    )
    yield from zip(found["input_ids"], found.get("offset_mapping", [[]] * len(texts)), strict=True)


def _spans_of(flat: Sequence[int], lines: Sequence[Line]) -> list[Span]:
    """The spans of a group of lines in its tokens."""
    own: list[list[Span]] = [[] for _ in lines]
    for line, start, end in zip(*[iter(flat)] * 3, strict=True):
        own[line].append((start + bool(line), end + bool(line)))
    found: list[Span] = []
    before = 0
    for (ids, offsets), spans in zip(lines, own, strict=True):
        found += [(before + start, before + end) for start, end in token_spans(offsets, spans)]
        before += len(ids)
    return found


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
        """The feature with tokens hidden, their `positions` in order, and as `labels` what stood there.

        The tokens of a span share their fate: all become the mask token, random ones, or stay.
        """
        rng = np.random.default_rng([self.seed, epoch, feature["record"], feature["block"]])
        ids = np.array(feature["input_ids"])
        usable = self._usable(feature["input_ids"])
        count = self.count(feature["input_ids"])
        spans: Sequence[int] = feature.get("spans", ())
        if len(spans):
            pairs = [(int(start), int(end)) for start, end in zip(spans[::2], spans[1::2], strict=True)]
            positions, groups = choose(usable, pairs, count, rng)
            fate = rng.random(len(positions))[groups]
        else:
            positions = np.sort(rng.choice(usable, count, False))
            fate = rng.random(len(positions))
        labels = ids[positions]
        replaced = np.where(fate < 0.9, rng.integers(self.vocabulary, size=len(positions)), labels)
        ids[positions] = np.where(fate < 0.8, self.mask_token, replaced)
        masked = {"input_ids": ids.tolist(), "positions": positions.tolist(), "labels": labels.tolist()}
        return cast(Feature, {**feature, **masked})


def masked_lm_scores(predicted: np.ndarray, losses: np.ndarray, gold: np.ndarray) -> Scores:
    """Over all hidden tokens: share found, perplexity, and their mean log-probability, which chooses the best.

    Args:
        predicted, gold: tokens; losses: in nats; all [hidden tokens of all examples].
    """
    loss = losses.astype(np.float64).mean()
    found = {"accuracy": float((predicted == gold).mean()), "perplexity": float(np.exp(loss))}
    return {**found, "log_likelihood": float(-loss)}
