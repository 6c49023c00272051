"""Task models: an encoder with adapters and a head on top.

Shapes: B = batch, S = sequence, N = positions that the head reads, H = width.
"""

from __future__ import annotations

import os

import torch
from torch import nn

from kadapter.configuration import DEFAULT_BOTTLENECKS, KAdapterConfig
from kadapter.models.heads import ClassificationHead, HeadOutput, MaskedLMHead
from kadapter.models.modeling import KAdapterModel, KAdapterPreTrainedModel
from kadapter.models.saved_task import SavedTask, fresh_head, name_in_file, write_task
from kadapter.models.switching import of_encoder
from kadapter.shapes import HeadConfig
from kadapter.storage import checkpoint

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
        self.head = fresh_head(config.head_config(), self.encoder)
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
        kept = ("backbone_config", "adapters", "fusion_mode", "bottlenecks", "active_bottlenecks")
        config = KAdapterConfig(**{name: getattr(encoder.config, name) for name in kept}, head=head)
        encoder.config = config
        pooler = _pretrained_pooler(encoder)
        trained = pooler is not None and pooler.weight.requires_grad
        model = cls(config, encoder=encoder)
        if pooler is not None and isinstance(model.head, ClassificationHead):
            model.head.dense.load_state_dict(pooler.state_dict())
            model.head.dense.requires_grad_(trained)
        return model

    add_adapter = of_encoder("add_adapter")
    load_adapter = of_encoder("load_adapter")
    save_adapter = of_encoder("save_adapter")
    delete_adapter = of_encoder("delete_adapter")
    add_bottlenecks = of_encoder("add_bottlenecks")
    delete_bottlenecks = of_encoder("delete_bottlenecks")
    activate_bottlenecks = of_encoder("activate_bottlenecks")
    bottlenecks = of_encoder("bottlenecks")
    freeze = of_encoder("freeze")
    train_adapters = of_encoder("train_adapters")
    set_adapter = of_encoder("set_adapter")
    active_adapters = of_encoder("active_adapters")
    disable_adapters = of_encoder("disable_adapters")
    enable_adapters = of_encoder("enable_adapters")
    adapters_disabled = of_encoder("adapters_disabled")
    set_adapter_weights = of_encoder("set_adapter_weights")
    get_adapter_state_dict = of_encoder("get_adapter_state_dict")
    enable_peft_hotswap = of_encoder("enable_peft_hotswap")

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
        active = self.encoder.active_bottlenecks
        weights = {name_in_file(name, active): state[name] for name in self.task_names()}
        bottleneck = None if active is None else self.config.bottlenecks[active]
        config, adapters = self.config, list(self.encoder.adapters)
        values = {"backbone": config.backbone_config.model_type, "bottleneck": bottleneck, "adapters": adapters}
        values |= {"fusion_mode": config.fusion_mode, "head": config.head, "task": config.task}
        write_task(folder, values, weights)

    @classmethod
    def load_task(cls, folder: str | os.PathLike, encoder: KAdapterModel) -> TaskModel:
        """Put what `save_task` wrote on the encoder that it was trained on; that encoder becomes part of the model.

        Raises:
            FileNotFoundError, ValueError: nothing there, not exactly what this encoder needs, or the encoder carries a
                task already, whose answers would change.
        """
        if encoder.carries_task:
            raise ValueError(
                f"{folder}: this encoder carries a task already; several tasks on one backbone are a MultiTaskModel's."
            )
        saved = SavedTask.read(folder, encoder)
        if saved.adapters != list(encoder.adapters):
            raise ValueError(f"{folder} belongs to adapters {saved.adapters}, not to {list(encoder.adapters)}.")
        if saved.adapters and saved.fusion_mode != encoder.config.fusion_mode:
            raise ValueError(
                f"{folder} fuses by {saved.fusion_mode!r}, this encoder by {encoder.config.fusion_mode!r}; load the "
                f"encoder with fusion_mode={saved.fusion_mode!r}."
            )
        if saved.bottleneck is not None:
            encoder.add_bottlenecks(DEFAULT_BOTTLENECKS, saved.bottleneck)
        model = cls.from_encoder(encoder, saved.head)
        model.config.task = saved.task
        of_task = set(model.task_names())
        rest = {name: value for name, value in model.state_dict().items() if name not in of_task}
        checkpoint.load_strict(model, rest | saved.state, folder)
        encoder.carries_task = True
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
        group_sizes: torch.Tensor | None = None,
    ) -> HeadOutput:
        """Features where the head reads them, then the head.

        Args:
            input_ids, attention_mask, token_type_ids: [R, S], R sequences of B examples; or [B, choices, S], where all
                examples have as many.
            positions: [R, N] positions that the head reads (of [B, choices, S] also [B, choices] or [B, 1]); None for
                heads that read the whole sequence.
            labels: as the head takes them; None gives no loss.
            num_items: what to divide the summed loss by, where the caller knows the count of a whole step
                over micro-batches and processes; None means this batch's own count.
            group_sizes: [B], how many sequences each example has, where it is not one.
        """
        if input_ids.dim() == 3:
            examples, choices = input_ids.shape[:2]
            group_sizes = torch.full((examples,), choices, device=input_ids.device)
            positions = None if positions is None else positions.expand(-1, choices).reshape(-1, 1)
            input_ids = input_ids.flatten(0, 1)
            attention_mask = None if attention_mask is None else attention_mask.flatten(0, 1)
            token_type_ids = None if token_type_ids is None else token_type_ids.flatten(0, 1)
        features = self.encoder(
            input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, positions=positions
        ).last_hidden_state
        inputs = {"attention_mask": attention_mask, "group_sizes": group_sizes}
        if isinstance(self.head, MaskedLMHead):
            inputs["embeddings"] = self.get_input_embeddings().weight  # type: ignore[assignment]
        return self.head(features, labels, num_items, **inputs)


def _pretrained_pooler(encoder: KAdapterModel) -> nn.Linear | None:
    """The dense layer of a pooler that came with the backbone's weights."""
    pooler = getattr(encoder.backbone, "pooler", None)
    dense = getattr(pooler, "dense", pooler)
    fresh = getattr(encoder.backbone, "fresh_pooler", True)
    return dense if isinstance(dense, nn.Linear) and not fresh else None
