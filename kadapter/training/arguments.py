"""Command-line arguments as dataclasses; `sections.py` says in which groups help shows them.

Every flag of the original's run scripts is accepted with its meaning. Parsed arguments become frozen dataclasses
at once; modules take those or plain values, never a namespace.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, TypeVar

from kadapter.configuration import DEFAULT_BOTTLENECKS, FUSION_MODES
from kadapter.console import SEED, hub_or_path, local_path, named_source
from kadapter.data.executors import CLUSTER_HELP
from kadapter.shapes import AdapterConfig, BottleneckConfig
from kadapter.training.flags import check_ranges, flag, parse
from kadapter.training.settings import read_settings

logger = logging.getLogger(__name__)

# linear: warm-up, then down to 0. linear_ahead: the same, a step earlier. bert: the fall is counted from step 0.
AUTO = "auto"  # of --cache_states
CACHE_DTYPES = ("float32", "bf16", "fp16")
NORMS = "norms"  # of --train_layers
SCHEDULES = ("linear", "linear_ahead", "bert")


@dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """Backbone, adapters, fusion."""

    model_name_or_path: str = flag(
        "the pretrained model (backbone): a folder or hub name", "roberta-large", ("--model_name",), type=hub_or_path
    )
    tokenizer_name: str = flag("tokenizer, where it is not the backbone's own", "", type=hub_or_path)
    revision: str = flag("branch, tag or commit of the backbone on the hub", "main")
    cache_dir: str | None = flag("folder for models from the hub; default: the hub's own", None, type=local_path)
    attn_implementation: str | None = flag(
        "how attention is computed: sdpa, eager, flash_attention_2, ...; default: transformers chooses", None
    )
    fusion_mode: str = flag("how the features of backbone and adapters are joined", "concat", choices=FUSION_MODES)
    freeze_bert: bool = flag("keep the backbone as it is and train the rest", False)
    freeze_adapter: bool = flag("keep loaded adapters as they are", True)
    adapter_size: int = flag("hidden units of an adapter's layers", 768, within="[1, inf)")
    adapter_list: str = flag(
        'backbone layers whose output adapters read (taps), such as "0,11,22"; default: by the backbone\'s depth',
        "",
        ("--adapter_layers",),
    )
    adapter_skip_layers: int = flag(
        "after every so many adapter layers, add the output of the layers before; 0: never", 0, within="[0, inf)"
    )
    adapter_transformer_layers: int = flag("transformer layers in each adapter layer", 2, within="[1, inf)")
    adapter_attention_heads: int | None = flag(
        "attention heads of adapters; default: one for every 64 units", None, within="[1, inf)"
    )
    adapter_intermediate_size: int | None = flag(
        "units of the feed-forward parts of adapters; default: 4 x adapter_size", None, within="[1, inf)"
    )
    adapter_initializer_range: float = flag(
        "standard deviation of the first weights of adapters' projections", 0.0002, within="(0, inf)"
    )
    adapter_dropout: float = flag("share of units dropped in adapters while training", 0.1, within="[0, 1)")
    attend_padding: bool = flag("let adapters attend to padding, as in the original", False)
    adapter_causal: bool = flag("let adapters attend only to earlier tokens, as decoders do", False)
    gradient_checkpointing: bool = flag("compute activations twice, which takes less memory and more time", False)

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.model_name_or_path:
            raise ValueError("--model_name_or_path is empty; give a folder or the name of a model on the hub.")
        self.adapter_config()  # which is refused now, not after the data are tokenized

    def adapter_config(self) -> AdapterConfig:
        """The adapters' shape that these flags describe; raises ValueError where it is none."""
        try:
            taps = tuple(int(tap) for tap in self.adapter_list.split(",")) if self.adapter_list else None
        except ValueError:
            raise ValueError(f'--adapter_list is {self.adapter_list!r}; write numbers such as "0,11,22".') from None
        return AdapterConfig(
            adapter_list=taps,
            adapter_size=self.adapter_size,
            adapter_skip_layers=self.adapter_skip_layers,
            adapter_transformer_layers=self.adapter_transformer_layers,
            attend_padding=self.attend_padding,
            causal=self.adapter_causal,
            num_attention_heads=self.adapter_attention_heads,
            intermediate_size=self.adapter_intermediate_size,
            initializer_range=self.adapter_initializer_range,
            hidden_dropout_prob=self.adapter_dropout,
            attention_probs_dropout_prob=self.adapter_dropout,
        )


@dataclass(frozen=True, kw_only=True)
class PretrainingArguments(ModelArguments):
    """The model, for training one adapter."""

    freeze_bert: bool = flag("keep the backbone as it is and train adapter and head", True)
    meta_adapter_model: str = flag("go on training this adapter instead of a fresh one", "", type=hub_or_path)
    no_adapter: bool = flag("train the head alone, without an adapter: a baseline", False)
    untrained_adapter: bool = flag("leave the fresh adapter as it is and train fusion and head: a baseline", False)


