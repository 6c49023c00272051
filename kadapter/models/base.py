"""What our models share with those of transformers: initial weights, saving, attention kernels, outputs.

Shapes: B = batch, S = sequence, N = positions asked for, H = the backbone's width.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from kadapter.configuration import KAdapterConfig
from kadapter.models.adapter import KnowledgeAdapter
from kadapter.models.bottleneck import TruncatedLinear
from kadapter.models.heads import MaskedLMHead
from kadapter.storage.card import CARD, MODEL_FILES, MODEL_WEIGHTS, push, write_card
from kadapter.storage.checkpoint import weights_names
from kadapter.storage.files import atomic_folder
from kadapter.storage.pretrained import load_saved
from kadapter.storage.quantised import is_quantised

PUSH_ARGUMENTS = ("commit_message", "private", "token", "create_pr", "revision")


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
    base_model_prefix = "encoder"
    config: KAdapterConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    # What is trained beside a backbone of 16 bits: its updates would be lost, or not a number, in so few (PEFT's rule).
    _keep_in_fp32_modules_strict = ["bottlenecks", "norms", "adapters", "fusion"]

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

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
        elif isinstance(module, MaskedLMHead):
            nn.init.zeros_(module.bias)

    @classmethod
    def _load_saved(
        cls, source: str | os.PathLike, config: KAdapterConfig, fusion_mode: str | None, **kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """A model that was saved whole, and what transformers says of the loading; strict (`load_saved`)."""
        if fusion_mode not in (None, config.fusion_mode):
            raise ValueError(
                f"{source} was saved with fusion_mode {config.fusion_mode!r}, not {fusion_mode!r}; leave fusion_mode "
                "out."
            )
        return load_saved(cls, super().from_pretrained, source, config, **kwargs)

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """As in transformers, but whole or not at all: a crash never leaves a half-written model that loads.

        Weight files of an earlier save in that folder are removed, and a model card is written if there is none.

        Raises:
            ValueError: the backbone is quantised.
        """
        if is_quantised(self):
            raise ValueError(
                "a model whose backbone is quantised cannot be saved as a whole; save what was trained beside it "
                "with save_adapter or save_task, and load it on the backbone with the same quantization_config."
            )
        replaced = weights_names(kwargs.get("variant"))
        with atomic_folder(save_directory, "a model", self.get_memory_footprint(), replaced) as folder:
            super().save_pretrained(folder, push_to_hub=False, **kwargs)
        place = Path(save_directory)
        if kwargs.get("is_main_process", True) and not (place / CARD).exists():
            write_card(place, place.name, self.config)
        if push_to_hub:
            hub = {name: kwargs[name] for name in PUSH_ARGUMENTS if name in kwargs}
            gone = MODEL_WEIGHTS if kwargs.get("variant") is None else ()
            push(place, kwargs.get("repo_id", place.name), MODEL_FILES, replaced=gone, **hub)

    def push_to_hub(self, repo_id: str, *, max_shard_size: int | str = "50GB", **hub: Any) -> None:  # type: ignore[override]
        """Upload the model and a card of its own; `hub`: private, token, commit_message, revision, create_pr."""
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / repo_id.rpartition("/")[2]
            self.save_pretrained(place, max_shard_size=max_shard_size)
            push(place, repo_id, MODEL_FILES, replaced=MODEL_WEIGHTS, **hub)

    def set_attn_implementation(self, attn_implementation: str | dict, **kwargs: Any) -> None:  # type: ignore[override]
        super().set_attn_implementation(attn_implementation, **kwargs)
        for module in self.modules():
            if isinstance(module, KnowledgeAdapter):
                module.transformer_config._attn_implementation = self.config._attn_implementation
