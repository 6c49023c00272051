"""Shapes: the configurations of one knowledge adapter, of bottlenecks, of a head.

All of them validate on construction and survive a JSON round trip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kadapter.fields import known, to_annotated_types

IGNORE = -100  # label of positions that no loss or metric counts; PyTorch's own value
HEAD_KINDS = (
    *("relation", "dependency", "entity_typing", "multiple_choice", "classification", "masked_lm"),
    *("multi_label", "tagging", "span", "openqa"),
)


def default_taps(num_hidden_layers: int) -> tuple[int, ...]:
    """Hidden states to tap when none are named: first, middle, last but one.

    For RoBERTa-large's 24 layers these are 0, 11 and 22, the taps of K-Adapter's run scripts; two layers have 0 and 1.
    """
    last = 1 if num_hidden_layers == 2 else max(0, num_hidden_layers - 2)
    return tuple(sorted({0, max(0, num_hidden_layers // 2 - 1), last}))


def _is_activation(name: str) -> bool:
    from transformers.activations import ACT2FN  # here: it imports torch, for which readers of data need not wait

    return name in ACT2FN


# Fields that files of before them lack -> the value that such a file stands for. All others must be in a file: a
# default in the place of a lost key would be another model.
ADDED_TO_ADAPTERS: dict[str, Any] = {"causal": False}
ADDED_TO_BOTTLENECKS: dict[str, Any] = {"layers": None}


@dataclass(frozen=True)
class AdapterConfig:
    """Shape of one knowledge adapter (K-Adapter, section 3.1). The defaults are the original's, beside RoBERTa-large.

    Args:
        adapter_list: taps, the backbone's hidden states that the adapter reads, one for each adapter layer: 0 is the
            output of the embeddings, i that of layer i. None: the first, the middle and the last but one.
        adapter_size: width of the adapter's transformer layers, in units.
        adapter_transformer_layers: number of transformer layers in each adapter layer.
        num_attention_heads: None means one head for every 64 units of width, as in BERT (12 at width 768).
        intermediate_size: width of the feed-forward part; None means four times `adapter_size`.
        adapter_skip_layers: k >= 2 adds, after every k-th adapter layer, the output of an earlier one; 0 is off.
        attend_padding: let adapters attend to padding, as the original does (docs/deviations.md, 1).
        causal: let a token attend only to those before it. Off for decoders too: their states know only the text
            before a token, and adapters that see both sides add what follows.
        hidden_act: activation of the feed-forward part, by its name in transformers.
        hidden_dropout_prob, attention_probs_dropout_prob: dropout of the adapter's layers and of its attention.
        layer_norm_eps: epsilon of the layer norms.
        initializer_range: standard deviation of the projections' first weights; so small that a fresh adapter nearly
            passes on the sum of the states that it reads. Short pretraining needs more, such as 0.02.

    Raises:
        ValueError: a size that is not positive, a width that the number of heads does not divide, a skip of 1, an empty
            list of taps, a probability outside of [0, 1), an unknown activation.
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
        to_annotated_types(self, "")
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
        if not _is_activation(self.hidden_act):
            raise ValueError(f"hidden_act is {self.hidden_act!r}; take 'gelu' or another activation of transformers.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AdapterConfig:
        """With these fields, and defaults for those that are left out; unknown ones raise ValueError."""
        return cls(**known(cls, values, "the adapter configuration"))

    @classmethod
    def from_saved(cls, values: Any) -> AdapterConfig:
        """As `from_dict`, for the content of a file: only the taps may be left open, all other fields must be there.

        Raises:
            ValueError: missing or unknown keys, impossible values.
        """
        given = known(cls, values, "the adapter configuration", optional=ADDED_TO_ADAPTERS)
        for name in ("num_attention_heads", "intermediate_size"):
            if given[name] is None:
                raise ValueError(f"{name} is null; give the number that the adapter was saved with.")
        return cls(**{**ADDED_TO_ADAPTERS, **given})

    def to_dict(self) -> dict[str, Any]:
        """All fields, as values of JSON."""
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
        size: width of the bottleneck, in units; 64 is what the paper's tables report for one size.
        initializer_range: standard deviation of the first weights; 1e-3 in the original's code, 1e-2 in the paper.
        hidden_act: "gelu_pytorch_tanh" is the original's GELU, "gelu" the exact one.
        layers: the backbone's layers, counted from 0, that have bottlenecks and norms of their own; None means all, and
            the embeddings' norm too. Below the lowest of them, training needs no gradient (AdapterDrop, Rücklé et al.,
            EMNLP 2021).

    Raises:
        ValueError: a size or an initializer range that is not positive, an unknown activation, no layer at all, a
            repeated or a negative one.
    """

    size: int = 64
    initializer_range: float = 1e-3
    hidden_act: str = "gelu_pytorch_tanh"
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        to_annotated_types(self, "the bottleneck's ")
        if self.size < 1:
            raise ValueError(f"the bottleneck's size is {self.size}; it must be 1 or more.")
        if self.initializer_range <= 0:
            raise ValueError(f"the bottleneck's initializer_range is {self.initializer_range}; it must be above 0.")
        if not _is_activation(self.hidden_act):
            raise ValueError(f"the bottleneck's hidden_act is {self.hidden_act!r}; take 'gelu_pytorch_tanh' or 'gelu'.")
        if self.layers is not None:
            if not self.layers or len({*self.layers}) < len(self.layers) or min(self.layers) < 0:
                raise ValueError(f"the bottleneck's layers are {list(self.layers)}; name each layer once, from 0.")
            object.__setattr__(self, "layers", tuple(sorted(self.layers)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BottleneckConfig:
        """With these fields, and defaults for those that are left out; unknown ones raise ValueError."""
        return cls(**known(cls, values, "the bottleneck's configuration"))

    @classmethod
    def from_saved(cls, values: Any) -> BottleneckConfig:
        """As `from_dict`, of a file: no key may be missing."""
        return cls(**known(cls, values, "the bottleneck's configuration", optional=ADDED_TO_BOTTLENECKS))

    def to_dict(self) -> dict[str, Any]:
        """All fields, as values of JSON."""
        return {**asdict(self), "layers": None if self.layers is None else list(self.layers)}


@dataclass(frozen=True)
class HeadConfig:
    """A head on top of the fused features.

    Args:
        kind: one of `HEAD_KINDS`.
        num_labels: number of the head's outputs. "dependency" has one for each position (max_seq_length), "masked_lm"
            one for each token of the vocabulary, "multiple_choice" 1, the score of a choice, "span" and "openqa" 2,
            start and end. 1 makes "classification" a regression.
        labels: the names of the labels in the order of their numbers, if they have names.
        dropout: probability of dropout before the last layer; None takes the backbone's.

    Raises:
        ValueError: an unknown kind, a number of labels that is not positive or not that of the kind, another number of
            names than of labels, a probability outside of [0, 1).
    """

    kind: str
    num_labels: int
    labels: tuple[str, ...] | None = None
    dropout: float | None = None

    def __post_init__(self) -> None:
        to_annotated_types(self, "the head's ")
        if self.kind not in HEAD_KINDS:
            raise ValueError(f"head kind is {self.kind!r}; choose one of {list(HEAD_KINDS)}.")
        if self.num_labels < 1:
            raise ValueError(f"num_labels is {self.num_labels}; it must be 1 or more.")
        if self.kind in ("span", "openqa") and self.num_labels != 2:
            raise ValueError(f"num_labels is {self.num_labels}; a span has 2, its start and its end.")
        if self.labels is not None and len(self.labels) != self.num_labels:
            raise ValueError(f"{len(self.labels)} label names were given for num_labels {self.num_labels}.")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"the head's dropout is {self.dropout}; it must be in [0, 1).")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HeadConfig:
        """With these fields, and defaults for those that are left out; unknown ones raise ValueError."""
        return cls(**known(cls, values, "the head's configuration"))

    @classmethod
    def from_saved(cls, values: Any) -> HeadConfig:
        """As `from_dict`, of a file: no key may be missing."""
        return cls(**known(cls, values, "the head's configuration", optional=()))

    def to_dict(self) -> dict[str, Any]:
        """All fields, as values of JSON."""
        return {**asdict(self), "labels": list(self.labels) if self.labels is not None else None}
