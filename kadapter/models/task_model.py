"""Task models: an encoder with adapters and a head on top.

Shapes: B = batch, S = sequence, N = positions that the head reads, H = width.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kadapter.configuration import BottleneckConfig, HeadConfig, KAdapterConfig
from kadapter.models.heads import ClassificationHead, HeadOutput, MaskedLMHead, build_head
from kadapter.models.modeling import KAdapterModel, KAdapterPreTrainedModel
from kadapter.storage import checkpoint
from kadapter.storage.files import atomic_folder

TASK_CONFIG = "task_config.json"
TASK_WEIGHTS = "task_model.safetensors"
TASK_PARTS = ("bottlenecks", "LayerNorm", "fusion", "head")


class TaskModel(KAdapterPreTrainedModel):
    """An encoder with adapters and the head that `config.head` describes: pretraining and tasks alike.

    Args:
        config: with a head.
        encoder: a `KAdapterModel` to put the head on; None builds one from the configuration.
    """

    def __init__(self, config: KAdapterConfig, encoder: KAdapterModel | None = None):
        super().__init__(config)
        self.encoder = KAdapterModel(config) if encoder is None else encoder
        dropout = getattr(config.backbone_config, "hidden_dropout_prob", 0.1)
        embeddings: Any = self.encoder.get_input_embeddings()
        self.head = build_head(config.head_config(), config.hidden_size, dropout, embeddings.weight.shape[1])
        pooler = getattr(self.encoder.backbone, "pooler", None)
        if pooler is not None:
            pooler.requires_grad_(False)  # no head reads it, and distributed training must not wait for it
        self.post_init()

    @classmethod
    def from_encoder(cls, encoder: KAdapterModel, head: HeadConfig) -> TaskModel:
        """Put a fresh head on a loaded encoder.

        A pretrained pooler becomes the dense layer of a classification head. It counts as the backbone's: frozen
        there, it stays so, as in Adapter-BERT (optimization.py trains the last layer alone).
        """
        kept = ("backbone_config", "adapters", "fusion_mode", "bottleneck")
        config = KAdapterConfig(**{name: getattr(encoder.config, name) for name in kept}, head=head)
        encoder.config = config
        pooler = _pretrained_pooler(encoder)
        trained = pooler is not None and pooler.weight.requires_grad
        model = cls(config, encoder=encoder)
        if pooler is not None and isinstance(model.head, ClassificationHead):
            model.head.dense.load_state_dict(pooler.state_dict())
            model.head.dense.requires_grad_(trained)
        return model

    # -- the task's part alone ----------------------------------------------------------------------------------

    def parts(self) -> dict[str, list[str]]:
        """Part -> names of its parameters. What a task brings along (`TASK_PARTS`) is declared here alone.

        The bottlenecks and every LayerNorm of the backbone, the head, and the fusion where there is one.
        """
        parts = {part: [f"encoder.{name}" for name in names] for part, names in self.encoder.bottleneck_parts().items()}
        of_bottlenecks = {name for names in parts.values() for name in names}
        parts = {"backbone": [], **parts, "adapters": [], "fusion": [], "head": []}
        for name, _ in self.named_parameters():
            if name not in of_bottlenecks:
                parts[name.split(".")[1] if name.startswith("encoder.") else "head"].append(name)
        return parts

    def task_names(self) -> list[str]:
        parts = self.parts()
        return [name for part in TASK_PARTS for name in parts[part]]

    def save_task(self, folder: str | os.PathLike, state_dict: checkpoint.State | None = None) -> None:
        """Write what a task adds to a backbone: `task_config.json` and `task_model.safetensors`.

        Args:
            state_dict: the weights, where they are not this model's own (sharded ones are collected first).
        """
        state = self.state_dict() if state_dict is None else state_dict
        weights = {name: state[name] for name in self.task_names()}
        values = {"backbone": self.config.backbone_config.model_type, "bottleneck": self.config.bottleneck}
        values |= {"adapters": list(self.encoder.adapters), "head": self.config.head}
        with atomic_folder(folder, "the task's part of a model") as path:
            checkpoint.save_tensors(checkpoint.plain(weights), path / TASK_WEIGHTS)
            (path / TASK_CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load_task(cls, folder: str | os.PathLike, encoder: KAdapterModel) -> TaskModel:
        """Put what `save_task` wrote on the encoder that it was trained on; that encoder becomes part of the model.

        Raises:
            FileNotFoundError, ValueError: nothing there, or not exactly what this encoder needs.
        """
        path = Path(folder)
        if not (path / TASK_CONFIG).is_file():
            raise FileNotFoundError(f"{path / TASK_CONFIG} is missing; give a folder that save_task wrote.")
        values = json.loads((path / TASK_CONFIG).read_text(encoding="utf-8"))
        if values["adapters"] != list(encoder.adapters):
            raise ValueError(f"{path} belongs to adapters {values['adapters']}, not to {list(encoder.adapters)}.")
        if values["bottleneck"] is not None:
            encoder.add_bottlenecks(BottleneckConfig.from_dict(values["bottleneck"]))
        model = cls.from_encoder(encoder, HeadConfig.from_dict(values["head"]))
        of_task = set(model.task_names())
        rest = {name: value for name, value in model.state_dict().items() if name not in of_task}
        checkpoint.load_strict(model, rest | checkpoint.read_state_dict(path / TASK_WEIGHTS), path)
        return model.eval()

    # -- forward ------------------------------------------------------------------------------------------------

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items: float | None = None,
    ) -> HeadOutput:
        """Features where the head reads them, then the head.

        Args:
            input_ids, attention_mask, token_type_ids: [B, S]; or [B, choices, S], each choice a sequence of its own.
            positions: [B, N] positions that the head reads, or [B, choices], one a choice; None for heads that read the
                whole sequence.
            labels: as the head takes them; None gives no loss.
            num_items: what to divide the summed loss by, where the caller knows the count of a whole step
                over micro-batches and processes; None means this batch's own count.
        """
        if input_ids.dim() == 3:
            choices = input_ids.shape[1]
            input_ids = input_ids.flatten(0, 1)
            attention_mask = None if attention_mask is None else attention_mask.flatten(0, 1)
            token_type_ids = None if token_type_ids is None else token_type_ids.flatten(0, 1)
            positions = None if positions is None else positions.expand(-1, choices).reshape(-1, 1)
        features = self.encoder(
            input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, positions=positions
        ).last_hidden_state
        tied = {"embeddings": self.get_input_embeddings().weight} if isinstance(self.head, MaskedLMHead) else {}
        return self.head(features, attention_mask=attention_mask, labels=labels, num_items=num_items, **tied)

    def predictions(self, output: HeadOutput, batch: Mapping[str, torch.Tensor]) -> list[dict[str, np.ndarray]]:
        """What evaluation keeps of an output, one dictionary an example; without the padding of sequences."""
        head: Any = self.head
        kept = {name: value.float().cpu().numpy() for name, value in head.predictions(output).items()}
        ends: list[int | None] = [None] * len(batch["input_ids"])
        if head.reads == "sequence":
            ends = batch["attention_mask"].sum(1).tolist()
        return [{name: value[i, :end] for name, value in kept.items()} for i, end in enumerate(ends)]


def _pretrained_pooler(encoder: KAdapterModel) -> nn.Linear | None:
    """The dense layer of a pooler that came with the backbone's weights."""
    pooler = getattr(encoder.backbone, "pooler", None)
    dense = getattr(pooler, "dense", pooler)
    fresh = getattr(encoder.backbone, "fresh_pooler", True)
    return dense if isinstance(dense, nn.Linear) and not fresh else None
