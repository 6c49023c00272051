"""The configuration of a whole model: backbone, adapters, fusion, head. It validates on construction."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from kadapter.shapes import AdapterConfig, BottleneckConfig, HeadConfig

FUSION_MODES = ("concat", "add", "gate", "attention", "nested_concat", "nested_add")
DEFAULT_BOTTLENECKS = "default"  # PEFT's name for what was given none
FROZEN_PARTS = ("backbone", "backbone_but_bottlenecks", "adapters", "none")
MOST_UNNAMED_LABELS = 100_000  # beyond which `id2label` is not made up
# Whose outputs are labels of an example, or of a word.
KINDS_WITH_LABELS = ("relation", "entity_typing", "classification", "multi_label", "tagging")


# What a model has of its encoder and shares with it.
ENCODER_FIELDS = ("backbone_config", "adapters", "adapter_names", "fusion_mode", "bottlenecks", "active_bottlenecks")
# What `from_pretrained` takes as arguments of its own: other parts than the saved ones are no change of a setting.
PARTS = (*ENCODER_FIELDS, "adapter_config", "head", "task")
# What the whole model decides, whose backbone only follows.
OF_THE_WHOLE = ("output_hidden_states", "output_attentions", "return_dict")

# As ADDED_TO_ADAPTERS, of config.json.
ADDED_TO_MODELS: dict[str, Any] = {"bottlenecks": {}, "active_bottlenecks": None, "adapter_names": None}
# Families whose first positions stand for padding.
ROBERTA_KIND = ("roberta", "xlm-roberta", "camembert", "mpnet", "roberta-prelayernorm", "xlm-roberta-xl", "longformer")


def is_causal(backbone: PreTrainedConfig) -> bool:
    """Whether a token's state knows only what stands before it, as in decoders.

    Heads then read the last token of a span (`kadapter.data.encoding`).
    """
    kind = backbone.model_type
    only_causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return only_causal or bool(getattr(backbone, "is_decoder", False))


def longest_sequence(backbone: PreTrainedConfig) -> int | None:
    """How many tokens a sequence may have; None where the backbone's positions have no end."""
    positions = getattr(backbone, "max_position_embeddings", None) or 0
    if not getattr(backbone, "position_biased_input", True):
        positions = 0  # DeBERTa-v3's are relative and have no end
    if backbone.model_type in ROBERTA_KIND:
        positions -= backbone.pad_token_id + 1  # the first positions stand for padding
    return positions if positions > 0 else None


def checked_task(value: Any, source: object = "the configuration") -> dict[str, Any] | None:
    """What a saved model says of its task, if it says anything; raises ValueError where that is of another form."""
    kinds = {"name": str, "options": dict, "max_seq_length": int}
    if value is None:
        return None
    if not isinstance(value, Mapping) or {*value} != {*kinds}:
        raise ValueError(f"{source}: task is {value!r}; it is an object with the keys {', '.join(kinds)}.")
    for key, kind in kinds.items():
        if not isinstance(value[key], kind) or isinstance(value[key], bool):
            raise ValueError(f"{source}: {key} of the task is {value[key]!r} instead of a {kind.__name__}.")
    return dict(value)


def _of_backbone(name: str) -> Any:
    """A property that reads and sets the backbone's value."""
    return property(
        lambda self: getattr(self.backbone_config, name),
        lambda self, value: setattr(self.backbone_config, name, value),
    )


