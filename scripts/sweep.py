"""Search hyperparameters of any recipe with Optuna: a grid, or its samplers.

    python scripts/sweep.py --output output/sweep -- bash run_finetune_openentity_adapter.sh
    python scripts/sweep.py --output output/sweep --sampler tpe --trials 30 --gpus 0,1 \\
        --space learning_rate=1e-6..1e-4:log --space warmup_steps=0,200,500 -- bash run_finetune_tacred_adapter.sh

After -- stands the command of the recipe; each trial adds its values and an --output_dir of its own, and is judged
by the best dev score in metrics.json. The default is the grid of K-Adapter's README. Started again, the search goes
on; killed trials too, from their last checkpoints. Workers on several machines share the output folder, or a
database by --storage (not sqlite). Writes trials.json and pictures into the output folder (history, slice and
importances, each as PNG and PDF) and prints the best command.
Needs optuna, which make install brings.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import socket
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from queue import Queue
from typing import Any

try:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.study import MaxTrialsCallback
    from optuna.trial import TrialState
except ImportError:
    raise SystemExit("error: this script needs optuna; run pip install kadapter[sweep].") from None

from recipe_runs import RecipeFailed, Stopping, command_of, run_recipe
from sweep_plots import plot_history, plot_importances, plot_slice

from kadapter.console import COUNT, SEED, Parser, absolute, run
from kadapter.data.jsonio import write_json
from kadapter.storage.files import atomic_files

README_SPACE = (
    "per_gpu_train_batch_size=4,8",
    "learning_rate=1e-5,5e-6",
    "warmup_steps=0,200,500,1000,1200",
)
JOURNAL = "sweep.journal"  # in the output folder
OVER = (TrialState.COMPLETE, TrialState.FAIL)


def parse_space(texts: Sequence[str]) -> dict[str, Any]:
    """Flag -> list of values ("a=1,2"), or (low, high, log) of a range ("a=1..5", "a=1e-6..1e-4:log").

    Raises:
        ValueError: neither of them.
    """
    space: dict[str, Any] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not (name and equals and values):
            raise ValueError(f"--space is {text!r}; write flag=value,value,... or flag=low..high[:log].")
        if ".." in values:
            limits, _, scale = values.partition(":")
            low, _, high = limits.partition("..")
            try:
                space[name] = (float(low), float(high), scale == "log")
            except ValueError:
                raise ValueError(f"--space is {text!r}; the limits of a range are numbers.") from None
        else:
            space[name] = values.split(",")
    return space


def suggest(trial: optuna.Trial, space: dict[str, Any]) -> dict[str, str]:
    """This trial's flags. Listed values stay text, so that the recipe reads them as they were written."""
    flags = {}
    for name, values in space.items():
        if isinstance(values, tuple):
            low, high, log = values
            whole = low == int(low) and high == int(high) and not log
            kind: Any = trial.suggest_int if whole else trial.suggest_float
            flags[name] = str(kind(name, int(low) if whole else low, int(high) if whole else high, log=log))
        else:
            flags[name] = trial.suggest_categorical(name, values)
    return flags


