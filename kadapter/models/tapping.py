"""The backbone of a model, run for those of its hidden states that adapters read, which are called taps.

Shapes: B = batch, S = sequence, N = positions asked for, H = the backbone's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from kadapter.models.adapter import KnowledgeAdapter
from kadapter.models.last_layer import READ_AT, is_readable_at
from kadapter.models.masks import backbone_mask
from kadapter.models.parts import NamedParts
from kadapter.models.positions import at_positions, check_positions

# Families whose first hidden state is what `embeddings` gives.
EMBEDDED = ("bert", "camembert", "distilbert", "roberta", "xlm-roberta")
LAST = "last"  # of cached states, that of the backbone's last layer


class TappedBackbone(NamedParts):
    """What `KAdapterModel` asks of its backbone."""

    _backbone_takes: set[str]  # names of its forward's arguments, but for those that it has no use for

    @torch.no_grad()
    def frozen_states(
        self, positions: torch.Tensor | None = None, taps: Sequence[int] | None = None, **inputs: Any
    ) -> dict[str, torch.Tensor]:
        """What `forward` takes as `states` for the same inputs and positions, as long as the backbone stays as it is.

        Args:
            taps: numbers of the hidden states, by default those that active adapters read.

        Returns:
            These hidden states, by their numbers as text, [B, S, H]; and as "last" the last one, [B, N, H] at the
            positions, or whole.

        Raises:
            ValueError: the backbone is being trained.
        """
        if self.backbone.training:
            raise ValueError('the backbone is being trained, so its states change; freeze("backbone") or eval() first.')
        names = self._running()
        taps = self.read_taps(names) if taps is None else taps
        found, _ = self.tapped_states(names, output_hidden_states=taps, positions=positions, **inputs)
        return {**{str(tap): found.hidden_states[tap] for tap in taps}, LAST: found.last_hidden_state}

    @property
    def begins_with_embeddings(self) -> bool:
        """Whether hidden state 0 is what the backbone's embeddings give, to the last bit."""
        return self.config.backbone_config.model_type in EMBEDDED

    @torch.no_grad()
    def first_state(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None = None) -> torch.Tensor:
        """Hidden state 0 of inputs [B, S], [B, S, H], where the backbone `begins_with_embeddings`; no layer runs."""
        types = {"token_type_ids": token_type_ids} if "token_type_ids" in self._backbone_takes else {}
        return cast(nn.Module, self.backbone.embeddings)(input_ids=input_ids, **types)

    def read_taps(self, names: Sequence[str] | None = None) -> list[int]:
        """Numbers of the hidden states that these adapters read, by default the active ones."""
        found = [cast(KnowledgeAdapter, self.adapters[name]) for name in (self._running() if names is None else names)]
        return sorted({tap for adapter in found for tap in adapter.taps})

    def tapped_states(
        self,
        names: Sequence[str],
        output_hidden_states: bool | Sequence[int] = False,
        positions: torch.Tensor | None = None,
        **inputs: Any,
    ) -> tuple[Any, dict[int, torch.Tensor]]:
        """What the backbone returns, and of its hidden states, by number, those that these adapters read.

        Args:
            output_hidden_states: let the backbone return all of them, or some more by their numbers.
            positions: [B, N] where the last state is read, and returned; None returns all of it.
            inputs: the backbone's.
        """
        adapters = [cast(KnowledgeAdapter, self.adapters[name]) for name in names]
        taps = self.read_taps(names)
        if inputs.get("position_ids") is None and any(adapter.config.attend_padding for adapter in adapters):
            inputs["position_ids"] = self._position_ids_of_the_original(
                inputs.get("input_ids"), inputs.get("inputs_embeds")
            )
        wanted: Any = output_hidden_states
        if wanted is not True:  # a list keeps only those states
            wanted = sorted({*taps, *(wanted or ())}) or False
        given = inputs["input_ids"] if inputs.get("inputs_embeds") is None else inputs["inputs_embeds"]
        if positions is not None:
            check_positions(positions, given)
        early = is_readable_at(self.backbone.config, positions, given.shape[1]) and not inputs.get("output_attentions")
        early = early and wanted is not True and self.config.num_hidden_layers not in (wanted or ())
        read = {READ_AT: positions} if early else {}
        inputs["attention_mask"] = backbone_mask(
            self.backbone.config, given, self.backbone.dtype, inputs.get("attention_mask")
        )
        states = self._backbone_states(output_hidden_states=wanted, **inputs, **read)
        tapped = {tap: states.hidden_states[tap] for tap in taps}
        if not early:
            self._check_shapes([*tapped.values(), states.last_hidden_state])
            if positions is not None:
                states.last_hidden_state = at_positions(states.last_hidden_state, positions)
        return states, tapped

    def _backbone_states(self, token_type_ids: torch.Tensor | None = None, **inputs: Any) -> Any:
        """The backbone's output for those inputs that it has a use for; without a graph where it is frozen."""
        if "token_type_ids" in self._backbone_takes:
            inputs["token_type_ids"] = token_type_ids
        if "use_cache" in self._backbone_takes:
            inputs["use_cache"] = False
        given = {name: value for name, value in inputs.items() if value is not None}
        embeddings = inputs.get("inputs_embeds")
        wanted = not self.backbone_is_frozen or (embeddings is not None and embeddings.requires_grad)
        with torch.set_grad_enabled(torch.is_grad_enabled() and wanted):
            return self.backbone(**given, return_dict=True)

    def _check_shapes(self, states: list[torch.Tensor]) -> None:
        shapes = [list(state.shape) for state in states]
        if any(shape != shapes[0] for shape in shapes) or shapes[0][-1] != self.config.hidden_size:
            raise ValueError(
                f"the hidden states of {self.config.backbone_config.model_type} have the shapes {shapes}, not all the "
                f"same with width {self.config.hidden_size}; take another backbone."
            )

    def _position_ids_of_the_original(
        self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None
    ) -> torch.Tensor | None:
        """The original numbers padding like tokens; transformers' RoBERTa does not, and adapters may attend to it."""
        embeddings: Any = getattr(self.backbone, "embeddings", None)
        inputs = input_ids if inputs_embeds is None else inputs_embeds
        if inputs is None or not hasattr(embeddings, "create_position_ids_from_input_ids"):
            return None  # BERT's kind numbers every position anyway
        first = embeddings.padding_idx + 1
        return torch.arange(first, first + inputs.shape[1], device=inputs.device).expand(inputs.shape[:2])
