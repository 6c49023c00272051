"""Models: any encoder or decoder of transformers with knowledge adapters beside it.

Shapes: B = batch, S = sequence, N = positions asked for, H = the backbone's width.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from kadapter.configuration import OF_THE_WHOLE, KAdapterConfig
from kadapter.models.base import KAdapterOutput, KAdapterPreTrainedModel
from kadapter.models.bottleneck import insert_bottlenecks, named_parts
from kadapter.models.fusion import Fusion
from kadapter.models.last_layer import let_last_layer_be_read_at
from kadapter.models.named import NamedModules
from kadapter.models.positions import at_positions, check_positions
from kadapter.models.routing import routed, select_rows, side_by_side
from kadapter.models.switching import BASE
from kadapter.models.tapping import LAST, TappedBackbone
from kadapter.shapes import AdapterConfig, BottleneckConfig
from kadapter.storage.hub import HUB_ARGUMENTS
from kadapter.storage.pretrained import load_backbone, read_overridden


class KAdapterModel(TappedBackbone, KAdapterPreTrainedModel):  # type: ignore[misc]  # transformers' add_adapter is PEFT's
    """A backbone with any number of named knowledge adapters; used like the backbone itself.

    Args:
        config: backbone, adapters, fusion.
        backbone: a loaded backbone to wrap; None builds one from the configuration with fresh weights.
    """

    def __init__(self, config: KAdapterConfig, backbone: PreTrainedModel | None = None):
        config = config if config.head is None else config.with_head(None)  # which is a task model's
        super().__init__(config)
        self.backbone = AutoModel.from_config(config.backbone_config) if backbone is None else backbone
        config._attn_implementation = self.backbone.config._attn_implementation  # DeBERTa has "eager" alone
        if self.backbone.main_input_name != "input_ids":
            raise ValueError(
                f"{config.backbone_config.model_type} reads {self.backbone.main_input_name}; take a backbone of text."
            )
        self._backbone_takes = set(inspect.signature(self.backbone.forward).parameters)
        if getattr(config.backbone_config, "type_vocab_size", 0) < 2:
            self._backbone_takes.discard("token_type_ids")  # GPT-2 would add the embeddings of words 0 and 1
        let_last_layer_be_read_at(self.backbone)
        for name in config.bottlenecks:
            insert_bottlenecks(self.backbone, name, config.bottleneck_config(name))
        self.activate_bottlenecks(config.active_bottlenecks)
        self.adapters = NamedModules({name: self._new_adapter(name) for name in config.adapters})
        self.fusion = Fusion(list(config.adapters), config.hidden_size, config.fusion_mode)
        self._begin_without_history()
        self.carries_task = False  # whether a saved task was loaded into its parts
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.backbone.set_input_embeddings(value)

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """As in transformers, and by the backbone's own rule for new embeddings."""
        embeddings = self.backbone.resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        self.config.vocab_size = embeddings.weight.shape[0]
        return embeddings

    # -- forward ------------------------------------------------------------------------------------------------

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        output_hidden_states: bool | Sequence[int] | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        adapter_names: Sequence[str] | None = None,
        states: Mapping[str, torch.Tensor] | None = None,
    ) -> KAdapterOutput | tuple:
        """Run the backbone, the adapters over its tapped hidden states, and the fusion.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids: [B, S], as the backbone takes them; token types
                are ignored by a backbone that has none.
            inputs_embeds: [B, S, E] in place of `input_ids`.
            positions: [B, N], token numbers; compute and return only the states there. They are the same as without
                `positions`, since fusion works on each position alone, and so does the last layer after its keys and
                values. The backbone's pooler, which may read another position, has no output then.
            output_hidden_states, output_attentions, return_dict: as in transformers.
            adapter_names: [B], for each row the one adapter or set of bottlenecks to use, or `__base__` for none,
                whatever is active (as in PEFT); then only `last_hidden_state` is returned.
            states: the result of `frozen_states` for these inputs and positions; the backbone, or its lowest layers, do
                not run then, and the backbone's own outputs are not returned.

        Returns:
            `KAdapterOutput`, whose `last_hidden_state` is [B, S, H], or [B, N, H] with `positions`; a tuple with
            return_dict=False.

        Raises:
            ValueError: a position outside of the sequence, an unknown name.
        """
        config = self.config
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        inputs |= {"token_type_ids": token_type_ids, "position_ids": position_ids}
        inputs |= {"inputs_embeds": inputs_embeds, "positions": positions}
        use_dict = config.return_dict if return_dict is None else return_dict
        if adapter_names is not None:
            by_row = KAdapterOutput(last_hidden_state=self._fused_by_row(adapter_names, inputs))
            return by_row if use_dict else by_row.to_tuple()
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds.")
        all_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        weights = self._hand_weights or None
        # An adapter that counts nothing need not run.
        adapters = [name for name in self._running() if weights is None or weights[name]]
        own: Any = {}
        if states is None:
            attentions = config.output_attentions if output_attentions is None else output_attentions
            own, tapped = self.tapped_states(adapters, all_states or False, output_attentions=attentions, **inputs)
            last = own.last_hidden_state
        elif LAST not in states:
            found, tapped = self.tapped_states(adapters, below=states, **inputs)
            last = found.last_hidden_state
        else:
            if positions is not None:
                check_positions(positions, cast(torch.Tensor, input_ids if inputs_embeds is None else inputs_embeds))
            tapped, last = {tap: states[str(tap)] for tap in self.read_taps(adapters)}, states[LAST]
        adapter_states = {name: self.adapters[name](tapped, attention_mask, positions) for name in adapters}
        fused, fusion_weights = self.fusion(last, adapter_states, weights)
        output = KAdapterOutput(
            last_hidden_state=fused,
            pooler_output=own.get("pooler_output") if positions is None else None,
            hidden_states=_asked_for(own.get("hidden_states"), all_states),
            attentions=own.get("attentions"),
            adapter_states=adapter_states,
            fusion_weights=fusion_weights,
        )
        return output if use_dict else output.to_tuple()

    def _fused_by_row(self, names: Sequence[str], inputs: dict[str, torch.Tensor | None]) -> torch.Tensor:
        """The fused states [B, S or N, H] of rows that go through one adapter each; the backbone runs once."""
        self._require_known([name for name in names if name != BASE])
        given = next(value for value in (inputs["input_ids"], inputs["inputs_embeds"]) if value is not None)
        if len(names) != len(given):
            raise ValueError(f"{len(names)} adapter_names are given for {len(given)} rows; give one for each.")
        self.check_routable()
        order, runs = side_by_side(names)
        sorted_inputs = select_rows(inputs, order)
        positions, mask = sorted_inputs.pop("positions"), sorted_inputs["attention_mask"]
        with routed(runs):
            read = [name for name in dict.fromkeys(names) if name in self.adapters]
            states, tapped = self.tapped_states(read, **sorted_inputs)  # type: ignore[arg-type]
        if positions is not None:
            check_positions(positions, states.last_hidden_state)
        parts = []
        for run in runs:
            own = slice(run.begin, run.end)
            found = {"last": states.last_hidden_state[own]}
            if run.name in self.adapters:
                own_taps = {tap: state[own] for tap, state in tapped.items()}
                own_mask = None if mask is None else mask[own]
                found[str(run.name)] = self.adapters[str(run.name)](own_taps, own_mask)
            if positions is not None:
                found = {name: at_positions(state, positions[own]) for name, state in found.items()}
            last = found.pop("last")
            parts.append(self.fusion(last, found)[0])
        fused = torch.cat([part.to(parts[0].dtype) for part in parts])
        back = sorted(range(len(order)), key=order.__getitem__)
        return select_rows({"fused": fused}, back)["fused"]  # type: ignore[return-value]

    # -- loading ------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *,
        adapters: Mapping[str, str | os.PathLike | AdapterConfig] | None = None,
        adapter_config: AdapterConfig | None = None,
        fusion_mode: str | None = None,
        bottlenecks: Mapping[str, BottleneckConfig] | None = None,
        adapter_dtype: torch.dtype = torch.float32,
        config: PreTrainedConfig | str | os.PathLike | None = None,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """A saved model of ours, or any encoder of transformers to put adapters beside; every weight must be there.

        Args:
            pretrained_model_name_or_path: folder or hub name; None for a model from `state_dict`.
            adapters: name -> where to load it from (see `load_adapter`), or an `AdapterConfig` for a fresh one.
            adapter_config: shape for adapter files without a configuration, such as the original's.
            fusion_mode: one of FUSION_MODES, by default "concat", the paper's; a saved model has its own.
            bottlenecks: name -> bottlenecks to put into the backbone; a saved model may have some already.
            adapter_dtype: type of adapters, fusion and bottlenecks, whatever the backbone's is (see `add_adapter`).
            config: a configuration in place of the saved one; settings cannot be given as arguments then.
            output_loading_info: return (model, info), as in transformers; the missing keys are those of fresh weights.
            kwargs: as in transformers: revision, cache_dir, local_files_only, dtype, attn_implementation, ...; and
                settings in place of the saved ones: output_hidden_states, output_attentions and return_dict of the
                model, and any setting of the backbone, such as hidden_dropout_prob.

        Raises:
            OSError, ValueError: something is missing, damaged, or not exactly what the configuration describes; the
                error names the file and the weights.
            TypeError: an argument that neither transformers nor the configuration knows.
        """
        source = pretrained_model_name_or_path
        if source is None:
            return super().from_pretrained(None, config=config, output_loading_info=output_loading_info, **kwargs)
        hub = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        found, kwargs = read_overridden(source, config, kwargs)
        if isinstance(found, KAdapterConfig):
            model, info = cls._load_saved(source, found, fusion_mode, **kwargs)
        else:
            model, info = cls._wrap(source, found, fusion_mode, **kwargs)
        model._extend(adapters or {}, adapter_config, bottlenecks or {}, adapter_dtype, hub, info)
        return (model.eval(), info) if output_loading_info else model.eval()

    @classmethod
    def _wrap(
        cls, source: str | os.PathLike, config: PreTrainedConfig, fusion_mode: str | None, **kwargs: Any
    ) -> tuple[KAdapterModel, dict[str, Any]]:
        """A plain encoder of transformers without adapters yet, and what is said of its loading."""
        own = {name: kwargs.pop(name) for name in OF_THE_WHOLE if name in kwargs}
        backbone, info = load_backbone(source, config=config, **kwargs)
        own |= {name: getattr(backbone.config, name) for name in OF_THE_WHOLE if name not in own}
        model = cls(
            KAdapterConfig(backbone_config=backbone.config, fusion_mode=fusion_mode or "concat", **own),
            backbone=backbone,
        )
        return model, {**info, "missing_keys": {f"backbone.{name}" for name in info["missing_keys"]}}

    def _extend(
        self,
        adapters: Mapping[str, str | os.PathLike | AdapterConfig],
        adapter_config: AdapterConfig | None,
        bottlenecks: Mapping[str, BottleneckConfig],
        adapter_dtype: torch.dtype,
        hub: Mapping[str, Any],
        info: dict[str, Any],
    ) -> None:
        """Add what `from_pretrained` was asked for beside the loaded model; fresh weights are noted in `info`."""
        before = {*self.state_dict()}
        for name, bottleneck in bottlenecks.items():
            self.add_bottlenecks(name, bottleneck)
        for name, source in adapters.items():
            if isinstance(source, AdapterConfig):
                self.add_adapter(name, source, adapter_dtype)
            else:
                # The revision is the backbone's; an adapter's stands behind its name.
                own = {key: value for key, value in hub.items() if key not in ("subfolder", "revision")}
                self.load_adapter(source, name, adapter_config, adapter_dtype, **own)
                before |= {key for key in self.state_dict() if key.startswith(f"adapters.{NamedModules.key(name)}.")}
        info["missing_keys"] = {*info["missing_keys"], *(self.state_dict().keys() - before)}
        if adapter_dtype != torch.float32:
            self.adapters.to(adapter_dtype)
            self.fusion.to(adapter_dtype)
            for _, part in named_parts(self.backbone):
                part.to(adapter_dtype)


