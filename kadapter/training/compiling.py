"""`--torch_compile`: of each layer of BERT's kind, what works token by token is compiled.

That is the attention's output and the feed-forward part: dense layers with activation, dropout, bottlenecks, residual
and LayerNorm, in which a compiler can join operations. What lies between, products of matrices and the attention
kernel, it would leave as it is. A token's place does not matter to these parts, so they are compiled for [tokens, H]
with any number of tokens: one graph for each kind of part, whatever the lengths and sizes of batches. Evaluation runs
what is not compiled, so that its scores do not depend on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

from kadapter.models.adapter import KnowledgeAdapter
from kadapter.models.last_layer import FAMILIES
from kadapter.models.modeling import KAdapterModel
from kadapter.training.arguments import Arguments

logger = logging.getLogger(__name__)

BACKEND = "inductor"


def check_compiler(args: Arguments) -> None:
    """Raise ValueError where --torch_compile cannot be followed, before work starts."""
    if not args.training.torch_compile:
        return
    if args.settings:
        raise ValueError(
            "--torch_compile is for one run at a time, and --together trains several; give one of the two."
        )
    missing = _missing_on_cpu() if args.training.no_cuda or not torch.cuda.is_available() else _missing_on_gpu()
    if missing:
        raise ValueError(f"--torch_compile needs {missing}, which is not there; install it, or leave the flag out.")


def _missing_on_cpu() -> str | None:
    from torch._inductor.cpp_builder import get_cpp_compiler  # here: it takes seconds to import
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "a C++ compiler (such as g++; CXX names another one)"
    return None


def _missing_on_gpu() -> str | None:
    from torch.utils._triton import has_triton

    return None if has_triton() else "Triton and a GPU that it knows"


def compile_layers(accelerator: Accelerator, encoder: KAdapterModel) -> int:
    """Compile the layers of the backbone and of all adapters in place; names of weights stay as they are.

    Returns:
        How many layers there are.

    Raises:
        ValueError: the backbone is not of `FAMILIES`, or parameters are sharded.
    """
    family = encoder.config.backbone_config.model_type
    if family not in FAMILIES:
        raise ValueError(f"--torch_compile is for backbones of {', '.join(FAMILIES)}, not of {family}; leave it out.")
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ValueError("--torch_compile is not for FSDP and DeepSpeed; leave it out, or start plain processes.")
    layers = list(cast(Any, encoder.backbone).encoder.layer)
    for adapter in cast(Iterable[KnowledgeAdapter], encoder.adapters.values()):
        layers += [layer for part in adapter.adapter for layer in cast(Any, part).encoder.layer]
    for layer in layers:
        output = layer.attention.output
        output.forward = _OfTokens(encoder, output.forward)
        layer.feed_forward_chunk = _OfTokens(encoder, layer.feed_forward_chunk)
    logger.info("%d layers are compiled in the first steps, which takes minutes.", len(layers))
    return len(layers)


class _OfTokens:
    """A function of states [..., H], compiled for any number of them; what it was where the encoder is evaluated."""

    def __init__(self, encoder: nn.Module, plain: Callable[..., torch.Tensor]):
        self.encoder, self.plain = encoder, plain
        self.compiled = torch.compile(plain, dynamic=True, backend=BACKEND)

    def __call__(self, *states: torch.Tensor) -> torch.Tensor:
        if not self.encoder.training:
            return self.plain(*states)
        shape = states[0].shape[:-1]
        return self.compiled(*(state.flatten(0, -2) for state in states)).unflatten(0, shape)
