"""Scripts and recipes of the demo, many calls in each of two processes.

For models so small, starting Python takes as long as training, and two processes with one thread each are faster than
one with two.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BACKBONE = ROOT / "pretrained_models" / "roberta-demo"
LOG = "log.txt"
# Far from the paper's sizes; the projections start larger, since the demo has no days for small ones to grow.
ADAPTER = ["--adapter_size", 64, "--adapter_attention_heads", 4, "--adapter_intermediate_size", 256]
ADAPTER += ["--adapter_initializer_range", 0.02, "--adapter_dropout", 0]
KNOWN = 0.99  # accuracy on dev of relations from which on the factual adapter counts as trained


def start_pool(workers: int = 2) -> ProcessPoolExecutor:
    os.environ["OMP_NUM_THREADS"] = "1"  # which the processes inherit
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def call(script: str, folder: Path, *flags: object) -> Any:
    """Call the `main` of a file in examples/ or scripts/ in this process; what it says goes into log.txt in the folder.

    Returns:
        What `main` returns: of recipes, what metrics.json holds.

    Raises:
        ChildProcessError: it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sys.path[:0] = [path for path in (str(ROOT / "examples"), str(ROOT / "scripts")) if path not in sys.path]
    with (folder / LOG).open("w", encoding="utf-8") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    try:
        return importlib.import_module(script).main([*map(str, flags)])
    except (Exception, SystemExit) as error:
        raise ChildProcessError(f"{script} failed ({error}); {folder / LOG} says more.") from None


def recipe(
    script: str, data: Path, output: Path, batch: int, steps: int, rate: float, every: int, *flags: object
) -> dict[str, Any]:
    """Train on a frozen backbone."""
    return call(
        *(script, output, "--model_name_or_path", BACKBONE, "--data_dir", data, "--output_dir", output, "--do_train"),
        *("--per_gpu_train_batch_size", batch, "--per_gpu_eval_batch_size", 256, "--max_seq_length", 64),
        *("--max_steps", steps, "--learning_rate", rate, "--warmup_steps", steps // 20, "--eval_steps", every),
        *("--save_steps", every, "--max_save_checkpoints", 1, "--logging_steps", 50, "--no_cuda", "--freeze_bert"),
        *("--features_cache", data.parent / "features", *ADAPTER, *flags),
    )


def the_run(folder: Path) -> Path:
    """The one finished run in a folder."""
    (path,) = [path.parent for path in folder.glob("*/metrics.json")]
    return path


def pretrain_fac(data: Path, output: Path, seeds: Sequence[int]) -> tuple[Path, float]:
    """The factual adapter, and the dev accuracy of its relations: of the first seed with which it learns its facts.

    Kernels of different processors round differently, and training so small a model may get stuck on some of them. What
    decides is dev of the pretraining alone, which no task shows.
    """
    found = list[tuple[float, Path]]()
    for seed in seeds:
        folder = output / f"seed-{seed}"
        report = recipe(
            "run_pretrain_fac_adapter", data / "trex-rc", folder, 64, 1250, 1e-3, 250, "--do_eval", "--seed", seed
        )
        found.append((report["dev"]["accuracy"], the_run(folder) / "best"))
        if found[-1][0] >= KNOWN:
            break
    accuracy, place = max(found)
    return place, accuracy


def pretrain_lin(data: Path, output: Path) -> tuple[Path, float]:
    """The linguistic adapter, and the share of heads that it finds in sentences of dev."""
    report = recipe("run_pretrain_lin_adapter", data / "find_head", output, 32, 1000, 1e-3, 250, "--do_eval")
    return the_run(output) / "best", report["dev"]["accuracy"]


def probe(data: Path, output: Path) -> dict[str, Any]:
    """A domain adapter on the stated facts, and what `probe_lama.py` finds without and with it."""
    stated, run = data / "stated", output / "domain"
    flags = ("--mask_spans", "--line_by_line", "--evaluate_during_training", False)
    recipe("run_pretrain_mlm_adapter", stated, run, 32, 700, 1e-3, 700, *flags)
    return call(
        *("probe_lama", output, "--model_name_or_path", BACKBONE, "--adapter", f"domain={the_run(run)}"),
        *("--untrained", "--facts", stated / "triples.tsv", "--aliases", stated / "aliases.tsv", "--no_cuda"),
        *("--templates", stated / "templates.json", "--output", output),
    )
