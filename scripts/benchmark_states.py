"""Measure what cached states save: an epoch of a recipe the original's way, ours, and with --cache_states.

    OMP_NUM_THREADS=1 python scripts/benchmark_states.py --output_dir output/benchmark-states --repeats 3 -- \\
        examples/run_pretrain_fac_adapter.py --model_name_or_path folder --data_dir data/trex-rc --adapter_size 128

After -- stands a recipe of `examples/` with its flags, which must freeze the backbone. A run is one epoch, or as many
steps as --max_steps says there. The ways run in turn, in one process: padded to --max_seq_length and attending to
padding, as the original; plain; with an empty cache (first epoch); with a full one (later epoch). With --settings, a
file as of --together, the ways are: a run for each setting, and all together. Only the training is timed, neither start
nor checkpoint: by the clock, and in seconds of a core, which do not count waiting for other programs. Prints each run,
and a table of medians for docs/benchmarks.md.
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
from kadapter.training.settings import read_settings

WAYS = {
    "the original's way": ["--pad_to_max_length=True", "--attend_padding=True"],
    "plain": [],
    "first epoch": ["--cache_states"],
    "later epoch": ["--cache_states"],
}
TOGETHER = ("a run for each", "together")
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
    """Seconds of the training by the clock and of a core; of runs that go together, from first start to last end."""
    begins: list[tuple[float, float]] = []
    ends: list[tuple[float, float]] = []
    real, save = fitting.train, loop.save_checkpoint

    def train(*args: Any, **options: Any) -> Any:
        begins.append((time.perf_counter(), time.process_time()))
        result = real(*args, **options)
        ends.append((time.perf_counter(), time.process_time()))
        return result

    fitting.train, loop.save_checkpoint = train, lambda *args, **options: None
    try:
        main(flags)
    finally:
        fitting.train, loop.save_checkpoint = real, save
    return ends[-1][0] - begins[0][0], ends[-1][1] - begins[0][1]


def timed_way(
    way: str, main: Callable[[Sequence[str]], Any], flags: Sequence[str], output: Path, settings: Path | None
) -> tuple[float, float]:
    """As `timed`, of one way to train an epoch."""
    cache, place = output / "states", f"--output_dir={output / 'runs' / way.replace(' ', '-')}"
    if way == "first epoch":
        shutil.rmtree(cache, ignore_errors=True)
    if way == "together":
        return timed(main, [*flags, place, f"--together={settings}"])
    if way == "a run for each":
        each = [timed(main, [*flags, place, *own]) for own in read_settings(str(settings)).values()]
        clock, core = (sum(seconds) for seconds in zip(*each, strict=True))
        return clock, core
    return timed(main, [*flags, place, *(f"{one}={cache}" if one == "--cache_states" else one for one in WAYS[way])])


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--output_dir", required=True, type=absolute, help="folder for the runs and the cached states")
    parser.add_argument("--repeats", type=COUNT, default=3, help="rounds, whose median is shown")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="measure only these")
    parser.add_argument("--settings", type=absolute, help="compare --together of this file with a run for each setting")
    parser.add_argument("recipe", nargs="+", help="after --: a file of examples/ and its flags")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    recipe, flags = load_recipe(args.recipe[0]), [*args.recipe[1:], *ALWAYS.split()]
    ways = args.ways if args.settings is None else TOGETHER
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(args.repeats):
        for way in ways:
            found[way].append(timed_way(way, recipe, flags, args.output_dir, args.settings))
            print(way, *(f"{value:.2f}" for value in found[way][-1]), flush=True)
    print("| an epoch | seconds | seconds of a core | times faster than the first row, by seconds of a core |")
    print("|---|---|---|---|")
    seconds = {way: [median(values) for values in zip(*runs, strict=True)] for way, runs in found.items()}
    base = seconds[ways[0]][1]
    for way, (clock, core) in seconds.items():
        print(f"| {way} | {clock:.1f} | {core:.1f} | {base / core:.2f} |")


if __name__ == "__main__":
    run(main)
