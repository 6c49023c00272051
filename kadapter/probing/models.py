"""Masked language models to probe, and the ways to put such a model's head on states that adapters changed.

Shapes: B = batch, S = sequence, H = width, V = vocabulary, C = candidates, which the answer is chosen among.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModelForMaskedLM, PreTrainedTokenizerBase

from kadapter.configuration import KAdapterConfig, longest_sequence
from kadapter.models.fusion import Fusion
from kadapter.models.heads import MaskedLMHead
from kadapter.models.language_model import pretrained_head
from kadapter.models.modeling import KAdapterModel
from kadapter.models.positions import at_positions
from kadapter.models.task_model import TaskModel
from kadapter.shapes import HeadConfig
from kadapter.storage.checkpoint import PRETRAINING_HEAD, check_finite, load_strict, read_state_dict
from kadapter.storage.pretrained import read_config, read_tokenizer, without_transformers_warnings
from kadapter.storage.runs import ARGUMENTS, read_arguments

HEAD = ("dense.weight", "dense.bias", "layer_norm.weight", "layer_norm.bias", "bias")  # of a `MaskedLMHead`
BARE, OWN = "bare state", "own head"
NO_HEAD = "it cannot be probed, as a fresh head would answer at random; take a model that was saved with its head."
Answer = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Probed:
    """A model, and how its answers are had.

    settings: the ways in which the head reads its states.
    module: all of it, to be moved to a device.
    answer: (input_ids [B, S], attention_mask [B, S], positions of the gaps [B], tokens of the candidates [C]) -> for
        each setting the candidates' logits [B, C].
    longest: tokens that a sequence may have; None where there is no end.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase
    settings: tuple[str, ...]
    module: nn.Module
    answer: Answer
    longest: int | None

    def label(self, setting: str) -> str:
        return f"{self.name}: {setting}"


def load_probed(
    source: str | os.PathLike, name: str, adapters: Mapping[str, str] | None = None, untrained: bool = False
) -> Probed:
    """Any masked language model of transformers or a task model of ours; or a backbone with adapters beside it.

    Args:
        name: what the output calls it.
        adapters: name -> where to load it from.
        untrained: add a fresh adapter of each one's shape, the control without knowledge.

    Raises:
        OSError, ValueError: not there or damaged; no masked-language-model head, of which a part would be random.
    """
    config: Any = read_config(source)
    tokenizer = read_tokenizer(source)
    if tokenizer.mask_token_id is None:
        raise ValueError(f"the tokenizer of {source} has no mask token; take a masked language model.")
    if len(tokenizer) > (known := getattr(config, "vocab_size", len(tokenizer))):
        raise ValueError(
            f"the tokenizer of {source} has {len(tokenizer)} tokens, but the model {known}; mend the folder."
        )
    longest = longest_sequence(config.backbone_config if isinstance(config, KAdapterConfig) else config)
    if adapters:
        if isinstance(config, KAdapterConfig):
            raise ValueError(f"{source} is a model with adapters already; give its backbone, or leave --adapter out.")
        beside = _beside(source, adapters, untrained).eval()
        return Probed(name, tokenizer, tuple(beside.ways), beside, beside, longest)
    saved = isinstance(config, KAdapterConfig)
    whole = (_saved(source, config) if saved else _published(source, config)).eval()
    return Probed(name, tokenizer, (OWN,), whole, _answer_of(whole), longest)


def _published(source: str | os.PathLike, config: Any) -> nn.Module:
    """A masked language model of transformers with all its weights."""
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise ValueError(f"{source} is a {config.model_type}, which has no masked-language-model head; {NO_HEAD}")
    with without_transformers_warnings():
        model, info = AutoModelForMaskedLM.from_pretrained(source, output_loading_info=True, dtype=torch.float32)
    if missing := sorted(info["missing_keys"]):
        shown = ", ".join([*missing[:3], "..."] if len(missing) > 3 else missing)
        raise ValueError(f"{source} lacks weights of a masked language model ({shown}): {NO_HEAD}")
    check_finite(dict(model.named_parameters()), source)
    return model


def _saved(source: str | os.PathLike, config: KAdapterConfig) -> TaskModel:
    """A task model of ours with a masked-language-model head."""
    if config.head is None or config.head_config().kind != "masked_lm":
        kind = "no head" if config.head is None else f"a head of the kind {config.head_config().kind!r}"
        raise ValueError(f"{source} has {kind}, not a masked-language-model head; {NO_HEAD}")
    return TaskModel.from_pretrained(source, dtype=torch.float32)


