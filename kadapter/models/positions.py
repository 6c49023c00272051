"""Positions of a sequence that heads read.

Shapes: B = batch, S = sequence, N = positions, H = width.
"""

from __future__ import annotations

import torch

from kadapter.configuration import KAdapterConfig, is_causal
from kadapter.models.head import Head

# Kinds of heads that read a text at the place that stands for it.
WHOLE_TEXT = ("classification", "multi_label", "multiple_choice")
LAST_TOKEN = ("xlnet",)  # families whose cls token ends a text


def check_positions(positions: torch.Tensor, states: torch.Tensor) -> None:
    """Raise ValueError where positions [B, N] lie outside of states [B, S, H]; on a GPU `gather` fails by itself."""
    if positions.device.type == "cpu" and not torch.compiler.is_compiling() and positions.numel():
        low, high = int(positions.min()), int(positions.max())
        if low < 0 or high >= states.shape[1]:
            raise ValueError(
                f"positions go from {low} to {high}, but the sequence has {states.shape[1]} tokens; count them from 0."
            )


def at_positions(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """States [B, S, H] at positions [B, N], as [B, N, H]; indexing would count negative ones from the end."""
    return states.gather(1, positions[..., None].expand(-1, -1, states.shape[-1]))


def as_sequences(
    inputs: dict[str, torch.Tensor | None], positions: torch.Tensor | None, shape: torch.Size
) -> tuple[dict[str, torch.Tensor | None], torch.Tensor | None, torch.Tensor]:
    """Inputs [B, choices, S, ...] as [B * choices, S, ...], positions as [B * choices, 1], and `group_sizes` [B].

    Args:
        positions: [B, choices] or [B, 1].
        shape: B, choices, ...
    """
    examples, choices = shape[:2]
    flat = {name: None if value is None else value.flatten(0, 1) for name, value in inputs.items()}
    sizes = torch.full((examples,), choices, device=next(v.device for v in flat.values() if v is not None))
    return flat, None if positions is None else positions.expand(-1, choices).reshape(-1, 1), sizes


def positions_of(
    head: Head | type[Head],
    config: KAdapterConfig,
    positions: torch.Tensor | None,
    mask: torch.Tensor | None,
    states: torch.Tensor,
) -> torch.Tensor | None:
    """The positions [B, N] that a head reads; None for all of them.

    Args:
        positions: those that the caller gives, of which the head takes its first ones. Without them a head of a whole
            text reads its first token, of a causal backbone its last, neither of which is padding; a masked-language-
            model head reads all.
        mask: [B, S], 0 for padding; None for none.
        states: [B, S, ...], of which only the shape matters.

    Raises:
        ValueError: the head reads marked places, which nobody gave, or there are fewer than it reads.
    """
    if head.reads != "positions":
        return None
    kind = config.head_config().kind
    if positions is not None:
        if head.places is not None and positions.shape[1] < head.places:
            raise ValueError(
                f"a head of the kind {kind!r} reads {head.places} positions of each sequence, but {positions.shape[1]} "
                "are given; give all of them."
            )
        return positions[:, : head.places]
    if head.places is None:
        return None
    if kind not in WHOLE_TEXT:
        raise ValueError(f"a head of the kind {kind!r} reads marked places of each text; give positions.")
    if mask is None:
        mask = torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
    places = torch.arange(mask.shape[1], device=mask.device) * mask.bool()
    if is_causal(config.backbone_config) or config.backbone_config.model_type in LAST_TOKEN:
        return places.argmax(dim=1, keepdim=True)
    return mask.bool().int().argmax(dim=1, keepdim=True)
