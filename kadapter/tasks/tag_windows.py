"""Texts with words into features: windows, and the token at which each word is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from kadapter.data.encoding import Encoding, Feature, Template, dropped_feature
from kadapter.data.windows import Tokens, best_windows, tokens_of, window_begins

Window = tuple[Feature, list[int]]  # a feature, and the numbers of the words that are read in it
UNREADABLE = "the tokenizer makes nothing of some words, which count as O"


def windows_of(examples: Sequence[Mapping[str, Any]], encoding: Encoding, stride: int) -> Iterator[list[Window]]:
    """For each example its windows, in order; every word is read in one of them.

    Args:
        stride: tokens that two windows share.

    Raises:
        ValueError: the windows would share all that they hold.
    """
    template = Template.of(encoding.tokenizer)
    room = encoding.max_seq_length - template.size
    if not 0 <= stride < room:
        raise ValueError(f"--stride is {stride}; it must be 0 or more and below {room}, what a window holds.")
    found = tokens_of(encoding.tokenizer, [example["text"] for example in examples])
    for example, tokens in zip(examples, found, strict=True):
        places = _places(example, tokens, encoding.causal)
        yield _cut(example, tokens.ids, places, template, room, stride)


def _cut(
    example: Mapping[str, Any], ids: list[int], places: Sequence[int | None], template: Template, room: int, stride: int
) -> list[Window]:
    """The windows of a text of those tokens, whose words are read at `places`."""
    at = {word: position for word, position in enumerate(places) if position is not None}
    if not at:
        none: Any = dropped_feature("the tokenizer makes nothing of its words", [0], [0])
        return [(none | {"record": example["record"], "block": 0, "text": "", "starts": [0], "ends": [0]}, [])]
    begins = window_begins(len(ids), room, stride)
    chosen = best_windows([*at.values()], begins, room, len(ids))
    windows: list[Window] = []
    for block, begin in enumerate(begins):
        words = [word for word, window in zip(at, chosen, strict=True) if window == block]
        if words:
            feature: dict[str, Any] = {**template.join(ids[begin : begin + room])}
            feature["positions"] = [template.before + at[word] - begin for word in words]
            feature |= {name: [example[name][word] for word in words] for name in ("starts", "ends")}
            note = UNREADABLE if len(at) < len(places) else example["note"]
            # What is said of the text, and the text itself, stands in its first window.
            feature |= {"text": "", "note": ""} if windows else {"text": example["text"], "note": note}
            windows.append((cast(Feature, feature | {"record": example["record"], "block": block}), words))
    return windows


def _places(example: Mapping[str, Any], tokens: Tokens, causal: bool) -> list[int | None]:
    """For each word the first token (causal: the last) that has a character of it; None where there is none."""
    found: list[int | None] = []
    starts, ends, first = tokens.starts.tolist(), tokens.ends.tolist(), 0
    for start, end in zip(example["starts"], example["ends"], strict=True):
        while first < len(ends) and ends[first] <= start:
            first += 1
        last = first
        while last < len(starts) and starts[last] < end:
            last += 1
        found.append(None if last == first else last - 1 if causal else first)
    return found
