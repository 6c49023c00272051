"""Measure kadapter against the original's way, in turn, in one process: training, inference, cached states, data.

    OMP_NUM_THREADS=1 python scripts/benchmark.py pretrain --output_dir output/benchmark [--shape large] [--repeats 3]
    OMP_NUM_THREADS=1 python scripts/benchmark.py finetune|glue|cache --output_dir output/benchmark [-- --max_steps 5]
    OMP_NUM_THREADS=1 python scripts/benchmark.py infer --output_dir output/benchmark [--batch 8] [--lengths 64 128]
    python scripts/benchmark.py data --output_dir output/benchmark

The backbone has random weights in the shape that is asked for. Data are the demo world's, or --data_dir. "The
original's way" pads to --max_seq_length, attends to padding, keeps no states and computes last layers whole. What
stands behind -- are further flags of the recipe. Seconds are those of a core (on a GPU those of the clock); a run is
warmed up by the one whose operations are counted. The share of the matrix rate is that of square products of the same
type, which on a GPU stands for the model FLOPs utilisation. Prints a table, writes benchmark-MODE.json and a picture.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import make_demo_data
import torch
import transformers
from benchmark_parts import (
    SHAPES,
    Way,
    counted_tokens,
    draw,
    flops_of,
    matrix_rate,
    now,
    peak_mib,
    random_backbone,
    rows_of,
    table_of,
    whole_last_layers,
)
from benchmark_states import ALWAYS, load_recipe, timed_way
from transformers import AutoConfig

from kadapter import AdapterConfig, KAdapterModel
from kadapter.console import COUNT, Parser, absolute, run
from kadapter.data.encoding import Encoding, sequences
from kadapter.data.jsonio import write_json
from kadapter.storage.pretrained import read_tokenizer
from kadapter.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
ORIGINAL, OURS = "the original's way", "ours"
# Mode -> recipe, folder of the demo world, its flags.
RECIPES = {
    "pretrain": ("run_pretrain_fac_adapter", "trex-rc", "--max_seq_length=64"),
    "cache": ("run_pretrain_fac_adapter", "trex-rc", "--max_seq_length=64"),
    "finetune": (
        "run_finetune_openentity_adapter",
        "OpenEntity",
        "--max_seq_length=256 --untrained=fac --untrained=lin",
    ),
    "glue": ("run_classifier", "", "--max_seq_length=128 --bottleneck_size=64 --task_name=RTE"),
}
BATCH = 1000  # examples that are encoded at once, as in runs
TASK, FOLDER = "fac", "trex-rc"  # of mode data, where nothing else is given


# -- training -------------------------------------------------------------------------------------------------------


def train(args: argparse.Namespace, backbone: Path) -> list[Way]:
    """A recipe the original's way and ours, or with cached states too, in turn."""
    ways = [ORIGINAL, "plain", *(("first epoch", "later epoch") if args.mode == "cache" else ())]
    main, flags = recipe(args, backbone)

    def once(way: str) -> float:
        with whole_last_layers() if way == ORIGINAL else nullcontext():
            clock, core = timed_way(way, main, flags, args.output_dir, None)
        return clock if args.device.type == "cuda" else core

    found = {way: _warmed_up(way, once, args.device) for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(args.repeats):
        for way in ways if turn % 2 or args.mode == "cache" else ways[::-1]:  # a later epoch reads what the first wrote
            seconds[way].append(once(way))
    for way, measured in found.items():
        measured.seconds = median(seconds[way])
    return list(found.values())


def recipe(args: argparse.Namespace, backbone: Path) -> tuple[Callable[[Sequence[str]], Any], list[str]]:
    """The `main` of the mode's recipe, and its flags."""
    name, folder, own = RECIPES[args.mode]
    data = args.data_dir or args.output_dir / "demo" / folder
    width = AutoConfig.from_pretrained(backbone).hidden_size
    flags = [f"--model_name_or_path={backbone}", f"--data_dir={data}", f"--adapter_size={min(768, width)}"]
    flags += [f"--features_cache={args.output_dir / 'features'}", f"--per_gpu_train_batch_size={args.batch}"]
    return load_recipe(str(ROOT / "examples" / f"{name}.py")), [
        *(*flags, "--max_steps=6", *own.split(), *ALWAYS.split(), *args.recipe)
    ]


def _warmed_up(way: str, once: Callable[[str], float], device: torch.device) -> Way:
    """A first run, whose operations, tokens and memory are counted; its seconds are not."""
    counts: list[int] = []
    with counted_tokens() as tokens:
        memory = peak_mib(device, lambda: counts.append(flops_of(lambda: once(way))))
    name = OURS if way == "plain" else way
    return Way(name, 0.0, tokens[0], counts[0], float(1 - tokens[0] / tokens[1]), memory)


# -- inference ------------------------------------------------------------------------------------------------------


def infer(args: argparse.Namespace, backbone: Path) -> list[Way]:
    """Features of two adapters, all of them and at one position, against the backbone alone and all its states."""
    length = args.lengths[0]
    width = AutoConfig.from_pretrained(backbone).hidden_size
    shape = AdapterConfig(adapter_size=min(768, width))
    model = KAdapterModel.from_pretrained(backbone, adapters={"fac": shape, "lin": shape}).to(args.device)
    ids = torch.randint(5, 100, (args.batch, length), device=args.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    ways: dict[str, Callable[[], Any]] = {
        "the backbone alone": lambda: model.backbone(**inputs),
        "two adapters, all states kept": lambda: model(**inputs, output_hidden_states=True),
        "two adapters": lambda: model(**inputs),
        "two adapters, one position": lambda: model(**inputs, positions=ids[:, :1] * 0),
    }
    found, seconds = [], {name: list[float]() for name in ways}
    with torch.no_grad():
        for name, call in ways.items():
            found.append(Way(name, 0.0, ids.numel(), flops_of(call), 0.0, peak_mib(args.device, call)))
        for turn in range(args.repeats * 3):
            for name in list(ways)[:: 1 if turn % 2 else -1]:
                began = now(args.device)
                ways[name]()
                seconds[name].append(now(args.device) - began)
        lengths = {size: _memory(model, args, size) for size in args.lengths}
    for way in found:
        way.seconds = median(seconds[way.name])
    print("peak MiB by length:", json.dumps(lengths))
    return found


def _memory(model: KAdapterModel, args: argparse.Namespace, length: int) -> int:
    ids = torch.full((args.batch, length), 5, device=args.device)
    return peak_mib(args.device, lambda: model(ids, attention_mask=torch.ones_like(ids)))


# -- data -----------------------------------------------------------------------------------------------------------


def data(args: argparse.Namespace) -> list[Way]:
    """Reading and encoding the train split of a task; tokens are those of its sequences."""
    folder = args.data_dir or args.output_dir / "demo" / FOLDER
    task = TASKS[args.task].for_folder(folder)
    encoding = Encoding(read_tokenizer(args.tokenizer), task.max_seq_length)
    reading, writing = list[float](), list[float]()
    for _ in range(args.repeats):
        began = now(args.device)
        examples = list(task.read(task.path(folder, "train"), "train"))
        read = now(args.device)
        features = [
            feature
            for i in range(0, len(examples), BATCH)
            for feature in task.encode(examples[i : i + BATCH], encoding)
        ]
        reading.append(read - began)
        writing.append(now(args.device) - read)
    tokens = sum(len(row) for feature in features for row in sequences(feature))
    for what, seconds in (("reading", reading), ("encoding", writing)):
        print(f"{what}: {1e6 * median(seconds) / len(examples):.1f} µs of a core an example, {len(examples):,} of them")
    return [Way("reading", median(reading), tokens, 0), Way("encoding", median(writing), tokens, 0)]


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("mode", choices=[*RECIPES, "infer", "data"], help="what is measured")
    parser.add_argument("--output_dir", required=True, type=absolute, help="folder for models, runs and results")
    parser.add_argument(
        "--shape", default="demo", help=f"{', '.join(SHAPES)}, or width,layers,heads,feed-forward width"
    )
    parser.add_argument(
        "--tokenizer", type=absolute, default=ROOT / "pretrained_models" / "roberta-demo", help="its folder"
    )
    parser.add_argument("--data_dir", type=absolute, help="data instead of the demo world's; mode glue has no other")
    parser.add_argument("--task", choices=TASKS, default=TASK, metavar="TASK", help="task of mode data")
    parser.add_argument("--batch", type=COUNT, default=8, help="examples of a batch")
    parser.add_argument(
        "--lengths", type=COUNT, nargs="+", default=[64], help="tokens, mode infer; memory is told of each"
    )
    parser.add_argument("--repeats", type=COUNT, default=3, help="rounds, whose median is shown")
    words = sys.argv[1:] if argv is None else argv
    end = words.index("--") if "--" in words else len(words)
    args = parser.parse_args(words[:end])
    args.recipe = words[end + 1 :]
    args.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if args.mode == "glue" and not args.data_dir:
        parser.error("mode glue needs --data_dir, a task's folder of GLUE's download.")
    if not (args.data_dir or args.mode == "infer" or (args.output_dir / "demo").exists()):
        make_demo_data.main(["--output_dir", str(args.output_dir / "demo")])
    rate = matrix_rate(args.device, torch.bfloat16 if {"--bf16", "--bf16=True"} & {*args.recipe} else torch.float32)
    if args.mode == "data":
        ways = data(args)
    else:
        backbone = random_backbone(args.output_dir / f"backbone-{args.shape}", args.shape, args.tokenizer)
        ways = (infer if args.mode == "infer" else train)(args, backbone)
    rows = rows_of(ways, rate)
    machine: dict[str, Any] = {"device": str(args.device), "processor": platform.processor() or platform.machine()}
    machine |= {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    report: dict[str, Any] = {"mode": args.mode, "shape": args.shape, "batch": args.batch, **machine}
    report |= {"matrix_gflop_per_second": round(rate, 1), "ways": rows}
    write_json(args.output_dir / f"benchmark-{args.mode}.json", report)
    draw(args.output_dir / f"benchmark-{args.mode}.png", rows, f"{args.mode}, {args.shape}, batch {args.batch}")
    print(f"matrix products: {rate:.1f} GFLOP/s\n{table_of(rows)}")


if __name__ == "__main__":
    run(main)
