"""The parts of a model by name: adapters added, loaded, saved and deleted; bottlenecks; what is trained."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from torch import nn
from transformers import PreTrainedModel

from kadapter.configuration import FROZEN_PARTS, KAdapterConfig
from kadapter.models.adapter import KnowledgeAdapter
from kadapter.models.bottleneck import Bottlenecks, Norms, insert_bottlenecks, named_parts, set_names
from kadapter.models.fusion import Fusion
from kadapter.models.named import NamedModules
from kadapter.shapes import AdapterConfig, BottleneckConfig, default_taps
from kadapter.storage import checkpoint
from kadapter.storage.card import ADAPTER_FILES, CARD, push, write_card
from kadapter.storage.original import count_taps, read_adapter

logger = logging.getLogger(__name__)


class NamedParts(nn.Module):
    """What `KAdapterModel` does with its adapters, with the bottlenecks in its backbone, and with freezing."""

    config: KAdapterConfig
    backbone: PreTrainedModel
    adapters: NamedModules
    fusion: Fusion

    # -- adapters -------------------------------------------------------------------------------------------------

    def add_adapter(self, name: str, config: AdapterConfig | None = None) -> KnowledgeAdapter:
        """Add a fresh adapter beside the present ones, whose weights stay as they are.

        With "concat", `task_dense_<name>` is fresh, and so is `task_dense`, whose width grows; with "gate",
        `gate_<name>`.

        Raises:
            ValueError: the name is taken, or the configuration does not fit the backbone.
        """
        self._require_free(name)
        config = config or AdapterConfig()
        self._set_adapters({**self.config.adapters, name: config})
        if config.adapter_list is None:
            taps, depth = self.config.adapters[name]["adapter_list"], self.config.num_hidden_layers
            logger.info("no adapter_list is given: %r taps %s, after the backbone's %d layers.", name, taps, depth)
        return self.adapters[name]  # type: ignore[return-value]

    def delete_adapter(self, name: str) -> None:
        """Remove an adapter and its part of the fusion."""
        self._require(name)
        self._set_adapters({key: value for key, value in self.config.adapters.items() if key != name})

    def load_adapter(
        self, source: str | os.PathLike, name: str, config: AdapterConfig | None = None, **hub: Any
    ) -> KnowledgeAdapter:
        """Add adapter `name` from a file or folder, ours or the original's, or from a hub repository.

        Args:
            source: a folder of `save_adapter`, the original's `pytorch_model.bin` or its folder, or "user/name", with
                "@revision" behind it if wanted.
            config: what the original's files do not tell (taps, skip, heads); ours carry their own.
            hub: revision, cache_dir, token, local_files_only.

        Raises:
            FileNotFoundError, ValueError: nothing there, or not exactly this adapter's weights.
        """
        found, state = read_adapter(source, config, **hub)
        self._require_free(name)
        following = default_taps(self.config.num_hidden_layers)
        if found.adapter_list is None and (count := count_taps(state)) != len(following):
            raise ValueError(
                f"{source} has {count} adapter layers and does not tell their taps, but those that follow the "
                f"backbone's {self.config.num_hidden_layers} layers are {list(following)}; name {count} hidden states "
                "as adapter_list."
            )
        try:
            found.resolved(self.config.num_hidden_layers)
        except ValueError as error:
            raise ValueError(f"{source}, adapter {name!r}: {error}") from None
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
            push(folder, repo_id or Path(folder).name, ADAPTER_FILES, **hub)

    def _new_adapter(self, name: str) -> KnowledgeAdapter:
        config = self.config
        return KnowledgeAdapter(config.adapter_config(name), config.hidden_size, config._attn_implementation)

    def _require_free(self, name: str) -> None:
        if name in self.adapters:
            raise ValueError(f"there is an adapter {name!r} already; delete_adapter({name!r}) first.")

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

    # -- bottlenecks ----------------------------------------------------------------------------------------------

    def add_bottlenecks(self, name: str, config: BottleneckConfig) -> None:
        """Put a fresh set of bottleneck adapters into every layer of the backbone, with norms of its own; it is active.

        Where such a set is there already under that name, it only becomes the active one.

        Raises:
            ValueError: there are others of that name, or the layers of this family are not known.
        """
        present = self.config.bottlenecks.get(name)
        if present is not None and present != config.to_dict():
            raise ValueError(f"there are bottlenecks {name!r} already, {present}; give these another name.")
        if present is None:
            insert_bottlenecks(self.backbone, name, config)
            self.config.bottlenecks = {**self.config.bottlenecks, name: config.to_dict()}
        self.activate_bottlenecks(name)
        self.train(self.training)

    def delete_bottlenecks(self, name: str) -> None:
        """Remove a set of bottlenecks and its norms; if it was active, none is.

        Raises:
            ValueError: there is no such set.
        """
        self._require_bottlenecks(name)
        if self.active_bottlenecks == name:
            self.activate_bottlenecks(None)
        for _, part in named_parts(self.backbone):
            if name in part:
                del part[name]
        self.config.bottlenecks = {key: value for key, value in self.config.bottlenecks.items() if key != name}

    def activate_bottlenecks(self, name: str | None) -> None:
        """Let every call go through that set of bottlenecks and its norms, or, with None, through the bare backbone.

        Raises:
            ValueError: there is no such set.
        """
        if name is not None:
            self._require_bottlenecks(name)
        for _, part in named_parts(self.backbone):
            part.active = name
        self.config.active_bottlenecks = name

    def bottlenecks(self) -> list[str]:
        """Names of the sets of bottlenecks in the backbone."""
        return list(self.config.bottlenecks)

    @property
    def active_bottlenecks(self) -> str | None:
        """The set that a call goes through; it is saved with the model."""
        return self.config.active_bottlenecks

    def _require_bottlenecks(self, name: str) -> None:
        if name not in self.config.bottlenecks:
            raise ValueError(f"there are no bottlenecks {name!r}; the model has {self.bottlenecks()}.")

    def bottleneck_parts(self) -> dict[str, list[str]]:
        """Part -> names of its parameters, of the active set: all that Adapter-BERT trains of a backbone."""
        name = self.active_bottlenecks
        kinds = {"bottlenecks": Bottlenecks, "LayerNorm": Norms}
        if name is None:
            return {part: [] for part in kinds}
        return {
            part: [f"backbone.{key}" for key in set_names(self.backbone, name, kind)] for part, kind in kinds.items()
        }

    # -- freezing -------------------------------------------------------------------------------------------------

    def freeze(self, part: str) -> None:
        """Freeze the "backbone", the "adapters" or one by its name (what is frozen stays so); "none" frees everything.

        A frozen backbone runs without a graph and in eval mode, as in the original's pretraining; frozen
        adapters follow `train()`, as in its fine-tuning. "backbone_but_bottlenecks" is Adapter-BERT's way: of the
        backbone only the active bottlenecks are trained, and their norms, one for every LayerNorm.
        """
        if part not in (*FROZEN_PARTS, *self.adapters):
            raise ValueError(f"freeze({part!r}): choose one of {[*FROZEN_PARTS, *self.adapters]}.")
        if part == "none":
            self.requires_grad_(True)
        elif part == "backbone_but_bottlenecks":
            trained = {name for names in self.bottleneck_parts().values() for name in names}
            for name, parameter in self.backbone.named_parameters(prefix="backbone"):
                parameter.requires_grad_(parameter.requires_grad and name in trained)
        else:
            module = getattr(self, part) if part in FROZEN_PARTS else self.adapters[part]
            module.requires_grad_(False)
        self.train(self.training)

    def train_adapters(self, names: Sequence[str]) -> None:
        """Train these adapters and freeze the others; backbone and fusion stay as they are.

        Raises:
            ValueError: there is no such adapter.
        """
        for name in names:
            self._require(name)
        for name, adapter in self.adapters.items():
            adapter.requires_grad_(name in names)

    @property
    def backbone_is_frozen(self) -> bool:
        return not any(parameter.requires_grad for parameter in self.backbone.parameters())

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.backbone_is_frozen:
            self.backbone.eval()
        return self