def run_trial(
    trial: optuna.Trial,
    recipe: Sequence[str],
    space: dict[str, Any],
    output: Path,
    gpus: Queue,
    grid: bool,
    stopping: Stopping,
) -> float:
    """Run the recipe; its best dev score.

    Raises:
        RecipeFailed: it ended with an error, whose last lines are kept with the trial, or was stopped, and the trial is
            queued again.
    """
    if grid and not trial.user_attrs.get("queued"):
        raise optuna.TrialPruned("other workers took the rest of the grid")
    flags = suggest(trial, space)
    # Named by its values: a trial that was killed finds its checkpoints again.
    folder = output / "trials" / hashlib.sha256(json.dumps(flags, sort_keys=True).encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in {"host": socket.gethostname(), "pid": os.getpid(), "folder": folder.name}.items():
        trial.set_user_attr(name, value)
    gpu = gpus.get()
    try:
        place, report = run_recipe(command_of(recipe, flags), folder, gpu, stopping)
    except RecipeFailed:
        if stopping.received:
            trial.study.stop()
            _requeue(trial.study, trial)
            raise
        said = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        trial.set_user_attr("error", "\n".join(said[-3:]))
        raise
    finally:
        gpus.put(gpu)
    metric, score = _score(place, report)
    trial.set_user_attr("metric", metric)
    return score


def _score(place: Path, report: dict[str, Any]) -> tuple[str, float]:
    """The metric that the recipe is judged by, and the best score on dev."""
    best = report.get("best", {})
    scores = [(name, value) for name, value in best.items() if name != "step"] if isinstance(best, dict) else []
    if not scores:
        raise RecipeFailed(
            f"{place / 'metrics.json'} has no best dev score; give the recipe --do_train, a dev split and --eval_steps."
        )
    return scores[0]


def requeue_killed(study: optuna.Study) -> None:
    """Queue again what a killed worker of this machine was about."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        here = trial.user_attrs.get("host") == socket.gethostname()
        if here and not _alive(trial.user_attrs["pid"]):
            _requeue(study, optuna.Trial(study, trial._trial_id))
            study.tell(trial.number, state=TrialState.FAIL)


def _requeue(study: optuna.Study, trial: optuna.Trial) -> None:
    trial.set_user_attr("error", "killed; queued again")
    study.enqueue_trial(trial.params, user_attrs={"queued": True})


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def summarize(study: optuna.Study, recipe: Sequence[str], output: Path) -> None:
    """Print trials and the best command; write trials.json and the plots."""
    trials = study.get_trials(deepcopy=False)
    rows = [
        {"number": t.number, "state": t.state.name, "score": t.value, "flags": t.params, **t.user_attrs} for t in trials
    ]
    write_json(output / "trials.json", rows)
    for row in sorted(rows, key=lambda row: -1 if row["score"] is None else row["score"], reverse=True):
        score = row["state"].lower() if row["score"] is None else f"{100 * row['score']:.2f}"
        print(
            f"{row['number']:>4}  {score:>8}  " + " ".join(f"--{name}={value}" for name, value in row["flags"].items())
        )
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        raise ChildProcessError(f"no trial of {len(trials)} succeeded; their logs are below {output / 'trials'}.")
    metric = next((trial.user_attrs["metric"] for trial in complete if "metric" in trial.user_attrs), "score")
    with atomic_files("the plots") as temporary:
        plot_history(complete, metric, output / "history.png", temporary)
        plot_slice(complete, metric, output / "slice.png", temporary)
        if len({trial.value for trial in complete}) > 1:
            plot_importances(study, metric, output / "importances.png", temporary)
    print(f"\nbest of {len(complete)} ({100 * study.best_value:.2f}), plots in {output}:")
    print(shlex.join(command_of(recipe, {name: str(value) for name, value in study.best_params.items()})))


def _parser() -> Parser:
    parser = Parser(__doc__)
    group = parser.add_argument_group("what to search")
    group.add_argument(
        "--space",
        action="append",
        help="values of a flag: flag=value,value or flag=low..high[:log] (repeatable); default: the grid of "
        "K-Adapter's README",
    )
    group.add_argument(
        "--sampler",
        choices=["grid", "tpe", "random"],
        default="grid",
        help="how values are chosen: all of a grid, or by Optuna",
    )
    group.add_argument("--trials", type=COUNT, help="trials in all, failed ones too; default: the grid, or 20")
    group.add_argument("--seed", type=SEED, default=42, help="seed of the sampler")
    group = parser.add_argument_group("where to run, and where to write")
    group.add_argument("--output", type=absolute, default="output/sweep", help="folder for the trials")
    group.add_argument(
        "--workers", type=COUNT, default=1, help="trials at a time; default with --gpus: one for each GPU"
    )
    group.add_argument("--gpus", default="", help='GPUs that trials are given, such as "0,1"')
    group.add_argument("--storage", help="URL of a database; default: a journal in the output folder")
    group.add_argument("--study", default="sweep", help="name of the search in the database")
    parser.add_argument("recipe", nargs=argparse.REMAINDER, help="-- and the command of the recipe")
    return parser


def _study(args: argparse.Namespace, space: Mapping[str, Any]) -> optuna.Study:
    """The search as it was left, or a new one, with what is to be tried next."""
    # Not sqlite, where two workers may take the same queued trial.
    storage = args.storage or JournalStorage(JournalFileBackend(storage_name(args)))
    try:
        study = optuna.create_study(storage=storage, study_name=args.study, direction="maximize", load_if_exists=True)
    except ValueError as error:  # JSON, or bytes that are no text
        raise ValueError(f"{storage_name(args)} cannot be read ({error}); give another --output.") from error
    requeue_killed(study)
    if args.sampler == "grid":  # queued, since Optuna's own grid may give a point to two workers
        for values in product(*space.values()):
            point = dict(zip(space, values, strict=True))
            study.enqueue_trial(point, user_attrs={"queued": True}, skip_if_exists=True)
    else:
        samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        # Workers and later starts must not draw the same values again.
        study.sampler = samplers[args.sampler](seed=args.seed + len(study.get_trials(deepcopy=False)))
    return study


def main(argv: list[str] | None = None) -> optuna.Study:
    parser = _parser()
    args = parser.parse_args(argv)
    recipe = args.recipe[1:] if args.recipe[:1] == ["--"] else args.recipe
    try:
        space = parse_space(args.space or README_SPACE)
    except ValueError as error:
        parser.error(str(error))
    if not recipe:
        parser.error("give the command of the recipe after --.")
    if args.sampler == "grid" and any(isinstance(values, tuple) for values in space.values()):
        parser.error("a grid has no ranges; list the values, or choose --sampler tpe.")
    args.output.mkdir(parents=True, exist_ok=True)
    study = _study(args, space)
    gpus: Queue = Queue()
    devices = args.gpus.split(",") if args.gpus else [""] * args.workers
    for device in devices:
        gpus.put(device)
    with Stopping() as stopping:
        # Again, since a worker may miss a queued trial that another just took.
        while not stopping.received and (count := _remaining(study, args)):
            study.optimize(
                lambda trial: run_trial(trial, recipe, space, args.output, gpus, args.sampler == "grid", stopping),
                n_trials=count,
                n_jobs=len(devices),
                catch=(RecipeFailed,),
                callbacks=[MaxTrialsCallback(args.trials, states=OVER)] if args.trials else None,
            )
    summarize(study, recipe, args.output)
    return study


def storage_name(args: argparse.Namespace) -> str:
    return args.storage or str(args.output / JOURNAL)


def _remaining(study: optuna.Study, args: argparse.Namespace) -> int:
    """How many trials this worker may still start."""
    waiting, over = (len(study.get_trials(deepcopy=False, states=s)) for s in ((TrialState.WAITING,), OVER))
    if args.sampler == "grid":
        return waiting if args.trials is None else max(0, min(waiting, args.trials - over))
    return max(0, (args.trials or 20) - over)


if __name__ == "__main__":
    run(main)
