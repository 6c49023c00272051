"""Measure what cached states save: an epoch of a recipe the original's way, ours, and with --cache_states.

    OMP_NUM_THREADS=1 python scripts/benchmark_states.py --output_dir output/benchmark-states --repeats 3 -- \\
        examples/run_pretrain_fac_adapter.py --model_name_or_path folder --data_dir data/trex-rc --adapter_size 128

After -- stands a recipe of `examples/` with its flags, which must freeze the backbone. A run is one epoch, or as many
steps as --max_steps says there. The ways run in turn, in one process: padded to --max_seq_length and attending to
padding, as the original; plain; with an empty cache (first epoch); with a full one (later epoch). Only the training is
timed, neither start nor checkpoint: by the clock, and in seconds of a core, which do not count waiting for other
programs. Prints each run, and a table of medians for docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from kadapter.console import COUNT, Parser, absolute, run
from kadapter.training import fitting, loop

WAYS = {
    "the original's way": ["--pad_to_max_length=True", "--attend_padding=True"],
    "plain": [],
    "first epoch": ["--cache_states"],
    "later epoch": ["--cache_states"],
}
ALWAYS = (
    "--do_train=True --evaluate_during_training=False --overwrite_output_dir=True --save_steps=0 --num_train_epochs=1"
)


def load_recipe(path: str) -> Callable[[Sequence[str]], Any]:
    """The `main` of a recipe's file."""
    place = Path(path).resolve()
    spec = importlib.util.spec_from_file_location(place.stem, place)
    if spec is None or spec.loader is None or not place.is_file():
        raise ValueError(f"{path} is no recipe; name a file of examples/ behind --.")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def timed(main: Callable[[Sequence[str]], Any], flags: Sequence[str]) -> tuple[float, float]:
    """Seconds of the training by the clock and of a core."""
    found: list[tuple[float, float]] = []
    real, save = fitting.train, loop.save_checkpoint

    def train(*args: Any, **options: Any) -> Any:
        began = time.perf_counter(), time.process_time()
        result = real(*args, **options)
        found.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        return result

    fitting.train, loop.save_checkpoint = train, lambda *args, **options: None
    try:
        main(flags)
    finally:
        fitting.train, loop.save_checkpoint = real, save
    return found[0]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--output_dir", required=True, type=absolute, help="folder for the runs and the cached states")
    parser.add_argument("--repeats", type=COUNT, default=3, help="rounds, whose median is shown")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="measure only these")
    parser.add_argument("recipe", nargs="+", help="after --: a file of examples/ and its flags")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    recipe, cache = load_recipe(args.recipe[0]), args.output_dir / "states"
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in args.ways}
    for _ in range(args.repeats):
        for way in args.ways:
            if way == "first epoch":
                shutil.rmtree(cache, ignore_errors=True)
            own = [f"{flag}={cache}" if flag == "--cache_states" else flag for flag in WAYS[way]]
            place = f"--output_dir={args.output_dir / 'runs' / way.replace(' ', '-')}"
            found[way].append(timed(recipe, [*args.recipe[1:], *ALWAYS.split(), *own, place]))
            print(way, *(f"{value:.2f}" for value in found[way][-1]), flush=True)
    print("| an epoch | seconds | seconds of a core | times faster than the first row, by seconds of a core |")
    print("|---|---|---|---|")
    seconds = {way: [median(values) for values in zip(*runs, strict=True)] for way, runs in found.items()}
    base = seconds[args.ways[0]][1]
    for way, (clock, core) in seconds.items():
        print(f"| {way} | {clock:.1f} | {core:.1f} | {base / core:.2f} |")


if __name__ == "__main__":
    run(main)
