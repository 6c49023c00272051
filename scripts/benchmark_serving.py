"""Measure exported models beside PyTorch: latency, throughput, size on disk and, with --data, accuracy.

    python scripts/benchmark_serving.py --model RUN/best --output output/serving [--data dev.jsonl] [--threads 2]

The model is exported to ONNX and OpenVINO, as float32 and int8 (with --data the latter's ranges come from --calibrate,
inputs like those of --data that are none of them), and prints two tables for docs/benchmarks.md. --data has inputs of
the model's task, as `Predictor` takes them, with a `label` each. Latencies are of the model alone, without tokenizer,
on batches without padding; the models take turns, so that other programs on the machine disturb all of them alike.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kadapter.console import COUNT, Parser, absolute, run

LENGTHS = (16, 64, 128, 256)
BATCHES = (1, 32)


def parse() -> Any:
    parser = Parser(__doc__)
    parser.add_argument("--model", type=absolute, required=True, help="folder of a saved task model")
    parser.add_argument("--output", type=absolute, required=True, help="folder for the exported models")
    parser.add_argument("--data", type=absolute, help=".jsonl: inputs with label, whose accuracy is measured")
    parser.add_argument("--calibrate", type=absolute, help=".jsonl: other inputs, for the ranges of OpenVINO's int8")
    parser.add_argument("--threads", type=COUNT, default=2)
    parser.add_argument("--repeats", type=COUNT, default=20, help="rounds; default 20")
    parser.add_argument("--lengths", type=COUNT, nargs="+", default=LENGTHS)
    return parser.parse_args()


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def exported(model: Any, tokenizer: Any, folder: Path, calibrate: Path | None) -> dict[str, Any]:
    """Name -> folder of each export that can be made here; what cannot is told."""
    from export_model import batches

    from kadapter.inference.export import export

    check, found = batches(model, folder, tokenizer, calibrate), {}
    for kind, name in (("onnx", "ONNX Runtime"), ("openvino", "OpenVINO")):
        for quantize in (None, "int8"):
            place = folder / f"{kind}-{quantize or 'float32'}"
            manifest = export(model, place, kind, tokenizer, check, quantize)
            print(f"{name} {quantize or 'float32'}: {manifest.check}", flush=True)
            found[f"{name}, {quantize or 'float32'}"] = place
    return found


def batch_like(example: dict[str, Any], rows: int, length: int) -> dict[str, Any]:
    """Tokens of that shape, with what else the model reads; nothing is padded."""
    import torch

    batch = {"input_ids": torch.randint(5, 1000, (rows, length)), "attention_mask": torch.ones(rows, length).long()}
    if "token_type_ids" in example:
        batch["token_type_ids"] = torch.zeros(rows, length).long()
    if "positions" in example:
        batch["positions"] = torch.zeros(rows, example["positions"].shape[1]).long()
    if "group_sizes" in example:
        batch["group_sizes"] = torch.tensor([rows])
    return batch


def timed(models: dict[str, Callable[..., Any]], batch: dict[str, Any], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each call, sorted; the models take turns."""
    import torch

    found: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for count in range(repeats + 2):
            for name, model in models.items():
                began = time.perf_counter()
                model(**batch)
                if count >= 2:  # the first calls allocate memory
                    found[name].append(1000 * (time.perf_counter() - began))
    return {name: sorted(values) for name, values in found.items()}


def accuracy(source: Any, rows: list[dict[str, Any]], **options: Any) -> float:
    from kadapter import Predictor

    inputs = [{name: value for name, value in row.items() if name != "label"} for row in rows]
    answers = Predictor(source, **options)(inputs)
    return sum(str(row["label"]) == answer["label"] for row, answer in zip(rows, answers, strict=True)) / len(rows)


def size(folder: Path) -> float:
    """MiB of the model's files."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.name.startswith("model")) / 2**20


def main() -> None:
    args = parse()
    import torch

    from kadapter import TaskModel
    from kadapter.inference.export import example_inputs
    from kadapter.inference.exported import ExportedModel
    from kadapter.storage.pretrained import read_tokenizer

    torch.set_num_threads(args.threads)
    model, tokenizer = TaskModel.from_pretrained(args.model), read_tokenizer(args.model)
    places = exported(model, tokenizer, args.output, args.calibrate)
    models: dict[str, Any] = {"PyTorch, float32": model}
    models |= {name: ExportedModel(place, args.threads) for name, place in places.items()}
    rows = read(args.data) if args.data else []
    print("| model | MiB | accuracy |\n|---|---|---|")
    for name in models:
        options = {"threads": args.threads} if name in places else {"tokenizer": tokenizer}
        score = f"{100 * accuracy(places.get(name, model), rows, **options):.2f}" if rows else ""
        print(f"| {name} | {size(places.get(name, args.model)):.0f} | {score} |", flush=True)
    print("| batch × length | model | median, ms | p95, ms | sequences/s | times PyTorch |\n|---|---|---|---|---|---|")
    for count in BATCHES:
        for length in args.lengths:
            batch = batch_like(example_inputs(model), count, length)
            times = timed(models, batch, args.repeats if count == 1 else -(-args.repeats // 4))
            middle = {name: values[len(values) // 2] for name, values in times.items()}
            for name, values in times.items():
                late, ratio = values[int(0.95 * (len(values) - 1))], middle["PyTorch, float32"] / middle[name]
                print(
                    f"| {count} × {length} | {name} | {middle[name]:.1f} | {late:.1f} | "
                    f"{1000 * count / middle[name]:.1f} | {ratio:.2f} |",
                    flush=True,
                )
    print(f"{args.threads} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")


if __name__ == "__main__":
    run(main)
