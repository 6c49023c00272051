"""Measure many tasks on one backbone: memory, loading, switching, batches of mixed tasks, threads.

    OMP_NUM_THREADS=1 python scripts/benchmark_tasks.py --output_dir output/benchmark-tasks [--tasks 20] [--repeats 15]

The backbone has random weights in the shape of bert-base (or is --model_name_or_path, a folder or hub name); each task
has bottlenecks of 64, norms and a head of two labels. Prints tables for docs/benchmarks.md. Times of batches are
medians of the seconds of a core, and what is compared runs in turn, so that other programs on the machine disturb the
figures little. Memory is measured in processes of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from kadapter import BottleneckConfig, HeadConfig, KAdapterModel, MultiTaskModel, TaskModel
from kadapter.console import COUNT, Parser, absolute, run

SIZE = 64
SHAPES = ((20, 32), (20, 128), (40, 32), (40, 128))  # examples and tokens of a batch
HELD = "--held"  # what a process of its own holds
BACKBONE, WHOLE, TASKS = "backbone", "whole", "tasks"  # folders


def make(out: Path, source: str | None, tasks: int) -> None:
    """Write a backbone, one task model as a whole, and the tasks' folders."""
    torch.manual_seed(0)
    backbone = (
        AutoModel.from_config(AutoConfig.for_model("bert")) if source is None else AutoModel.from_pretrained(source)
    )
    backbone.save_pretrained(out / BACKBONE)
    for name in names_of(tasks):
        encoder = KAdapterModel.from_pretrained(out / BACKBONE, bottlenecks={"default": BottleneckConfig(SIZE)})
        task = TaskModel.from_encoder(encoder, HeadConfig("classification", 2))
        with torch.no_grad():
            for key in task.task_names():  # fresh ones would be nearly the same in all tasks
                weight = task.get_parameter(key)
                weight.add_(0.02 * torch.randn_like(weight))
        task.save_task(out / TASKS / name)
        if name == names_of(tasks)[0]:
            task.save_pretrained(out / WHOLE)


def names_of(tasks: int) -> list[str]:
    return [f"task{i}" for i in range(tasks)]


def many(out: Path, tasks: int) -> MultiTaskModel:
    model = MultiTaskModel.from_pretrained(out / BACKBONE)
    for name in names_of(tasks):
        model.add_task(name, out / TASKS / name)
    return model.eval()


# -- memory and loading -----------------------------------------------------------------------------------------


def hold(out: Path, held: str, tasks: int) -> None:
    """Load what `held` names, run each once, and print seconds of loading, MiB of weights, and of resident memory."""
    before = resident_mib()
    began = time.perf_counter()
    models = [many(out, tasks)] if held == "tasks" else [TaskModel.from_pretrained(out / WHOLE) for _ in range(tasks)]
    seconds = time.perf_counter() - began
    with torch.inference_mode():
        for model in models:
            model(**batch_of(2, 32), **({"task": names_of(tasks)[0]} if held == "tasks" else {}))
    weights = sum(tensor.nbytes for model in models for tensor in model.state_dict().values()) / 2**20
    print(json.dumps([seconds, weights, resident_mib() - before]))


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def show_memory(out: Path, tasks: int) -> None:
    print("| what a process holds | loading, s | weights, MiB | resident, MiB | × one model |\n|---|---|---|---|---|")
    one = None
    rows = (("one model of one task", "models", 1), (f"one backbone with {tasks} tasks", "tasks", tasks))
    for what, held, count in (*rows, (f"{tasks} models of one task each", "models", tasks)):
        command = [sys.executable, __file__, "--output_dir", str(out), HELD, held, "--tasks", str(count)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        one = one or found
        times = f"{found[1] / one[1]:.2f} ({found[2] / one[2]:.2f} resident)"
        print(f"| {what} | {found[0]:.2f} | {found[1]:,.0f} | {found[2]:,.0f} | {times} |", flush=True)


# -- time -------------------------------------------------------------------------------------------------------


def batch_of(rows: int, length: int) -> dict[str, torch.Tensor]:
    """Ids of a batch without padding, the same for the same shape."""
    ids = torch.randint(5, 1000, (rows, length), generator=torch.Generator().manual_seed(rows * length))
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "positions": torch.zeros(rows, 1, dtype=torch.long),
    }


