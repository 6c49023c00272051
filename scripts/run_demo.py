"""The whole K-Adapter pipeline on the embedded world, in some minutes on two CPU cores.

    make demo          # or: python scripts/run_demo.py [--output_dir output/demo] [--seeds 42 43 44 45 46]

Facts about made-up entities stand only in the factual pretraining data; how sentences are built stands only in the
trees of the linguistic pretraining. On the frozen backbone with none, an untrained one, fac, lin and both adapters two
tasks are learned: types of names, which only the facts tell, and which of two names acts, which only the structure of a
sentence tells. Both are tested on names and sentences that they never saw. A domain adapter reads facts as sentences,
and is then asked for them. Killed and started again, it goes on where it was.
"""

from __future__ import annotations

import resource
import time
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import demo_report
from demo_report import QUESTIONS, SETTINGS
from demo_runs import ROOT, call, pretrain_fac, pretrain_lin, probe, recipe, start_pool
from results_table import main as results_table

from kadapter.console import SEED, Parser, absolute, run
from kadapter.storage.locks import exclusive

TASKS = {
    "typing": ("run_finetune_openentity_adapter", "OpenEntity", 16, 200, 2e-3),
    "actors": ("run_finetune_tagging_adapter", "actors", 16, 300, 1e-2),
}  # recipe, data, batch, steps, rate


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--output_dir", type=absolute, default=str(ROOT / "output" / "demo"), help="folder to write")
    parser.add_argument("--seeds", nargs="+", type=SEED, default=[42, 43, 44, 45, 46], help="seeds of the tasks")
    args = parser.parse_args(argv)
    if len(args.seeds) < 2:
        parser.error("--seeds: give two or more, of which the deviation can be told.")
    with exclusive(args.output_dir / "data", "give another --output_dir"):
        began = time.perf_counter()
        with start_pool() as pool:
            make_all(pool, args.output_dir, args.seeds)
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cores = sum(one.ru_utime + one.ru_stime for one in used)
        print(f"{(time.perf_counter() - began) / 60:.1f} minutes, {cores:.0f} seconds of a core.")


def make_all(pool: ProcessPoolExecutor, output: Path, seeds: list[int]) -> None:
    """World, adapters, tasks, table."""
    data = output / "data"
    print("1. The world: made-up entities, facts, trees, examples of tasks.", flush=True)
    pool.submit(call, "make_demo_data", output / "make_data", "--output_dir", data).result()

    print(
        "2. Factual adapter (relations), linguistic adapter (heads of words), domain adapter (sentences).", flush=True
    )
    fac = pool.submit(pretrain_fac, data, output / "fac", seeds[:3])
    lin = pool.submit(pretrain_lin, data, output / "lin")
    probed = pool.submit(probe, data, output / "probe")
    (fac_place, relations), (lin_place, heads) = fac.result(), lin.result()
    print(f"   relations never stated: {100 * relations:.1f} % right; heads of unseen words: {100 * heads:.1f} %")

    print(f"3. Two tasks with {', '.join(SETTINGS.values())}; {len(seeds)} seeds each.", flush=True)
    done = {
        (task, setting, seed): pool.submit(tune, task, output / task / setting, seed, data, flags)
        for seed in seeds
        for task in TASKS
        for setting, flags in settings(fac_place, lin_place).items()
    }
    scores = {
        task: {setting: [100 * _score(done, task, setting, seed) for seed in seeds] for setting in SETTINGS}
        for task in TASKS
    }
    about = {"seeds": seeds, "relations": relations, "heads": heads}
    table = demo_report.write(scores, probed.result(), about, output)
    folders = [str(output / "typing" / setting) for setting in SETTINGS]
    results_table([*folders, "--metrics", "f1", "best_type", "--output", str(output / "typing")], quiet=True)
    print(f"\n{table}\n\nTest data, per cent, mean ± deviation over seeds. Table and pictures: {output}.")


def settings(fac: Path, lin: Path) -> dict[str, list[str]]:
    """Flags of each setting; the control without knowledge has the factual adapter's shape."""
    with_fac, with_lin = f"--meta_fac_adaptermodel={fac}", f"--meta_lin_adaptermodel={lin}"
    control = [f"--untrained=untrained={fac}"]
    return {"none": [], "untrained": control, "fac": [with_fac], "lin": [with_lin], "both": [with_fac, with_lin]}


def tune(task: str, folder: Path, seed: int, data: Path, flags: list[str]) -> dict[str, Any]:
    script, name, batch, steps, rate = TASKS[task]
    return recipe(script, data / name, folder, batch, steps, rate, steps // 5, "--do_eval", "--seed", seed, *flags)


def _score(done: dict[tuple[str, str, int], Future], task: str, setting: str, seed: int) -> float:
    return done[task, setting, seed].result()["test"][QUESTIONS[task].metric]


if __name__ == "__main__":
    run(main)
