"""Many sequences of one example in chunks of few tokens, with the gradients of all at once.

The activations of one chunk are held at a time: each chunk but the last is computed without keeping them, and computed
again, with the random numbers that it had, when its gradient is due (Chen et al., 2016,
https://arxiv.org/abs/1604.06174). What is kept of a chunk are its inputs and its outputs.

Shapes: R = sequences, S = tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from kadapter.models.head import HeadOutput
from kadapter.models.modeling import KAdapterModel
from kadapter.models.question_heads import OpenQAHead

Inputs = Mapping[str, torch.Tensor | None]
Outputs = tuple[torch.Tensor, ...]


def in_chunks(
    compute: Callable[[dict[str, torch.Tensor | None]], Outputs], inputs: Inputs, tokens: int, can_be_cut: bool = True
) -> Outputs:
    """What `compute` makes of all sequences.

    Args:
        compute: of inputs with r sequences tensors [r, S, ...] or [r].
        inputs: tensors [R, S, ...] or None, with `attention_mask` among them, and `positions` [R, N]. Sequences of like
            length share a chunk.
        tokens: the most in a chunk, padding included; one sequence is a chunk in any case.
        can_be_cut: whether a chunk is as long as the longest of its sequences, or S tokens, where padding is attended.

    Returns:
        Tensors [R, S, ...] or [R] in the order of the inputs; -inf where a chunk was shorter than S.
    """
    mask, of_tokens = inputs["attention_mask"], inputs.keys() - {"positions"}
    assert mask is not None
    size = mask.shape[1]
    cut = mask.flip(1).argmax(1) if can_be_cut else torch.zeros_like(mask[:, 0])  # padding at the right
    lengths = size - cut
    order = lengths.argsort(descending=True, stable=True)
    chunks = list(_chunks(lengths[order].tolist(), tokens))
    found: list[Outputs] = []
    for first, last, length in chunks:
        rows = order[first:last]
        part = {name: None if value is None else value[rows] for name, value in inputs.items()}
        part |= {name: value[:, :length] for name, value in part.items() if name in of_tokens and value is not None}
        is_kept = last == len(order) or not torch.is_grad_enabled()
        run = compute if is_kept else partial(checkpoint, compute, use_reentrant=False)
        found.append(tuple(_filled(value, length, size) for value in run(part)))
    back = order.argsort()
    return tuple(torch.cat(values)[back] for values in zip(*found, strict=True))


def _chunks(lengths: list[int], tokens: int) -> Iterator[tuple[int, int, int]]:
    """First sequence, the one after the last, and length of each chunk; `lengths` fall."""
    first = 0
    while first < len(lengths):
        last = min(len(lengths), first + max(1, tokens // lengths[first]))
        yield first, last, lengths[first]
        first = last


def _filled(value: torch.Tensor, length: int, size: int) -> torch.Tensor:
    if value.dim() == 1 or length == size:
        return value
    return pad(value, [0, 0] * (value.dim() - 2) + [0, size - length], value=-torch.inf)


def questions_in_chunks(
    encoder: KAdapterModel,
    head: OpenQAHead,
    inputs: Inputs,
    positions: torch.Tensor | None,
    group_sizes: torch.Tensor | None,
    states: Mapping[str, torch.Tensor] | None,
) -> HeadOutput:
    """The output of a head that reads many sequences for one example, without a loss; arguments as `TaskModel`'s."""

    def compute(part: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        texts = {name: part[name] for name in inputs}
        known = None if states is None else {name: part[f"state {name}"] for name in states}
        features = encoder(**texts, states=known, return_dict=True).last_hidden_state
        return head.outputs(features.to(head.selector.weight.dtype), part["positions"])

    # Processes that share parameters out meet in every forward pass, and would not make as many chunks.
    sharded = any(isinstance(weight, DTensor) for model in (encoder, head) for weight in model.parameters())
    config = encoder.config
    can_be_cut = not any(config.adapter_config(name).attend_padding for name in config.adapter_names)
    given = {**inputs, "positions": positions, **{f"state {name}": value for name, value in (states or {}).items()}}
    logits, scores = in_chunks(compute, given, sys.maxsize if sharded else head.chunk_tokens, can_be_cut)
    return head.of_sequences(logits, scores, group_sizes)