def alternately(repeats: int, *calls: Callable[[], Any]) -> list[float]:
    """Median milliseconds of a core of each call, run one after the other in `repeats` rounds after a first one."""
    found: list[list[float]] = [[] for _ in calls]
    for i in range(repeats + 1):
        for call, times in zip(calls, found, strict=True):
            began = time.process_time()
            call()
            if i:
                times.append((time.process_time() - began) * 1000)
    return [median(times) for times in found]


def show_batches(model: MultiTaskModel, names: Sequence[str], repeats: int) -> None:
    title = f"one example of each of {len(names)} tasks"
    print(f"\n| batch | of one task, ms of a core | {title}, ms of a core | × |\n|---|---|---|---|")
    for rows, length in SHAPES:
        batch, mixed = batch_of(rows, length), [names[i % len(names)] for i in range(rows)]
        one, all_of_them = alternately(
            repeats,
            partial(model, **batch, task=names[0]),
            partial(model, **batch, task_names=mixed),
        )
        print(
            f"| {rows} × {length} tokens | {one:.0f} | {all_of_them:.0f} | {all_of_them / one:.2f} |",
            flush=True,
        )


def show_switching(model: MultiTaskModel, names: Sequence[str], repeats: int, out: Path) -> None:
    batch = batch_of(1, 16)
    turns = iter(range(10**9))
    same, other = alternately(
        10 * repeats,
        lambda: model(**batch, task=names[0]),
        lambda: model(**batch, task=names[next(turns) % len(names)]),
    )
    (load,) = alternately(3, lambda: TaskModel.from_pretrained(out / WHOLE))
    print("\n| one text of 16 tokens | ms of a core |\n|---|---|")
    print(f"| always the same task | {same:.1f} |\n| another task at each call | {other:.1f} |")
    print(f"| loading another model from disk instead (from the page cache) | {load:.0f} |", flush=True)


def show_threads(model: MultiTaskModel, names: Sequence[str], threads: int = 4) -> None:
    """Compare what threads get that share the model, each for another task at each call, with what one gets."""
    batch = batch_of(4, 32)

    def answer(name: str) -> torch.Tensor:
        with torch.inference_mode():
            return model(**batch, task=name).logits

    alone = {name: answer(name) for name in names}
    asked = list(names) * 5
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(answer, asked))
    worst = max((a - alone[name]).abs().max().item() for name, a in zip(asked, found, strict=True))
    apart = min((alone[a] - alone[b]).abs().max().item() for a in names for b in names if a < b)
    print(f"\n{threads} threads, {len(asked)} calls: at most {worst:.1e} from one thread's answers,", end=" ")
    print(f"while those of two tasks differ by at least {apart:.1e}.")


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write; it is emptied first")
    parser.add_argument(
        "--model_name_or_path", help="backbone: a folder or hub name; default: random weights in the shape of bert-base"
    )
    parser.add_argument("--tasks", type=COUNT, default=20, help="tasks on the backbone")
    parser.add_argument("--repeats", type=COUNT, default=15, help="measurements, whose median is shown")
    parser.add_argument(HELD, choices=("tasks", "models"), help="for the processes that this script starts")
    args = parser.parse_args(argv)
    out: Path = args.output_dir
    if args.held:
        hold(out, args.held, args.tasks)
        return
    shutil.rmtree(out, ignore_errors=True)
    make(out, args.model_name_or_path, args.tasks)
    show_memory(out, args.tasks)
    model, names = many(out, args.tasks), names_of(args.tasks)
    with torch.inference_mode():
        show_batches(model, names, args.repeats)
        show_switching(model, names, args.repeats, out)
    show_threads(model, names)


if __name__ == "__main__":
    run(main)
