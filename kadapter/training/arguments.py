"""Command-line arguments of a run as dataclasses; `model_arguments.py` has those of its model.

`sections.py` says in which groups help shows them. Every flag of the original's run scripts is accepted with its
meaning. Parsed arguments become frozen dataclasses at once; modules take those or plain values, never a namespace.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, TypeVar

from kadapter.console import SEED, local_path
from kadapter.data.executors import CLUSTER_HELP
from kadapter.training.flags import check_ranges, flag, parse
from kadapter.training.model_arguments import ModelArguments
from kadapter.training.settings import read_settings

logger = logging.getLogger(__name__)

# linear: warm-up, then down to 0. linear_ahead: the same, a step earlier. bert: the fall is counted from step 0.
AUTO = "auto"  # of --cache_states
CACHE_DTYPES = ("float32", "bf16", "fp16")
SCHEDULES = ("linear", "linear_ahead", "bert")


def states_place(text: str) -> str:
    """The type of --cache_states: a local path, or "auto"."""
    return text if text == AUTO else local_path(text)


@dataclass(frozen=True, kw_only=True)
class DataArguments:
    """Data and its features."""

    data_dir: str = flag("folder with train, dev and test", type=local_path)
    max_seq_length: int = flag("tokens of an input; longer ones are cut", 256, within="[8, inf)")
    pad_to_max_length: bool = flag("pad every batch to max_seq_length, as in the original", False)
    group_by_length: bool = flag("put inputs of like length into one batch", True)
    overwrite_cache: bool = flag("tokenize again although there are features", False)
    features_cache: str | None = flag(
        "folder for tokenized data; default: the cache of datasets", None, type=local_path
    )
    preprocessing_num_workers: int | None = flag(
        "processes that tokenize; default: one for each core, for large data",
        None,
        within="[1, inf)",
    )
    cluster: str = flag(f"{CLUSTER_HELP}, to tokenize", "", metavar="ADDRESS")
    prepare_only: bool = flag("read, check and tokenize the data, then stop", False)
    cache_states: str = flag(
        "folder for a frozen backbone's outputs, so that each text goes through it once; auto: where it pays",
        "",
        type=states_place,
        metavar="PATH|auto",
    )
    cache_dtype: str = flag(
        "number type of those outputs; 16 bits change results a little", "float32", choices=CACHE_DTYPES
    )
    cache_max_gb: float | None = flag(
        "GB that they may take; what does not fit is computed again; default: no limit", None, within="(0, inf)"
    )
    dataloader_num_workers: int = flag("processes that load batches; 0: the program itself", 0, within="[0, inf)")

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.data_dir:
            raise ValueError("--data_dir is empty; give the folder with the splits.")
        if self.cache_states == AUTO and self.cache_dtype != "float32":
            raise ValueError(
                "--cache_states auto decides by the clock, which must not change results, as 16 bits do; give a folder "
                "or leave --cache_dtype out."
            )
        if not self.cache_states and (self.cache_dtype != "float32" or self.cache_max_gb is not None):
            raise ValueError("--cache_dtype and --cache_max_gb are for --cache_states; give that too, or neither.")


@dataclass(frozen=True, kw_only=True)
class TrainingArguments:
    """Run, optimisation, evaluation, checkpoints."""

    output_dir: str = flag("folder for runs, each in a folder of its own", "output", type=local_path)
    task_name: str = flag("first part of the run's name", "", metavar="NAME")
    comment: str = flag("last part of the run's name, to tell runs apart", "")
    do_train: bool = flag("train, and keep the best checkpoint by its score on dev", False)
    do_eval: bool = flag("evaluate the best checkpoint on all splits but train", False)
    evaluate_during_training: bool = flag("evaluate on dev every eval_steps while training, to find the best", True)
    restore: bool = flag("go on where the same command was stopped", True)
    overwrite_output_dir: bool = flag("delete the run's folder first", False)
    per_gpu_train_batch_size: int = flag(
        "examples in each batch on each device", 8, ("--train_batch_size",), within="[1, inf)"
    )
    per_gpu_eval_batch_size: int = flag(
        "examples in each batch on each device at evaluation", 8, ("--eval_batch_size",), within="[1, inf)"
    )
    gradient_accumulation_steps: int = flag("batches summed up for one optimizer step", 1, within="[1, inf)")
    max_tokens_per_batch: int = flag(
        "tokens in each batch on each device, padding counted: bounds memory, changes no step; 0: by examples",
        0,
        within="[0, inf)",
    )
    original_accumulation: bool = flag("average and clip each batch by itself (7, 13)", False)
    learning_rate: float = flag("peak learning rate of AdamW", 5e-5, within="[0, inf)")
    weight_decay: float = flag("AdamW's weight decay, not on biases and LayerNorms", 0.0, within="[0, inf)")
    adam_epsilon: float = flag("AdamW's epsilon", 1e-8, within="(0, inf)")
    correct_bias: bool = flag("correct the bias of AdamW's moments", True)
    max_grad_norm: float = flag("clip gradients to this norm; 0: never", 1.0, within="[0, inf)")
    clip_separately: bool = flag("clip the backbone's gradients apart from the others", True)
    num_train_epochs: float = flag("passes over the training data", 3.0, within="(0, inf)")
    max_steps: int = flag("optimizer steps, instead of num_train_epochs; -1: by epochs", -1, within="-1 or [1, inf)")
    warmup_steps: int = flag("optimizer steps in which the learning rate rises from 0", 0, within="[0, inf)")
    warmup_proportion: float = flag("the same as a share of all steps, instead of warmup_steps", 0.0, within="[0, 1)")
    schedule: str = flag("how the learning rate falls (docs/deviations.md, 6, A1)", "linear", choices=SCHEDULES)
    schedule_steps: int = flag(
        "optimizer steps after which the learning rate would be 0; 0: at the end of training", 0, within="[0, inf)"
    )
    logging_steps: int = flag("optimizer steps between two logged losses", 10, within="[1, inf)")
    save_steps: int = flag(
        "optimizer steps between checkpoints; 0: only at the end",
        1000,
        ("--save_checkpoints_steps",),
        within="[0, inf)",
    )
    eval_steps: int | None = flag(
        "optimizer steps between evaluations; default: 2 x save_steps", None, within="[0, inf)"
    )
    max_save_checkpoints: int = flag("how many checkpoints are kept", 2, within="[1, inf)")
    patience: int = flag("stop after so many evaluations without a better score; 0: never", 0, within="[0, inf)")
    seed: int = flag("seed of fresh weights, order and dropout", 42, within=SEED.within)
    data_seed: int | None = flag("seed of the order of the data; default: --seed", None, within=SEED.within)
    together: str = flag("train the settings of this JSON file at once (docs/formats.md)", "", type=local_path)
    fp16: bool = flag("compute in float16 where that is safe, for GPUs without bf16", False)
    bf16: bool = flag("compute in bfloat16 where that is safe: faster on a GPU", False)
    torch_compile: bool = flag(
        "compile layers in the first steps, which takes minutes: for long runs; needs g++, on a GPU Triton", False
    )
    no_cuda: bool = flag("use the CPU even where there is a GPU", False)

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.output_dir:
            raise ValueError("--output_dir is empty; give the folder that runs are written below.")
        if self.fp16 and self.bf16:
            raise ValueError("--fp16 and --bf16 exclude each other; choose one.")
        if self.max_tokens_per_batch and self.original_accumulation:
            raise ValueError(
                "--original_accumulation weighs micro-batches alike, which --max_tokens_per_batch makes of different "
                "sizes; give one of the two."
            )
        if self.eval_steps is None:
            object.__setattr__(self, "eval_steps", 2 * self.save_steps)
        if self.data_seed is None:
            object.__setattr__(self, "data_seed", self.seed)

    @property
    def mixed_precision(self) -> str:
        return "fp16" if self.fp16 else "bf16" if self.bf16 else "no"


ModelT = TypeVar("ModelT", bound=ModelArguments, covariant=True)
OwnT = TypeVar("OwnT", covariant=True)


@dataclass(frozen=True)
class Arguments(Generic[ModelT, OwnT]):
    """A recipe's parsed command line; `own` are the recipe's own flags, `settings` what --together makes of it."""

    model: ModelT
    data: DataArguments
    training: TrainingArguments
    own: OwnT
    settings: tuple[Arguments[ModelT, OwnT], ...] = ()

    def values(self) -> dict[str, Any]:
        """Flag -> value, over all groups."""
        groups: tuple[Any, ...] = (self.model, self.data, self.training, self.own)
        return {name: value for group in groups for name, value in asdict(group).items()}


def parse_recipe(
    description: str | None, model: type[ModelT], own: type[OwnT], argv: list[str] | None = None, **defaults: Any
) -> Arguments[ModelT, OwnT]:
    """A recipe's command line; its own defaults, where they differ from the groups', go into `defaults`."""
    groups, words = [model, DataArguments, TrainingArguments, own], sys.argv[1:] if argv is None else argv

    def parsed(flags: Sequence[str] = (), where: str = "") -> Arguments[ModelT, OwnT]:
        return Arguments(*parse(description, groups, [*words, *flags], where, **defaults))

    args = parsed()
    if not args.training.together:
        return args
    # Other seeds see the same batches, also where one of the settings is run by itself.
    same = ["--together=", f"--data_seed={args.training.data_seed}"]
    settings = read_settings(args.training.together)
    return replace(args, settings=tuple(parsed([*same, *flags], where) for where, flags in settings.items()))