@dataclass(frozen=True, kw_only=True)
class TaskArguments(ModelArguments):
    """The model, for a task on pretrained adapters."""

    meta_fac_adaptermodel: str = flag(
        "factual adapter, named fac: a file or folder, ours or the original's", "", type=hub_or_path
    )
    meta_lin_adaptermodel: str = flag("linguistic adapter, named lin", "", type=hub_or_path)
    meta_et_adaptermodel: str = flag("entity typing adapter, named et", "", type=hub_or_path)
    task_adapter: str = flag("name of a fresh adapter that is added and trained", "", metavar="NAME")
    adapter: list[str] = flag("an adapter under a name of your choice (repeatable)", factory=list, type=named_source)
    untrained: list[str] = flag(
        "a fresh adapter that stays as it is, a control without knowledge; with PATH of that adapter's shape "
        "(repeatable)",
        factory=list,
        type=named_source,
        metavar="NAME[=PATH]",
    )
    train_adapters: str = flag('loaded adapters that are trained on, such as "fac,bio"', "", metavar="NAMES")
    bottleneck_size: int = flag(
        "train bottlenecks of so many units and LayerNorms instead of the backbone; 0: none", 0, within="[0, inf)"
    )
    bottleneck_layers: str = flag(
        'backbone layers that have bottlenecks, from 0, such as "4-11" or "0,5-7"; default: all. Layers below the '
        "first are faster, as they need no gradient (AdapterDrop)",
        "",
    )
    bottleneck_initializer_range: float = flag(
        "standard deviation of the bottlenecks' first weights", 1e-3, within="(0, inf)"
    )
    train_layers: str = flag(
        'backbone layers that are trained, from 0, such as "22-23", or "norms" for LayerNorms alone; default: all',
        "",
        metavar="LAYERS",
    )
    train_pooler: bool = flag("train a pretrained pooler although the rest of the backbone stays as it is", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.untrained_sources()  # which are refused now, not after the data are tokenized
        if self.bottleneck_size and self.freeze_bert:
            raise ValueError(
                "--freeze_bert would freeze fresh bottlenecks; give --bottleneck_size 0 to train the head alone."
            )
        if self.bottleneck_layers and not self.bottleneck_size:
            raise ValueError(
                "--bottleneck_layers names layers for bottlenecks, but there are none; give --bottleneck_size."
            )
        if self.train_layers and (self.freeze_bert or self.bottleneck_size):
            other = "--freeze_bert" if self.freeze_bert else "--bottleneck_size"
            raise ValueError(
                f"--train_layers trains a part of the backbone, which {other} freezes; give one of the two."
            )
        self.bottlenecks()
        self.trained_layers()

    def bottlenecks(self) -> dict[str, BottleneckConfig]:
        """The bottlenecks that these flags describe, by name; raises ValueError where they are none."""
        if not self.bottleneck_size:
            return {}
        layers = _layers(self.bottleneck_layers, "--bottleneck_layers") if self.bottleneck_layers else None
        config = BottleneckConfig(self.bottleneck_size, self.bottleneck_initializer_range, layers=layers)
        return {DEFAULT_BOTTLENECKS: config}

    def trained_layers(self) -> tuple[int, ...] | None:
        """The layers that --train_layers names, None for LayerNorms alone; raises ValueError where it names none."""
        return None if self.train_layers == NORMS else _layers(self.train_layers or "0", "--train_layers")

    def trained_adapters(self) -> list[str]:
        """The names that --train_adapters gives."""
        return [name.strip() for name in self.train_adapters.split(",") if name.strip()]

    def sources(self) -> dict[str, str]:
        """Adapter name -> where it is."""
        named = {"fac": self.meta_fac_adaptermodel, "et": self.meta_et_adaptermodel, "lin": self.meta_lin_adaptermodel}
        sources = {name: source for name, source in named.items() if source}
        for pair in self.adapter:
            name, equals, source = pair.partition("=")
            if not (name and equals and source):
                raise ValueError(f"--adapter is {pair!r}; write name=path.")
            if name in sources:
                raise ValueError(f"--adapter names {name!r}, which is given already; choose another name.")
            sources[name] = source
        return sources

    def untrained_sources(self) -> dict[str, str]:
        """Name of an untrained adapter -> the adapter whose shape it has; "" where the flags describe it.

        Raises:
            ValueError: another adapter has the name already, or it is to be trained.
        """
        taken, found = {*self.sources(), self.task_adapter}, dict[str, str]()
        for pair in self.untrained:
            name, equals, source = pair.partition("=")
            if not name or bool(equals) != bool(source):
                raise ValueError(f"--untrained is {pair!r}; write a name, or name=path.")
            if name in taken or name in found:
                raise ValueError(f"--untrained names {name!r}, which is given already; choose another name.")
            if name in self.trained_adapters():
                raise ValueError(
                    f"--train_adapters names {name!r}, which --untrained keeps as it is; --task_adapter adds a fresh "
                    "adapter that is trained."
                )
            found[name] = source
        return found


def _layers(text: str, name: str) -> tuple[int, ...]:
    """The numbers that "4-11" or "0,5-7" stand for; raises ValueError for other texts."""
    try:
        ranges = [[int(end) for end in part.split("-")] for part in text.split(",")]
        numbers = tuple(n for ends in ranges for n in range(ends[0], ends[-1] + 1))
        if not all(len(ends) < 3 and ends[0] <= ends[-1] for ends in ranges):
            raise ValueError
    except ValueError:
        raise ValueError(f'{name} is {text!r}; write numbers and ranges, such as "4-11" or "0,5-7".') from None
    return numbers


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
class NoFlags:
    """A recipe without flags of its own."""


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
