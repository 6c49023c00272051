"""Answer one question over text files or passages, with a model that finds answers in a context.

    python examples/answer_question.py --model RUN/best --question "Who wrote it?" --input passages.jsonl
    python examples/answer_question.py --model RUN/best --question "Who wrote it?" --input notes/ --best 3

--model is what run_finetune_squad_adapter.sh trained. --input is a folder or a file: .txt, whose paragraphs are parted
by blank lines, or .jsonl, .json, .csv, .tsv, .parquet, .arrow with a column of texts. Of more than --retrieve passages
those are read whose words fit the question best (BM25, pip install 'kadapter[retrieval]'); all are held in memory.
Prints the best answers, each with its share among all spans that were looked at, the passage's name, and the passage
with the answer in [brackets].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from kadapter.console import COUNT, Parser, absolute, hub_or_path, run
from kadapter.data.jsonio import write_json
from kadapter.inference.passages import FoundAnswer, answer_question, read_passages, retrieve
from kadapter.inference.predictor import Predictor


def _parser() -> Parser:
    parser = Parser(__doc__)
    group = parser.add_argument_group("question and texts")
    group.add_argument("--model", type=hub_or_path, required=True, help="a saved or exported model: folder or hub name")
    group.add_argument("--question", required=True, help="what to answer")
    group.add_argument("--input", type=absolute, required=True, help="file or folder of passages")
    group.add_argument("--text_field", default="text", help="column of tables that holds the passages")
    group = parser.add_argument_group("answers")
    group.add_argument("--retrieve", type=COUNT, default=100, help="passages that are read at most")
    group.add_argument("--best", type=COUNT, default=5, help="answers that are shown at most")
    group.add_argument("--output", type=absolute, help="JSON file to write the answers to")
    group = parser.add_argument_group("speed")
    group.add_argument("--batch_size", type=COUNT, default=32, help="passages in each batch")
    group.add_argument("--bf16", action="store_true", help="compute the backbone in bfloat16: faster on a GPU")
    group.add_argument("--no_cuda", action="store_true", help="use the CPU even where there is a GPU")
    return parser


def shown(found: FoundAnswer) -> str:
    """An answer and its passage, for people."""
    text, start, end = found.passage.text, found.start, found.end
    more = f" (also in {found.passages - 1:,} more)" if found.passages > 1 else ""
    marked = f"{text[:start]}[{text[start:end]}]{text[end:]}"
    return f"{found.score:.3f}  {found.answer}\n       {found.passage.name}{more}: {marked}"


def as_json(found: FoundAnswer) -> dict[str, Any]:
    return {**found._asdict(), "passage": found.passage._asdict()}


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    args = _parser().parse_args(argv)
    passages = read_passages(args.input, args.text_field)
    kept = passages
    if len(passages) > args.retrieve:
        kept = retrieve(args.question, passages, args.retrieve)
        if not kept:
            raise ValueError(
                f"none of the {len(passages):,} passages of {args.input} shares a word with the question; ask with "
                f"other words, or read all of them with --retrieve {len(passages)}."
            )
    device, dtype = "cpu" if args.no_cuda else None, torch.bfloat16 if args.bf16 else None
    predict = Predictor(args.model, batch_size=args.batch_size, device=device, dtype=dtype)
    found = answer_question(predict, args.question, kept)[: args.best]
    print(f"{len(passages):,} passages, {len(kept):,} read.")
    print("\n".join(map(shown, found)) if found else "No answer was found in them.")
    answers = [as_json(one) for one in found]
    if args.output:
        write_json(args.output, answers)
    return answers


if __name__ == "__main__":
    run(main)