class KAdapterConfig(PreTrainedConfig):
    """A backbone, any number of named adapters, and how their features are fused.

    Args:
        backbone_config: configuration of any encoder or decoder of text in transformers.
        adapters: name -> `AdapterConfig` (or its dictionary); their order is the order of fusion.
        adapter_names: that order, where `adapters` comes from a file, which does not keep it.
        fusion_mode: how the backbone's and the adapters' features become one: "concat" (linear layers over their
            concatenation), "add" (a sum, without parameters), "nested_concat" or "nested_add" (the same after each
            adapter is joined with the backbone alone, as in CosmosQA), "gate" (a learned softmax over adapters) or
            "attention" (see `Fusion`).
        bottlenecks: name -> `BottleneckConfig` (or its dictionary), sets of bottlenecks inside the backbone.
        active_bottlenecks: the set that is computed; None for none, "" for the last one of `bottlenecks`.
        head: a `HeadConfig` (or its dictionary) for a task model, else None. Its labels are also `id2label`.
        task: what a task model was trained for, if known: {"name", "options", "max_seq_length"}; the labels are the
            head's.

    Raises:
        ValueError: an unknown fusion mode, a name that cannot name a parameter, a tap that the backbone does not have,
            a backbone that is not a stack of layers over tokens.
    """

    model_type = "kadapter"
    # Of what a task model gives, predictions are the logits alone (transformers' Trainer).
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["attention", "losses", "hidden_states", "attentions"]
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="roberta")
    }
    backbone_config: Any = None
    adapters: Any = field(default_factory=dict)
    adapter_names: Any = None
    fusion_mode: str = "concat"
    bottlenecks: Any = field(default_factory=dict)
    active_bottlenecks: Any = ""
    head: Any = None
    task: Any = None

    def __post_init__(self, **kwargs: Any) -> None:
        if "bottleneck" in kwargs:
            raise ValueError("bottlenecks have names: give bottlenecks={'default': ...} instead of bottleneck=.")
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
        self.bottlenecks = {name: self._bottleneck(name, value, depth) for name, value in self.bottlenecks.items()}
        if self.active_bottlenecks == "":
            self.active_bottlenecks = next(reversed(self.bottlenecks), None)
        if self.active_bottlenecks not in (None, *self.bottlenecks):
            raise ValueError(f"active_bottlenecks is {self.active_bottlenecks!r}, not among {list(self.bottlenecks)}.")
        self.task = checked_task(self.task)
        self._settle_head()

    def _settle_head(self) -> None:
        if self.head is not None:
            head = self.head_config()
            self.head = head.to_dict()
            # A number without names comes from a file that has not been compared with its weights yet.
            if head.kind in KINDS_WITH_LABELS and (head.labels or head.num_labels <= MOST_UNNAMED_LABELS):
                self.id2label, self.label2id = _label_names(head)
            self.problem_type = "multi_label_classification" if head.kind == "multi_label" else None

    def __setattr__(self, key: str, value: Any) -> None:
        if isinstance(value, AdapterConfig | BottleneckConfig | HeadConfig):
            value = value.to_dict()  # plain dictionaries are what transformers can compare, copy and write
        super().__setattr__(key, value)

    def with_head(self, head: HeadConfig | None) -> KAdapterConfig:
        """The configuration of the same encoder under another head, or under none; it shares the encoder's values."""
        config = copy.copy(self)
        config.head, config.task, config.num_labels = head, None, 2  # transformers' own number where there are none
        config._settle_head()
        return config

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers, of a file's content: no key of ours may be missing.

        Args:
            kwargs: settings in place of the saved ones. `OF_THE_WHOLE` and what all configurations of transformers
                have are the model's; all others are the backbone's where it has them. Parts (`PARTS`) are taken here
                too, unless a model is loaded with this configuration, which takes them itself.

        Raises:
            ValueError: names the file, where it is told, and what is missing, unknown or impossible in it; or another
                number or other names of labels than the saved head has.
        """
        source = kwargs.get("name_or_path") or config_dict.get("_name_or_path")
        try:
            _check_saved(config_dict)
            given = {name: value for name, value in config_dict.items() if name != "bottleneck"}  # null, see above
            values = {**ADDED_TO_MODELS, **given}
            parts = {name: kwargs.pop(name) for name in PARTS if name in kwargs}
            if for_model := kwargs.get("return_unused_kwargs", False):
                _check_labels(values["head"], kwargs)
            else:
                values |= _checked_parts(values, parts)
            values["backbone_config"] = _backbone_config(values["backbone_config"])
            kwargs = _override_backbone(cls, values["backbone_config"], kwargs)
            found: Any = super().from_dict(values, **kwargs)
            return (found[0], {**found[1], **parts}) if for_model else found
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

    @staticmethod
    def _bottleneck(name: str, value: BottleneckConfig | Mapping[str, Any], depth: int) -> dict[str, Any]:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"the name of bottlenecks {name!r} is not a plain word; use letters, digits, underscores.")
        config = value if isinstance(value, BottleneckConfig) else BottleneckConfig.from_dict(value)
        if config.layers is not None and config.layers[-1] >= depth:
            raise ValueError(
                f"bottlenecks {name!r} are for layers {list(config.layers)}, but the backbone has {depth}, "
                "numbered from 0; name others."
            )
        return config.to_dict()

    # Sizes of the backbone, which transformers sets too (`resize_token_embeddings`).
    hidden_size = _of_backbone("hidden_size")
    num_hidden_layers = _of_backbone("num_hidden_layers")
    vocab_size = _of_backbone("vocab_size")

    def adapter_config(self, name: str) -> AdapterConfig:
        """The shape of adapter `name`."""
        return AdapterConfig.from_dict(self.adapters[name])

    def bottleneck_config(self, name: str) -> BottleneckConfig:
        """The shape of the set of bottlenecks `name`."""
        return BottleneckConfig.from_dict(self.bottlenecks[name])

    def head_config(self) -> HeadConfig:
        """The head; raises ValueError where there is none."""
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
        raise ValueError(
            "it was saved before bottlenecks had names; load the task from its folder `task` with TaskModel.load_task."
        )
    if not isinstance(values.get("bottlenecks", {}), Mapping):
        raise ValueError(f"bottlenecks is {values['bottlenecks']!r}; give an object of names and configurations.")
    for name, bottleneck in values.get("bottlenecks", {}).items():
        try:
            BottleneckConfig.from_saved(bottleneck)
        except ValueError as error:
            raise ValueError(f"bottlenecks {name!r}: {error}") from None
    if values["head"] is not None:
        HeadConfig.from_saved(values["head"])
    if not isinstance(values["backbone_config"], Mapping):
        raise ValueError(f"backbone_config is {values['backbone_config']!r}; give the configuration of the backbone.")


def _label_names(head: HeadConfig) -> tuple[dict[int, str], dict[str, int]]:
    names = head.labels or tuple(f"LABEL_{i}" for i in range(head.num_labels))
    return dict(enumerate(names)), {name: i for i, name in enumerate(names)}


def _check_labels(head: Mapping[str, Any] | None, kwargs: Mapping[str, Any]) -> None:
    """Refuse labels beside those of the saved head, with which they would not go together."""
    if head is None or not {"num_labels", "id2label", "label2id"} & kwargs.keys():
        return  # names are not made up of a number that has not been compared with any weights
    config = HeadConfig.from_dict(head)
    id2label, label2id = _label_names(config)
    saved = {"num_labels": config.num_labels, "id2label": id2label, "label2id": label2id}
    given = {name: kwargs[name] for name in saved if name in kwargs}
    if given.get("id2label"):
        given["id2label"] = {int(key): name for key, name in given["id2label"].items()}
    if wrong := [name for name, value in given.items() if value != saved[name]]:
        raise ValueError(
            f"{wrong[0]} is {given[wrong[0]]!r}, but the saved head has {saved[wrong[0]]!r}; leave it out, or put "
            "another head on the encoder: TaskModel.from_encoder(KAdapterModel.from_pretrained(...), HeadConfig(...))."
        )


def _checked_parts(values: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """Parts in place of the saved ones; adapters without an order come in their own."""
    given = dict(parts)
    if isinstance(backbone := given.get("backbone_config"), Mapping):
        given["backbone_config"] = {**values["backbone_config"], **backbone}
    if "adapters" in given:
        given.setdefault("adapter_names", None)
    if "adapter_config" in given:
        raise ValueError("adapter_config is no setting of a configuration; give adapters={name: AdapterConfig(...)}.")
    return given


def _override_backbone(cls: type, backbone: PreTrainedConfig, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Set what is the backbone's in it; returns the rest."""
    own = {*OF_THE_WHOLE, "num_labels", "id2label", "label2id", "problem_type", "dtype", "torch_dtype", "name_or_path"}
    rest = {}
    for name, value in kwargs.items():
        of_backbone = name not in own and not name.startswith("_") and hasattr(backbone, name)
        if of_backbone and not callable(getattr(backbone, name)):
            setattr(backbone, name, value)
        if not of_backbone or name in cls.__dataclass_fields__:  # type: ignore[attr-defined]
            rest[name] = value
    return rest


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
