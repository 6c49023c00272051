"""The steps that all recipes share: tokenizer, data, encoder, head, run.

`examples/` names each recipe's task and flags; `fitting` trains and reports it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from datasets import Dataset

from kadapter.configuration import is_causal
from kadapter.data.encoding import Encoding
from kadapter.data.features import load_features
from kadapter.data.overlap import count_shared
from kadapter.data.splits import files_of
from kadapter.models.bottom import check_family
from kadapter.models.joint import JointModel
from kadapter.models.language_model import pretrained_head
from kadapter.models.modeling import KAdapterModel
from kadapter.models.task_model import TaskModel
from kadapter.training.arguments import AUTO, Arguments
from kadapter.training.compiling import check_compiler
from kadapter.training.content import run_content
from kadapter.training.devices import is_main_process, start_accelerator, start_logging
from kadapter.training.encoders import (
    backbone_config,
    check_length,
    hub_names,
    load_plain_encoder,
    load_pretraining_encoder,
    load_task_encoder,
    load_tokenizer,
)
from kadapter.training.fitting import fit
from kadapter.training.interruption import Interruption
from kadapter.training.keeping import BackboneAlone, ModelFiles, OneAdapter, WholeModel
from kadapter.training.model_arguments import ModelArguments, PretrainingArguments, TaskArguments
from kadapter.training.states import check_cacheable
from kadapter.training.task import Task, saved_task
from kadapter.training.together import Pass, check_together
from kadapter.training.tracking import Run, run_name

logger = logging.getLogger(__name__)

Loaded = tuple[KAdapterModel, Sequence[str]]  # an encoder, and its adapters that came from files or stay untrained


@dataclass(frozen=True)
class Part:
    """One of the tasks of a run.

    folder: holds its data.
    splits: those that are used; others than train and dev are only read where their files are there.
    """

    task: Task
    folder: str
    splits: Sequence[str]


def pretrain(
    task: Task, args: Arguments[PretrainingArguments, Any], name: str, fusion_alone: bool = False
) -> dict[str, Any]:
    """Train adapter `name` and the task's head on a frozen backbone; otherwise as `finetune`.

    Args:
        fusion_alone: train neither of them, but only the fusion that joins the loaded adapter's states with the
            backbone's last one, so that the backbone's own head can read what the adapter knows.
    """
    if fusion_alone:
        for one in args.settings or (args,):
            _check_fusion_alone(one.model)

    def load(flags: PretrainingArguments) -> Loaded:
        return load_pretraining_encoder(flags, name), [name] if flags.meta_adapter_model else []

    parts = {"": Part(task, args.data.data_dir, task.splits)}
    return _run(parts, args, load, adapter_alone=True, fusion_alone=fusion_alone)


def pretrain_backbone(tasks: Mapping[str, tuple[Task, str]], args: Arguments[ModelArguments, Any]) -> dict[str, Any]:
    """Train the backbone itself on several tasks in turn, each with a head of its own; otherwise as `finetune`.

    Its folder, and `best/` in it, hold the backbone as transformers saves it, which every recipe takes as
    --model_name_or_path.

    Args:
        tasks: name -> task and the folder of its data.
    """
    if args.model.freeze_bert:
        raise ValueError("--freeze_bert would leave nothing of the backbone to train; leave it out.")
    if not args.training.correct_bias:
        raise ValueError(
            "--correct_bias False needs gradients of all weights from the first step on, which the heads of tasks "
            "that take turns have not; leave it out."
        )
    parts = {name: Part(task, folder, task.splits) for name, (task, folder) in tasks.items()}
    return _run(parts, args, lambda flags: (load_plain_encoder(flags), []))


def _check_fusion_alone(args: PretrainingArguments) -> None:
    """Refuse what leaves nothing to train, or a head at random."""
    if not args.meta_adapter_model or args.no_adapter or not args.freeze_bert:
        raise ValueError("--fusion_alone needs a finished adapter, --meta_adapter_model, and a frozen backbone.")
    if args.fusion_mode not in ("concat", "nested_concat", "attention"):
        raise ValueError(
            f"--fusion_mode {args.fusion_mode} has nothing to train for one adapter; take concat or attention."
        )
    if pretrained_head(args.model_name_or_path, **hub_names(args)) is None:
        raise ValueError(
            f"{args.model_name_or_path} has no masked-language-model head of BERT's form, and with --fusion_alone a "
            "fresh one would stay as it is; take a backbone that was saved with its head."
        )


def finetune(task: Task, args: Arguments[TaskArguments, Any], splits: Sequence[str] | None = None) -> dict[str, Any]:
    """Train the task's head on the encoder and its adapters; the flags say which of these are frozen.

    Args:
        args: the flags of a recipe.
        splits: the splits to use, by default all of the task's; one that is neither train nor dev is used only if its
            file is there.

    Returns:
        The content of metrics.json; with --together that of each run, by its folder; {} with --prepare_only.

    Raises:
        OSError, ValueError: data, model or adapters are missing or do not fit, told before training starts.
        FloatingPointError: a loss, score or weight is not finite; what was saved before is kept.
    """

    def load(flags: TaskArguments) -> Loaded:
        return load_task_encoder(flags), [*flags.sources(), *flags.untrained_sources()]

    return _run({"": Part(task, args.data.data_dir, splits or task.splits)}, args, load)


def _run(
    parts: Mapping[str, Part],
    args: Arguments,
    load: Callable[[Any], Loaded],
    adapter_alone: bool = False,
    fusion_alone: bool = False,
) -> dict[str, Any]:
    flags = args.training
    if not (flags.do_train or flags.do_eval or args.data.prepare_only):
        raise ValueError("there is nothing to do; give --do_train, --do_eval, both, or --prepare_only.")
    if args.data.cache_states != AUTO:
        check_cacheable(args)
    check_together(args)
    check_compiler(args)
    start_logging()
    backbone = backbone_config(args.model)
    check_length(backbone, args.data.max_seq_length)
    if not getattr(args.model, "frozen_dropout", True):
        check_family(backbone)
    encoding = Encoding(load_tokenizer(args.model), args.data.max_seq_length, is_causal(backbone))
    data = {name: prepare_data(part.task, part.splits, encoding, args, part.folder) for name, part in parts.items()}
    if args.data.prepare_only:
        counts = [(name, split, len(found)) for name, own in data.items() for split, found in own.items()]
        logger.info("prepared: %s", ", ".join(f"{name} {split} {n:,}".strip() for name, split, n in counts))
        return {}
    start, tasks = partial(_start, parts, load, encoding, adapter_alone, fusion_alone), _tasks(parts)
    with ExitStack() as opened:
        if not args.settings:
            run, model, files = start(args)
            opened.enter_context(run)
            return fit(run, model, tasks, data, args, files, opened.enter_context(Interruption()))
        started: list[tuple[Any, ...]] = []  # what `fit` takes, of each
        for one in args.settings:
            run, model, files = start(one, [other.folder for other, *_ in started])
            opened.enter_context(run)
            started.append((run, model.to(run.accelerator.device), tasks, data, one, files))
        shared = Pass.of([model for _, model, *_ in started], run.accelerator)
        rest: Any = {"interruption": opened.enter_context(Interruption()), "shared": shared}
        reports = shared.lockstep.run([partial(fit, *own, **rest) for own in started])
        return {str(run.folder): report for (run, *_), report in zip(started, reports, strict=True)}


def _tasks(parts: Mapping[str, Part]) -> dict[str, Task]:
    return {name: part.task for name, part in parts.items()}


def _start(
    parts: Mapping[str, Part],
    load: Callable[[Any], Loaded],
    encoding: Encoding,
    adapter_alone: bool,
    fusion_alone: bool,
    args: Arguments,
    beside: Sequence[Path] = (),
) -> tuple[Run, TaskModel | JointModel, ModelFiles]:
    """The run, its model, and how that is kept.

    Args:
        beside: folders of the runs that this one goes together with.
    """
    flags = args.training
    accelerator = start_accelerator(flags, len(parts), bool(beside))
    encoder, loaded = load(args.model)
    folder = Path(flags.output_dir) / _name(args, encoder, [name for name in parts if name])
    if folder in beside:
        raise ValueError(f"setting {len(beside) + 1} would be written to {folder}, as another one; give it a comment.")
    model = _with_heads(encoder, _tasks(parts), encoding.max_seq_length, args.model)
    if fusion_alone:
        encoder.freeze("adapters")
        model.head.requires_grad_(False)
    content = {}
    if accelerator.is_main_process:
        sources = {name: (part.task, part.folder) for name, part in parts.items()}
        content = run_content(sources, encoding, encoder, loaded, args.model.model_name_or_path)
    batch_size = flags.per_gpu_train_batch_size * flags.gradient_accumulation_steps * accelerator.num_processes
    adapter_alone = adapter_alone and len(encoder.adapters) == 1 and encoder.backbone_is_frozen
    kind = BackboneAlone if len(parts) > 1 else OneAdapter if adapter_alone else WholeModel
    run = Run(accelerator, folder, args.values(), content, batch_size)
    return run, model, kind(accelerator, encoding.tokenizer)


def _with_heads(
    encoder: KAdapterModel, tasks: Mapping[str, Task], max_seq_length: int, args: ModelArguments
) -> TaskModel | JointModel:
    """A fresh head on the encoder for each task: a `TaskModel` for one, a `JointModel` for several."""
    vocabulary = encoder.config.backbone_config.vocab_size
    heads = {name: task.head_config(max_seq_length, vocabulary) for name, task in tasks.items()}
    joint = JointModel(encoder, heads) if len(tasks) > 1 else None
    for name, task in tasks.items():
        model = TaskModel.from_encoder(encoder, heads[name]) if joint is None else cast(TaskModel, joint.tasks[name])
        model.config.task = saved_task(task, max_seq_length)
        task.initialize(model, args.model_name_or_path, **hub_names(args))
    return model if joint is None else joint


def _name(args: Arguments, encoder: KAdapterModel, tasks: Sequence[str]) -> str:
    """The run's name; that of a backbone trained on several tasks names these."""
    active = encoder.active_bottlenecks
    inside = []
    if active is not None:
        config = encoder.config.bottleneck_config(active)
        inside = [
            f"bottleneck{config.size}" + ("" if config.layers is None else f"-{'.'.join(map(str, config.layers))}")
        ]
    if layers := getattr(args.model, "train_layers", ""):
        inside = [f"layers-{layers.replace(',', '.')}"]
    adapters = "-".join([*inside, *encoder.adapters]) or "none"
    return run_name(args.training, args.data.max_seq_length, "+".join(tasks) or adapters)


