"""Train a task model, choose its best checkpoint on dev, report it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset

from kadapter.data.collation import Collator
from kadapter.models.task_model import TaskModel
from kadapter.storage.runs import AGAIN, METRICS, RESULTS, read_results
from kadapter.training.arguments import Arguments
from kadapter.training.batches import Feed
from kadapter.training.evaluation import predict
from kadapter.training.interruption import Interruption
from kadapter.training.keeping import ModelFiles
from kadapter.training.loop import Progress, train
from kadapter.training.states import SplitStates, open_states
from kadapter.training.task import Predictions, Scores, Task
from kadapter.training.tracking import Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a task's splits; for the loop, those of dev, by whose `metric` the best model is kept in `best`."""

    run: Run
    task: Task
    feeds: Mapping[str, Feed]
    batch_size: int
    files: ModelFiles

    @property
    def metric(self) -> str:
        return self.task.metric

    @property
    def best(self) -> Path:
        return self.run.folder / "best"

    def evaluate(self, model: torch.nn.Module) -> Scores:
        scores, _, task = self.of_split("dev", model)
        if task != self.task:  # what dev decides is kept with the weights
            self.run.accelerator.unwrap_model(model).config.task["options"] = task.options()
        return scores

    def keep(self, model: torch.nn.Module) -> None:
        self.files.save(model, self.best)

    def of_split(self, split: str, model: torch.nn.Module) -> tuple[Scores, Predictions | None, Task]:
        """Scores, none where labels are kept back; in the main process predictions; the task as dev settles it."""
        features = self.feeds[split].features
        predictions, loss = predict(self.run.accelerator, model, self.feeds[split], self.batch_size, split)
        found: list[Any] = [{}, self.task]
        if predictions is not None and self.task.is_labelled(features):
            task = self.task.settled(predictions, features) if split == "dev" else self.task
            found = [{**task.score(predictions, features), "loss": float(loss)}, task]
        if self.run.accelerator.num_processes > 1:
            broadcast_object_list(found)  # processes must agree which model is the best
        return found[0], predictions, found[1]


def fit(
    run: Run, model: TaskModel, task: Task, data: Mapping[str, Dataset], args: Arguments, files: ModelFiles
) -> dict:
    """Train on data["train"], choose the best by `task.metric` on data["dev"], report it on all other splits.

    Returns:
        What metrics.json holds: {"metric": ..., "best": {...}, "dev": {...}, "test": {...}} and what training took.
    """
    feeds = _feeds(run, model, task, data, args, files)
    evaluation = Evaluation(run, task, feeds, args.training.per_gpu_eval_batch_size, files)
    module: torch.nn.Module = model.to(run.accelerator.device)
    progress, report = Progress(), dict[str, Any](metric=task.metric)
    sizes = _sizes(model)  # before parameters are sharded
    with Interruption() as interruption:
        if args.training.do_train:
            selection = evaluation if args.training.evaluate_during_training else None
            module, progress = train(run, model, feeds["train"], args.training, interruption, selection)
            files.save(module, run.folder)
            report |= sizes | _training_report(progress, task.metric)
        if args.training.do_eval:
            if evaluation.best.is_dir():
                files.load(module, evaluation.best)
            elif not args.training.do_train:
                raise FileNotFoundError(
                    f"{evaluation.best} is missing; train first (--do_train) with the same arguments."
                )
            place = _best_place(run.folder, task.metric) or (progress.step, 0.0)
            for split in [name for name in data if name != "train"]:
                scores, settled = _report_split(evaluation, split, module, place)
                report |= {split: scores} if scores else {}
                evaluation = replace(evaluation, task=settled)
            if args.training.do_train and evaluation.task != task and not evaluation.best.is_dir():
                model.config.task["options"] = evaluation.task.options()
                files.save(module, run.folder)
        report = run.metrics(report)
    examples = {split: len(features) for split, features in data.items()}
    files.write_cards(model, run.folder, Path(args.data.data_dir).resolve().name, examples, report, task.sample)
    if run.accelerator.is_main_process:
        _say_what_is_there(run.folder, files.adapter_alone, list(model.encoder.adapters))
    return report


def _say_what_is_there(folder: Path, adapter_alone: bool, adapters: Sequence[str]) -> None:
    """Where the run's results are, and the next thing to do with them."""
    best = folder / "best" if (folder / "best").is_dir() else folder
    if adapter_alone:
        use = f"give the adapter to any fine-tuning recipe: --adapter {adapters[0]}={best}"
    else:
        use = f"predict: python examples/run_predict.py --model {best} --input FILE --output predictions.jsonl"
    logger.info("scores are in %s, the best model in %s; %s", folder / METRICS, best, use)


def _feeds(
    run: Run, model: TaskModel, task: Task, data: Mapping[str, Dataset], args: Arguments, files: ModelFiles
) -> dict[str, Feed]:
    """Split -> its batches."""
    tokenizer, flags = files.tokenizer, args.data
    collate = Collator(
        task.pad_token_id(tokenizer),
        flags.max_seq_length if flags.pad_to_max_length else None,
        multiple=8 if run.accelerator.device.type == "cuda" else 1,
        augment=task.augmentation(tokenizer, args.training.seed),
    )
    feed = Feed(next(iter(data.values())), collate, flags.group_by_length, flags.dataloader_num_workers)
    states: Mapping[str, SplitStates] = {}
    if flags.cache_states:
        kept = {split: features for split, features in data.items() if split != "train" or collate.augment is None}
        states = open_states(flags, model, kept, run.accelerator)
        if len(kept) < len(data):
            logger.warning("tokens are hidden anew in each epoch of training: only the states of dev are kept.")
    return {split: replace(feed, features=features, states=states.get(split)) for split, features in data.items()}


def _sizes(model: TaskModel) -> dict[str, int]:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"trained_parameters": trained, "parameters": model.num_parameters()}


def _training_report(progress: Progress, metric: str) -> dict[str, Any]:
    """What training took, and where the best model was found."""
    seconds, memory = round(progress.seconds, 3), progress.peak_memory_mib
    report: dict[str, Any] = {"steps": progress.step, "seconds": seconds, "peak_memory_mib": memory}
    report["evaluation_seconds"] = round(progress.evaluation_seconds, 3)
    return report | ({"best": {"step": progress.best_step, metric: progress.best_score}} if progress.best_step else {})


def _report_split(
    evaluation: Evaluation, split: str, model: torch.nn.Module, place: tuple[int, float]
) -> tuple[Scores, Task]:
    """Scores of the best model on a split, whose files are written; `place` is that model's step and epoch.

    Returns:
        Also the task as this split settles it.
    """
    run, features = evaluation.run, evaluation.feeds[split].features
    began = time.perf_counter()
    scores, predictions, task = evaluation.of_split(split, model)
    if scores:
        run.result(f"{split}_best", *place, scores, time.perf_counter() - began)
    if predictions is not None:
        run.predictions(split, task.rows(predictions, features, evaluation.files.tokenizer))
        task.report(run.folder, split, predictions, features)
    return scores, task


def _best_place(folder: Path, metric: str) -> tuple[int, float] | None:
    """Step and epoch of the weights in `best/`, from the run's own record."""
    dev = [row for row in read_results(folder) if row["split"] == "dev"]
    if not dev:
        return None
    if any(metric not in row["metrics"] or "epoch" not in row for row in dev):
        raise ValueError(f"{folder / RESULTS}: a row of dev has no {metric} or no epoch; {AGAIN}")
    best = max(dev, key=lambda row: row["metrics"][metric])
    return best["global_step"], best["epoch"]
