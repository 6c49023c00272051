"""The whole K-Adapter pipeline on the embedded world, in some minutes on two CPU cores.

    make demo          # or: python scripts/run_demo.py [--output_dir output/demo] [--seeds 42 43 44]

Facts about made-up entities stand only in the factual pretraining data. The factual adapter learns them beside a
frozen backbone; then entity typing is learned with none, fac, lin and both adapters, the backbone still frozen, and
tested on entities and sentences that this training never saw. The linguistic adapter is shown by what it learned
itself: heads of words in unseen sentences, against the same head on the bare backbone. Killed and started again, it
goes on where it was.

Each recipe is its own process with one thread, two at a time: for so small a model that is faster than two threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from kadapter.console import SEED, Parser, absolute, run
from kadapter.storage.locks import exclusive

ROOT = Path(__file__).resolve().parent.parent
BACKBONE = ROOT / "pretrained_models" / "roberta-demo"
# Far from the paper's sizes; the projections start larger, since the demo has no days for small ones to grow.
ADAPTER = ["--adapter_size", 64, "--adapter_attention_heads", 4, "--adapter_intermediate_size", 256]
ADAPTER += ["--adapter_initializer_range", 0.02, "--adapter_dropout", 0]


def script(path: str, *flags: object, quiet: bool = False) -> None:
    """Run a script of this repository; its last words are shown if it fails.

    Raises:
        ChildProcessError: it failed.
    """
    done = subprocess.run(
        [sys.executable, str(ROOT / path), *map(str, flags)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE if quiet else None,
        text=True,
    )
    if done.returncode:
        print((done.stderr or "")[-3000:], file=sys.stderr)
        raise ChildProcessError(f"{path} failed; what it said stands above.")


def recipe(
    path: str, data: Path, output: Path, batch: int, steps: int, rate: float, every: int, *flags: object
) -> None:
    began = time.perf_counter()
    script(
        path,
        *("--model_name_or_path", BACKBONE, "--data_dir", data, "--output_dir", output, "--do_train", "--do_eval"),
        *("--per_gpu_train_batch_size", batch, "--per_gpu_eval_batch_size", 128, "--max_seq_length", 64),
        *("--max_steps", steps, "--learning_rate", rate, "--warmup_steps", steps // 20, "--eval_steps", every),
        *("--save_steps", every, "--max_save_checkpoints", 1, "--logging_steps", 20, "--no_cuda"),
        *("--features_cache", data.parent / "features", *ADAPTER, *flags),
        quiet=True,
    )
    print(f"   {output.name}: {time.perf_counter() - began:.0f} s", flush=True)


def the_run(folder: Path) -> Path:
    """The one finished run in a folder."""
    (path,) = [path.parent for path in folder.glob("*/metrics.json")]
    return path


def finish(tasks: list[Future]) -> None:
    for task in tasks:
        task.result()


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--output_dir", type=absolute, default=str(ROOT / "output" / "demo"), help="folder to write")
    parser.add_argument("--seeds", nargs="+", type=SEED, default=[42, 43, 44], help="seeds of the runs")
    args = parser.parse_args(argv)
    with exclusive(args.output_dir / "data", "give another --output_dir"):
        make_all(args.output_dir, args.seeds)


def make_all(output: Path, seeds: list[int]) -> None:
    """World, adapters, typing, table."""
    began = time.perf_counter()
    data, workers = output / "data", ThreadPoolExecutor(max_workers=2)

    print("1. The world: made-up entities, facts, trees and typing examples.", flush=True)
    script("scripts/make_demo_data.py", "--output_dir", data)

    print(
        "2. Factual adapter (relations); linguistic adapter (heads of words) and the same without adapter.", flush=True
    )
    fac, lin = "examples/run_pretrain_fac_adapter.py", "examples/run_pretrain_lin_adapter.py"
    finish(
        [
            workers.submit(recipe, fac, data / "trex-rc", output / "fac", 64, 2500, 1.5e-3, 250),
            workers.submit(recipe, lin, data / "find_head", output / "lin", 32, 600, 1e-3, 200),
            workers.submit(recipe, lin, data / "find_head", output / "no_lin", 32, 600, 1e-3, 200, "--no_adapter"),
        ]
    )

    print("3. Entity typing with none, fac, lin and both adapters, on several seeds.", flush=True)
    with_fac = f"--meta_fac_adaptermodel={the_run(output / 'fac') / 'best'}"
    with_lin = f"--meta_lin_adaptermodel={the_run(output / 'lin') / 'best'}"
    settings = {"none": [], "fac": [with_fac], "lin": [with_lin], "both": [with_fac, with_lin]}
    typing = "examples/run_finetune_openentity_adapter.py"
    # A backbone that is trained drifts away from frozen adapters, which makes scores a matter of seeds and of rounding.
    frozen = ("--freeze_bert", "--seed")
    finish(
        [
            workers.submit(
                recipe, typing, data / "OpenEntity", output / "typing" / name, 16, 300, 1e-3, 50, *frozen, seed, *flags
            )
            for seed in seeds
            for name, flags in settings.items()
        ]
    )

    print("\nHeads found in unseen sentences: the linguistic adapter, and the same head on the bare backbone.\n")
    heads = ("--split", "dev", "--metrics", "accuracy", "--title", "Heads found in unseen sentences")
    script("scripts/results_table.py", output / "no_lin", output / "lin", *heads, "--output", output / "heads")
    print("\nEntity typing of unseen entities in unseen sentences: test, mean and deviation over seeds.\n")
    title = ("--split", "test", "--title", "Typing of entities that fine-tuning never saw")
    script("scripts/results_table.py", *(output / "typing" / name for name in settings), *title, "--output", output)
    minutes = (time.perf_counter() - began) / 60
    print(f"\nTable and plots: {output}/table.md, scores.png, curves.png, heads/scores.png. {minutes:.1f} minutes.")


if __name__ == "__main__":
    run(main)
