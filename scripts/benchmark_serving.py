"""Measure exported models beside PyTorch: latency, throughput, size of the folder and, with --data, accuracy.

    python scripts/benchmark_serving.py --model RUN/best --output_dir output/serving [--data dev.tsv --texts texts.txt]

The model is exported to ONNX and OpenVINO, as float32 and as int8, whose ranges come from --texts (a line a text; none
of them from --data). --data is a file of the model's task with labels. Prints tables for docs/benchmarks.md. Batches
have no padding and times are those of the model alone, without tokenizer: medians of calls in turn, so that other
programs on the machine disturb all alike; seconds of a core do not count waiting. --profile shows which kernels
OpenVINO and ONNX Runtime run, and for how long.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from export_model import batches

from kadapter import Predictor, TaskModel
from kadapter.console import COUNT, Parser, absolute, run
from kadapter.data.tables import read_rows
from kadapter.inference.export import example_inputs, export
from kadapter.inference.exported import MAIN_FILES, ExportedModel, imported, is_exported
from kadapter.inference.openvino_core import openvino_core
from kadapter.storage.pretrained import read_tokenizer

LENGTHS = (16, 64, 128, 256)
SIZES = (1, 32)
PYTORCH = "PyTorch float32"
EXPORTS = {
    "ONNX Runtime float32": ("onnx", None),
    "ONNX Runtime int8": ("onnx", "int8"),
    "OpenVINO float32": ("openvino", None),
    "OpenVINO int8": ("openvino", "int8"),
}
Models = dict[str, Callable[..., Any]]


def batch_of(model: TaskModel, rows: int, length: int) -> dict[str, torch.Tensor]:
    """Tokens of that shape, with what else the model reads."""
    like = example_inputs(model)
    batch = {"input_ids": torch.randint(5, 1000, (rows, length)), "attention_mask": torch.ones(rows, length).long()}
    if "token_type_ids" in like:
        batch["token_type_ids"] = torch.zeros(rows, length).long()
    if "positions" in like:
        batch["positions"] = torch.zeros(rows, like["positions"].shape[1]).long()
    if "group_sizes" in like:
        batch["group_sizes"] = torch.tensor([rows])
    return batch


def alternately(models: Models, batch: dict[str, torch.Tensor], repeats: int) -> dict[str, tuple[float, float]]:
    """Name -> median milliseconds of a call by the clock, and of a core."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    with torch.inference_mode():
        for i in range(repeats + 2):
            for name, model in models.items():
                clock, core = time.perf_counter(), time.process_time()
                model(**batch)
                if i >= 2:  # the first calls allocate memory
                    found[name].append((time.perf_counter() - clock, time.process_time() - core))
    return {name: (1000 * median(c for c, _ in t), 1000 * median(c for _, c in t)) for name, t in found.items()}


