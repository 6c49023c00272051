"""Ids of many texts, in which each word is tokenized once.

The tokenizers of RoBERTa's and BERT's kind part a text before each single blank and look at one part at a time. So the
ids of a text are those of its words, each with the blank before it, and words repeat: in a thousand examples most are
seen several times, of which the tokenizer need do one. Other tokenizers, and texts with other blanks, go the plain way.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def ids_of_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text without special tokens around it, exactly as one call of the tokenizer gives them."""
    if not texts or not _parts_at_blanks(tokenizer):
        return _plain(tokenizer, texts)
    parts = [_parted(text) for text in texts]
    begins = list(dict.fromkeys(begin for begin, _ in parts if begin))
    words = list(dict.fromkeys(chain.from_iterable(rest for _, rest in parts)))
    found = _bare(tokenizer, [*begins, *(f" {word}" for word in words)])
    first = {"": [], **dict(zip(begins, found[: len(begins)], strict=True))}
    known = dict(zip(words, found[len(begins) :], strict=True))
    return [[*first[begin], *chain.from_iterable([known[word] for word in rest])] for begin, rest in parts]


def _parted(text: str) -> tuple[str, list[str]]:
    """What a text begins with before its first blank, and the words behind single blanks.

    All of it is the beginning where other blanks stand in it, which are not printable, or several, or one at the end.
    """
    if "  " in text or text.endswith(" ") or not text.isprintable():
        return text, []
    begin, *rest = text.split(" ")
    return begin, rest


def _bare(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The same without what transformers does around it, as long as no earlier call left it cutting or padding."""
    backend = cast(Any, tokenizer).backend_tokenizer
    if backend.truncation is not None or backend.padding is not None:
        return _plain(tokenizer, texts)
    return [encoded.ids for encoded in backend.encode_batch_fast(texts, add_special_tokens=False)]


def _plain(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    ids_alone = {"return_attention_mask": False, "return_token_type_ids": False}
    return cast(
        list[list[int]],
        tokenizer(list(texts), add_special_tokens=False, verbose=False, **ids_alone)["input_ids"],
    )


def _parts_at_blanks(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer is known to look at each part by itself, and no token of its own spans blanks."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or getattr(backend.model, "dropout", None):
        return False
    kind, normalizer = type(backend.pre_tokenizer).__name__, type(backend.normalizer).__name__
    if kind == "ByteLevel":
        # GPT-2's pattern takes a blank only as the first sign of a part, and a prefix would stand before each.
        is_known = normalizer == "NoneType" and backend.pre_tokenizer.use_regex
        is_known = is_known and not backend.pre_tokenizer.add_prefix_space
    else:
        is_known = (kind, normalizer) == ("BertPreTokenizer", "BertNormalizer")  # which change single signs
    special = set(tokenizer.all_special_tokens)
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    return is_known and not any(any(map(str.isspace, token)) for token in special | added) and added <= special
