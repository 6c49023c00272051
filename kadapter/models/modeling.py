"""Models: any encoder or decoder of transformers with knowledge adapters beside it.

Shapes: B = batch, S = sequence, N = positions asked for, H = the backbone's width.
"""

from __future__ import annotations

import inspect
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from kadapter.configuration import KAdapterConfig
from kadapter.models.adapter import KnowledgeAdapter
from kadapter.models.bottleneck import TruncatedLinear, insert_bottlenecks, named_parts
from kadapter.models.fusion import Fusion
from kadapter.models.named import NamedModules
from kadapter.models.parts import NamedParts
from kadapter.models.routing import routed, side_by_side, taken
from kadapter.models.switching import BASE
from kadapter.shapes import AdapterConfig, BottleneckConfig
from kadapter.storage.card import CARD, MODEL_FILES, push, write_card
from kadapter.storage.files import atomic_folder
from kadapter.storage.pretrained import HUB_ARGUMENTS, load_backbone, load_saved, read_config

logger = logging.getLogger(__name__)

PUSH_ARGUMENTS = ("commit_message", "private", "token", "create_pr", "revision")


def check_positions(positions: torch.Tensor, states: torch.Tensor) -> None:
    """Raise ValueError where positions [B, N] lie outside of states [B, S, H]; on a GPU `gather` fails by itself."""
    if positions.device.type == "cpu" and not torch.compiler.is_compiling() and positions.numel():
        low, high = int(positions.min()), int(positions.max())
        if low < 0 or high >= states.shape[1]:
            raise ValueError(
                f"positions go from {low} to {high}, but the sequence has {states.shape[1]} tokens, from 0."
            )


