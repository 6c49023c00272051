"""The parts of a model by name: adapters added, loaded, saved and deleted; bottlenecks; what is trained."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from transformers import PreTrainedModel

from kadapter.configuration import FROZEN_PARTS, KAdapterConfig
from kadapter.models.adapter import KnowledgeAdapter
from kadapter.models.bottleneck import (
    Bottlenecks,
    Norms,
    insert_bottlenecks,
    named_parts,
    names_of_layers,
    norm_names,
    set_names,
)
from kadapter.models.bottom import bottom_modules, frozen_layers
from kadapter.models.fusion import Fusion
from kadapter.models.named import NamedModules
from kadapter.models.switching import Switching
from kadapter.shapes import AdapterConfig, BottleneckConfig, default_taps
from kadapter.storage import checkpoint
from kadapter.storage.card import ADAPTER_FILES, CARD, push, write_card
from kadapter.storage.original import count_taps, read_adapter

logger = logging.getLogger(__name__)


class NamedParts(Switching):
    """What `KAdapterModel` does with its adapters, with the bottlenecks in its backbone, and with freezing."""

    config: KAdapterConfig
    backbone: PreTrainedModel
    adapters: NamedModules
    fusion: Fusion
    frozen_dropout: bool = True  # whether frozen layers below trained ones drop out in training, as those do

    # -- adapters -------------------------------------------------------------------------------------------------

    def add_adapter(
        self, name: str, config: AdapterConfig | None = None, adapter_dtype: torch.dtype = torch.float32
    ) -> KnowledgeAdapter:
        """Add a fresh adapter and make it active; the other adapters keep their parameter objects.

        With "concat", the fusion gets a fresh `task_dense_<name>`, and fresh columns in `task_dense`, which becomes a
        new parameter because its width grows: give it to an optimizer anew. With "gate" it gets a fresh `gate_<name>`.

        Args:
            name: any Python identifier.
            config: its shape; None for the defaults.
            adapter_dtype: type of its weights; float32 by default, whatever the backbone's is, as in PEFT, since small
                updates are lost in 16 bits.

        Raises:
            ValueError: the name is taken, or the configuration does not fit the backbone. Then nothing changes.
        """
        config = config or AdapterConfig()
        adapter = self._built(name, config)
        self._attach(name, adapter, adapter_dtype)
        if config.adapter_list is None:
            taps, depth = list(adapter.taps), self.config.num_hidden_layers
            logger.info("no adapter_list is given: %r taps %s, after the backbone's %d layers.", name, taps, depth)
        return adapter

    def delete_adapter(self, names: str | list[str]) -> None:
        """Delete an adapter, or several, with their parts of the fusion; the others keep their parameter objects.

        If the same weights are loaded again under that name, they get their parts of the fusion back.

        Raises:
            ValueError: there is no such adapter. Then nothing changes.
        """
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            self._require(name)
        for name in names:
            digest = checkpoint.digest(self.adapters[name].state_dict())
            self._removed[name] = digest, self.fusion.remove(name)
            del self.adapters[name]
            self._inactive.discard(name)
            self._hand_weights.pop(name, None)
        self._set_configs({key: value for key, value in self.config.adapters.items() if key not in names})

    def load_adapter(
        self,
        source: str | os.PathLike,
        name: str,
        config: AdapterConfig | None = None,
        adapter_dtype: torch.dtype = torch.float32,
        **hub: Any,
    ) -> KnowledgeAdapter:
        """Add adapter `name` from a file or folder, ours or the original's, or from a hub repository.

        Args:
            source: a folder of `save_adapter`, the original's `pytorch_model.bin` or its folder, or "user/name" or
                "user/name@revision" on the hub.
            config: what the original's files do not tell (taps, skip, heads); adapters of kadapter bring their own.
            adapter_dtype: as in `add_adapter`.
            hub: revision, cache_dir, token, local_files_only.

        Raises:
            FileNotFoundError, ValueError: nothing there, or not exactly this adapter's weights. Then nothing changes.
        """
        found, state = read_adapter(source, config, **hub)
        following = default_taps(self.config.num_hidden_layers)
        if found.adapter_list is None and (count := count_taps(state)) != len(following):
            raise ValueError(
                f"{source} has {count} adapter layers and does not tell their taps, but those that follow the "
                f"backbone's {self.config.num_hidden_layers} layers are {list(following)}; name {count} hidden states "
                "as adapter_list."
            )
        self._require_free(name)
        try:
            adapter = self._built(name, found)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
        checkpoint.load_strict(adapter, state, source)
        digest, parts = self._removed.get(name, ("", None))
        self._attach(name, adapter, adapter_dtype, parts if digest == checkpoint.digest(state) else None)
        return adapter

    def save_adapter(
        self, folder: str | os.PathLike, name: str, push_to_hub: bool = False, repo_id: str | None = None, **hub: Any
    ) -> None:
        """Write one adapter alone: `adapter_config.json`, `adapter_model.safetensors`, and a card where there is none.

        Args:
            push_to_hub: upload these files to `repo_id`, by default the folder's name; the repository is created if it
                does not exist.
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

    def _built(self, name: str, config: AdapterConfig) -> KnowledgeAdapter:
        """A fresh adapter, which is no part of the model yet; raises ValueError where it could not become one."""
        self._require_free(name)
        values = {"backbone_config": self.config.backbone_config, "fusion_mode": self.config.fusion_mode}
        checked = KAdapterConfig(**values, adapters={name: config})  # type: ignore[arg-type]
        implementation = self.config._attn_implementation
        return KnowledgeAdapter(checked.adapter_config(name), self.config.hidden_size, implementation)

    def _attach(
        self,
        name: str,
        adapter: KnowledgeAdapter,
        dtype: torch.dtype,
        parts: Mapping[str, nn.Module] | None = None,
    ) -> None:
        """Make an adapter part of the model, with its parts of the fusion if they are known."""
        device, others = next(self.backbone.parameters()).device, len(self.fusion.names)
        fusion_dtype = next((p.dtype for p in self.fusion.parameters()), dtype)
        self._follow_checkpointing(adapter)
        self.adapters[name] = adapter.to(device, dtype)
        renewed = self.fusion.add(name, parts)
        self.fusion.to(device, fusion_dtype)  # which only touches what is new
        self._removed.pop(name, None)
        self._set_configs({**self.config.adapters, name: adapter.config.to_dict()})
        for module in [*adapter.modules(), *self.fusion.modules()]:
            module._is_hf_initialized = True  # type: ignore[assignment] # or transformers draws them anew when a head is put on top
        if renewed and others > 1:
            logger.info("fusion's %s grows: it is a new parameter, which an optimizer must be told of.", renewed)
        if self._hand_weights:
            self._hand_weights[name] = 1.0
        self.train(self.training)

    def _follow_checkpointing(self, adapter: KnowledgeAdapter) -> None:
        """Checkpoint a further adapter's layers where those of the model are."""
        like = next((module for module in self.modules() if getattr(module, "gradient_checkpointing", False)), None)
        if like is not None:
            for module in adapter.modules():
                if hasattr(module, "gradient_checkpointing"):
                    module.gradient_checkpointing = True  # type: ignore[assignment]
                    module._gradient_checkpointing_func = like._gradient_checkpointing_func

    def _set_configs(self, adapters: dict[str, Any]) -> None:
        self.config.adapters, self.config.adapter_names = adapters, list(adapters)

    def _require_free(self, name: str) -> None:
        if name in self.adapters:
            raise ValueError(f"there is an adapter {name!r} already; delete_adapter({name!r}) first.")

    def _begin_without_history(self) -> None:
        # Name -> digest of a deleted adapter's weights and its parts of the fusion.
        self._removed: dict[str, tuple[str, dict[str, nn.Module]]] = {}
        self._switch_all_on()

    def _require(self, name: str) -> None:
        if name not in self.adapters:
            raise ValueError(f"there is no adapter {name!r}; the model has {list(self.adapters)}.")

    # -- bottlenecks ----------------------------------------------------------------------------------------------

    def add_bottlenecks(self, name: str, config: BottleneckConfig) -> None:
        """Put a fresh set of bottlenecks, with copies of the norms, into the backbone's layers, and make it active.

        If there is an equal set of that name already, it only becomes the active one.

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
        """Delete a set of bottlenecks and its norms; if it was active, none is afterwards.

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
        """Compute with this set of bottlenecks and its norms from now on; None: with the bare backbone.

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
        """The set that is computed; it is saved with the model."""
        return self.config.active_bottlenecks

    def _require_bottlenecks(self, name: str) -> None:
        if name not in self.config.bottlenecks:
            raise ValueError(f"there are no bottlenecks {name!r}; the model has {self.bottlenecks()}.")

    def bottleneck_parts(self) -> dict[str, list[str]]:
        """Part -> names of its parameters, for the active set: all that Adapter-BERT trains of a backbone."""
        name = self.active_bottlenecks
        kinds = {"bottlenecks": Bottlenecks, "LayerNorm": Norms}
        if name is None:
            return {part: [] for part in kinds}
        return {
            part: [f"backbone.{key}" for key in set_names(self.backbone, name, kind)] for part, kind in kinds.items()
        }

    # -- freezing -------------------------------------------------------------------------------------------------

    def freeze(self, part: str) -> None:
        """Freeze a part of the model; what is frozen already stays frozen.

        A frozen backbone runs without gradients and without dropout, as in the original's pretraining. Frozen adapters
        keep their dropout while the model is in training mode, as in its fine-tuning.

        Args:
            part: "backbone", "adapters", or the name of one adapter. "backbone_but_bottlenecks" is Adapter-BERT's way:
                of the backbone, only the active bottlenecks and their norms are trained. "none" unfreezes everything.

        Raises:
            ValueError: there is no such part.
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
        self.train(self.training)

    def train_layers(self, layers: Sequence[int] | None) -> None:
        """Of the backbone, train only these layers and what follows the last layer; None: only its LayerNorms.

        These are two baselines of Adapter-BERT's trade-off curve. What is frozen already stays frozen. Below the lowest
        trained layer no gradient is computed.

        Args:
            layers: numbers, counted from 0.

        Raises:
            ValueError: the backbone does not have these layers.
        """
        trained = set(norm_names(self.backbone) if layers is None else names_of_layers(self.backbone, layers))
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name in trained)
        self.train(self.training)

    @property
    def backbone_is_frozen(self) -> bool:
        """Whether no parameter of the backbone is trained."""
        return not any(parameter.requires_grad for parameter in self.backbone.parameters())

    def train(self, mode: bool = True) -> Self:
        """As in PyTorch, but a frozen backbone stays in eval mode."""
        super().train(mode)
        if self.backbone_is_frozen:
            self.backbone.eval()
        elif not self.frozen_dropout:
            for module in bottom_modules(self.backbone, frozen_layers(self.backbone)):
                module.eval()
        return self
