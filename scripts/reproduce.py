"""A table of the paper, whole: every setting of every data set over several seeds, beside the published numbers.

    python scripts/reproduce.py --table 4 --gpus 0,1,2,3 --output output/table4
    python scripts/reproduce.py --table 2 --only openentity --print > commands.txt     # for a cluster
    python scripts/reproduce.py --table 4 -- --per_gpu_train_batch_size 8 --bf16 True   # flags for every run

Table 2 is entity typing (OpenEntity, FIGER), 3 question answering (CosmosQA, SearchQA, Quasar-T), 4 relations (TACRED).
Settings: RoBERTa, adapters without knowledge, fac, lin, both, and with --multitask a backbone that was trained on both
pretraining tasks. What is missing is listed before anything runs. Started again, finished runs are only checked and
killed ones go on. Writes reproduce.md and reproduce.json. The flags are the best that the original's README names; its
hours on 16 GB P100, a run: OpenEntity 2, CosmosQA 8, TACRED 7 on four. Nobody here had the released adapters, TACRED or
a GPU of that size: the script is tried with tiny models alone.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from compare import NAMED, Setting, run_all
from paired_tests import interval_of_seeds
from recipe_runs import command_of, seed_list

from kadapter.console import COUNT, Parser, absolute, place, run
from kadapter.data.jsonio import read_json, write_json
from kadapter.storage.files import atomic_files
from kadapter.storage.runs import read_metrics

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = Path(__file__).with_name("published.json")
ADAPTERS_FROM = "the authors' adapters are linked from the README of github.com/microsoft/K-Adapter"
MULTITASK = "RoBERTa + multitask"


@dataclass(frozen=True)
class DataSet:
    """One data set of a table: its run script is run_finetune_<name>_adapter.sh.

    folder: below data/. flags: the best that the original's README or the paper names. source: where it is had.
    """

    name: str
    folder: str
    flags: str
    source: str
    split: str = "test"


OPENQA = "its retrieval data are linked from github.com/thunlp/OpenQA"
TABLES = {
    "2": (
        DataSet(
            "openentity",
            "OpenEntity",
            "--learning_rate 5e-6 --warmup_steps 500",
            "linked from the README of github.com/microsoft/K-Adapter; its licence is not stated",
        ),
        DataSet(
            "figer",
            "FIGER",
            "--learning_rate 5e-6 --warmup_steps 1000 --gradient_accumulation_steps 512",
            "linked from the README of github.com/microsoft/K-Adapter",
        ),
    ),
    "3": (
        DataSet(
            "cosmosqa",
            "cosmosQA",
            "--gradient_accumulation_steps 32",
            "github.com/wilburOne/cosmosqa, CC BY 4.0; the labels of test are kept back",
            "dev",
        ),
        DataSet("searchqa", "searchqa", "", OPENQA),
        DataSet("quasart", "quasart", "", OPENQA),
    ),
    "4": (
        DataSet(
            "tacred",
            "TACRED",
            "--learning_rate 1e-5 --warmup_steps 200",
            "licensed, catalog.ldc.upenn.edu/LDC2018T24; scripts/convert_tacred.py turns it into this form",
        ),
    ),
}


def settings(args: argparse.Namespace) -> list[Setting]:
    """The rows of every table, called as in published.json."""
    fac, lin = f"--meta_fac_adaptermodel={args.fac}", f"--meta_lin_adaptermodel={args.lin}"
    rows = {
        "RoBERTa": [],
        "K-Adapter without knowledge": [f"--untrained=untrained={args.fac}"],
        "K-Adapter F": [fac],
        "K-Adapter L": [lin],
        "K-Adapter F+L": [fac, lin],
    }
    without, model = [f"--{flag}=" for flag in NAMED], f"--model_name_or_path={args.model_name_or_path}"
    found = [Setting(name, False, [model, *without, *flags]) for name, flags in rows.items()]
    if args.multitask:
        found.append(Setting(MULTITASK, False, [f"--model_name_or_path={args.multitask}", *without]))
    return found


def missing(args: argparse.Namespace, sets: Sequence[DataSet]) -> list[str]:
    """What a run would end for want of, each with where to get it."""
    found = [f"{path}: {ADAPTERS_FROM}" for path in (args.fac, args.lin) if not path.exists()]
    for one in sets:
        if not (folder := args.data / one.folder).is_dir():
            found.append(f"{folder}: {one.source}")
    models = [args.model_name_or_path, *([args.multitask] if args.multitask else [])]
    return [
        *found,
        *(f"{model}: no such folder" for model in models if model.startswith("/") and not Path(model).exists()),
    ]


def script(one: DataSet) -> Path:
    return ROOT / f"run_finetune_{one.name}_adapter.sh"


def recipe(one: DataSet, args: argparse.Namespace) -> list[str]:
    """The command of a data set, to which the flags of a setting are added; yours win over ours."""
    return ["bash", str(script(one)), *one.flags.split(), f"--data_dir={args.data / one.folder}", *args.flags]


def print_commands(args: argparse.Namespace, sets: Sequence[DataSet]) -> None:
    """A command a line, in the folders in which this script looks for finished runs."""
    for one in sets:
        for setting in settings(args):
            for seed in args.seeds:
                folder = args.output / one.name / "runs" / setting.folder / f"seed-{seed}"
                command = command_of([*recipe(one, args), *setting.flags], {"seed": str(seed)})
                print(shlex.join([*command, f"--output_dir={folder}"]))


def reported(one: DataSet, found: Sequence[Setting], args: argparse.Namespace) -> list[dict[str, Any]]:
    """For each setting our scores by metric, over the seeds, and the published ones; in per cent."""
    published = read_json(PUBLISHED).get(one.name, {})
    theirs = {row["label"]: row for split in (one.split, "ablation") for row in published.get(split, [])}
    rows = []
    for setting in found:
        label = next((f"{setting.name} ({of})" for of in ("paper", "README") if f"{setting.name} ({of})" in theirs), "")
        values = theirs.get(label, {})
        metrics = [name for name in values if name != "label"] or [setting.metric]
        scores: dict[str, list[float]] = {name: [] for name in metrics}
        for seed in args.seeds:
            folder = args.output / one.name / "runs" / setting.folder / f"seed-{seed}"
            (report,) = (read_metrics(path.parent) for path in folder.glob("*/metrics.json"))
            for name in metrics:
                scores[name].append(100 * report[one.split][name])
        rows.append(
            {
                "data": one.name,
                "setting": setting.name,
                "source": label,
                "split": one.split,
                "ours": scores,
                "published": {name: values[name] for name in metrics if name in values},
            }
        )
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each data set, setting and metric."""
    lines = [
        "| data | setting | metric | ours | 95 % of the mean | published | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for metric, scores in row["ours"].items():
            mean, half = float(np.mean(scores)), interval_of_seeds(scores)
            spread = f" ± {np.std(scores, ddof=1):.2f}" if len(scores) > 1 else ""
            theirs = row["published"].get(metric)
            beside = ["–", "–"] if theirs is None else [f"{theirs:.2f}", f"{mean - theirs:+.2f}"]
            cells = [f"{row['data']}, {row['split']}", row["setting"], metric, f"{mean:.2f}{spread}"]
            lines.append(f"| {' | '.join([*cells, '–' if np.isnan(half) else f'± {half:.2f}', *beside])} |")
    return "\n".join(
        [*lines, "", "Per cent: mean ± deviation over seeds; published are single numbers, chosen on dev."]
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    adapters = ROOT / "pretrained_models"
    parser = Parser(__doc__)
    parser.add_argument("--table", choices=list(TABLES), required=True, help="of the paper")
    parser.add_argument("--only", nargs="+", default=[], metavar="DATA", help="of its data sets, such as openentity")
    parser.add_argument("--seeds", type=seed_list, default="42,43,44", help="whole numbers with commas between them")
    parser.add_argument("--data", type=absolute, default=str(ROOT / "data"), help="holds the folders of the data sets")
    parser.add_argument(
        "--model_name_or_path", type=place, default="roberta-large", help="backbone: a folder or hub name"
    )
    parser.add_argument(
        "--fac", type=absolute, default=str(adapters / "fac-adapter" / "pytorch_model.bin"), help="factual adapter"
    )
    parser.add_argument(
        "--lin", type=absolute, default=str(adapters / "lin-adapter" / "pytorch_model.bin"), help="linguistic adapter"
    )
    parser.add_argument("--multitask", type=place, help="a backbone that was trained on both pretraining tasks")
    parser.add_argument("--output", type=absolute, default="output/reproduce", help="folder for the runs and the table")
    parser.add_argument("--workers", type=COUNT, default=1, help="runs at a time here; with --gpus: one a GPU")
    parser.add_argument("--gpus", default="", help='shared out to the workers, such as "0,1"')
    parser.add_argument("--print", action="store_true", help="print the commands instead of running them")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="-- and flags for every run")
    args = parser.parse_args(argv)
    args.flags = args.flags[1:] if args.flags[:1] == ["--"] else args.flags
    known = [one.name for one in TABLES[args.table]]
    if unknown := [name for name in args.only if name not in known]:
        parser.error(f"--only names {unknown[0]!r}; table {args.table} has {', '.join(known)}.")
    return args


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    args = _arguments(argv)
    sets = [one for one in TABLES[args.table] if not args.only or one.name in args.only]
    lacking = missing(args, sets)
    if args.print:
        print("".join(f"# missing: {one}\n" for one in lacking), end="")
        print_commands(args, sets)
        return []
    if lacking:
        raise FileNotFoundError(f"{len(lacking)} things are missing, and nothing was run. {'. '.join(lacking)}.")
    rows = []
    for one in sets:
        found = settings(args)
        own = argparse.Namespace(output=args.output / one.name, gpus=args.gpus, workers=args.workers, split=one.split)
        run_all(found, args.seeds, recipe(one, args), own)
        rows += reported(one, found, args)
    text = markdown(rows)
    with atomic_files("the table") as aside:
        aside(args.output / "reproduce.md").write_text(text + "\n", encoding="utf-8")
        write_json(aside(args.output / "reproduce.json"), {"table": args.table, "seeds": args.seeds, "rows": rows})
    print(text)
    return rows


if __name__ == "__main__":
    run(main)
