"""A table of the papers, whole: every line of every data set over several seeds, beside the published numbers.

    python scripts/reproduce.py --list                                         # tables, what is missing, what cannot be
    python scripts/reproduce.py --table 4 --gpus 0,1,2,3 --output output/table4
    python scripts/reproduce.py --table 2 --only openentity --print > commands.txt     # for a cluster
    python scripts/reproduce.py --table glue -- --learning_rate 1e-3 --bf16 True       # flags for every run

Tables 2, 3, 4 are K-Adapter's: RoBERTa, adapters without knowledge, fac, lin, both, and with --multitask a backbone
that run_pretrain_multitask.sh trained; lama is its probe. glue, tradeoff and squad are Adapter-BERT's. What is missing
is listed before anything runs. Where a run fails, the others go on, and the table says so. Started again, finished runs
are only checked, killed and failed ones go on. Writes reproduce.md, reproduce.json and of tradeoff a picture.
docs/reproduce.md says which number comes from where, and what cannot be reproduced. Nobody here had the released
adapters, TACRED or a large GPU: it is tried with tiny models alone.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_sources import load_sources
from paper_tables import IMPOSSIBLE, ROOT, TABLES, Experiment, Line, Table
from recipe_runs import Job, RecipeFailed, command_of, raise_failed, seed_list, try_jobs
from reproduce_report import Entry, markdown, probed, reported, tradeoff

from kadapter.console import COUNT, Parser, absolute, hub_or_path, run
from kadapter.data.jsonio import read_json, write_json
from kadapter.storage.files import atomic_files

PUBLISHED = Path(__file__).with_name("published.json")


def runs(experiment: Experiment, args: argparse.Namespace) -> list[tuple[Line, Job]]:
    """Each line's runs, the seeds in turn, so that a part of them is a table already; some lines share them."""
    found = []
    for seed in args.seeds:
        for line in experiment.lines:
            if args.lines and line.row not in args.lines:
                continue
            command = command_of([*experiment.command, *args.flags, *line.flags], {"seed": str(seed)})
            folder = args.output / experiment.name / "runs" / line.folder / f"seed-{seed}"
            found.append((line, Job(f"{experiment.name}, {line.name} with seed {seed}", command, folder)))
    return found


def probe_command(args: argparse.Namespace) -> list[str]:
    """LAMA asked of RoBERTa-large without and with the factual adapter, and of BERT-large."""
    command = [sys.executable, str(ROOT / "scripts" / "probe_lama.py"), "--data", str(args.data / "lama")]
    command += ["--model_name_or_path", args.model_name_or_path, *args.beside, f"--adapter=fac={args.fac}"]
    return [*command, "--untrained", f"--uhn_model={args.uhn_model}", f"--output={args.output / 'lama'}", *args.flags]


def missing(args: argparse.Namespace, table: Table, sets: Sequence[Experiment]) -> list[str]:
    """What a run would end for want of, each with where to get it."""
    sources, found = load_sources(), list[str]()
    if table.adapters:
        adapters = (args.fac,) if args.table == "lama" else (args.fac, args.lin)
        found += [f"{path}: {sources['adapters'].how()}" for path in adapters if not path.exists()]
    wanted = [(one.folder, one.source) for one in sets] or [(args.data / "lama", "lama")]
    lacking: dict[str, list[str]] = {}
    for folder, name in wanted:
        if not folder.is_dir():
            lacking.setdefault(name, []).append(str(folder))
    found += [f"{', '.join(folders)}: {sources[name].how()}" for name, folders in lacking.items()]
    models = [args.model_name_or_path, *([args.multitask] if args.multitask else [])]
    return found + [f"{one}: no such folder" for one in models if one.startswith("/") and not Path(one).exists()]


def measured(
    args: argparse.Namespace, table: Table, sets: Sequence[Experiment]
) -> tuple[list[Entry], dict[str, str], int]:
    """Run all that the table needs, and set our scores beside the published ones.

    Returns:
        The table's entries, runs that failed with why, and how many runs there were.
    """
    published = read_json(PUBLISHED)
    if args.table == "lama":
        done = subprocess.run(probe_command(args), check=False)
        if done.returncode:
            raise ChildProcessError(f"probe_lama.py ended with code {done.returncode}; what it said stands above.")
        return probed(read_json(args.output / "lama" / "probe.json"), published["lama"], args, table), {}, 1
    planned = [(experiment, line, job) for experiment in sets for line, job in runs(experiment, args)]
    jobs = {job.folder: job for _, _, job in planned}  # some lines share them
    found = dict(zip(jobs, try_jobs(list(jobs.values()), args.gpus, args.workers), strict=True))
    reports: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for experiment, line, job in planned:
        own = reports.setdefault((experiment.name, line.name), [])
        own += [] if isinstance(one := found[job.folder], RecipeFailed) else [one[1]]
    entries = [
        entry
        for one in sets
        for entry in reported(
            one, {line: own for (data, line), own in reports.items() if data == one.name}, published, table
        )
    ]
    return entries, {jobs[at].label: str(one) for at, one in found.items() if isinstance(one, RecipeFailed)}, len(jobs)


