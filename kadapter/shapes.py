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
        layers: the backbone's layers, from 0, that have bottlenecks and norms of their own; None means all, and the
            embeddings' norm too. Without the lowest ones, training needs no gradient there (AdapterDrop, Rücklé et al.,
            EMNLP 2021).

    Raises:
        ValueError: a size that is not positive, an unknown activation, layers that are none, repeated or negative.
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
        return cls(**known(cls, values, "the bottleneck's configuration"))

    @classmethod
    def from_saved(cls, values: Any) -> BottleneckConfig:
        """As `from_dict`, of a file: no key may be missing."""
        return cls(**known(cls, values, "the bottleneck's configuration", optional=ADDED_TO_BOTTLENECKS))

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "layers": None if self.layers is None else list(self.layers)}


@dataclass(frozen=True)
class HeadConfig:
    """A head on top of the fused features.

    Args:
        kind: one of `HEAD_KINDS`.
        num_labels: width of `out_proj`; for "dependency" the number of positions (max_seq_length), for
            "masked_lm" the vocabulary, for "multiple_choice" 1, a score for each choice, for "span" and "openqa" 2, its
            start and its end; 1 makes "classification" a regression.
        labels: names of the labels in order, where they have names.
        dropout: probability before `out_proj`; None takes the backbone's.
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
        return cls(**known(cls, values, "the head's configuration"))

    @classmethod
    def from_saved(cls, values: Any) -> HeadConfig:
        """As `from_dict`, of a file: no key may be missing."""
        return cls(**known(cls, values, "the head's configuration", optional=()))

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "labels": list(self.labels) if self.labels is not None else None}
