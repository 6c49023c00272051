"""From text to ids, as the original's tokenizer made them; windows; padding.

The old tokenizer strips every piece of text and puts one space before it, so that pieces tokenize the same
wherever they stand; special tokens inside a text split it. What stands around and between texts comes from the
tokenizer (`Template`). A causal backbone's states know only what stands before them, so there (`causal`) heads read
the last token of what they are about: the closing marker, the last sub-word, the end of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict, cast

from kadapter.data.words import ids_of_texts

if TYPE_CHECKING:  # what only prepares data need not wait for transformers
    from transformers import PreTrainedTokenizerBase

# Column of examples -> the type of its values, as Arrow names it; [type] for a list of them.
Schema = Mapping[str, Any]
OnError = Callable[[ValueError], None]


class Feature(TypedDict, total=False):
    """An example as the models take it. A sequence is a list or an array of integers.

    input_ids, token_type_ids: a sequence of tokens, or a group of sequences, such as the choices of a question; token
        types only where they say anything.
    positions: what the head reads, counted in the sequence, or in each sequence of a group; empty: all of it.
    labels: as the head takes them: a number, one a class, one a position, one a token.
    record: number of the example in its file.
    items: how many terms the loss has here (1 by default; words, hidden tokens).
    length: tokens of the longest sequence.
    dropped: why the example cannot be used, "" where it can.
    note: what was done to an example that is used, "" for nothing.
    index, block, spans: of a task alone: GLUE's row number, the block within a text, what is hidden whole (flat: start
        and end of each, in tokens).
    text, starts, ends: of tagging: the text, and where the words are that are read; of questions on a context: this,
        and where its tokens are; of those with paragraphs: question, answers and paragraphs as JSON, and where the
        tokens of all paragraphs are.
    context_mask: of questions on a context: 1 for tokens at which a span may start and end, else 0.
    name, question, answers: of these too: the question's id and text, and its answers as JSON, "" where unknown.
    paragraphs: of questions with paragraphs: for each sequence the number of its paragraph.
    window_of: in prediction, the place of the example that this is a window of, where examples have several.
    """

    input_ids: Any
    token_type_ids: Any
    positions: Any
    labels: Any
    record: int
    items: int
    length: int
    dropped: str
    note: str
    index: int
    block: int
    spans: Any
    text: str
    starts: Any
    ends: Any
    paragraphs: Any
    context_mask: Any
    name: str
    question: str
    answers: str
    window_of: int


def sequences(feature: Feature) -> list[list[int]]:
    """The token sequences of an example: one, or one a choice."""
    ids = feature["input_ids"]
    return ids if isinstance(ids[0], list) else [ids]


def dropped_feature(reason: str, labels: Any, positions: list[int]) -> Feature:
    """Stands for an example that cannot be used; labels and positions only give the columns their types."""
    return {"input_ids": [0], "positions": positions, "labels": labels, "dropped": reason}


@dataclass(frozen=True)
class Encoding:
    """How texts become tokens.

    causal: the backbone's states know only what stands before them.
    """

    tokenizer: PreTrainedTokenizerBase
    max_seq_length: int
    causal: bool = False


def tokenize_pieces(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text without special tokens around it; one call of the tokenizer for all of them."""
    special = {token: _id(tokenizer, token) for token in tokenizer.all_special_tokens}
    splitter = re.compile("(" + "|".join(re.escape(token) for token in sorted(special, key=len, reverse=True)) + ")")
    space = _space(tokenizer)
    segments: list[str] = []
    plans: list[list[int | None]] = []  # per text: an id, or None for the next segment
    for text in texts:
        plan: list[int | None] = []
        for part in splitter.split(text) if special else [text]:
            if part in special:
                plan.append(special[part])
            elif stripped := part.strip():
                segments.append(space + stripped)
                plan.append(None)
        plans.append(plan)
    encoded = iter(ids_of_texts(tokenizer, segments))
    return [[token for step in plan for token in ([step] if step is not None else next(encoded))] for plan in plans]


def _id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    return cast(int, tokenizer.convert_tokens_to_ids(token))


def _space(tokenizer: PreTrainedTokenizerBase) -> str:
    """What makes a piece tokenize as within a text: a space, or nothing where the tokenizer (Llama's) adds its own."""
    alone, spaced, twice = tokenizer(["a", " a", "a a"], add_special_tokens=False)["input_ids"]
    return "" if spaced != alone and twice == alone + alone else " "


def marker(tokenizer: PreTrainedTokenizerBase, token: str, bare: bool = False) -> list[int]:
    """Ids of a token that marks entities, such as "@", as the tokenizer spells it or as its vocabulary has it.

    Args:
        bare: prefer the vocabulary's own entry to the spelling, which has a space before it in RoBERTa's case.

    Raises:
        ValueError: the tokenizer knows it in no form.
    """
    (spelled,) = tokenize_pieces(tokenizer, [token])
    forms = [[_id(tokenizer, token)], spelled]
    known = [ids for ids in (forms if bare else forms[::-1]) if ids and not {None, tokenizer.unk_token_id} & set(ids)]
    if not known:
        raise ValueError(f"the tokenizer {tokenizer.name_or_path!r} has no token {token!r}, which marks entities here.")
    return known[0]