def at_positions(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """States [B, S, H] at positions [B, N], as [B, N, H]; indexing would count negative ones from the end."""
    return states.gather(1, positions[..., None].expand(-1, -1, states.shape[-1]))


@dataclass
class KAdapterOutput(ModelOutput):
    """What `KAdapterModel` returns.

    `last_hidden_state`: fused features, [B, S, H], or [B, N, H] when positions were asked for.
    `pooler_output`, `hidden_states`, `attentions`: the backbone's own, as in transformers.
    `adapter_states`: adapter name -> that adapter's output, shaped as `last_hidden_state`.
    `fusion_weights`: of fusion modes "gate" and "attention", [B, S or N, adapters], in the order of their names.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    adapter_states: dict[str, torch.Tensor] | None = None
    fusion_weights: torch.Tensor | None = None


class KAdapterPreTrainedModel(PreTrainedModel):
    """What the models share with transformers: initial weights, attention kernels, checkpointing, saving."""

    config_class = KAdapterConfig
    config: KAdapterConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    # What is trained beside a backbone of 16 bits: its updates would be lost, or not a number, in so few (PEFT's rule).
    _keep_in_fp32_modules_strict = ["bottlenecks", "norms", "adapters", "fusion", "head"]

    def initialize_weights(self) -> None:
        """As in transformers, but bottlenecks are drawn by their own rule, not by that of the backbone's family."""
        with init.guard_torch_init_functions():  # so that what was loaded stays
            for module in self.modules():
                if isinstance(module, TruncatedLinear) and not getattr(module, "_is_hf_initialized", False):
                    module.reset_parameters()
                    module._is_hf_initialized = True  # type: ignore[assignment]
        super().initialize_weights()

    def _init_weights(self, module: nn.Module) -> None:
        # As in K-Adapter, each layer's own: PyTorch's defaults, and nearly zero for the adapters' projections.
        # transformers asks only for modules with parameters of their own.
        if isinstance(module, (nn.Linear, nn.LayerNorm)):
            module.reset_parameters()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *model_args: Any,
        config: KAdapterConfig | None = None,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """As in transformers, but strict (`kadapter.storage.pretrained.load_saved`)."""
        if pretrained_model_name_or_path is None:  # transformers asks so for a model from a state dictionary
            return super().from_pretrained(None, *model_args, config=config, **kwargs)
        hub = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        found = read_config(pretrained_model_name_or_path, **hub) if config is None else config
        if not isinstance(found, KAdapterConfig):
            raise ValueError(
                f"{pretrained_model_name_or_path} is a {found.model_type}, not a model of kadapter; load it with "
                "KAdapterModel.from_pretrained, and put a head on it with TaskModel.from_encoder."
            )
        load = super().from_pretrained
        model, info = load_saved(cls, load, pretrained_model_name_or_path, found, **kwargs)
        return (model, info) if output_loading_info else model

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """As in transformers, but whole or not at all: a crash never leaves a half-written model that loads.

        A card is written where there is none.
        """
        with atomic_folder(save_directory, "a model", self.get_memory_footprint()) as folder:
            super().save_pretrained(folder, push_to_hub=False, **kwargs)
        place = Path(save_directory)
        if kwargs.get("is_main_process", True) and not (place / CARD).exists():
            write_card(place, place.name, self.config)
        if push_to_hub:
            hub = {name: kwargs[name] for name in PUSH_ARGUMENTS if name in kwargs}
            push(place, kwargs.get("repo_id", place.name), MODEL_FILES, **hub)

    def push_to_hub(self, repo_id: str, *, max_shard_size: int | str = "50GB", **hub: Any) -> None:  # type: ignore[override]
        """Upload the model and a card of its own; `hub`: private, token, commit_message, revision, create_pr."""
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / repo_id.rpartition("/")[2]
            self.save_pretrained(place, max_shard_size=max_shard_size)
            push(place, repo_id, MODEL_FILES, **hub)

    def set_attn_implementation(self, attn_implementation: str | dict, **kwargs: Any) -> None:  # type: ignore[override]
        super().set_attn_implementation(attn_implementation, **kwargs)
        for module in self.modules():
            if isinstance(module, KnowledgeAdapter):
                module.transformer_config._attn_implementation = self.config._attn_implementation


class KAdapterModel(NamedParts, KAdapterPreTrainedModel):  # type: ignore[misc]  # transformers' add_adapter is PEFT's
    """A backbone with any number of named knowledge adapters; used like the backbone itself.

    Args:
        config: backbone, adapters, fusion.
        backbone: a loaded backbone to wrap; None builds one from the configuration with fresh weights.
    """

    base_model_prefix = "encoder"

    def __init__(self, config: KAdapterConfig, backbone: PreTrainedModel | None = None):
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

    # -- forward ------------------------------------------------------------------------------------------------

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        adapter_names: Sequence[str] | None = None,
    ) -> KAdapterOutput | tuple:
        """Backbone, adapters over its tapped states, fusion.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds: as the backbone takes them; token
                types that it has no use for are left out.
            positions: [B, N]; fuse and return only the states there, which is exact, since fusion works
                position by position.
            output_hidden_states, output_attentions, return_dict: as in transformers.
            adapter_names: [B], for each row the one adapter or set of bottlenecks that it goes through, "__base__" for
                none, whatever is active (as in PEFT); then only `last_hidden_state` is returned.

        Returns:
            `KAdapterOutput`, or a tuple with return_dict=False.

        Raises:
            ValueError: positions outside of the sequence, unknown names.
        """
        config = self.config
        if adapter_names is not None:
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
            inputs |= {"position_ids": position_ids, "inputs_embeds": inputs_embeds, "positions": positions}
            fused = self._fused_by_row(adapter_names, inputs)
            return KAdapterOutput(last_hidden_state=fused) if return_dict in (None, True) else (fused,)
        all_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        weights = self._hand_weights or None
        adapters = {
            name: cast(KnowledgeAdapter, self.adapters[name])
            for name in self._running()
            if weights is None or weights[name]  # what counts nothing need not run
        }
        states, tapped = self.tapped_states(
            list(adapters),
            output_hidden_states=bool(all_states),
            output_attentions=config.output_attentions if output_attentions is None else output_attentions,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
        )
        last = states.last_hidden_state
        adapter_states = {name: adapter(tapped, attention_mask) for name, adapter in adapters.items()}
        if positions is not None:
            check_positions(positions, last)
            last = at_positions(last, positions)
            adapter_states = {name: at_positions(state, positions) for name, state in adapter_states.items()}
        fused, fusion_weights = self.fusion(last, adapter_states, weights)
        output = KAdapterOutput(
            last_hidden_state=fused,
            pooler_output=states.get("pooler_output"),
            hidden_states=states.hidden_states if all_states else None,
            attentions=states.get("attentions"),
            adapter_states=adapter_states,
            fusion_weights=fusion_weights,
        )
        use_dict = config.return_dict if return_dict is None else return_dict
        return output if use_dict else output.to_tuple()

    def _fused_by_row(self, names: Sequence[str], inputs: dict[str, torch.Tensor | None]) -> torch.Tensor:
        """The fused states [B, S or N, H] of rows that go through one adapter each; the backbone runs once."""
        self._require_known([name for name in names if name != BASE])
        given = next(value for value in (inputs["input_ids"], inputs["inputs_embeds"]) if value is not None)
        if len(names) != len(given):
            raise ValueError(f"{len(names)} adapter_names are given for {len(given)} rows; give one for each.")
        self.check_routable()
        order, runs = side_by_side(names)
        sorted_inputs = taken(inputs, order)
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
        return taken({"fused": fused}, back)["fused"]  # type: ignore[return-value]

    def tapped_states(
        self, names: Sequence[str], output_hidden_states: bool = False, **inputs: Any
    ) -> tuple[Any, dict[int, torch.Tensor]]:
        """What the backbone returns, and of its hidden states, by number, those that these adapters read.

        Args:
            output_hidden_states: let the backbone return all of them.
            inputs: the backbone's.
        """
        adapters = [cast(KnowledgeAdapter, self.adapters[name]) for name in names]
        taps = sorted({tap for adapter in adapters for tap in adapter.taps})
        if inputs.get("position_ids") is None and any(adapter.config.attend_padding for adapter in adapters):
            inputs["position_ids"] = self._position_ids_of_the_original(
                inputs.get("input_ids"), inputs.get("inputs_embeds")
            )
        # A list keeps only those states.
        states = self._backbone_states(output_hidden_states=True if output_hidden_states else (taps or False), **inputs)
        tapped = {tap: states.hidden_states[tap] for tap in taps}
        self._check_shapes([*tapped.values(), states.last_hidden_state])
        return states, tapped

    def _backbone_states(self, token_type_ids: torch.Tensor | None, **inputs: Any) -> Any:
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

    # -- loading ------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *model_args: Any,
        adapters: Mapping[str, str | os.PathLike | AdapterConfig] | None = None,
        adapter_config: AdapterConfig | None = None,
        fusion_mode: str | None = None,
        bottlenecks: Mapping[str, BottleneckConfig] | None = None,
        adapter_dtype: torch.dtype = torch.float32,
        **kwargs: Any,
    ) -> KAdapterModel:
        """A saved model of ours, or any encoder of transformers to put adapters beside.

        Args:
            pretrained_model_name_or_path: folder or hub name.
            adapters: name -> where to load it from (see `load_adapter`), or an `AdapterConfig` for a fresh one.
            adapter_config: for adapter files that carry no configuration, such as the original's.
            fusion_mode: one of FUSION_MODES, default "concat"; a saved model brings its own.
            bottlenecks: name -> bottleneck adapters to put into the backbone; a saved model may have them already.
            adapter_dtype: of adapters, fusion and bottlenecks, whatever the backbone's (`add_adapter`).
            kwargs: as in transformers: revision, cache_dir, local_files_only, dtype, attn_implementation, ...
        """
        hub = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        config = kwargs.pop("config", None)
        if config is None:
            config = read_config(pretrained_model_name_or_path, **hub)
        if isinstance(config, KAdapterConfig):
            if fusion_mode not in (None, config.fusion_mode):
                raise ValueError(
                    f"{pretrained_model_name_or_path} was saved with fusion_mode "
                    f"{config.fusion_mode!r}, not {fusion_mode!r}; leave fusion_mode out."
                )
            model = super().from_pretrained(pretrained_model_name_or_path, *model_args, config=config, **kwargs)
        else:
            backbone = load_backbone(pretrained_model_name_or_path, config=config, **kwargs)
            wrapped = KAdapterConfig(backbone_config=backbone.config, fusion_mode=fusion_mode or "concat")
            model = cls(wrapped, backbone=backbone)
        for name, bottleneck in (bottlenecks or {}).items():
            model.add_bottlenecks(name, bottleneck)
        for name, source in (adapters or {}).items():
            if isinstance(source, AdapterConfig):
                model.add_adapter(name, source, adapter_dtype)
            else:
                # The revision is the backbone's; an adapter's stands behind its name.
                own = {key: value for key, value in hub.items() if key not in ("subfolder", "revision")}
                model.load_adapter(source, name, adapter_config, adapter_dtype, **own)
        if adapter_dtype != torch.float32:
            model.adapters.to(adapter_dtype)
            model.fusion.to(adapter_dtype)
            for _, part in named_parts(model.backbone):
                part.to(adapter_dtype)
        return model.eval()


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
        pretrained_model_name_or_path: str | os.PathLike,
        *model_args: Any,
        meta_fac_adaptermodel: str | os.PathLike | None = None,
        meta_lin_adaptermodel: str | os.PathLike | None = None,
        adapters: Mapping[str, str | os.PathLike | AdapterConfig] | None = None,
        **kwargs: Any,
    ) -> KAdapterModel:
        """As `KAdapterModel.from_pretrained`; the two `meta_` arguments name adapters "fac" and "lin".

        "" or None means none. Further adapters go into `adapters`.
        """
        named = {"fac": meta_fac_adaptermodel, "lin": meta_lin_adaptermodel}
        chosen = {name: source for name, source in named.items() if source}
        return super().from_pretrained(
            pretrained_model_name_or_path, *model_args, adapters={**chosen, **(adapters or {})}, **kwargs
        )


AutoModel.register(KAdapterConfig, KAdapterModel, exist_ok=True)
