"""Turn FIGER's gold test set as released (exp.label, one word and tag on each line) into the form of the reader.

    python scripts/convert_figer.py --input exp.label --output data/FIGER/test.json

A line is `word<TAB>O`, `word<TAB>B-/type,/type` or `word<TAB>I-...`; a blank line ends a sentence. Each mention makes
one example {"sent", "start", "end", "labels"}; sentences without mentions make none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kadapter.console import Parser, absolute, run
from kadapter.data.jsonio import read_lines, write_json_list
from kadapter.data.spans import is_blank

Tagged = list[tuple[int, str, str]]  # line number, word, tag


def read_sentences(path: Path) -> Iterator[Tagged]:
    """The tagged words of each sentence.

    Raises:
        ValueError: a line that is no word and tag.
    """
    sentence: Tagged = []
    for number, line in read_lines(path):
        if not line.strip():
            if sentence:
                yield sentence
            sentence = []
            continue
        word, _, tag = line.strip().partition("\t")
        if not (word and (tag == "O" or tag.startswith(("B-/", "I-/")))):
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r} is not a word and O, B-/type or I-/type, separated by a tab."
            )
        sentence.append((number, word, tag))
    if sentence:
        yield sentence


def mentions(sentence: Tagged, path: Path) -> Iterator[dict[str, Any]]:
    """One example a mention, in order.

    Raises:
        ValueError: an I- tag that continues nothing.
    """
    text, spans, before = "", list[tuple[int, int, str]](), "O"
    for number, word, tag in sentence:
        start = len(text) + bool(text)
        text = f"{text} {word}" if text else word
        if tag.startswith("B-"):
            spans.append((start, len(text), tag[2:]))
        elif tag.startswith("I-"):
            if set(before[2:].split(",")) != set(tag[2:].split(",")):  # their order varies in the released file
                raise ValueError(f"{path}, line {number}: {tag!r} follows {before!r}; begin a mention with B-.")
            spans[-1] = (spans[-1][0], len(text), spans[-1][2])
        before = tag
    for start, end, types in spans:
        if is_blank(text[start:end]):
            raise ValueError(
                f"{path}, line {sentence[0][0]}: a mention of the sentence there is blank; mend its words."
            )
        yield {"sent": text, "start": start, "end": end, "labels": types.split(",")}


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--input", type=absolute, required=True, help="the release's file of fine labels, exp.label")
    parser.add_argument("--output", type=absolute, required=True, help="JSON list to write")
    args = parser.parse_args(argv)
    sentences = list(read_sentences(args.input))
    examples = [example for sentence in sentences for example in mentions(sentence, args.input)]
    if not examples:
        raise ValueError(f"{args.input} holds no mention; give FIGER's exp.label.")
    write_json_list(args.output, examples)
    labels = {label for example in examples for label in example["labels"]}
    print(f"{args.output}: {len(sentences)} sentences, {len(examples)} mentions, {len(labels)} types")


if __name__ == "__main__":
    run(main)
