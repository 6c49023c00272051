"""What benchmarks share: a backbone of random weights, the machine's matrix rate, what a run took, a picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, AutoTokenizer, RobertaConfig

from kadapter.models import adapter, tapping
from kadapter.pictures import CONTROL, KNOWLEDGE, PAGE, picture
from kadapter.training import loop

# Name -> width, layers, heads, feed-forward width.
SHAPES = {
    "large": (1024, 24, 16, 4096),
    "base": (768, 12, 12, 3072),
    "minilm": (384, 6, 12, 1536),
    "demo": (128, 4, 4, 512),
}
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def random_backbone(folder: Path, shape: str, tokenizer: Path) -> Path:
    """A RoBERTa of random weights with that tokenizer, as a folder.

    Args:
        shape: a name in `SHAPES`, or four numbers as there, such as "256,6,4,1024".
    """
    torch.manual_seed(0)
    sizes = SHAPES.get(shape) or tuple(int(part) if part.isdigit() else 0 for part in shape.split(","))
    if len(sizes) != 4 or min(sizes) < 1:
        raise ValueError(f"--shape is {shape!r}; give {', '.join(SHAPES)}, or width,layers,heads,feed-forward width.")
    width, layers, heads, inner = sizes
    found = AutoTokenizer.from_pretrained(tokenizer)
    config = RobertaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        vocab_size=len(found),
        max_position_embeddings=514,
    )
    AutoModel.from_config(config).save_pretrained(folder)
    found.save_pretrained(folder)
    return folder


def matrix_rate(device: torch.device, dtype: torch.dtype = torch.float32, size: int = 1024) -> float:
    """GFLOP a second of square products; on a CPU for a second of a core, the median of 15."""
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(16):
        began = now(device)
        for _ in range(4):
            one @ other
        seconds.append((now(device) - began) / 4)
    return 2e-9 * size**3 / median(seconds[1:])


def now(device: torch.device) -> float:
    """Seconds: of a core, so that other programs count little; on a GPU by the clock, when all is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


@contextmanager
def whole_last_layers() -> Iterator[None]:
    """Within the block, last layers are computed whole and read afterwards."""
    real = tapping.is_readable_at
    adapter.is_readable_at = tapping.is_readable_at = lambda *_: False
    try:
        yield
    finally:
        adapter.is_readable_at = tapping.is_readable_at = real


@contextmanager
def counted_tokens() -> Iterator[np.ndarray]:
    """[2] tokens of all training steps within the block, without and with padding."""
    real, tokens = loop._Losses.add, np.zeros(2)

    def add(self: Any, number: int, loss: torch.Tensor, step: Any) -> None:
        tokens[:] += step.tokens
        real(self, number, loss, step)

    loop._Losses.add = add  # type: ignore[method-assign]
    try:
        yield tokens
    finally:
        loop._Losses.add = real  # type: ignore[method-assign]


def flops_of(function: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products and attention of a call, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def peak_mib(device: torch.device, function: Callable[[], Any]) -> int:
    """MiB at the peak of a call: of tensors on a GPU, else of this process; 0 where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        function()
        return torch.cuda.max_memory_allocated(device) >> 20
    with suppress(OSError):
        CLEAR.write_text("5")  # Linux: VmHWM begins anew
    function()
    with suppress(OSError, StopIteration):
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) >> 10
    return 0


@dataclass
class Way:
    """What one way took: medians over rounds.

    seconds: of a core, or by the clock on a GPU; tokens: without padding; padding: share of what was computed.
    """

    name: str
    seconds: float
    tokens: float
    flops: float
    padding: float = 0.0
    memory_mib: int = 0


def rows_of(ways: Sequence[Way], rate: float) -> list[dict[str, Any]]:
    """A row for each way; ratios are those to the first one, on the same tokens."""
    first = ways[0]
    return [
        {
            "way": way.name,
            "seconds": round(way.seconds, 6),
            "ratio": round(first.seconds / way.seconds * way.tokens / first.tokens, 3),
            "tokens_per_second": round(way.tokens / way.seconds, 1),
        }
        | (_computing(way, rate) if way.flops else {})
        for way in ways
    ]


def _computing(way: Way, rate: float) -> dict[str, Any]:
    speed = way.flops / way.seconds / 1e9
    shares = {"gflop_per_second": round(speed, 1), "share_of_matrix_rate": round(speed / rate, 3)}
    return {**shares, "padding": round(way.padding, 3), "peak_memory_mib": way.memory_mib}


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a table of Markdown."""
    names = list(rows[0])
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * len(names) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows)])


def draw(path: Path, rows: Sequence[dict[str, Any]], title: str) -> None:
    """Bars: how many times faster each way is than the first."""
    names, ratios = [row["way"] for row in rows], [row["ratio"] for row in rows]
    with picture(path, PAGE, 0.9 + 0.35 * len(rows)) as (_, panels):
        axes = panels[0, 0]
        bars = axes.barh(names[::-1], ratios[::-1], color=[*[KNOWLEDGE] * (len(rows) - 1), CONTROL])
        axes.bar_label(bars, fmt="%.2f ×", padding=3)
        axes.set(xlabel=f"times as fast as {names[0]}", title=title, xlim=(0, 1.15 * max(ratios)))
