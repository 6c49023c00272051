"""Measure the memory and time of training on questions with many paragraphs, at once and in chunks.

    python scripts/benchmark_questions.py
    python scripts/benchmark_questions.py --hidden_size 1024 --layers 24 --adapters 2 --saved

Random weights, random tokens: forward, backward and AdamW on one question, twice, on the CPU, each number
of paragraphs in a process of its own. Prints a table for docs/benchmarks.md. With --saved, instead, what one chunk
keeps for its gradient, in bytes of tensors, and what the whole model takes beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from benchmark_data import measure
from transformers import RobertaConfig

from kadapter import AdapterConfig, HeadConfig, KAdapterConfig, TaskModel
from kadapter.console import COUNT, Number, Parser, run

AT_ONCE = 1 << 30  # tokens of a chunk
ADAMW = 4  # copies of trained weights: the weights, their gradients, two moments


def build(args: argparse.Namespace) -> TaskModel:
    """A model of those sizes with frozen adapters."""
    backbone = RobertaConfig(
        vocab_size=50265,
        hidden_size=args.hidden_size,
        num_hidden_layers=args.layers,
        num_attention_heads=args.hidden_size // 64,
        intermediate_size=4 * args.hidden_size,
        max_position_embeddings=args.length + 2,
        type_vocab_size=1,
    )
    adapter = AdapterConfig(adapter_size=min(768, args.hidden_size))
    adapters = {f"adapter{i}": adapter for i in range(args.adapters)}
    config = KAdapterConfig(backbone_config=backbone, adapters=adapters, head=HeadConfig("openqa", 2))
    model = TaskModel(config).train()
    model.freeze("adapters")
    model.head.chunk_tokens = args.chunk_tokens or AT_ONCE
    return model


def question(paragraphs: int, length: int) -> dict[str, torch.Tensor]:
    """One question with so many paragraphs of that length, of which the first bears the answer."""
    ids = torch.randint(5, 50000, (paragraphs, length))
    positions = torch.tensor([[0, 16, length - 2]]).expand(paragraphs, -1)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "positions": positions}
    return batch | {"group_sizes": torch.tensor([paragraphs]), "labels": torch.tensor([[0, 20, 22]])}


def train(args: argparse.Namespace) -> None:
    """Two steps on one question."""
    model, batch = build(args), question(args.paragraphs[0], args.length)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6, fused=True)
    for _ in range(2):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def saved(args: argparse.Namespace) -> None:
    """Print what one chunk keeps, and what the model and its optimizer take."""
    model, found = build(args), dict[int, int]()
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = question(args.chunk_tokens // args.length, args.length)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(**batch)
    kept, tokens = sum(found.values()), batch["input_ids"].numel()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    weights = sum(p.numel() for p in model.parameters())
    print(f"a chunk of {tokens:,} tokens keeps {kept / 2**30:.2f} GiB, {kept / tokens:,.0f} bytes a token")
    print(f"{weights:,} parameters, {trained:,} trained: {4 * (weights + (ADAMW - 1) * trained) / 2**30:.2f} GiB")


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument(
        "--paragraphs",
        type=COUNT,
        nargs="+",
        default=[10, 25, 50, 100],
        help="paragraphs of a question; each number is measured",
    )
    parser.add_argument("--length", type=COUNT, default=128, help="tokens of a paragraph, the question included")
    parser.add_argument("--hidden_size", type=COUNT, default=256, help="hidden units of the backbone, a multiple of 64")
    parser.add_argument("--layers", type=COUNT, default=6, help="layers of the backbone")
    parser.add_argument("--adapters", type=COUNT, default=1, help="frozen adapters, of at most 768 units")
    parser.add_argument(
        "--chunk_tokens", type=Number(int, "[0, inf)"), default=2048, help="tokens that are computed at once; 0: all"
    )
    parser.add_argument("--saved", action="store_true", help="also show what a chunk keeps for its gradient")
    parser.add_argument("--single", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if args.single or args.saved:
        (train if args.single else saved)(args)
        return
    print("| paragraphs | at once, peak MiB | s | in chunks, peak MiB | s |")
    print("|---" * 5 + "|")
    for count in args.paragraphs:
        cells = [str(count)]
        for chunk in (0, args.chunk_tokens):
            sizes = (
                "--length",
                args.length,
                "--hidden_size",
                args.hidden_size,
                "--layers",
                args.layers,
                "--adapters",
                args.adapters,
            )
            taken = measure(__file__, "--single", "--paragraphs", count, *sizes, "--chunk_tokens", chunk)
            cells += [f"{taken.peak_mib:,.0f}", f"{taken.core_seconds:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    run(main)