@dataclass(frozen=True)
class Template:
    """What a tokenizer puts around one text, or around and between two.

    fixed: ids before the first text, between two, after the last.
    fixed_types, text_types: token types of these and of the texts.
    typed: whether token types say anything; RoBERTa's are all 0.
    cls_token_id: the token that stands for the whole, if there is one.
    """

    fixed: tuple[list[int], ...]
    fixed_types: tuple[list[int], ...]
    text_types: tuple[int, ...]
    typed: bool
    cls_token_id: int | None

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, texts: int = 1) -> Template:
        """Read off what the tokenizer makes of so many texts of one word.

        Decoders' tokenizers may add nothing. Then bos, or else eos, goes before the first text, since something has
        to stand at position 0 (the root of a sentence), and eos, or else bos, between two, which would run together.

        Raises:
            ValueError: there are no such tokens.
        """
        word = tokenizer("a", add_special_tokens=False)["input_ids"]
        found = tokenizer(*["a"] * texts, return_token_type_ids=True)  # ALBERT's tokenizer does not by itself
        ids, types = found["input_ids"], found["token_type_ids"]
        typed = any(types) or "token_type_ids" in tokenizer.model_input_names
        cuts = [0]
        for _ in range(texts):
            at = next(i for i in range(cuts[-1], len(ids)) if ids[i : i + len(word)] == word)
            cuts += [at, at + len(word)]
        spans = list(zip(cuts[::2], [*cuts[1::2], len(ids)], strict=True))
        fixed = [ids[start:end] for start, end in spans]
        fixed_types = [types[start:end] for start, end in spans]
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        lacking = [(0, bos, eos)] if tokenizer.cls_token_id is None else []
        lacking += [(i, eos, bos) for i in range(1, texts)]
        for i, one, other in lacking:
            if not fixed[i]:
                token = other if one is None else one
                if token is None:
                    raise ValueError(
                        f"the tokenizer {tokenizer.name_or_path!r} has neither cls nor bos nor eos token to put around "
                        "texts; give it one (tokenizer.eos_token = ...) and save it."
                    )
                fixed[i], fixed_types[i] = [token], [0]
        text_types = tuple(types[at] for at in cuts[1::2])
        return cls(tuple(fixed), tuple(fixed_types), text_types, typed, tokenizer.cls_token_id)

    @property
    def size(self) -> int:
        return sum(map(len, self.fixed))

    @property
    def before(self) -> int:
        return len(self.fixed[0])

    def with_one_separator(self) -> Template:
        """The same with one token between two texts, where RoBERTa's kind has two."""
        fixed, types = ((before, between[:1], after) for before, between, after in (self.fixed, self.fixed_types))
        return replace(self, fixed=fixed, fixed_types=types)

    def join(self, *texts: list[int]) -> Feature:
        """`input_ids`, and `token_type_ids` where they say anything."""
        ids, types = list(self.fixed[0]), list(self.fixed_types[0])
        for i, text in enumerate(texts):
            ids += [*text, *self.fixed[i + 1]]
            types += [self.text_types[i]] * len(text) + self.fixed_types[i + 1]
        return {"input_ids": ids, "token_type_ids": types} if self.typed else {"input_ids": ids}

    def summary(self, length: int, causal: bool) -> int:
        """Where a sequence of that length is read as a whole: at its cls token or else the first; causal: the last."""
        if causal:
            return length - 1
        if self.cls_token_id in self.fixed[-1]:  # XLNet's
            return length - len(self.fixed[-1]) + self.fixed[-1].index(self.cls_token_id)
        return 0


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
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Sequence[str]], max_seq_length: int, causal: bool = False
) -> list[Feature]:
    """Ids of one text each, or of two, in the tokenizer's own template, with token types where it makes them.

    Position: that of the cls token; causal: of the last token.

    What is too long is cut at its right, token by token from the longer text (adapter-bert run_classifier.py:
    _truncate_seq_pair), which differs from the tokenizer's own cut where an odd number of tokens is left.
    """
    template = Template.of(tokenizer, len(examples[0]))
    room = max_seq_length - template.size
    texts = [text for example in examples for text in example]
    encoded = iter(ids_of_texts(tokenizer, texts))
    features: list[Feature] = []
    for example in examples:
        pieces = [next(encoded) for _ in example]
        lengths = truncate_pair(len(pieces[0]), len(pieces[1]), room) if len(pieces) == 2 else (room,)
        kept = [piece[:length] for piece, length in zip(pieces, lengths, strict=True)]
        feature = template.join(*kept)
        feature["positions"] = [template.summary(len(feature["input_ids"]), causal)]
        feature["note"] = "the texts were cut to max_seq_length" if kept != pieces else ""
        features.append(feature)
    return features