def prepare_data(
    task: Task, splits: Sequence[str], encoding: Encoding, args: Arguments, folder: str
) -> dict[str, Dataset]:
    """Features of those splits in `folder` that the run needs.

    This comes before the processes form a group: one of them reads and tokenizes, however long that takes, and the
    others wait for its store, without a time-out of the network.
    """
    flags = args.training
    wanted = {split: flags.do_eval and bool(files_of(task.path(folder, split))) for split in splits}
    if flags.do_eval and (missing := [split for split in splits[2:] if not wanted[split]]):
        logger.warning("%s has no %s split: it is not reported.", folder, " and no ".join(missing))
    wanted["train"] = flags.do_train
    wanted["dev"] = flags.do_eval or (flags.do_train and flags.evaluate_during_training)
    if args.data.prepare_only:
        wanted = {split: split in task.required or bool(files_of(task.path(folder, split))) for split in splits}
    found = {
        split: load_features(
            task,
            folder,
            split,
            encoding,
            cache_dir=args.data.features_cache,
            num_workers=args.data.preprocessing_num_workers,
            cluster=args.data.cluster,
            overwrite=args.data.overwrite_cache and is_main_process(),
        )
        for split in splits
        if wanted[split]
    }
    if is_main_process():
        _warn_of_shared(found, folder)
    return found


def _warn_of_shared(found: Mapping[str, Dataset], folder: str) -> None:
    """Say where a model is asked what it was taught."""
    for split, features in found.items():
        if split == "train" or "train" not in found:
            continue
        if shared := count_shared(found["train"], features):
            logger.warning(
                "%s: %d of %d examples of %s stand in train too, as the model reads them: scores on %s will flatter.",
                *(folder, shared, len(features), split, split),
            )
