"""Models: any encoder of transformers with knowledge adapters beside it.

Shapes: B = batch, S = sequence, N = positions asked for, H = the backbone's width.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from kadapter import checkpoint
from kadapter.adapter import KnowledgeAdapter
from kadapter.bottleneck import bottleneck_names, insert_bottlenecks, norm_names
from kadapter.card import CARD, push_adapter, write_card
from kadapter.configuration import AdapterConfig, BottleneckConfig, KAdapterConfig
from kadapter.fusion import Fusion
from kadapter.original import read_adapter

logger = logging.getLogger(__name__)

FROZEN_PARTS = ("backbone", "backbone_but_bottlenecks", "adapters", "none")
HUB_ARGUMENTS = ("revision", "cache_dir", "token", "local_files_only", "force_download", "subfolder")
PUSH_ARGUMENTS = ("commit_message", "private", "token", "create_pr", "revision", "tags")


@dataclass
class KAdapterOutput(ModelOutput):
    """What `KAdapterModel` returns.

    `last_hidden_state`: fused features, [B, S, H], or [B, N, H] when positions were asked for.
    `pooler_output`, `hidden_states`, `attentions`: the backbone's own, as in transformers.
    `adapter_states`: adapter name -> that adapter's output, shaped as `last_hidden_state`.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    adapter_states: dict[str, torch.Tensor] | None = None


class KAdapterPreTrainedModel(PreTrainedModel):
    """What the models share with transformers: initial weights, attention kernels, checkpointing, saving."""

    config_class = KAdapterConfig
    config: KAdapterConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def _init_weights(self, module: nn.Module) -> None:
        # As in K-Adapter, each layer's own: PyTorch's defaults, and nearly zero for the adapters' projections.
        # transformers asks only for modules with parameters of their own.
        if isinstance(module, (nn.Linear, nn.LayerNorm)):
            module.reset_parameters()

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """As in transformers, but whole or not at all: a crash never leaves a half-written model that loads."""
        with checkpoint.atomic_folder(save_directory) as folder:
            super().save_pretrained(folder, push_to_hub=False, **kwargs)
        if push_to_hub:
            hub = {name: kwargs[name] for name in PUSH_ARGUMENTS if name in kwargs}
            self.push_to_hub(kwargs.get("repo_id", Path(save_directory).name), **hub)

    def set_attn_implementation(self, attn_implementation: str | dict, **kwargs: Any) -> None:  # type: ignore[override]
        super().set_attn_implementation(attn_implementation, **kwargs)
        for module in self.modules():
            if isinstance(module, KnowledgeAdapter):
                module.transformer_config._attn_implementation = self.config._attn_implementation


