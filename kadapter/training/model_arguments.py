"""Command-line arguments of a recipe's model: backbone, adapters, bottlenecks, fusion, and what of it is trained."""

from __future__ import annotations

from dataclasses import dataclass

from kadapter.configuration import DEFAULT_BOTTLENECKS, FUSION_MODES
from kadapter.console import hub_or_path, local_path, named_source
from kadapter.shapes import AdapterConfig, BottleneckConfig
from kadapter.training.flags import check_ranges, flag

NORMS = "norms"  # of --train_layers


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
    frozen_dropout: bool = flag(
        "with dropout in the frozen layers below the first that is trained; False: without, as --cache_states needs",
        True,
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
        if not self.lowest_trained_layer() and not self.frozen_dropout:
            raise ValueError(
                "--frozen_dropout False is for frozen layers below trained ones, but there are none; give "
                "--bottleneck_layers or --train_layers without the lowest layers, or leave it out."
            )

    def bottlenecks(self) -> dict[str, BottleneckConfig]:
        """The bottlenecks that these flags describe, by name; raises ValueError where they are none."""
        if not self.bottleneck_size:
            return {}
        layers = _layers(self.bottleneck_layers, "--bottleneck_layers") if self.bottleneck_layers else None
        config = BottleneckConfig(self.bottleneck_size, self.bottleneck_initializer_range, layers=layers)
        return {DEFAULT_BOTTLENECKS: config}

    def lowest_trained_layer(self) -> int:
        """The first layer that is trained where --bottleneck_layers or --train_layers leave out lower ones, else 0."""
        layers = [config.layers for config in self.bottlenecks().values()] or [self.trained_layers()]
        return min(layers[0] or (0,))

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
