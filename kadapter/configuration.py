"""Configurations: one knowledge adapter, bottlenecks, a head, and a whole model.

All of them validate on construction and survive a JSON round trip.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.configuration_utils import SubConfigSpec
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from kadapter.fields import known, settle

FUSION_MODES = ("concat", "add", "gate", "attention", "nested_concat", "nested_add")
FROZEN_PARTS = ("backbone", "backbone_but_bottlenecks", "adapters", "none")
IGNORE = -100  # label of positions that no loss or metric counts; PyTorch's own value
MOST_UNNAMED_LABELS = 100_000  # beyond which `id2label` is not made up
KINDS_WITH_LABELS = ("relation", "entity_typing", "classification")  # whose outputs are labels of an example
HEAD_KINDS = ("relation", "dependency", "entity_typing", "multiple_choice", "classification", "masked_lm")


def default_taps(num_hidden_layers: int) -> tuple[int, ...]:
    """Hidden states to tap when none are named: first, middle, last but one.

    For RoBERTa-large's 24 layers these are 0, 11 and 22, the taps of K-Adapter's run scripts; two layers have 0 and 1.
    """
    last = 1 if num_hidden_layers == 2 else max(0, num_hidden_layers - 2)
    return tuple(sorted({0, max(0, num_hidden_layers // 2 - 1), last}))


def is_causal(backbone: PreTrainedConfig) -> bool:
    """Whether a token's state knows only what stands before it, as in decoders.

    Heads then read the last token of a span (`kadapter.data.encoding`).
    """
    kind = backbone.model_type
    only_causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return only_causal or bool(getattr(backbone, "is_decoder", False))


# Fields that files of before them lack -> the value that such a file stands for. All others must be in a file: a
# default in the place of a lost key would be another model.
ADDED_TO_ADAPTERS: dict[str, Any] = {"causal": False}
ADDED_TO_MODELS: dict[str, Any] = {"bottleneck": None, "adapter_names": None}


@dataclass(frozen=True)
class AdapterConfig:
    """Shape of one knowledge adapter (K-Adapter, section 3.1).

    Args:
        adapter_list: the backbone's hidden states that are tapped, 0 = embeddings, i = output of layer i.
            None: chosen from the backbone's depth by `default_taps`.
        adapter_size: width of the adapter's transformer layers.
        adapter_transformer_layers: number of transformer layers in each adapter layer.
        num_attention_heads: None means one head for every 64 units of width, as in BERT (12 at width 768).
        intermediate_size: width of the feed-forward part; None means four times the width.
        adapter_skip_layers: k >= 2 adds, after every k-th adapter layer, an earlier layer's output; 0 is off.
        attend_padding: let adapters attend to padding, as the original does (docs/deviations.md, 1).
        causal: let adapters attend only to what stands before a token. Off for decoders too: their states know only
            the past, and it is the adapters that can tell them what follows.
        initializer_range: standard deviation of the projections' initial weights; so small that a fresh
            adapter starts as (nearly) the identity.

    Raises:
        ValueError: a size that is not positive, a width that the heads do not divide, skip 1, no tap.
    """

    adapter_list: tuple[int, ...] | None = None
    adapter_size: int = 768
    adapter_transformer_layers: int = 2
    num_attention_heads: int | None = None
    intermediate_size: int | None = None
    adapter_skip_layers: int = 0
    attend_padding: bool = False
    causal: bool = False
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.0002

    def __post_init__(self) -> None:
        settle(self, "")
        if self.adapter_list is not None and not self.adapter_list:
            raise ValueError("adapter_list is empty; name at least one hidden state, such as [0, 11, 22].")
        if self.num_attention_heads is None:
            object.__setattr__(self, "num_attention_heads", max(1, self.adapter_size // 64))
        if self.intermediate_size is None:
            object.__setattr__(self, "intermediate_size", 4 * self.adapter_size)
        for name in ("adapter_size", "adapter_transformer_layers", "num_attention_heads", "intermediate_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.adapter_size % self.num_attention_heads:  # type: ignore[operator]
            raise ValueError(
                f"adapter_size {self.adapter_size} is not divisible by num_attention_heads "
                f"{self.num_attention_heads}; choose a divisor as the number of heads."
            )
        if self.adapter_skip_layers == 1 or self.adapter_skip_layers < 0:
            raise ValueError(
                f"adapter_skip_layers is {self.adapter_skip_layers}; use 0 (off) or 2 and more "
                "(1 would need an adapter layer beyond the last)."
            )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1).")
        if self.layer_norm_eps <= 0 or self.initializer_range < 0:
            raise ValueError(
                f"layer_norm_eps is {self.layer_norm_eps} and initializer_range {self.initializer_range}; "
                "the first must be above 0, the second 0 or more."
            )
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act is {self.hidden_act!r}; take 'gelu' or another activation of transformers.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AdapterConfig:
        return cls(**known(cls, values, "the adapter configuration"))

    @classmethod
    def from_saved(cls, values: Any) -> AdapterConfig:
        """As `from_dict`, of a file: nothing that shapes the adapter may be missing or left open but the taps.

        Raises:
            ValueError: missing or unknown keys, impossible values.
        """
        given = known(cls, values, "the adapter configuration", optional=ADDED_TO_ADAPTERS)
        for name in ("num_attention_heads", "intermediate_size"):
            if given[name] is None:
                raise ValueError(f"{name} is null; give the number that the adapter was saved with.")
        return cls(**{**ADDED_TO_ADAPTERS, **given})

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        if self.adapter_list is not None:
            values["adapter_list"] = list(self.adapter_list)
        return values

    def resolved(self, num_hidden_layers: int) -> AdapterConfig:
        """This configuration with its taps filled in and checked against a backbone's depth.

        Raises:
            ValueError: a tap outside 0..num_hidden_layers, or a skip that reaches past the last adapter layer.
        """
        taps = default_taps(num_hidden_layers) if self.adapter_list is None else self.adapter_list
        wrong = [tap for tap in taps if not 0 <= tap <= num_hidden_layers]
        if wrong:
            raise ValueError(
                f"adapter_list {list(taps)} taps hidden states {wrong}, but the backbone with "
                f"{num_hidden_layers} layers has 0 to {num_hidden_layers}; choose taps within that range."
            )
        return AdapterConfig(**{**asdict(self), "adapter_list": taps})


@dataclass(frozen=True)
class BottleneckConfig:
    """Shape of the bottleneck adapters inside a backbone (Houlsby et al., 2019).

    Args:
        size: width of the bottleneck.
        initializer_range: standard deviation of the first weights; 1e-3 in the original's code, 1e-2 in the paper.
        hidden_act: "gelu_pytorch_tanh" is the original's, "gelu" the exact one.

    Raises:
        ValueError: a size that is not positive, an unknown activation.
    """

    size: int = 64
    initializer_range: float = 1e-3
    hidden_act: str = "gelu_pytorch_tanh"

    def __post_init__(self) -> None:
        settle(self, "the bottleneck's ")
        if self.size < 1:
            raise ValueError(f"the bottleneck's size is {self.size}; it must be 1 or more.")
        if self.initializer_range <= 0:
            raise ValueError(f"the bottleneck's initializer_range is {self.initializer_range}; it must be above 0.")
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"the bottleneck's hidden_act is {self.hidden_act!r}; take 'gelu_pytorch_tanh' or 'gelu'.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BottleneckConfig:
        return cls(**known(cls, values, "the bottleneck's configuration"))

    @classmethod
    def from_saved(cls, values: Any) -> BottleneckConfig:
        """As `from_dict`, of a file: no key may be missing."""
        return cls(**known(cls, values, "the bottleneck's configuration", optional=()))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class HeadConfig:
    """A head on top of the fused features.

    Args:
        kind: one of `HEAD_KINDS`.
        num_labels: width of `out_proj`; for "dependency" the number of positions (max_seq_length), for
            "masked_lm" the vocabulary, for "multiple_choice" 1, a score for each choice; 1 makes "classification" a
            regression.
        labels: names of the labels in order, where they have names.
        dropout: probability before `out_proj`; None takes the backbone's.
    """

    kind: str
    num_labels: int
    labels: tuple[str, ...] | None = None
    dropout: float | None = None

    def __post_init__(self) -> None:
        settle(self, "the head's ")
        if self.kind not in HEAD_KINDS:
            raise ValueError(f"head kind is {self.kind!r}; choose one of {list(HEAD_KINDS)}.")
        if self.num_labels < 1:
            raise ValueError(f"num_labels is {self.num_labels}; it must be 1 or more.")
        if self.labels is not None and len(self.labels) != self.num_labels:
            raise ValueError(f"{len(self.labels)} label names were given for num_labels {self.num_labels}.")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"the head's dropout is {self.dropout}; it must be in [0, 1).")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HeadConfig:
        return cls(**known(cls, values, "the head's configuration"))

    @classmethod
    def from_saved(cls, values: Any) -> HeadConfig:
        """As `from_dict`, of a file: no key may be missing."""
        return cls(**known(cls, values, "the head's configuration", optional=()))

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "labels": list(self.labels) if self.labels is not None else None}


class KAdapterConfig(PreTrainedConfig):
    """A backbone, any number of named adapters, and how their features are fused.

    Args:
        backbone_config: configuration of any encoder of text in transformers, or of a decoder.
        adapters: name -> `AdapterConfig` (or its dictionary); the order is the order of fusion.
        adapter_names: that order, where `adapters` comes from a file that lost it.
        fusion_mode: "concat" (linear layers over concatenated features), "add" (a sum, no parameters), either of
            these "nested_", "gate" (a learned softmax over adapters) or "attention" (see `Fusion`).
        bottleneck: a `BottleneckConfig` (or its dictionary) for adapters inside the backbone, else None.
        head: a `HeadConfig` (or its dictionary) for a task model, else None. Its labels are `id2label` too.
        task: what a task model was trained for: {"name", "options", "max_seq_length"}, where that is known; the labels
            are the head's.

    Raises:
        ValueError: an unknown fusion mode, a name unfit for a parameter, a tap outside the backbone, a backbone that
            is no stack of layers over tokens.
    """

    model_type = "kadapter"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="roberta")
    }
    backbone_config: Any = None
    adapters: Any = field(default_factory=dict)
    adapter_names: Any = None
    fusion_mode: str = "concat"
    bottleneck: Any = None
    head: Any = None
    task: Any = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.backbone_config = _backbone_config(self.backbone_config)
        if kwargs.get("attn_implementation") is None:  # or transformers resets that of a backbone in use
            kwargs["attn_implementation"] = self.backbone_config._attn_implementation
        super().__post_init__(**kwargs)
        depth = self.backbone_config.num_hidden_layers
        if self.fusion_mode not in FUSION_MODES:
            raise ValueError(f"fusion_mode is {self.fusion_mode!r}; choose one of {list(FUSION_MODES)}.")
        if not isinstance(self.adapters, Mapping):
            raise ValueError(f"adapters is {self.adapters!r}; give names with the configurations of adapters.")
        # JSON files of transformers sort their keys, and the order of the adapters is that of the fused features.
        order = self.adapter_names
        order = list(self.adapters) if order is None else list(order) if isinstance(order, list | tuple) else [order]
        if sorted(map(str, order)) != sorted(map(str, self.adapters)):
            raise ValueError(f"adapter_names {order} are not the names of the adapters {list(self.adapters)}.")
        self.adapter_names = order
        # Plain dictionaries are what transformers can compare, copy and write.
        self.adapters = {name: self._adapter(name, self.adapters[name], depth) for name in order}
        if self.bottleneck is not None:
            given = self.bottleneck
            given = given if isinstance(given, BottleneckConfig) else BottleneckConfig.from_dict(given)
            self.bottleneck = given.to_dict()
        if self.head is not None:
            head = self.head if isinstance(self.head, HeadConfig) else HeadConfig.from_dict(self.head)
            self.head = head.to_dict()
            # A number without names comes from a file that has not been compared with its weights yet.
            if head.kind in KINDS_WITH_LABELS and (head.labels or head.num_labels <= MOST_UNNAMED_LABELS):
                names = head.labels or tuple(f"LABEL_{i}" for i in range(head.num_labels))
                self.id2label, self.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers, of a file's content: no key of ours may be missing.

        Raises:
            ValueError: names the file, where it is told, and what is missing, unknown or impossible in it.
        """
        source = kwargs.get("name_or_path") or config_dict.get("_name_or_path")
        try:
            _check_saved(config_dict)
            return super().from_dict({**ADDED_TO_MODELS, **config_dict}, **kwargs)
        except Exception as error:  # a broken backbone_config makes the families' classes raise anything
            said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            said = textwrap.shorten(said, 600, placeholder=" ...")
            raise ValueError(f"{source}, config.json: {said}" if source else said) from None

    @staticmethod
    def _adapter(name: str, value: AdapterConfig | Mapping[str, Any], depth: int) -> dict[str, Any]:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"adapter name {name!r} is not a plain word; use letters, digits and underscores.")
        if name in FROZEN_PARTS:
            raise ValueError(f"adapter name {name!r} means something else to freeze(); choose another name.")
        config = value if isinstance(value, AdapterConfig) else AdapterConfig.from_dict(value)
        try:
            return config.resolved(depth).to_dict()
        except ValueError as error:
            raise ValueError(f"adapter {name!r}: {error}") from None

    @property
    def hidden_size(self) -> int:
        return self.backbone_config.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        return self.backbone_config.num_hidden_layers

    @property
    def vocab_size(self) -> int:
        return self.backbone_config.vocab_size

    def adapter_config(self, name: str) -> AdapterConfig:
        return AdapterConfig.from_dict(self.adapters[name])

    def bottleneck_config(self) -> BottleneckConfig | None:
        return None if self.bottleneck is None else BottleneckConfig.from_dict(self.bottleneck)

    def head_config(self) -> HeadConfig:
        if self.head is None:
            raise ValueError("this configuration has no head; give head=HeadConfig(...) for a task model.")
        return HeadConfig.from_dict(self.head)


