"""Train a model of one task or several, choose its best checkpoint on dev, report it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset

from kadapter.data.collation import Collator
from kadapter.models.joint import JointModel
from kadapter.models.task_model import TaskModel
from kadapter.storage.runs import AGAIN, METRICS, RESULTS, read_results
from kadapter.training.arguments import AUTO, Arguments
from kadapter.training.batches import Feed
from kadapter.training.compiling import compile_layers
from kadapter.training.evaluation import predict
from kadapter.training.interruption import Interruption
from kadapter.training.keeping import ModelFiles
from kadapter.training.loop import Progress, train
from kadapter.training.states import SplitStates, States, open_states
from kadapter.training.task import Predictions, Scores, Task
from kadapter.training.together import Pass, SharedStates
from kadapter.training.tracking import Run
from kadapter.training.worth import open_if_worth

logger = logging.getLogger(__name__)


MEAN = "mean"  # of what each of several tasks is judged by


@dataclass(frozen=True)
class Evaluation:
    """Scores of tasks' splits; for the loop, those of dev, by whose `metric` the best model is kept in `best`.

    tasks: name -> task, in the order of their turns; a single one may be called "".
    feeds: name -> split -> its examples.
    """

    run: Run
    tasks: Mapping[str, Task]
    feeds: Mapping[str, Mapping[str, Feed]]
    batch_size: int
    files: ModelFiles

    @property
    def metric(self) -> str:
        """A single task's own; of several the mean of what each is judged by."""
        first, *others = self.tasks.values()
        return MEAN if others else first.metric

    @property
    def best(self) -> Path:
        return self.run.folder / "best"

    def evaluate(self, model: torch.nn.Module) -> Scores:
        scores = {}
        for name, before in self.tasks.items():
            scores[name], _, task = self.of_split("dev", model, name)
            if task != before:  # what dev decides is kept with the weights
                self.keep_settled(model, name, task)
        return self.merge_windows(scores)

    def keep_settled(self, model: torch.nn.Module, name: str, task: Task) -> None:
        """Let the model's configuration tell what dev decided."""
        feed = next(iter(self.feeds[name].values()))
        config: Any = feed.of_task(self.run.accelerator.unwrap_model(model)).config
        config.task["options"] = task.options()

    def merge_windows(self, scores: Mapping[str, Scores]) -> Scores:
        """A single task's scores; of several all of them by task and metric, and `MEAN`; {} where one has none."""
        if len(scores) == 1 or not all(scores.values()):
            return next(iter(scores.values())) if len(scores) == 1 else {}
        found = {f"{name}_{metric}": value for name, own in scores.items() for metric, value in own.items()}
        judged = [own[self.tasks[name].metric] for name, own in scores.items()]
        return {**found, MEAN: sum(judged) / len(judged)}

    def keep(self, model: torch.nn.Module) -> None:
        self.files.save(model, self.best)

    def of_split(self, split: str, model: torch.nn.Module, name: str) -> tuple[Scores, Predictions | None, Task]:
        """Scores, none where labels are kept back; in the main process predictions; the task as dev settles it."""
        task, feed = self.tasks[name], self.feeds[name][split]
        features = feed.features
        predictions, loss = predict(self.run.accelerator, model, feed, self.batch_size, f"{name} {split}".strip())
        found: list[Any] = [{}, task]
        if predictions is not None and task.is_labelled(features):
            task = task.tuned_on_dev(predictions, features) if split == "dev" else task
            found = [{**task.score(predictions, features), "loss": float(loss)}, task]
        if self.run.accelerator.num_processes > 1:
            broadcast_object_list(found)  # processes must agree which model is the best
        return found[0], predictions, found[1]


def fit(
    run: Run,
    model: TaskModel | JointModel,
    tasks: Mapping[str, Task],
    data: Mapping[str, Mapping[str, Dataset]],
    args: Arguments,
    files: ModelFiles,
    interruption: Interruption,
    shared: Pass | None = None,
) -> dict[str, Any]:
    """Train on each task's "train", choose the best on "dev", report it on all other splits.

    Args:
        model: of the one task, or a `JointModel` of several.
        tasks: name -> task; a single one is called "".
        data: name -> split -> features. All have the same splits.
        shared: what it shares with the runs that it goes together with.

    Returns:
        What metrics.json holds: {"metric": ..., "best": {...}, "dev": {...}, "test": {...}} and what training took.
    """
    module: torch.nn.Module = model.to(run.accelerator.device)
    feeds = {name: _feeds(run, model, name, task, data[name], args, files, shared) for name, task in tasks.items()}
    evaluation = Evaluation(run, tasks, feeds, args.training.per_gpu_eval_batch_size, files)
    progress, report = Progress(), dict[str, Any](metric=evaluation.metric)
    sizes = _sizes(model)  # before parameters are sharded
    splits = list(next(iter(data.values())))
    if args.training.do_train:
        selection = evaluation if args.training.evaluate_during_training else None
        if args.training.torch_compile:
            compile_layers(run.accelerator, model.encoder)
        exclusive_after_waiting = [own["train"] for own in feeds.values()]
        module, progress = train(run, model, exclusive_after_waiting, args.training, interruption, selection)
        files.save(module, run.folder)
        report |= sizes | _training_report(progress, evaluation.metric)
    if args.training.do_eval:
        if evaluation.best.is_dir():
            files.load(module, evaluation.best)
        elif not args.training.do_train:
            raise FileNotFoundError(f"{evaluation.best} is missing; train first (--do_train) with the same arguments.")
        place = _best_place(run.folder, evaluation.metric) or (progress.step, 0.0)
        for split in [name for name in splits if name != "train"]:
            scores, settled = _report_split(evaluation, split, module, place)
            report |= {split: scores} if scores else {}
            evaluation = replace(evaluation, tasks=settled)
        if args.training.do_train and evaluation.tasks != tasks and not evaluation.best.is_dir():
            for name, task in evaluation.tasks.items():
                evaluation.keep_settled(model, name, task)
            files.save(module, run.folder)
    report = run.metrics(report)
    examples = {f"{name} {split}".strip(): len(own[split]) for name, own in data.items() for split in splits}
    sample = "" if len(tasks) > 1 else next(iter(tasks.values())).sample
    files.write_cards(model, run.folder, Path(args.data.data_dir).resolve().name, examples, report, sample)
    if run.accelerator.is_main_process:
        best = evaluation.best if evaluation.best.is_dir() else run.folder
        use = files.next_step(model, best)
        logger.info("scores are in %s, the best model in %s; %s", run.folder / METRICS, best, use)
    return report


