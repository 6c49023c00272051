"""The backbone of a model, run for those of its hidden states that adapters read, which are called taps.

Shapes: B = batch, S = sequence, N = positions asked for, H = the backbone's width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from kadapter.models.adapter import KnowledgeAdapter
from kadapter.models.bottom import bottom_modules, check_family, frozen_layers, run_layers
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

    @property
    def frozen_layers(self) -> int:
        """How many of the lowest layers, with all that is below them, are not trained."""
        return frozen_layers(self.backbone)

    @torch.no_grad()
    def frozen_states(
        self,
        positions: torch.Tensor | None = None,
        taps: Sequence[int] | None = None,
        layers: int | None = None,
        **inputs: Any,
    ) -> dict[str, torch.Tensor]:
        """What `forward` takes as `states` for the same inputs and positions, as long as the backbone stays as it is.

        Args:
            taps: numbers of the hidden states, by default those that active adapters read.
            layers: so many of the lowest layers stay as they are, and they alone run here; `forward` runs the others.
                By default it is the whole backbone that stays as it is.

        Returns:
            These hidden states, by their numbers as text, [B, S, H]; and as "last" the last one, [B, N, H] at the
            positions, or whole. With `layers`, in place of the last one the state that enters the first of the other
            layers, and of the taps those below it.

        Raises:
            ValueError: the backbone, or that part of it, is being trained, or its layers cannot run apart.
        """
        names = self._running()
        taps = self.read_taps(names) if taps is None else taps
        if layers is not None:
            return self._bottom_states(layers, taps, **inputs)
        if self.backbone.training:
            raise ValueError('the backbone is being trained, so its states change; freeze("backbone") or eval() first.')
        found, _ = self.tapped_states(names, output_hidden_states=taps, positions=positions, **inputs)
        return {**{str(tap): found.hidden_states[tap] for tap in taps}, LAST: found.last_hidden_state}

    def _bottom_states(
        self,
        layers: int,
        taps: Sequence[int],
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        check_family(self.config.backbone_config)
        if not 0 < layers <= self.config.num_hidden_layers:
            raise ValueError(f"layers is {layers}; give 1 to {self.config.num_hidden_layers}.")
        if any(module.training for part in bottom_modules(self.backbone, layers) for module in part.modules()):
            raise ValueError(
                f"the lowest {layers} layers are being trained or drop out, so their states change; set frozen_dropout "
                "to False and freeze them, or eval() first."
            )
        first = self.first_state(input_ids, token_type_ids)
        found = run_layers(self.backbone, first, attention_mask, range(layers), taps)
        return {str(number): state for number, state in found.items()}

    @property
    def begins_with_embeddings(self) -> bool:
        """Whether hidden state 0 is what the backbone's embeddings give, to the last bit."""
        return self.config.backbone_config.model_type in EMBEDDED

    @torch.no_grad()
    def first_state(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None = None) -> torch.Tensor:
        """Hidden state 0 of inputs [B, S], [B, S, H], where the backbone `begins_with_embeddings`; no layer runs."""
        types = {"token_type_ids": token_type_ids} if "token_type_ids" in self._backbone_takes else {}
        states = cast(nn.Module, self.backbone.embeddings)(input_ids=input_ids, **types)
        project: Any = getattr(self.backbone, "embeddings_project", None)  # ELECTRA's
        return states if project is None else project(states)

    def read_taps(self, names: Sequence[str] | None = None) -> list[int]:
        """Numbers of the hidden states that these adapters read, by default the active ones."""
        found = [cast(KnowledgeAdapter, self.adapters[name]) for name in (self._running() if names is None else names)]
        return sorted({tap for adapter in found for tap in adapter.taps})

    def tapped_states(
        self,
        names: Sequence[str],
        output_hidden_states: bool | Sequence[int] = False,
        positions: torch.Tensor | None = None,
        below: Mapping[str, torch.Tensor] | None = None,
        **inputs: Any,
    ) -> tuple[Any, dict[int, torch.Tensor]]:
        """What the backbone returns, and of its hidden states, by number, those that these adapters read.

        Args:
            output_hidden_states: let the backbone return all of them, or some more by their numbers.
            positions: [B, N] where the last state is read, and returned; None returns all of it.
            below: what `frozen_states` gave for the lowest layers, which do not run then.
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
        states: Any
        if below is not None:
            states = self._states_above(below, inputs["attention_mask"], wanted or (), positions if early else None)
        else:
            read = {READ_AT: positions} if early else {}
            mask = inputs.get("attention_mask")
            inputs["attention_mask"] = backbone_mask(self.backbone.config, given, self.backbone.dtype, mask)
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

    def _states_above(
        self,
        below: Mapping[str, torch.Tensor],
        attention_mask: torch.Tensor | None,
        wanted: Sequence[int],
        positions: torch.Tensor | None,
    ) -> BaseModelOutput:
        """The last state, and by their numbers those wanted, of the layers above a frozen bottom."""
        known = {int(number): state for number, state in below.items()}
        first, depth = max(known), self.config.num_hidden_layers
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.backbone_is_frozen):
            found = run_layers(self.backbone, known[first], attention_mask, range(first, depth), wanted, positions)
        states: Any = known | found
        return BaseModelOutput(last_hidden_state=states[depth], hidden_states=states)

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
