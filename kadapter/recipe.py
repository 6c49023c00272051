"""The steps that every recipe shares: tokenizer, data, encoder; then train, choose on dev, report.

`examples/` tells each recipe's story in these calls.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset, Features
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from kadapter import checkpoint
from kadapter.arguments import (
    DataArguments,
    ModelArguments,
    PretrainingArguments,
    TaskArguments,
    TrainingArguments,
)
from kadapter.configuration import AdapterConfig, KAdapterConfig
from kadapter.data.encoding import Collator
from kadapter.data.features import Encoder, Reader, load_features
from kadapter.modeling import KAdapterModel
from kadapter.tasks import TaskModel
from kadapter.tracking import Run
from kadapter.training import predict, train

logger = logging.getLogger(__name__)

Predictions = list[dict[str, np.ndarray]]
Score = Callable[[Predictions, Dataset], dict[str, float]]
Rows = Callable[[Predictions, Dataset], Iterable[Mapping[str, Any]]]


def load_tokenizer(args: ModelArguments) -> PreTrainedTokenizerBase:
    """The backbone's tokenizer, or the one of --tokenizer_name."""
    return AutoTokenizer.from_pretrained(
        args.tokenizer_name or args.model_name_or_path, revision=args.revision, cache_dir=args.cache_dir
    )


def load_data(
    accelerator: Accelerator,
    splits: Iterable[str],
    args: DataArguments,
    tokenizer: PreTrainedTokenizerBase,
    reader: Reader,
    schema: Features,
    encoder: Encoder,
    reader_options: dict[str, Any] | None = None,
    encoder_options: dict[str, Any] | None = None,
) -> dict[str, Dataset]:
    """Features of `<data_dir>/<split>.json` (or `.jsonl`); one process tokenizes, the others wait."""
    data = {}
    for split in splits:
        path = split_path(args.data_dir, split)
        load = partial(
            load_features,
            path,
            reader,
            schema,
            encoder,
            tokenizer,
            reader_options=reader_options,
            encoder_options={"max_seq_length": args.max_seq_length, **(encoder_options or {})},
            cache_dir=args.features_cache,
            num_workers=args.preprocessing_num_workers,
        )
        with accelerator.main_process_first():
            data[split] = load(overwrite=args.overwrite_cache and accelerator.is_main_process)
    return data


def split_path(data_dir: str | Path, split: str) -> Path:
    """The split's JSON lines where they are there, else its JSON list (whether that is there or not)."""
    lines = Path(data_dir) / f"{split}.jsonl"
    return lines if lines.is_file() else lines.with_suffix(".json")


def check_length(args: ModelArguments, max_seq_length: int) -> None:
    """Refuse sequences that the backbone has no positions for, before anything is tokenized."""
    config = AutoConfig.from_pretrained(args.model_name_or_path, revision=args.revision, cache_dir=args.cache_dir)
    config = config.backbone_config if isinstance(config, KAdapterConfig) else config
    positions = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= config.pad_token_id + 1  # RoBERTa's first positions stand for padding
    if positions and max_seq_length > positions:
        raise ValueError(
            f"--max_seq_length is {max_seq_length}, but {args.model_name_or_path} has {positions} positions; lower it."
        )


def _hub(args: ModelArguments) -> dict[str, Any]:
    options = {"revision": args.revision, "cache_dir": args.cache_dir, "dtype": torch.float32}
    return options | ({"attn_implementation": args.attn_implementation} if args.attn_implementation else {})


def load_task_encoder(args: TaskArguments) -> KAdapterModel:
    """Backbone and pretrained adapters, frozen as the flags say."""
    encoder = KAdapterModel.from_pretrained(
        args.model_name_or_path,
        adapters=args.sources(),
        fusion_mode=args.fusion_mode,
        adapter_config=args.adapter_config(),
        **_hub(args),
    )
    if args.freeze_adapter:
        encoder.freeze("adapters")
    return _prepared(encoder, args)


def load_pretraining_encoder(args: PretrainingArguments, name: str) -> KAdapterModel:
    """Backbone with one adapter to train, fresh or from --meta_adapter_model; or none, for the baseline."""
    source: str | AdapterConfig = args.meta_adapter_model or args.adapter_config()
    encoder = KAdapterModel.from_pretrained(
        args.model_name_or_path,
        adapters={} if args.no_adapter else {name: source},
        adapter_config=args.adapter_config(),
        fusion_mode=args.fusion_mode,
        **_hub(args),
    )
    return _prepared(encoder, args)