def _answer_of(model: Any) -> Answer:
    """The answers of a model with a head of its own, which reads the states of the gaps alone."""
    gap: dict[str, torch.Tensor] = {}

    def at_gaps(module: nn.Module, given: Any, output: Any) -> Any:
        output.last_hidden_state = at_positions(output.last_hidden_state, gap["positions"])
        return output

    if not isinstance(model, TaskModel):
        model.base_model.register_forward_hook(at_gaps)

    def answer(
        ids: torch.Tensor, mask: torch.Tensor, gaps: torch.Tensor, tokens: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        gap["positions"] = gaps[:, None]
        given = {"positions": gaps[:, None]} if isinstance(model, TaskModel) else {}
        logits = model(input_ids=ids, attention_mask=mask, **given).logits  # [B, 1, V]
        return {OWN: logits[:, 0, tokens]}

    return answer


# -- adapters beside a backbone ---------------------------------------------------------------------------------


class HeadOnFusion(nn.Module):
    """One way to read the states: a fusion of some adapters with the last state, and a head on it."""

    def __init__(self, adapters: Sequence[str], fusion: Fusion, head: MaskedLMHead):
        super().__init__()
        self.names, self.fusion, self.head = tuple(adapters), fusion, head

    def forward(
        self, last: torch.Tensor, states: Mapping[str, torch.Tensor], embeddings: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """`last` and each of `states` [B, H], `embeddings` [V, E], `tokens` [C] -> logits [B, C]."""
        fused, _ = self.fusion(last, {name: states[name] for name in self.names})
        features = self.head.layer_norm(nn.functional.gelu(self.head.dense(fused)))
        return nn.functional.linear(features, embeddings[tokens], self.head.bias[tokens])


class SideBySide(nn.Module):
    """A backbone with adapters, all ways to read them computed together: the backbone and each adapter run once."""

    def __init__(self, encoder: KAdapterModel, ways: Mapping[str, HeadOnFusion]):
        super().__init__()
        self.encoder, self.ways = encoder, dict(ways)
        self._ways = nn.ModuleList(ways.values())

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, gaps: torch.Tensor, tokens: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """As `Probed.answer`."""
        states, tapped = self.encoder.tapped_states(
            list(self.encoder.adapters), input_ids=ids, attention_mask=mask, token_type_ids=None
        )
        found = {"": states.last_hidden_state}
        found |= {name: adapter(tapped, mask) for name, adapter in self.encoder.adapters.items()}
        found = {name: at_positions(state, gaps[:, None])[:, 0] for name, state in found.items()}  # each [B, H]
        embeddings: Any = self.encoder.get_input_embeddings()
        last = found.pop("")
        return {name: way(last, found, embeddings.weight, tokens) for name, way in self.ways.items()}


def _beside(source: str | os.PathLike, adapters: Mapping[str, str], untrained: bool) -> SideBySide:
    """The head of the backbone on its bare last state, on `add` of each adapter and of all, and as it was trained."""
    state = pretrained_head(source)
    if state is None:
        _published(source, read_config(source))  # which tells what is missing
        raise ValueError(
            f"{source} has a masked-language-model head that is not of BERT's form, which cannot be put on the states "
            "of adapters; leave --adapter out, or take another backbone."
        )
    encoder = KAdapterModel.from_pretrained(source, adapters=dict(adapters), fusion_mode="add", dtype=torch.float32)
    head = _head(encoder, state, source)
    width = encoder.config.hidden_size

    def added(*names: str) -> HeadOnFusion:
        return HeadOnFusion(names, Fusion(list(names), width, "add"), head)

    ways = {BARE: added(), **{f"{name}, add": added(name) for name in adapters}}
    if len(adapters) > 1:
        ways["all adapters, add"] = added(*adapters)
    for name, place in adapters.items():
        ways |= _trained(encoder, name, Path(place), head)
    for name in [*adapters] * untrained:
        torch.manual_seed(42)
        encoder.add_adapter(f"untrained_{name}", encoder.config.adapter_config(name))
        ways[f"untrained {name}, add"] = added(f"untrained_{name}")
    return SideBySide(encoder, ways)


def _head(encoder: KAdapterModel, state: Mapping[str, torch.Tensor], source: object) -> MaskedLMHead:
    embeddings: Any = encoder.get_input_embeddings()
    vocabulary, size = embeddings.weight.shape
    head = MaskedLMHead(HeadConfig("masked_lm", vocabulary), encoder.config.hidden_size, 0.0, size)
    load_strict(head, state, source)
    return head


def _trained(encoder: KAdapterModel, name: str, folder: Path, own: MaskedLMHead) -> dict[str, HeadOnFusion]:
    """The fusion that masked language modelling trained beside an adapter, and the head where that was trained too.

    It lies in the adapter's folder, where run_pretrain_mlm-adapter.sh left it; {} where there is none.
    """
    path = (folder if folder.is_dir() else folder.parent) / PRETRAINING_HEAD
    if not path.is_file():
        return {}
    state = read_state_dict(path)
    if not {*HEAD} <= state.keys():
        return {}  # of another pretraining, such as that of relations
    head = _head(encoder, {key: state.pop(key) for key in HEAD}, path)
    mode = _fusion_mode(path.parent, state)
    fusion = Fusion([name], encoder.config.hidden_size, mode)
    load_strict(fusion, {_in_fusion(key, name): value for key, value in state.items()}, path)
    same = all(torch.equal(value, own.state_dict()[key]) for key, value in head.state_dict().items())
    if same and not state:
        return {}  # that is how it is without training
    return {f"{name}, trained {mode}{'' if same else ' and head'}": HeadOnFusion([name], fusion, head)}


def _in_fusion(key: str, name: str) -> str:
    """The name of a weight in a `Fusion` of the adapter `name`; the file has the original's (`original_name`)."""
    key = re.sub(r"^com_dense\.", f"task_dense_{name}.", key)
    key = re.sub(r"^\w+_adapter\.task_dense\.", f"own_dense_{name}.", key)
    return re.sub(r"^gate_\w+\.", f"gate_{name}.", key)


def _fusion_mode(folder: Path, state: Mapping[str, torch.Tensor]) -> str:
    """How a run fused: what args.json beside the adapter or above it says, else what the weights tell."""
    for place in (folder, folder.parent):
        if (place / ARGUMENTS).is_file():
            return str(read_arguments(place).get("fusion_mode", "concat"))
    kinds = {key.split(".")[0] for key in state}
    return "concat" if "com_dense" in kinds else "attention" if "query" in kinds else "add"
