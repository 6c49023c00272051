"""Train a task model, choose its best checkpoint on dev, report it; and how such models are kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase

from kadapter.configuration import IGNORE
from kadapter.data.encoding import Collator
from kadapter.models.task_model import TaskModel
from kadapter.storage import checkpoint
from kadapter.storage.card import write_card
from kadapter.storage.files import atomic_folder
from kadapter.storage.original import load_original, original_name
from kadapter.training.arguments import DataArguments, TrainingArguments
from kadapter.training.evaluation import Predictions, predict
from kadapter.training.loop import Progress, train
from kadapter.training.task import Task
from kadapter.training.tracking import Run


def fit(
    accelerator: Accelerator,
    run: Run,
    model: TaskModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Mapping[str, Dataset],
    task: Task,
    args: TrainingArguments,
    data_args: DataArguments,
    adapter_alone: bool = False,
) -> dict[str, Any]:
    """Train on data["train"], choose the best by `task.metric` on data["dev"], report it on all other splits.

    Args:
        adapter_alone: keep the one adapter, with the head beside it, instead of the whole model.

    Returns:
        What metrics.json holds: {"metric": ..., "best": {...}, "dev": {...}, "test": {...}} and what training took.
    """
    collate = Collator(
        tokenizer.pad_token_id if task.pad_token_id is None else task.pad_token_id,
        data_args.max_seq_length if data_args.pad_to_max_length else None,
        multiple=8 if accelerator.device.type == "cuda" else 1,
        augment=task.augment,
    )
    workers, best = data_args.dataloader_num_workers, run.folder / "best"
    options: dict[str, Any] = {"collate": collate, "batch_size": args.per_gpu_eval_batch_size, "num_workers": workers}
    evaluate = partial(_evaluate, task, data, partial(predict, accelerator, **options))
    save = partial(save_model, accelerator, tokenizer=tokenizer, adapter_alone=adapter_alone)
    module: torch.nn.Module = model.to(accelerator.device)
    progress, report = Progress(), dict[str, Any](metric=task.metric)
    sizes = _sizes(model)  # before parameters are sharded
    if args.do_train:
        module, progress = train(
            accelerator,
            model,
            data["train"],
            collate,
            args,
            run,
            group_by_length=data_args.group_by_length,
            num_workers=workers,
            metric=task.metric,
            evaluate_dev=(lambda module: evaluate("dev", module)[0]) if args.evaluate_during_training else None,
            save_best=partial(save, folder=best),
        )
        save(module, folder=run.folder)
        report |= sizes | _training_report(progress, task.metric)
    if args.do_eval:
        if best.is_dir():
            load_model(accelerator.unwrap_model(module), best, adapter_alone)
        elif not args.do_train:
            raise FileNotFoundError(f"{best} is missing; train first (--do_train) with the same arguments.")
        place = _best_place(run.folder, task.metric) or (progress.step, 0.0)
        for split in [name for name in data if name != "train"]:
            metrics = _final_evaluation(run, task, split, data[split], partial(evaluate, split, module), place)
            report |= {split: metrics} if metrics else {}
    report = run.metrics(report)
    if accelerator.is_main_process:
        write_cards(run.folder, model, data_args, data, report, adapter_alone)
    return report


def _sizes(model: TaskModel) -> dict[str, int]:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"trained_parameters": trained, "parameters": model.num_parameters()}


def _training_report(progress: Progress, metric: str) -> dict[str, Any]:
    """What training took, and where the best model was found."""
    seconds, memory = round(progress.seconds, 3), progress.peak_memory_mib
    report: dict[str, Any] = {"steps": progress.step, "seconds": seconds, "peak_memory_mib": memory}
    return report | ({"best": {"step": progress.best_step, metric: progress.best_score}} if progress.best_step else {})


def write_cards(
    folder: Path,
    model: TaskModel,
    data_args: DataArguments,
    data: Mapping[str, Dataset],
    report: Mapping[str, Any],
    adapter_alone: bool,
) -> None:
    """Cards of the best model, with its scores, and of the final one, with them where it is the best."""
    about = Path(data_args.data_dir).resolve().name, {split: len(features) for split, features in data.items()}
    adapter = next(iter(model.encoder.adapters)) if adapter_alone else None
    best, scores = folder / "best", {split: report[split] for split in data if split in report}
    if best.is_dir():
        write_card(best, folder.name, model.config, adapter, about, scores)
    if "steps" in report:
        same = not best.is_dir() or report.get("best", {}).get("step") == report["steps"]
        write_card(folder, folder.name, model.config, adapter, about, scores if same else {})


def _evaluate(
    task: Task, data: Mapping[str, Dataset], predict: Callable, split: str, module: torch.nn.Module
) -> tuple[dict[str, float], Predictions]:
    """Scores and predictions of a split; no scores where its labels are kept back."""
    predictions, loss = predict(model=module, dataset=data[split], desc=split)
    if data[split][0]["labels"] == IGNORE:
        return {}, predictions
    return {**task.score(predictions, data[split]), "loss": float(loss)}, predictions


def _final_evaluation(
    run: Run, task: Task, split: str, features: Dataset, evaluate: Callable, place: tuple[int, float]
) -> dict[str, float]:
    """Scores of the best model on a split, and its files; `place` is that model's step and epoch."""
    began = time.perf_counter()
    metrics, predictions = evaluate()
    if metrics:
        run.result(f"{split}_best", *place, metrics, time.perf_counter() - began)
    run.predictions(split, task.rows(predictions, features))
    if task.report is not None and run.accelerator.is_main_process:
        task.report(run.folder, split, predictions, features)
    return metrics


def save_model(
    accelerator: Accelerator,
    module: torch.nn.Module,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    adapter_alone: bool,
) -> None:
    """A task model whole (and in `task/` what it adds to a backbone, where that has bottlenecks); or its one adapter,
    with fusion and head in a file of their own."""
    state = accelerator.get_state_dict(module)  # all processes meet here where parameters are sharded
    if accelerator.is_main_process:
        model: Any = accelerator.unwrap_model(module)
        if adapter_alone:
            (name,) = model.encoder.adapters
            prefix = f"encoder.adapters.{name}."
            adapter = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            head = {
                original_name(key, pretraining=True): value
                for key, value in state.items()
                if key.startswith(("head.", "encoder.fusion."))
            }
            checkpoint.save_adapter(adapter, model.config.adapter_config(name), folder, head)
        else:
            model.save_pretrained(folder, state_dict=dict(state))  # which it empties
            with atomic_folder(folder, "the tokenizer") as aside:
                tokenizer.save_pretrained(aside)
            if model.config.bottleneck is not None:
                model.save_task(folder / "task", state)
    accelerator.wait_for_everyone()


def load_model(model: TaskModel, folder: Path, adapter_alone: bool) -> None:
    """Read back what `save_model` wrote."""
    if adapter_alone:
        load_original(
            model, load_file(folder / checkpoint.ADAPTER_WEIGHTS) | load_file(folder / checkpoint.PRETRAINING_HEAD)
        )
    else:
        checkpoint.load_strict(model, checkpoint.read_state_dict(folder / "model.safetensors"), folder)


def _best_place(folder: Path, metric: str) -> tuple[int, float] | None:
    """Step and epoch of the weights in `best/`, from the run's own record."""
    path = folder / "results.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    dev = [row for row in map(json.loads, lines) if row["split"] == "dev"]
    if not dev:
        return None
    best = max(dev, key=lambda row: row["metrics"][metric])
    return best["global_step"], best["epoch"]