def _prepared(encoder: KAdapterModel, args: ModelArguments) -> KAdapterModel:
    if args.freeze_bert:
        encoder.freeze("backbone")
    if args.gradient_checkpointing:
        encoder.activation_checkpointing_enable()
    if args.attend_padding:
        logger.info(
            "adapters attend to padding: features depend on it, so give --pad_to_max_length for the original's."
        )
    return encoder


def save_model(model: TaskModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """A task model whole; of a pretraining model the adapter, with its head in a file of its own."""
    if is_pretraining(model):
        (name,) = model.encoder.adapters
        head = {
            checkpoint.original_name(key, pretraining=True): value
            for key, value in model.state_dict().items()
            if key.startswith(("head.", "encoder.fusion."))
        }
        checkpoint.save_adapter(model.encoder.adapters[name], model.config.adapter_config(name), folder, head)
    else:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def load_model(model: TaskModel, folder: Path) -> None:
    """Read back what `save_model` wrote."""
    if is_pretraining(model):
        state = load_file(folder / checkpoint.ADAPTER_WEIGHTS) | load_file(folder / checkpoint.PRETRAINING_HEAD)
        checkpoint.load_original(model, state)
    else:
        checkpoint.load_strict(model, checkpoint.read_state_dict(folder / "model.safetensors"), folder)


def is_pretraining(model: TaskModel) -> bool:
    """Whether the model trains one adapter on a frozen backbone, so that only the adapter is worth keeping."""
    trained = [any(p.requires_grad for p in adapter.parameters()) for adapter in model.encoder.adapters.values()]
    return trained == [True] and model.encoder.backbone_is_frozen and model.config.fusion_mode == "concat"


def fit(
    accelerator: Accelerator,
    run: Run,
    model: TaskModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Mapping[str, Dataset],
    args: TrainingArguments,
    data_args: DataArguments,
    score: Score,
    rows: Rows,
    metric: str,
) -> dict[str, Any]:
    """Train on data["train"], choose the best by `metric` on data["dev"], report it on dev and test.

    Returns:
        What metrics.json holds: {"best": {...}, "dev": {...}, "test": {...}}.
    """
    on_gpu = accelerator.device.type == "cuda"
    collate = Collator(
        tokenizer.pad_token_id,
        data_args.max_seq_length if data_args.pad_to_max_length else None,
        multiple=8 if on_gpu else 1,
    )
    best = run.folder / "best"

    def evaluate(split: str, module: torch.nn.Module) -> tuple[dict[str, float], Predictions]:
        predictions, loss = predict(
            accelerator,
            module,
            data[split],
            collate,
            args.per_gpu_eval_batch_size,
            data_args.dataloader_num_workers,
            desc=split,
        )
        return {**score(predictions, data[split]), "loss": float(loss)}, predictions

    def save(module: TaskModel, folder: Path) -> None:
        if accelerator.is_main_process:
            save_model(module, tokenizer, folder)
        accelerator.wait_for_everyone()

    model.to(accelerator.device)
    report: dict[str, Any] = {}
    step, epoch = 0, 0.0
    if args.do_train:
        during = args.evaluate_during_training and "dev" in data
        progress = train(
            accelerator,
            model,
            data["train"],
            collate,
            args,
            run,
            group_by_length=data_args.group_by_length,
            num_workers=data_args.dataloader_num_workers,
            metric=metric,
            evaluate_dev=(lambda module: evaluate("dev", module)[0]) if during else None,
            save_best=lambda _: save(model, best),
        )
        save(model, run.folder)
        step = progress.step
        report = {"steps": step, "seconds": round(progress.seconds, 3)}
        if progress.best_step:
            report["best"] = {"step": progress.best_step, metric: progress.best_score}
    if args.do_eval:
        if best.is_dir():
            load_model(model, best)
            step, epoch = _best_place(run.folder, metric) or (step, epoch)
        elif not args.do_train:
            raise FileNotFoundError(f"{best} is missing; train first (--do_train) with the same arguments.")
        for split in [name for name in data if name != "train"]:
            began = time.perf_counter()
            metrics, predictions = evaluate(split, model)
            run.result(f"{split}_best", step, epoch, metrics, time.perf_counter() - began)
            run.predictions(split, rows(predictions, data[split]))
            report[split] = metrics
    run.metrics(report)
    run.close()
    return report


def _best_place(folder: Path, metric: str) -> tuple[int, float] | None:
    """Step and epoch of the weights in `best/`, from the run's own record."""
    path = folder / "results.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    dev = [row for row in map(json.loads, lines) if row["split"] == "dev"]
    if not dev:
        return None
    best = max(dev, key=lambda row: row["metrics"][metric])
    return best["global_step"], best["epoch"]