class KAdapterModel(KAdapterPreTrainedModel):
    """A backbone with any number of named knowledge adapters; used like the backbone itself.

    Args:
        config: backbone, adapters, fusion.
        backbone: a loaded backbone to wrap; None builds one from the configuration with fresh weights.
    """

    base_model_prefix = "encoder"

    def __init__(self, config: KAdapterConfig, backbone: PreTrainedModel | None = None):
        super().__init__(config)
        self.backbone = AutoModel.from_config(config.backbone_config) if backbone is None else backbone
        if (bottleneck := config.bottleneck_config()) is not None:
            insert_bottlenecks(self.backbone, bottleneck)
        self.adapters = nn.ModuleDict({name: self._new_adapter(name) for name in config.adapters})
        self.fusion = Fusion(list(config.adapters), config.hidden_size, config.fusion_mode)
        self.post_init()

    def _new_adapter(self, name: str) -> KnowledgeAdapter:
        config = self.config
        return KnowledgeAdapter(config.adapter_config(name), config.hidden_size, config._attn_implementation)

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.backbone.set_input_embeddings(value)

    # -- adapters by name ---------------------------------------------------------------------------------------

    def add_adapter(self, name: str, config: AdapterConfig | None = None) -> KnowledgeAdapter:  # type: ignore[override]
        """Add a fresh adapter beside the present ones, whose weights stay as they are.

        With "concat", `task_dense_<name>` is fresh, and so is `task_dense`, whose width grows.

        Raises:
            ValueError: the name is taken, or the configuration does not fit the backbone.
        """
        if name in self.adapters:
            raise ValueError(f"there is an adapter {name!r} already; delete_adapter({name!r}) first.")
        adapters = {**self.config.adapters, name: config or AdapterConfig()}
        self._set_adapters(adapters)
        return self.adapters[name]  # type: ignore[return-value]

    def delete_adapter(self, name: str) -> None:  # type: ignore[override]
        """Remove an adapter and its part of the fusion."""
        self._require(name)
        self._set_adapters({key: value for key, value in self.config.adapters.items() if key != name})

    def load_adapter(  # type: ignore[override]
        self, source: str | os.PathLike, name: str, config: AdapterConfig | None = None, **hub: Any
    ) -> KnowledgeAdapter:
        """Add adapter `name` from a file or folder, ours or the original's, or from a hub repository.

        Args:
            source: a folder of `save_adapter`, the original's `pytorch_model.bin` or its folder, or "user/name".
            config: what the original's files do not tell (taps, skip, heads); ours carry their own.
            hub: revision, cache_dir, token, local_files_only.

        Raises:
            FileNotFoundError, ValueError: nothing there, or not exactly this adapter's weights.
        """
        found, state = read_adapter(source, config, **hub)
        fusion = self.fusion
        adapter = self.add_adapter(name, found)
        try:
            checkpoint.load_strict(adapter, state, source)
        except ValueError:
            self.delete_adapter(name)
            self.fusion = fusion
            raise
        return adapter

    def save_adapter(
        self, folder: str | os.PathLike, name: str, push_to_hub: bool = False, repo_id: str | None = None, **hub: Any
    ) -> None:
        """Write one adapter alone: `adapter_config.json`, `adapter_model.safetensors`, and a card where there is none.

        Args:
            push_to_hub: upload these files to `repo_id`, default the folder's name, which is made if need be.
            hub: private, token; commit_message, revision, create_pr.
        """
        self._require(name)
        checkpoint.save_adapter(self.adapters[name].state_dict(), self.config.adapter_config(name), folder)
        if not (Path(folder) / CARD).exists():
            write_card(folder, Path(folder).name, self.config, name)
        if push_to_hub:
            push_adapter(folder, repo_id or Path(folder).name, **hub)

    def _require(self, name: str) -> None:
        if name not in self.adapters:
            raise ValueError(f"there is no adapter {name!r}; the model has {list(self.adapters)}.")

    def _set_adapters(self, adapters: dict[str, Any]) -> None:
        values = {"backbone_config": self.config.backbone_config, "fusion_mode": self.config.fusion_mode}
        self.config.adapters = KAdapterConfig(**values, adapters=adapters).adapters
        self.config.adapter_names = list(adapters)
        like = next(self.backbone.parameters())
        for name in [name for name in self.adapters if name not in adapters]:
            del self.adapters[name]
        for name in adapters:
            if name not in self.adapters:
                self.adapters[name] = self._new_adapter(name).to(like.device, like.dtype)
        fusion = Fusion(list(adapters), self.config.hidden_size, self.config.fusion_mode)
        kept = {
            key: value
            for key, value in self.fusion.state_dict().items()
            if key in (fresh := fusion.state_dict()) and fresh[key].shape == value.shape
        }
        fusion.load_state_dict(kept, strict=False)
        self.fusion = fusion.to(like.device, like.dtype)
        for module in [*self.adapters.modules(), *self.fusion.modules()]:
            module._is_hf_initialized = True  # type: ignore[assignment] # or transformers draws them anew when a head is put on top
        self.train(self.training)

    # -- bottlenecks ------------------------------------------------------------------------------------------

    def add_bottlenecks(self, config: BottleneckConfig) -> None:
        """Put fresh bottleneck adapters into every layer of the backbone; where they are already, only look.

        Raises:
            ValueError: there are others already, or the backbone's layers are not built like BERT's.
        """
        present = self.config.bottleneck_config()
        if present is None:
            insert_bottlenecks(self.backbone, config)
            self.config.bottleneck = config.to_dict()
            self.train(self.training)
        elif present != config:
            raise ValueError(f"the backbone holds bottlenecks already, {present}; ask for the same ones or for none.")

    def bottleneck_parts(self) -> dict[str, list[str]]:
        """Part -> names of its parameters: all that Adapter-BERT trains of a backbone."""
        return {
            "bottlenecks": [f"backbone.{name}" for name in bottleneck_names(self.backbone)],
            "LayerNorm": [f"backbone.{name}" for name in norm_names(self.backbone)],
        }

    # -- freezing -----------------------------------------------------------------------------------------------

    def freeze(self, part: str) -> None:
        """Freeze the "backbone" or the "adapters" (what is frozen already stays so); "none" frees everything.

        A frozen backbone runs without a graph and in eval mode, as in the original's pretraining; frozen
        adapters follow `train()`, as in its fine-tuning. "backbone_but_bottlenecks" is Adapter-BERT's way: of the
        backbone only the bottlenecks and every LayerNorm are trained.
        """
        if part not in FROZEN_PARTS:
            raise ValueError(f"freeze({part!r}): choose one of {list(FROZEN_PARTS)}.")
        if part == "none":
            self.requires_grad_(True)
        elif part == "backbone_but_bottlenecks":
            trained = {name for names in self.bottleneck_parts().values() for name in names}
            for name, parameter in self.backbone.named_parameters(prefix="backbone"):
                parameter.requires_grad_(parameter.requires_grad and name in trained)
        else:
            getattr(self, part).requires_grad_(False)
        self.train(self.training)

    @property
    def backbone_is_frozen(self) -> bool:
        return not any(parameter.requires_grad for parameter in self.backbone.parameters())

    def train(self, mode: bool = True) -> KAdapterModel:
        super().train(mode)
        if self.backbone_is_frozen:
            self.backbone.eval()
        return self

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
    ) -> KAdapterOutput | tuple:
        """Backbone, adapters over its tapped states, fusion.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds: as the backbone takes them.
            positions: [B, N]; fuse and return only the states there, which is exact, since fusion works
                position by position.
            output_hidden_states, output_attentions, return_dict: as in transformers.

        Returns:
            `KAdapterOutput`, or a tuple with return_dict=False.
        """
        config = self.config
        all_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        adapters = {name: cast(KnowledgeAdapter, adapter) for name, adapter in self.adapters.items()}
        taps = sorted({tap for adapter in adapters.values() for tap in adapter.taps})
        if position_ids is None and any(adapter.config.attend_padding for adapter in adapters.values()):
            position_ids = self._position_ids_of_the_original(input_ids, inputs_embeds)
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "inputs_embeds": inputs_embeds,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
        }
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.backbone_is_frozen):
            states = self.backbone(
                **{key: value for key, value in inputs.items() if value is not None},
                output_hidden_states=True if all_states else (taps or False),  # a list keeps only those states
                output_attentions=config.output_attentions if output_attentions is None else output_attentions,
                return_dict=True,
            )
        tapped = {tap: states.hidden_states[tap] for tap in taps}
        adapter_states = {name: adapter(tapped, attention_mask) for name, adapter in adapters.items()}
        last = states.last_hidden_state
        if positions is not None:
            rows = torch.arange(len(positions), device=positions.device)[:, None]
            last = last[rows, positions]
            adapter_states = {name: state[rows, positions] for name, state in adapter_states.items()}
        output = KAdapterOutput(
            last_hidden_state=self.fusion(last, adapter_states),
            pooler_output=states.get("pooler_output"),
            hidden_states=states.hidden_states if all_states else None,
            attentions=states.get("attentions"),
            adapter_states=adapter_states,
        )
        use_dict = config.return_dict if return_dict is None else return_dict
        return output if use_dict else output.to_tuple()

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
        bottleneck: BottleneckConfig | None = None,
        **kwargs: Any,
    ) -> KAdapterModel:
        """A saved model of ours, or any encoder of transformers to put adapters beside.

        Args:
            pretrained_model_name_or_path: folder or hub name.
            adapters: name -> where to load it from (see `load_adapter`), or an `AdapterConfig` for a fresh one.
            adapter_config: for adapter files that carry no configuration, such as the original's.
            fusion_mode: one of FUSION_MODES, default "concat"; a saved model brings its own.
            bottleneck: put bottleneck adapters into the backbone; a saved model may have them already.
            kwargs: as in transformers: revision, cache_dir, local_files_only, dtype, attn_implementation, ...
        """
        hub = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        config = kwargs.pop("config", None)
        if config is None:
            config = AutoConfig.from_pretrained(pretrained_model_name_or_path, **hub)
        if isinstance(config, KAdapterConfig):
            if fusion_mode not in (None, config.fusion_mode):
                raise ValueError(
                    f"{pretrained_model_name_or_path} was saved with fusion_mode "
                    f"{config.fusion_mode!r}, not {fusion_mode!r}; leave fusion_mode out."
                )
            model = super().from_pretrained(pretrained_model_name_or_path, *model_args, config=config, **kwargs)
        else:
            backbone = checkpoint.load_backbone(pretrained_model_name_or_path, config=config, **kwargs)
            wrapped = KAdapterConfig(backbone_config=backbone.config, fusion_mode=fusion_mode or "concat")
            model = cls(wrapped, backbone=backbone)
        if bottleneck is not None:
            model.add_bottlenecks(bottleneck)
        for name, source in (adapters or {}).items():
            if isinstance(source, AdapterConfig):
                model.add_adapter(name, source)
            else:
                model.load_adapter(
                    source, name, adapter_config, **{key: value for key, value in hub.items() if key != "subfolder"}
                )
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
