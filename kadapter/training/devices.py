"""Devices and processes: starting them, their memory, DeepSpeed's own settings."""

from __future__ import annotations

import logging
import os
import sys
import time
from datetime import timedelta

import datasets
import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs, set_seed
from huggingface_hub.utils import logging as hub_logging

from kadapter import system
from kadapter.training.arguments import TrainingArguments

logger = logging.getLogger(__name__)

# How long processes wait for one that works alone. Data are prepared before they join; what is left are the scores and
# predictions of a split and the saving of a model, which the main process does.
TIMEOUT = timedelta(hours=2)


def is_main_process() -> bool:
    """Whether this is the first of all processes, also before they have joined."""
    return int(os.environ.get("RANK", 0)) == 0


def start_logging() -> None:
    """Progress to the terminal, from the main process; the others only tell of errors."""
    is_main = is_main_process()
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        level=logging.INFO if is_main else logging.ERROR,
    )
    logging.getLogger("accelerate").setLevel(logging.WARNING)
    hub_logging.disable_propagation()  # it writes its messages itself
    if not (is_main and sys.stderr.isatty()):  # bars are for people who watch
        datasets.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()


def start_accelerator(args: TrainingArguments, tasks: int = 1, beside: bool = False) -> Accelerator:
    """Devices, processes and precision, as torchrun or `accelerate launch` say; the processes join here.

    Args:
        tasks: how many are trained in turn, each of whose heads has no gradients in the turns of the others.
        beside: another run of this process goes on beside it, with the same devices and precision.

    Raises:
        ValueError: --fp16 without a GPU, or several tasks with sharded parameters.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 and not beside:  # a later one may want another precision
        AcceleratorState._reset_state(reset_partial_state=True)
    # Told so, accelerate joins processes on a machine without accelerator too; else each would run for itself.
    cpu = args.no_cuda or not torch.accelerator.is_available()
    joining = InitProcessGroupKwargs(timeout=TIMEOUT)
    options = [joining, *([DistributedDataParallelKwargs(find_unused_parameters=True)] if tasks > 1 else [])]
    accelerator = Accelerator(mixed_precision=args.mixed_precision, cpu=cpu, kwargs_handlers=options)
    if tasks > 1 and accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ValueError(
            "several tasks are not trained with FSDP or DeepSpeed, which wait for gradients of all heads; start plain "
            "processes (NGPU=4, by torchrun), and give --gradient_checkpointing where memory is short."
        )
    if args.fp16 and accelerator.device.type == "cpu":
        raise ValueError("--fp16 needs a GPU; leave it out or use --bf16 on this CPU.")
    if args.bf16 and accelerator.device.type == "cpu" and (slower := bf16_slowdown()) > 1.2:
        logger.warning(
            "--bf16 takes %.1f times as long as float32 on this CPU, which has no instructions for it; leave it out.",
            slower,
        )
    set_seed(args.seed)
    return accelerator


def bf16_slowdown() -> float:
    """How many times as long this CPU takes for a product of matrices with 16 bits as with 32: in software, several."""
    return _product_seconds(torch.bfloat16) / _product_seconds(torch.float32)


def _product_seconds(dtype: torch.dtype) -> float:
    """The least of many, since the first ones set the kernel up."""
    one, other = torch.ones(64, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
    seconds = []
    for _ in range(30):
        began = time.thread_time()
        one @ other
        seconds.append(time.thread_time() - began)
    return max(min(seconds), 1e-9)


def peak_memory_mib(device: torch.device) -> int:
    """MiB that tensors took of a GPU, or that this process took of the machine; 0 where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    return round(system.peak_memory_mib() or 0)


def tell_deepspeed(accelerator: Accelerator, args: TrainingArguments, micro_batch_size: int) -> None:
    """DeepSpeed clips (one norm of all) and steps by itself; the loss is normalised here already."""
    plugin = accelerator.state.deepspeed_plugin if accelerator.distributed_type == DistributedType.DEEPSPEED else None
    if plugin is not None:
        if args.original_accumulation:
            raise ValueError("--original_accumulation does not go with DeepSpeed, which clips by itself; leave it out.")
        plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": micro_batch_size,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": args.max_grad_norm,
        }