def _asked_for(states: tuple | None, asked: bool | Sequence[int] | None) -> tuple | None:
    """The hidden states that a caller asked for, None in the places of others, as in transformers."""
    if states is None or not asked or asked is True:
        return states if asked else None
    return tuple(state if i in asked else None for i, state in enumerate(states))


class RobertawithAdapter(KAdapterModel):
    """RoBERTa with a factual and a linguistic adapter, by the original's arguments.

    ```python
    model = RobertawithAdapter.from_pretrained("roberta-large", meta_fac_adaptermodel="pretrained_models/fac-adapter")
    features = model(input_ids, attention_mask=mask).last_hidden_state  # [B, S, H]
    ```
    """

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *,
        meta_fac_adaptermodel: str | os.PathLike | None = None,
        meta_lin_adaptermodel: str | os.PathLike | None = None,
        adapters: Mapping[str, str | os.PathLike | AdapterConfig] | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `KAdapterModel.from_pretrained`; the two `meta_` arguments name adapters "fac" and "lin".

        "" or None means none. Further adapters go into `adapters`.
        """
        named = {"fac": meta_fac_adaptermodel, "lin": meta_lin_adaptermodel}
        chosen = {name: source for name, source in named.items() if source}
        return super().from_pretrained(pretrained_model_name_or_path, adapters={**chosen, **(adapters or {})}, **kwargs)


AutoModel.register(KAdapterConfig, KAdapterModel, exist_ok=True)