def overview(args: argparse.Namespace) -> list[str]:
    """What can be run, and what cannot."""
    lines = []
    for name, table in TABLES.items():
        own = argparse.Namespace(**{**vars(args), "table": name, "model_name_or_path": table.backbone})
        sets = table.make(own)
        lacking = missing(own, table, sets)
        count = sum(len({job.folder for _, job in runs(one, own)}) for one in sets) or 1
        lines.append(f"--table {name}: {table.title}; {count} runs; {len(lacking)} things are missing")
        lines += [f"    missing: {one}" for one in lacking]
        lines += [f"    not here: {row}, {why}" for row, why in (table.not_here or {}).items()]
    return lines + [f"not here: {why}" for why in IMPOSSIBLE.values()]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    adapters = ROOT / "pretrained_models"
    parser = Parser(__doc__)
    parser.add_argument("--list", action="store_true", help="what can be run, what is missing for it, what cannot be")
    parser.add_argument(
        "--table", choices=[*TABLES, *IMPOSSIBLE], help="of K-Adapter: 2, 3, 4, lama; else Adapter-BERT"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="DATA", help="of its data sets, such as openentity")
    parser.add_argument("--lines", nargs="+", default=[], metavar="LINE", help='of its lines, such as "K-Adapter F+L"')
    parser.add_argument("--seeds", type=seed_list, default="42,43,44", help="whole numbers with commas between them")
    parser.add_argument("--data", type=absolute, default=str(ROOT / "data"), help="holds the folders of the data sets")
    parser.add_argument(
        "--model_name_or_path",
        type=hub_or_path,
        default="",
        help="backbone: a folder or hub name; default: the paper's",
    )
    parser.add_argument(
        "--fac", type=absolute, default=str(adapters / "fac-adapter" / "pytorch_model.bin"), help="factual adapter"
    )
    parser.add_argument(
        "--lin", type=absolute, default=str(adapters / "lin-adapter" / "pytorch_model.bin"), help="linguistic adapter"
    )
    parser.add_argument("--multitask", type=hub_or_path, help="a backbone that was trained on both pretraining tasks")
    parser.add_argument(
        "--beside", type=hub_or_path, nargs="*", default=["bert-large-cased"], help="lama: other models"
    )
    parser.add_argument(
        "--uhn_model", type=hub_or_path, default="bert-base-cased", help="lama: guesses objects from names"
    )
    parser.add_argument("--output", type=absolute, default="output/reproduce", help="folder for the runs and the table")
    parser.add_argument("--workers", type=COUNT, default=1, help="runs at a time here; with --gpus: one a GPU")
    parser.add_argument("--gpus", default="", help='shared out to the workers, such as "0,1"')
    parser.add_argument("--print", action="store_true", help="print the commands instead of running them")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="-- and flags for every run")
    args = parser.parse_args(argv)
    args.flags = args.flags[1:] if args.flags[:1] == ["--"] else args.flags
    if args.list:
        return args
    if not args.table:
        parser.error("name a --table, or give --list.")
    if args.table in IMPOSSIBLE:
        parser.error(f"this table cannot be reproduced here. {IMPOSSIBLE[args.table]}.")
    args.model_name_or_path = args.model_name_or_path or TABLES[args.table].backbone
    sets = TABLES[args.table].make(args)
    lines = {line.row: 0 for one in sets for line in one.lines}
    for flag, given, known in (("only", args.only, [one.name for one in sets]), ("lines", args.lines, [*lines])):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"--{flag} names {unknown[0]!r}; table {args.table} has {', '.join(known) or 'one'}.")
    if args.multitask and not (TABLES[args.table].not_here or {}).get("RoBERTa + multitask"):
        parser.error(f"--multitask is a line of the tables 2, 3 and 4, not of {args.table}; leave it out.")
    return args


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    args = _arguments(argv)
    if args.list:
        print("\n".join(overview(args)))
        return []
    table = TABLES[args.table]
    sets = [one for one in table.make(args) if not args.only or one.name in args.only]
    lacking = missing(args, table, sets)
    if args.print:
        print("".join(f"# missing: {one}\n" for one in lacking), end="")
        jobs = {job.folder: job for one in sets for _, job in runs(one, args)}
        commands = [[*job.command, f"--output_dir={job.folder}"] for job in jobs.values()] or [probe_command(args)]
        print("\n".join(map(shlex.join, commands)))
        return []
    if lacking:
        raise FileNotFoundError(f"{len(lacking)} things are missing, and nothing was run. {'. '.join(lacking)}.")
    entries, failed, count = measured(args, table, sets)
    text = markdown(entries, table, args.model_name_or_path, failed)
    rows = [entry.as_json() for entry in entries]
    with atomic_files("the table") as temporary:
        temporary(args.output / "reproduce.md").write_text(text + "\n", encoding="utf-8")
        values = {"table": args.table, "seeds": args.seeds, "flags": args.flags, "rows": rows, "failed": failed}
        write_json(temporary(args.output / "reproduce.json"), json.loads(json.dumps(values)))
        if args.table == "tradeoff":
            tradeoff(entries, args.output / "tradeoff.png", temporary)
    print(text)
    raise_failed([*failed], count)
    return rows


if __name__ == "__main__":
    run(main)
