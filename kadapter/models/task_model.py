"""Task models: an encoder with adapters and a head on top.

Shapes: B = batch, S = sequence, N = positions that the head reads, H = width.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, cast
from weakref import WeakSet

import torch
from torch import nn
from transformers import PreTrainedConfig

from kadapter.configuration import DEFAULT_BOTTLENECKS, ENCODER_FIELDS, KAdapterConfig
from kadapter.models.base import KAdapterPreTrainedModel
from kadapter.models.chunks import questions_in_chunks
from kadapter.models.head import Head, HeadOutput
from kadapter.models.heads import ClassificationHead, MaskedLMHead
from kadapter.models.modeling import KAdapterModel
from kadapter.models.positions import as_sequences, positions_of
from kadapter.models.question_heads import OpenQAHead
from kadapter.models.saved_task import SavedTask, fresh_head, name_in_file, pretrained_pooler, saved_head
from kadapter.models.switching import OfEncoder
from kadapter.shapes import HEAD_KINDS, AdapterConfig, BottleneckConfig, HeadConfig
from kadapter.storage import checkpoint
from kadapter.storage.hub import HUB_ARGUMENTS
from kadapter.storage.pretrained import read_overridden

TASK_PARTS = ("bottlenecks", "LayerNorm", "fusion", "head")
_TAKEN_OVER: WeakSet[nn.Module] = WeakSet()  # poolers that were to be trained when a head first stood for them


class TaskModel(OfEncoder, KAdapterPreTrainedModel):  # type: ignore[misc]  # transformers' add_adapter is PEFT's
    """An encoder with adapters and the head that `config.head` describes: pretraining and tasks alike.

    Args:
        config: with a head.
        encoder: a `KAdapterModel` to put the head on; None builds one from the configuration.
    """

    head_kinds: ClassVar[tuple[str, ...]] = HEAD_KINDS
    _keep_in_fp32_modules_strict = [*KAdapterPreTrainedModel._keep_in_fp32_modules_strict, "head"]

    def __init__(self, config: KAdapterConfig, encoder: KAdapterModel | None = None):
        head = config.head_config()
        self._check_kind(head)
        super().__init__(config)
        self.encoder = KAdapterModel(config) if encoder is None else encoder
        config._attn_implementation = self.encoder.config._attn_implementation
        self.head = fresh_head(head, self.encoder)
        pooler = getattr(self.encoder.backbone, "pooler", None)
        if pooler is not None:
            pooler.requires_grad_(False)  # no head reads it, and distributed training must not wait for it
        self.post_init()

    @property  # type: ignore[override]  # transformers has it as an attribute
    def config(self) -> KAdapterConfig:
        """The encoder's configuration, always as it is now, with this model's own head and task.

        Adapters and bottlenecks may be added through the encoder alone, on which several task models may stand.
        """
        config, encoder = self.__dict__["_config"], self._modules.get("encoder")
        if isinstance(encoder, KAdapterModel):
            for name in ENCODER_FIELDS:
                if getattr(config, name) is not (value := getattr(encoder.config, name)):
                    setattr(config, name, value)
        return config

    @config.setter
    def config(self, value: KAdapterConfig) -> None:
        self.__dict__["_config"] = value

    @classmethod
    def _check_kind(cls, head: HeadConfig, source: object = "this configuration") -> None:
        """Refuse a head that the Auto class does not stand for through which it was asked for."""
        if head.kind not in cls.head_kinds:
            auto_class = cls.__name__.replace("TaskModel", "AutoModel")
            raise ValueError(
                f"{source} has a head of the kind {head.kind!r}, but {auto_class} takes "
                f"{' or '.join(map(repr, cls.head_kinds))}; load it with kadapter.TaskModel."
            )

    # -- loading --------------------------------------------------------------------------------------------------

    @classmethod
    def from_encoder(cls, encoder: KAdapterModel, head: HeadConfig) -> TaskModel:
        """Put a fresh head on a loaded encoder, which several heads may share.

        A pretrained pooler becomes the dense layer of a classification head. If it is frozen in the backbone, it stays
        frozen, as in Adapter-BERT (whose optimization.py trains only the last layer of a head).
        """
        pooler = pretrained_pooler(encoder)
        if pooler is not None and pooler.weight.requires_grad:
            _TAKEN_OVER.add(pooler)
        model = cls(encoder.config.with_head(head), encoder=encoder)
        if pooler is not None and isinstance(model.head, ClassificationHead):
            if type(pooler.weight) is not nn.Parameter:
                raise ValueError(
                    "the backbone's pooler is quantised, but the head's first layer is to be trained from it; leave "
                    "the pooler out when the backbone is quantised."
                )
            model.head.dense.load_state_dict(pooler.state_dict())
            model.head.dense.requires_grad_(pooler in _TAKEN_OVER)
        return model

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *,
        head: HeadConfig | Mapping[str, Any] | None = None,
        adapters: Mapping[str, str | os.PathLike | AdapterConfig] | None = None,
        adapter_config: AdapterConfig | None = None,
        fusion_mode: str | None = None,
        bottlenecks: Mapping[str, BottleneckConfig] | None = None,
        adapter_dtype: torch.dtype = torch.float32,
        config: PreTrainedConfig | str | os.PathLike | None = None,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """A saved task model, or a fresh head on a saved encoder or on any encoder of transformers.

        Args:
            pretrained_model_name_or_path: folder or hub name, of a `TaskModel`, a `KAdapterModel` or a plain encoder.
            head: the head to put on an encoder, as in `from_encoder`. A saved task model has its own, and no other.
            adapter_dtype: type of adapters, fusion, bottlenecks and head.
            adapters, adapter_config, fusion_mode, bottlenecks, config, output_loading_info, kwargs: as in
                `KAdapterModel.from_pretrained`.

        Raises:
            OSError, ValueError, TypeError: as there. ValueError also if no head is saved or given, or another one is
                saved.
        """
        source, asked = pretrained_model_name_or_path, _as_head(head)
        if source is None:
            return super().from_pretrained(None, config=config, output_loading_info=output_loading_info, **kwargs)
        hub = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        found: Any
        found, kwargs = read_overridden(source, config, kwargs)
        saved = saved_head(source, found, asked)
        cls._check_kind(saved or asked, source)  # type: ignore[arg-type]
        parts: Any = {"adapters": adapters or {}, "adapter_config": adapter_config}
        parts |= {"bottlenecks": bottlenecks or {}, "adapter_dtype": adapter_dtype}
        if saved is None:
            encoder, info = KAdapterModel.from_pretrained(
                source, **parts, fusion_mode=fusion_mode, config=found, output_loading_info=True, **kwargs
            )
            model = cls.from_encoder(encoder, asked)  # type: ignore[arg-type]
            info["missing_keys"] = _under_head(info["missing_keys"]) | model._fresh_names()
        else:
            model, info = cls._load_saved(source, found, fusion_mode, **kwargs)
            added: dict[str, Any] = {"missing_keys": ()}
            model.encoder._extend(**parts, hub=hub, info=added)
            info["missing_keys"] = {*info["missing_keys"], *_under_head(added["missing_keys"])}
        if adapter_dtype != torch.float32:
            model.head.to(adapter_dtype)
        return (model.eval(), info) if output_loading_info else model.eval()

    def _fresh_names(self) -> set[str]:
        """The head's weights that `from_encoder` did not take from the backbone."""
        taken = isinstance(self.head, ClassificationHead) and pretrained_pooler(self.encoder) is not None
        names = {f"head.{name}" for name in self.head.state_dict()}
        return {name for name in names if not (taken and name.startswith("head.dense."))}

    # -- the task's part alone ----------------------------------------------------------------------------------

    def parts(self) -> dict[str, list[str]]:
        """Part -> names of its parameters; each parameter of the model is in one part.

        `TASK_PARTS` names those that a task adds to a backbone: active bottlenecks, their norms, fusion and head.
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
            state_dict: weights to write in place of this model's own, such as those collected from shards.
        """
        state = self.state_dict() if state_dict is None else state_dict
        config, active = self.config, self.encoder.active_bottlenecks
        weights = {name_in_file(name, active): state[name] for name in self.task_names()}
        bottleneck = None if active is None else config.bottleneck_config(active)
        head, adapters = config.head_config(), list(self.encoder.adapters)
        saved = SavedTask(bottleneck, adapters, config.fusion_mode, head, config.task, weights)
        saved.write(folder, config.backbone_config.model_type)

    @classmethod
    def load_task(cls, folder: str | os.PathLike, encoder: KAdapterModel) -> TaskModel:
        """Put what `save_task` wrote on the encoder that it was trained on; the encoder becomes part of the model.

        Raises:
            FileNotFoundError, ValueError: the files are missing, do not fit this encoder exactly, or the encoder
                carries a task already, whose answers would change.
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

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """As in transformers. A masked-language-model head, whose weights are the embeddings, gets as many biases.

        The bias of a new token is the mean of the others, or zero with `mean_resizing=False`.
        """
        embeddings = self.encoder.resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        if isinstance(self.head, MaskedLMHead):
            count = embeddings.weight.shape[0]
            self.head.resize(count, mean_resizing)
            self.config.head = {**self.config.head, "num_labels": count}
        return embeddings

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items: float | None = None,
        group_sizes: torch.Tensor | None = None,
        largest_group: int | None = None,
        context_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        output_hidden_states: bool | Sequence[int] | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        adapter_names: Sequence[str] | None = None,
        states: Mapping[str, torch.Tensor] | None = None,
    ) -> HeadOutput | tuple:
        """Compute the features that the head reads, then the head.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids: [R, S], R sequences of B examples; or
                [B, choices, S], where all examples have as many.
            inputs_embeds: [R, S, E] instead of input_ids; or [B, choices, S, E].
            positions: [R, N] positions that the head reads (of [B, choices, S] also [B, choices] or [B, 1]). Without
                them, heads of whole texts read their first token (of a causal backbone the last), a masked-language-
                model head all tokens.
            labels: in the form of the head (see the head's own docstring); None computes no loss.
            num_items: the number to divide the summed loss by, if the caller knows the items of a whole step over
                micro-batches and processes; None means those of this batch.
            group_sizes: [B], how many sequences each example has, if not one.
            largest_group: the largest of these, if the caller knows it; otherwise reading it waits for the GPU.
            context_mask: [R, S], for a head for spans: 1 where a span may start and end; None: anywhere but in padding.
            output_hidden_states, output_attentions, return_dict: as in transformers.
            adapter_names: as in `KAdapterModel`.
            states: the result of `frozen_states` for these inputs; the backbone, or its lowest layers, do not run then.

        Raises:
            ValueError: not exactly one of input_ids and inputs_embeds, or no positions for a head of marked places.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds.")
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        inputs |= {"position_ids": position_ids, "inputs_embeds": inputs_embeds}
        given = cast(torch.Tensor, inputs_embeds if input_ids is None else input_ids)
        if given.dim() == (3 if inputs_embeds is None else 4):
            inputs, positions, group_sizes = as_sequences(inputs, positions, given.shape)
            largest_group = given.shape[1]
            given = given.flatten(0, 1)
        mask = inputs["attention_mask"]
        use_dict = self.config.return_dict if return_dict is None else return_dict
        asked: dict[str, Any] = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        asked["adapter_names"] = adapter_names
        of_all = any(asked.values())  # something that all sequences have at once
        if isinstance(self.head, OpenQAHead) and mask is not None and not of_all:
            output = questions_in_chunks(self.encoder, self.head, inputs, positions, group_sizes, states)
            output = self.head.with_loss(output, labels, num_items)
            return output if use_dict else output.to_tuple()
        read = positions_of(cast(Head, self.head), self.config, positions, mask, given)
        encoded = self.encoder(**inputs, positions=read, **asked, states=states, return_dict=True)
        further: dict[str, Any] = {"attention_mask": mask, "context_mask": context_mask}
        further |= {"positions": positions, "group_sizes": group_sizes, "largest_group": largest_group}
        if isinstance(self.head, MaskedLMHead):
            further["embeddings"] = self.get_input_embeddings().weight
        output = self.head(encoded.last_hidden_state, labels, num_items, **further)
        output.hidden_states, output.attentions = encoded.hidden_states, encoded.attentions
        return output if use_dict else output.to_tuple()

    def frozen_states(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        taps: Sequence[int] | None = None,
        layers: int | None = None,
    ) -> dict[str, torch.Tensor]:
        """As `KAdapterModel.frozen_states`, for inputs [R, S], at the positions that the head reads."""
        read = positions_of(cast(Head, self.head), self.config, positions, attention_mask, input_ids)
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return self.encoder.frozen_states(read, taps, layers, **inputs)


def _as_head(head: HeadConfig | Mapping[str, Any] | None) -> HeadConfig | None:
    return head if head is None or isinstance(head, HeadConfig) else HeadConfig.from_dict(head)


def _under_head(names: Iterable[str]) -> set[str]:
    """Names of an encoder's weights as a task model has them."""
    return {f"encoder.{name}" for name in names}
