"""The whole K-Adapter pipeline on the embedded world, in some minutes on two CPU cores.

    make demo          # or: python scripts/run_demo.py [--output_dir output/demo] [--seeds 42 43 44]

Facts about made-up entities stand only in the factual pretraining data. The factual adapter learns them beside a
frozen backbone; then entity typing is fine-tuned with none, fac, lin and both adapters, and tested on entities and
sentences that fine-tuning never saw. The linguistic adapter is shown by what it learned itself: heads of words in
unseen sentences, against the same head on the bare backbone. Killed and started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import runpy
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BACKBONE = ROOT / "pretrained_models" / "roberta-demo"
ADAPTER = ["--adapter_size", "64", "--adapter_attention_heads", "4", "--adapter_intermediate_size", "256"]


def script(path: str, *flags: str | Path) -> None:
    """Run a script of this repository with a command line, in this process."""
    runpy.run_path(str(ROOT / path), run_name="kadapter_demo")["main"]([str(flag) for flag in flags])


def recipe(path: str, data: Path, output: Path, batch: int, steps: int, rate: float, every: int, *flags: str | Path) -> None:
    script(path, "--model_name_or_path", BACKBONE, "--data_dir", data, "--output_dir", output, "--do_train", "--do_eval",
           "--per_gpu_train_batch_size", str(batch), "--per_gpu_eval_batch_size", "128", "--max_steps", str(steps),
           "--learning_rate", str(rate), "--warmup_steps", str(steps // 10), "--eval_steps", str(every),
           "--save_steps", str(every), "--max_save_checkpoints", "1", "--logging_steps", "20",
           "--features_cache", output / "features", "--no_cuda", *ADAPTER, *flags)  # fmt: skip


def the_run(folder: Path) -> Path:
    """The one finished run in a folder."""
    (path,) = [path.parent for path in folder.glob("*/metrics.json")]
    return path


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default=str(ROOT / "output" / "demo"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    args = parser.parse_args(argv)
    output, began = Path(args.output_dir), time.perf_counter()
    data = output / "data"

    print("1. The world: made-up entities, facts, trees and typing examples.", flush=True)
    script("scripts/make_demo_data.py", "--output_dir", data)

    print("2. Factual adapter: the relation between two entities.", flush=True)
    recipe("examples/run_pretrain_fac_adapter.py", data / "trex-rc", output / "fac", 64, 1200, 2e-3, 300,
           "--max_seq_length", "64")  # fmt: skip

    print("3. Linguistic adapter: the head of every word; and the bare backbone for comparison.", flush=True)
    for flags in ([], ["--no_adapter"]):
        recipe("examples/run_pretrain_lin_adapter.py", data / "find_head", output / ("lin" if not flags else "no_lin"),
               32, 300, 1e-3, 100, "--max_seq_length", "64", *flags)  # fmt: skip

    print("4. Entity typing with none, fac, lin and both adapters, on several seeds.", flush=True)
    fac, lin = the_run(output / "fac") / "best", the_run(output / "lin") / "best"
    settings: dict[str, list[str]] = {
        "none": [],
        "fac": [f"--meta_fac_adaptermodel={fac}"],
        "lin": [f"--meta_lin_adaptermodel={lin}"],
        "both": [f"--meta_fac_adaptermodel={fac}", f"--meta_lin_adaptermodel={lin}"],
    }
    for seed in args.seeds:
        for name, flags in settings.items():
            recipe("examples/run_finetune_openentity_adapter.py", data / "OpenEntity", output / "typing" / name, 16, 200,
                   3e-4, 40, "--max_seq_length", "64", "--seed", str(seed), "--comment", name, *flags)  # fmt: skip

    print("\nHead accuracy on unseen sentences: the linguistic adapter, and the same head on the bare backbone.\n")
    script("scripts/results_table.py", output / "lin", output / "no_lin", "--split", "dev", "--metrics", "accuracy",
           "--output", output / "heads", "--title", "Heads found in unseen sentences")  # fmt: skip
    print("\nEntity typing of unseen entities in unseen sentences, test, mean and deviation over seeds.\n")
    script("scripts/results_table.py", *(output / "typing" / name for name in settings), "--split", "test",
           "--output", output, "--title", "Typing of entities that fine-tuning never saw")  # fmt: skip
    print(f"\nTable and plots: {output}/table.md, scores.png, curves.png, heads/scores.png. "
          f"{(time.perf_counter() - began) / 60:.1f} minutes.")  # fmt: skip


if __name__ == "__main__":
    main()