def show_times(models: Models, model: TaskModel, lengths: Sequence[int], repeats: int) -> None:
    print("\n| batch × tokens | model | ms | ms of a core | sequences/s | × PyTorch¹ |\n|---|---|---|---|---|---|")
    for rows in SIZES:
        for length in lengths:
            times = alternately(models, batch_of(model, rows, length), repeats if rows == 1 else max(3, repeats // 4))
            for name, (clock, core) in times.items():
                ratio = times[PYTORCH][1] / core
                line = f"{clock:.1f} | {core:.1f} | {1000 * rows / clock:.1f} | {ratio:.2f}"
                print(f"| {rows} × {length} | {name} | {line} |", flush=True)


def show_scores(places: dict[str, Path], data: Path | None, threads: int) -> None:
    """MiB of the folder, and the share of right answers and of those that are PyTorch's."""
    rows = [row.record for row in read_rows(data)] if data else []
    inputs = [{key: value for key, value in row.items() if key != "label"} for row in rows]
    first: list[Any] = []
    print("\n| model | folder, MiB | right, % | as PyTorch, % |\n|---|---|---|---|")
    for name, place in places.items():
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) / 2**20
        found = []
        if rows:
            predict = Predictor(place, threads=threads if is_exported(place) else None)
            found = [answer["label"] for answer in predict(inputs)]
        first = first or found
        right = sum(answer == str(row["label"]) for answer, row in zip(found, rows, strict=True))
        same = sum(answer == other for answer, other in zip(found, first, strict=True))
        shares = [f"{100 * count / len(rows):.2f}" if rows else "" for count in (right, same)]
        print(f"| {name} | {size:.1f} | {shares[0]} | {shares[1]} |", flush=True)


def show_kernels(places: dict[str, Path], batch: dict[str, torch.Tensor], threads: int, runs: int = 5) -> None:
    """How many kernels of each kind run and for how long, in the fastest of some runs; those of most time first."""
    print("\n| model | node, kernel | how many | ms | of all |\n|---|---|---|---|---|")
    for name, (kind, _) in EXPORTS.items():
        profile = _openvino_kernels if kind == "openvino" else _onnx_kernels
        found = min(profile(places[name], batch, threads, runs), key=lambda run: sum(ms for _, ms in run))
        total = sum(ms for _, ms in found)
        times: dict[str, list[float]] = {}
        for kernel, ms in found:
            times.setdefault(kernel, []).append(ms)
        for kernel, each in sorted(times.items(), key=lambda item: -sum(item[1]))[:5]:
            print(f"| {name} | {kernel} | {len(each)} | {sum(each):.0f} | {total:.0f} |", flush=True)


Run = list[tuple[str, float]]  # kernel and milliseconds of each node


def _openvino_kernels(place: Path, batch: dict[str, torch.Tensor], threads: int, runs: int) -> list[Run]:
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": "YES"}
    compiled = openvino_core().compile_model(str(place / MAIN_FILES["openvino"]), "CPU", options)
    request = compiled.create_infer_request()
    given = {port.any_name: batch[port.any_name].numpy() for port in compiled.inputs}
    found = []
    for _ in range(runs):
        request.infer(given)
        nodes = [(f"{n.node_type}, {n.exec_type}", 1000 * n.real_time.total_seconds()) for n in request.profiling_info]
        found.append([(kernel, ms) for kernel, ms in nodes if ms])
    return found


def _onnx_kernels(place: Path, batch: dict[str, torch.Tensor], threads: int, runs: int) -> list[Run]:
    runtime = imported("onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = threads, True
    options.profile_file_prefix = str(place / "profile")
    session = runtime.InferenceSession(str(place / MAIN_FILES["onnx"]), options, providers=["CPUExecutionProvider"])
    given = {port.name: batch[port.name].numpy() for port in session.get_inputs()}
    for _ in range(runs):
        session.run(None, given)
    path = Path(session.end_profiling())
    events = [event for event in json.loads(path.read_text()) if event["name"].endswith("_kernel_time")]
    path.unlink()
    nodes = [(event["args"]["op_name"], event["dur"] / 1000) for event in events]
    return [nodes[i : i + len(nodes) // runs] for i in range(0, len(nodes), len(nodes) // runs)]


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--model", type=absolute, required=True, help="folder of a saved task model")
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder for the exported models")
    parser.add_argument("--data", type=absolute, help="labelled inputs of the model's task, to compare scores too")
    parser.add_argument("--texts", type=absolute, help="texts that int8 is calibrated on; default: a few sentences")
    parser.add_argument("--threads", type=COUNT, default=1, help="threads of each runtime")
    parser.add_argument("--repeats", type=COUNT, default=20, help="measurements of single inputs; of batches a quarter")
    parser.add_argument(
        "--lengths", type=COUNT, nargs="+", default=LENGTHS, help="tokens of the inputs that are measured"
    )
    parser.add_argument(
        "--profile", action="store_true", help="also show which kernels take the time, at 32 inputs of 64 tokens"
    )
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model, tokenizer = TaskModel.from_pretrained(args.model), read_tokenizer(args.model)
    check = batches(model, args.model, tokenizer, args.texts)
    places: dict[str, Path] = {PYTORCH: args.model}
    for name, (kind, quantize) in EXPORTS.items():
        places[name] = args.output_dir / name.replace(" ", "-")
        export(model, places[name], kind, tokenizer, check, quantize)
    show_scores(places, args.data, args.threads)
    models: Models = {PYTORCH: model} | {name: ExportedModel(places[name], args.threads) for name in EXPORTS}
    show_times(models, model, args.lengths, args.repeats)
    if args.profile:
        show_kernels(places, batch_of(model, 32, 64), args.threads)
    print(f"\n¹ by the core's time. {args.threads} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")


if __name__ == "__main__":
    run(main)