def _feeds(
    run: Run,
    model: TaskModel | JointModel,
    name: str,
    task: Task,
    data: Mapping[str, Dataset],
    args: Arguments,
    files: ModelFiles,
    shared: Pass | None,
) -> dict[str, Feed]:
    """Split -> its batches."""
    tokenizer, flags = files.tokenizer, args.data
    collate = Collator(
        task.pad_token_id(tokenizer),
        flags.max_seq_length if flags.pad_to_max_length else None,
        multiple=8 if run.accelerator.device.type == "cuda" else 1,
        augment=task.augmentation(tokenizer, cast(int, args.training.data_seed)),
    )
    feed = Feed(next(iter(data.values())), collate, flags.group_by_length, flags.dataloader_num_workers, task=name)
    stores: Mapping[str, SplitStates] = {}
    if flags.cache_states:
        kept = {split: features for split, features in data.items() if split != "train" or collate.augment is None}
        if flags.cache_states == AUTO:
            stores = open_if_worth(run, feed.of_task(model), feed, kept, args)
        else:
            taps = None if shared is None else shared.taps
            stores = open_states(flags, feed.of_task(model), kept, run.accelerator, taps)
        if len(kept) < len(data):
            logger.warning("tokens are hidden anew in each epoch of training: only the states of dev are kept.")
    states: Mapping[str, States] = stores
    if shared is not None:
        states = {split: SharedStates(shared, stores.get(split)) for split in data}
    return {split: replace(feed, features=features, states=states.get(split)) for split, features in data.items()}


def _sizes(model: torch.nn.Module) -> dict[str, int]:
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {"trained_parameters": sum(n for n, trained in counts if trained), "parameters": sum(n for n, _ in counts)}


def _training_report(progress: Progress, metric: str) -> dict[str, Any]:
    """What training took, and where the best model was found."""
    seconds, memory = round(progress.seconds, 3), progress.peak_memory_mib
    report: dict[str, Any] = {"steps": progress.step, "seconds": seconds, "peak_memory_mib": memory}
    report["evaluation_seconds"] = round(progress.evaluation_seconds, 3)
    return report | ({"best": {"step": progress.best_step, metric: progress.best_score}} if progress.best_step else {})


def _report_split(
    evaluation: Evaluation, split: str, model: torch.nn.Module, place: tuple[int, float]
) -> tuple[Scores, dict[str, Task]]:
    """Scores of the best model on a split, whose files are written; `place` is that model's step and epoch.

    Returns:
        Also the tasks as this split settles them.
    """
    run, found, settled = evaluation.run, dict[str, Scores](), dict[str, Task]()
    began = time.perf_counter()
    for name in evaluation.tasks:
        features = evaluation.feeds[name][split].features
        found[name], predictions, task = evaluation.of_split(split, model, name)
        settled[name] = task
        if predictions is not None:
            rows = task.rows(predictions, features, evaluation.files.tokenizer)
            run.predictions(f"{split}_{name}" if len(evaluation.tasks) > 1 else split, rows)
            task.report(run.folder, split, predictions, features)
    scores = evaluation.merge_windows(found)
    if scores:
        run.result(f"{split}_best", *place, scores, time.perf_counter() - began)
    return scores, settled


def _best_place(folder: Path, metric: str) -> tuple[int, float] | None:
    """Step and epoch of the weights in `best/`, from the run's own record."""
    dev = [row for row in read_results(folder) if row["split"] == "dev"]
    if not dev:
        return None
    if any(metric not in row["metrics"] or "epoch" not in row for row in dev):
        raise ValueError(f"{folder / RESULTS}: a row of dev has no {metric} or no epoch; {AGAIN}")
    best = max(dev, key=lambda row: row["metrics"][metric])
    return best["global_step"], best["epoch"]
