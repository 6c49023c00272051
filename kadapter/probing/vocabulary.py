"""What a gap may be filled with: words that are one token of every model, so that all choose among the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from kadapter.probing.facts import Fact, Facts
from kadapter.storage.reading import read_lines

LISTS = ("common_vocab_cased.txt",)  # of LAMA, beside its data
SHOWN = 3  # objects of a message


def read_words(path: Path) -> list[str]:
    """The words of a file with one a line, each once, in order; raises ValueError where there is none."""
    words = list(dict.fromkeys(word for _, line in read_lines(path) if (word := line.strip())))
    if not words:
        raise ValueError(f"{path} holds no words; write one on each line.")
    return words


def single_tokens(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> dict[str, int]:
    """Those words that are one token behind a blank, as a word in a sentence is -> that token.

    So RoBERTa knows 18,104 of LAMA's 20,970 words. An uncased tokenizer gives several words the same token.
    """
    if not words:
        return {}
    special = set(tokenizer.all_special_ids)
    found = tokenizer([f" {word}" for word in words], add_special_tokens=False, verbose=False)["input_ids"]
    return {word: ids[0] for word, ids in zip(words, found, strict=True) if len(ids) == 1 and ids[0] not in special}


def whole_words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """All words of a tokenizer that are one token and hold a letter or a digit, in the order of its tokens."""
    texts = [str(tokenizer.decode([token])).strip() for token in range(len(tokenizer))]
    words = [text for text in texts if any(map(str.isalnum, text)) and not any(map(str.isspace, text))]
    return [*single_tokens(tokenizer, list(dict.fromkeys(words)))]


def candidates(tokenizers: Mapping[str, PreTrainedTokenizerBase], words: Sequence[str] | None) -> list[str]:
    """The words that are one token of every model.

    Args:
        tokenizers: of each model, by its name.
        words: to choose among; None: all whole words of the first model.

    Raises:
        ValueError: nothing is left.
    """
    found = list(whole_words(next(iter(tokenizers.values()))) if words is None else words)
    for name, tokenizer in tokenizers.items():
        known = single_tokens(tokenizer, found)
        if not known:
            raise ValueError(f"no word of the vocabulary is one token of {name}; give another --vocabulary.")
        found = [word for word in found if word in known]
    return found


def answerable(found: Facts, words: Sequence[str]) -> list[Fact]:
    """The facts whose object is among these words; the others are counted, with some of their objects as examples.

    Raises:
        ValueError: none is.
    """
    known, kept, lost = set(words), list[Fact](), dict[str, dict[str, None]]()
    for fact in found.facts:
        if fact.object in known:
            kept.append(fact)
        else:
            found.count(fact.collection, "with an object outside of the vocabulary")
            lost.setdefault(fact.collection, {})[fact.object] = None
    if not kept:
        shown = ", ".join(repr(one) for one in [*next(iter(lost.values()))][:SHOWN]) if lost else "none at all"
        raise ValueError(
            f"no object is one token of every model and in the vocabulary, such as {shown}; only such facts can be "
            "probed by one gap."
        )
    return kept


def token_table(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> tuple[torch.Tensor, dict[str, int]]:
    """The candidates' tokens, each once, and the place of each word among them."""
    tokens = single_tokens(tokenizer, words)
    unique = list(dict.fromkeys(tokens[word] for word in words))
    places = {token: position for position, token in enumerate(unique)}
    return torch.tensor(unique), {word: places[tokens[word]] for word in words}
