"""Export a saved model for ONNX Runtime, OpenVINO or torch, with any batch and any length, and compare it.

    python scripts/export_model.py --model RUN/best --format onnx --output exported [--quantize int8] [--texts FILE]

The folder holds the model, config.json, the tokenizer and export.json; `Predictor("exported")` and
`examples/run_predict.py --model exported` predict with it. --texts is what it is compared with PyTorch on: a line a
text, or .jsonl with inputs of the model's task, as `Predictor` takes them. Printed are the largest difference of an
output and the share of equal predictions. `pip install 'kadapter[onnx]'` or `'kadapter[openvino]'` first.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kadapter.console import Parser, absolute, run

TEXTS = (
    "Yes.",
    "The museum opens at nine.",
    "Who wrote the letter that was found in the old house?",
    "She moved to Vienna in 1921 and taught physics there until the war began.",
    "It rained all day, so the match was put off until Sunday; nobody in the village seemed to mind.",
    "Prices rose by 3.4 % last year, the central bank said, mostly because of energy and food.",
    "The new bridge, which cost twice as much as planned, joins the island to the coast and will be free for all cars.",
    "I would not watch this film again, although the music is fine and one of the actors is better than the rest.",
)


def parse(argv: Sequence[str] | None = None) -> Any:
    parser = Parser(__doc__)
    parser.add_argument("--model", type=absolute, required=True, help="folder of a saved task model or encoder")
    parser.add_argument(
        "--format",
        choices=("onnx", "openvino", "torch"),
        required=True,
        help="the runtime that the model is written for",
    )
    parser.add_argument("--output", type=absolute, required=True, help="folder to write")
    parser.add_argument(
        "--quantize", choices=("int8",), help="int8: weights of 8 bits; default: float32, as the model is"
    )
    parser.add_argument(
        "--texts", type=absolute, help="file of inputs to compare on, one in each line; default: a few sentences"
    )
    return parser.parse_args(argv)


def batches(model: Any, folder: Path, tokenizer: Any, texts: Path | None) -> list[Any]:
    """What the exported model is compared on.

    Raises:
        ValueError: the file is empty, or a line cannot be used.
    """
    from kadapter.inference.export import complete, text_batches

    if texts is None:
        return text_batches(model, tokenizer, TEXTS)
    lines = [line for line in texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{texts} is empty; give a line a text, or leave --texts out.")
    if texts.suffix != ".jsonl":
        return text_batches(model, tokenizer, lines)
    from kadapter import Predictor

    given = []
    for number, line in enumerate(lines, 1):
        try:
            given.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{texts}, line {number}, is not JSON: {error}.") from None
    predict = Predictor(model, tokenizer=tokenizer, batch_size=8)
    found = predict.batches(given, [f"{texts}, input {number}" for number in range(1, len(given) + 1)])
    return [complete(batch, model) for batch in found]


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    from kadapter import KAdapterModel, TaskModel
    from kadapter.inference.export import export
    from kadapter.storage.pretrained import read_config, read_tokenizer

    logging.getLogger("httpx").setLevel(logging.WARNING)
    config: Any = read_config(args.model)
    if not hasattr(config, "with_head"):
        raise ValueError(f"{args.model} is a plain {config.model_type}; give a model that kadapter saved.")
    model = (KAdapterModel if config.head is None else TaskModel).from_pretrained(args.model)
    tokenizer = read_tokenizer(args.model)
    check = batches(model, args.model, tokenizer, args.texts)
    manifest = export(model, args.output, args.format, tokenizer, check, args.quantize)
    size = sum((args.output / name).stat().st_size for name in manifest.files)
    print(
        f"{args.output}: {args.format}{' int8' if args.quantize else ''}, {size / 2**20:.1f} MiB. Beside PyTorch on "
        f"{manifest.check['texts']} sequences: largest difference {manifest.check['max_difference']:.2g}, "
        f"{100 * manifest.check['agreement']:.1f} % of predictions equal."
    )


if __name__ == "__main__":
    run(main)
