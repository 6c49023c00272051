"""First weights of a masked-language model with adapters: what the backbone itself was pretrained with."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModelForMaskedLM

from kadapter.configuration import KAdapterConfig
from kadapter.models.heads import MaskedLMHead
from kadapter.models.task_model import TaskModel
from kadapter.shapes import HeadConfig
from kadapter.storage.checkpoint import check_finite
from kadapter.storage.pretrained import read_config, without_transformers_warnings

logger = logging.getLogger(__name__)


def start_from_backbone(model: TaskModel, source: str | os.PathLike, **hub: Any) -> None:
    """Let the model begin as the backbone alone: fusion passes its last state on, the head is its pretrained one.

    So it is with the "concat" modes; the others add the adapters from the start. Where the backbone came without such
    a head, or with one of another form, the head stays fresh, which is logged.

    Args:
        model: fresh, with a masked-language-model head.
        source: where the backbone came from; `hub` as in transformers.
    """
    for name, module in model.encoder.fusion.named_children():
        if isinstance(module, nn.Linear) and "dense" in name:  # [last ; adapter] -> last
            nn.init.eye_(module.weight)
            nn.init.zeros_(module.bias)
    state = pretrained_head(source, **hub)
    if state is None:
        logger.warning("%s has no masked-language-model head of BERT's form: it starts fresh.", source)
    else:
        model.head.load_state_dict(state)


def pretrained_head(source: str | os.PathLike, **hub: Any) -> dict[str, torch.Tensor] | None:
    """The weights that a `MaskedLMHead` takes, from any model of transformers; None where it has no such head.

    Families name the parts differently: they are found by their shapes, and then the logits must agree.
    """
    config = read_config(source, **hub)
    if isinstance(config, KAdapterConfig) or type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        return None
    with without_transformers_warnings():
        whole, info = AutoModelForMaskedLM.from_pretrained(source, output_loading_info=True, dtype=torch.float32, **hub)
    of_backbone = {id(p) for p in whole.base_model.parameters()}
    own = {name for name, p in whole.named_parameters() if id(p) not in of_backbone}
    check_finite(dict(whole.named_parameters()), source)  # a tied one once
    embeddings = whole.get_input_embeddings().weight
    (vocabulary, size), hidden = embeddings.shape, whole.config.hidden_size
    modules = [m for child in whole.children() if child is not whole.base_model for m in child.modules()]
    dense = [m for m in modules if isinstance(m, nn.Linear) and m.weight.shape == (size, hidden)]
    norms = [m for m in modules if isinstance(m, nn.LayerNorm)]
    biases = [p for name, p in whole.named_parameters() if name in own and p.shape == (vocabulary,)]
    if own & set(info["missing_keys"]) or not len(dense) == len(norms) == len(biases) == 1:
        return None
    head = MaskedLMHead(HeadConfig("masked_lm", vocabulary), hidden, 0.0, size)
    with torch.no_grad():
        for ours, theirs in ((head.dense, dense[0]), (head.layer_norm, norms[0])):
            ours.weight.copy_(theirs.weight)
            ours.bias.zero_() if theirs.bias is None else ours.bias.copy_(theirs.bias)
        head.bias.copy_(biases[0])
        ids = torch.arange(8)[None]
        states, logits = whole.base_model(ids).last_hidden_state, whole(ids).logits
        difference = (head(states, embeddings=embeddings).logits - logits).abs().max()
    return dict(head.state_dict()) if difference < 0.01 * logits.abs().max() else None
