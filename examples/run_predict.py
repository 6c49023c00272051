"""Answers of a trained model for new inputs.

    python examples/run_predict.py --model RUN/best --input new.csv --output predictions.jsonl
    python examples/run_predict.py --task_folder RUN/best/task --model_name_or_path bert-base-uncased \\
        --input new.jsonl --output predictions.jsonl

--input is .csv, .tsv, .jsonl, .json, .txt (an input a line), .parquet or .arrow, compressed or not, one file or its
shards. Columns go by their names, which are those of the task's own data; labels are neither needed nor looked at. The
output is one JSON object for each row, in the rows' order: {"row": its number in the file, "label", "score", ...}, as
the task answers. Killed and started again, it goes on behind the last whole answers; it is refused where model or input
changed in between. No dev or train split is needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from kadapter.console import COUNT, Parser, absolute, hub_or_path, named_source, run
from kadapter.data.jsonio import to_json, write_json
from kadapter.data.splits import file_digest, files_of
from kadapter.data.tables import TEXT_COLUMN, Row, read_rows
from kadapter.inference.predictor import WINDOW, Predictor
from kadapter.storage.errors import writing
from kadapter.storage.locks import exclusive
from kadapter.storage.reading import read_object


def _parser() -> Parser:
    parser = Parser(__doc__)
    group = parser.add_argument_group("what to predict")
    group.add_argument("--input", type=absolute, required=True, help="file of inputs, folder of shards, or pattern")
    group.add_argument("--output", type=absolute, required=True, help="JSON lines to write")
    group.add_argument(
        "--skip_bad_rows", action="store_true", help='write {"row", "error"} for rows that cannot be used, and go on'
    )
    group = parser.add_argument_group("the model, saved whole")
    group.add_argument("--model", type=hub_or_path, help="a saved task model: folder or hub name")
    group = parser.add_argument_group("or what a task adds to a backbone")
    group.add_argument(
        "--task_folder", type=absolute, help="what a task adds to a backbone (task/ of a run), instead of --model"
    )
    group.add_argument("--model_name_or_path", type=hub_or_path, help="the backbone of --task_folder")
    group.add_argument(
        "--adapter", type=named_source, nargs="*", default=[], help="knowledge adapters of --task_folder"
    )
    group.add_argument("--fusion_mode", help="how --task_folder joins features; default: concat")
    group = parser.add_argument_group("speed")
    group.add_argument("--batch_size", type=COUNT, default=32, help="inputs in each batch")
    group.add_argument("--bf16", action="store_true", help="compute the backbone in bfloat16: faster on a GPU")
    group.add_argument("--no_cuda", action="store_true", help="use the CPU even where there is a GPU")
    return parser


def load(args: Any) -> Predictor:
    """The model of the flags; raises ValueError where they do not go together."""
    if (args.model is None) == (args.task_folder is None):
        raise ValueError("give --model, or --task_folder with its --model_name_or_path.")
    options: dict[str, Any] = {"batch_size": args.batch_size, "device": "cpu" if args.no_cuda else None}
    if args.bf16:
        options["dtype"] = torch.bfloat16
    if args.model is not None:
        if args.model_name_or_path or args.adapter or args.fusion_mode:
            raise ValueError("--model_name_or_path, --adapter and --fusion_mode are for --task_folder; leave them out.")
        return Predictor(args.model, **options)
    if args.adapter:
        options["adapters"] = dict(pair.split("=", 1) for pair in args.adapter)
    if args.fusion_mode:
        options["fusion_mode"] = args.fusion_mode
    return Predictor(args.task_folder, backbone=args.model_name_or_path, **options)


def answers(predict: Predictor, rows: Iterator[Row], skip_bad: bool) -> Iterator[list[dict[str, Any]]]:
    """Answers by the window, so that each window's are written together.

    Raises:
        ValueError: names file and row of an input that cannot be used, unless such rows are skipped.
    """
    while window := list(islice(rows, WINDOW * predict.batch_size)):
        bad: dict[int, ValueError] = {}
        found = predict.answers([input_of(row) for row in window], [row.where for row in window], bad)
        if bad and not skip_bad:
            first = bad[min(bad)]
            raise ValueError(f"{first} With --skip_bad_rows the other rows are answered.") from first
        yield [
            {"row": row.number, **(answer if answer is not None else {"error": str(bad[i])})}
            for i, (row, answer) in enumerate(zip(window, found, strict=True))
        ]


def input_of(row: Row) -> Any:
    """A row's input: its text where it has nothing else."""
    return row.record[TEXT_COLUMN] if set(row.record) == {TEXT_COLUMN} else row.record


def main(argv: Sequence[str] | None = None) -> dict[str, int]:
    args = _parser().parse_args(argv)
    output, state = args.output, args.output.with_name(f".{args.output.name}.state.json")
    part = output.with_name(f".{output.name}.part")
    files = files_of(args.input)
    if not files:
        raise FileNotFoundError(f"--input {args.input} is not there; check the path.")
    if output in files:
        raise ValueError(f"--output {output} is also the input; give another name.")
    predict = load(args)
    made_of = {"model": str(args.model or args.task_folder), "backbone": args.model_name_or_path, "bf16": args.bf16}
    made_of |= {"adapter": args.adapter, "fusion_mode": args.fusion_mode, "weights": predict.digest()}
    made_of |= {"input": [[str(file), file_digest(file)] for file in files], "skip_bad_rows": args.skip_bad_rows}
    with exclusive(output, "give another --output"):
        done, size = _resumed(part, state, made_of)
        counts = _write(predict, args, part, state, made_of, done, size)
        part.replace(output)
        state.unlink()
    print(f"{output}: {counts['rows']:,} rows" + (f", {counts['bad']:,} of them bad" if counts["bad"] else ""))
    return counts


def _resumed(part: Path, state: Path, made_of: dict[str, Any]) -> tuple[dict[str, int], int]:
    """What an earlier start has written: counts, and how many bytes of the part are whole."""
    if not part.is_file() or not state.is_file():
        return {"rows": 0, "bad": 0}, 0
    saved = read_object(state, f"delete it and {part.name}, and start again.", ["made_of", "counts", "bytes"])
    if changed := [name for name, value in made_of.items() if saved["made_of"].get(name) != value]:
        raise ValueError(
            f"{part} was begun with another {', another '.join(changed)}; delete it and {state.name} to begin anew."
        )
    return saved["counts"], saved["bytes"]


def _write(
    predict: Predictor, args: Any, part: Path, state: Path, made_of: dict[str, Any], counts: dict[str, int], size: int
) -> dict[str, int]:
    """Append the answers that are due; after each window the state says how far it is."""
    part.parent.mkdir(parents=True, exist_ok=True)
    rows = islice(read_rows(args.input), counts["rows"], None)
    with writing(part, "predictions"), part.open("r+b" if size else "wb") as file:
        file.seek(size)
        file.truncate()
        with tqdm(initial=counts["rows"], unit=" rows", desc="predict", disable=None) as bar:
            for window in answers(predict, rows, args.skip_bad_rows):
                file.writelines(f"{to_json(answer)}\n".encode() for answer in window)
                file.flush()
                os.fsync(file.fileno())
                counts["rows"] += len(window)
                counts["bad"] += sum("error" in answer for answer in window)
                write_json(state, {"made_of": made_of, "counts": counts, "bytes": file.tell()})
                bar.update(len(window))
    if not counts["rows"]:
        part.unlink()
        raise ValueError(f"{args.input} holds no rows; give at least one.")
    return counts


if __name__ == "__main__":
    run(main)