def _check_saved(values: Mapping[str, Any]) -> None:
    """Refuse what a file says of our parts where it is not whole."""
    names = ("backbone_config", "adapters", "fusion_mode", "head")
    if missing := [name for name in names if name not in values]:
        raise ValueError(f"the keys {missing} are missing; save the model again.")
    adapters = values["adapters"]
    if not isinstance(adapters, Mapping):
        raise ValueError(f"adapters is {adapters!r}; give an object of names and configurations.")
    if len(adapters) > 1 and values.get("adapter_names") is None:
        raise ValueError("adapter_names is missing, the order in which the adapters are fused; save the model again.")
    for name, adapter in adapters.items():
        try:
            config = AdapterConfig.from_saved(adapter)
        except ValueError as error:
            raise ValueError(f"adapter {name!r}: {error}") from None
        if config.adapter_list is None:
            raise ValueError(f"adapter {name!r}: adapter_list is null; give the hidden states that it taps.")
    if values.get("bottleneck") is not None:
        BottleneckConfig.from_saved(values["bottleneck"])
    if values["head"] is not None:
        HeadConfig.from_saved(values["head"])
    if not isinstance(values["backbone_config"], Mapping):
        raise ValueError(f"backbone_config is {values['backbone_config']!r}; give the configuration of the backbone.")


def _backbone_config(value: Any) -> PreTrainedConfig:
    if isinstance(value, Mapping):
        values = dict(value)
        model_type = values.pop("model_type", None)
        if model_type is None:
            raise ValueError("backbone_config has no model_type; give the configuration of a transformers model.")
        value = AutoConfig.for_model(model_type, **values)
    if value is None:  # transformers builds every configuration once without arguments
        value = AutoConfig.for_model("roberta")
    if not isinstance(value, PreTrainedConfig):
        raise ValueError(f"backbone_config is a {type(value).__name__}; give a transformers configuration.")
    if value.is_encoder_decoder:
        raise ValueError(
            f"{value.model_type} is an encoder-decoder; take an encoder such as roberta, or a decoder such as gpt2."
        )
    for name in ("hidden_size", "num_hidden_layers", "vocab_size"):
        if not isinstance(getattr(value, name, None), int):
            raise ValueError(f"{value.model_type} has no {name}; K-Adapter needs stacked layers over tokens of text.")
    return value


AutoConfig.register(KAdapterConfig.model_type, KAdapterConfig, exist_ok=True)
